"""What the four services have in common: a database of their own, and requests that are safe to repeat.

This is how an idempotent service looks like, saga or no saga; it knows nothing of fsm_mediator.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from examples.profile_sync.faults import Faults, RefusedError


class Service:
    """A service that keeps its state in ``<folder>/<name>.db``, opened with the first request.

    Every change and every undoing carries a key. The service remembers each key, in the transaction of the effect
    itself, so that

    - a change asked for twice happens once;
    - an undoing asked for twice happens once;
    - an undoing of a change that never arrived leaves a tombstone: should the change arrive after all, late, it is
      refused.
    """

    name: ClassVar[str]
    tables: ClassVar[str]

    def __init__(self, folder: Path, faults: Faults | None = None) -> None:
        self.path = folder / f"{self.name}.db"
        self.faults = faults or Faults()
        self._lock = threading.Lock()
        self._db: sqlite3.Connection | None = None

    def close(self) -> None:
        """Closes the file; the next request opens it again."""
        with self._lock:
            if self._db is not None:
                self._db.close()
                self._db = None

    def _once(
        self, operation: str, user_id: int, key: str, effect: Callable[[sqlite3.Connection], dict[str, Any]]
    ) -> None:
        """Has *effect*, at most once for *key*; it returns what `_undo` will need to put things back."""

        def request() -> None:
            with self._transaction() as db:
                state, _ = self._remembered(db, key)
                if state == "done":
                    return
                if state == "undone":
                    raise RefusedError(f"{self.name}: {key!r} was undone before it arrived, it stays undone")
                before = effect(db)
                db.execute("INSERT INTO requests VALUES (?, 'done', ?)", (key, json.dumps(before)))

        self.faults.deliver(self.name, operation, user_id, request)

    def _undo(
        self, operation: str, user_id: int, key: str, reverse: Callable[[sqlite3.Connection, dict[str, Any]], None]
    ) -> None:
        """Undoes what was done under *key*, once, if it was done at all; from here on *key* is refused."""

        def request() -> None:
            with self._transaction() as db:
                state, before = self._remembered(db, key)
                if state == "done":
                    reverse(db, before)
                db.execute(
                    "INSERT INTO requests VALUES (?, 'undone', NULL) ON CONFLICT (key) DO UPDATE SET state = 'undone'",
                    (key,),
                )

        self.faults.deliver(self.name, operation, user_id, request)

    def _enroll(self, insert: str, rows: Iterable[tuple[object, ...]]) -> None:
        with self._transaction() as db:
            db.executemany(insert, rows)

    def _of_user(self, db: sqlite3.Connection, select: str, user_id: int) -> tuple[Any, ...]:
        """The row of a user, who must be known."""
        row: tuple[Any, ...] | None = db.execute(select, (user_id,)).fetchone()
        if row is None:
            raise RefusedError(f"{self.name} knows no user {user_id}")
        return row

    @staticmethod
    def _remembered(db: sqlite3.Connection, key: str) -> tuple[str, dict[str, Any]]:
        row = db.execute("SELECT state, before FROM requests WHERE key = ?", (key,)).fetchone()
        return (row[0], json.loads(row[1] or "{}")) if row else ("unknown", {})

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            if self._db is None:
                self._db = self._open()
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def _open(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # One connection, used by whichever thread holds the lock.
        db = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, timeout=30.0)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute("CREATE TABLE IF NOT EXISTS requests (key TEXT PRIMARY KEY, state TEXT NOT NULL, before TEXT)")
        db.executescript(self.tables)
        return db
