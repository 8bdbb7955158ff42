"""The base of the services: a database each, and requests that are safe to repeat.

This is an ordinary idempotent service. It does not depend on fsm_mediator.
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
    """A service with its state in ``<folder>/<name>.db``, opened at the first request.

    Every request to change or to undo has a key. The service stores each key in the transaction of the effect, so:

    - a change that is requested twice happens once;
    - an undo that is requested twice happens once;
    - an undo of a change that never arrived leaves a tombstone: if the change arrives later, it is refused.
    """

    name: ClassVar[str]
    tables: ClassVar[str]

    def __init__(self, folder: Path, faults: Faults | None = None) -> None:
        self.path = folder / f"{self.name}.db"
        self.faults = faults or Faults()
        self._lock = threading.Lock()
        self._db: sqlite3.Connection | None = None

    def close(self) -> None:
        """Closes the database; the next request opens it again."""
        with self._lock:
            if self._db is not None:
                self._db.close()
                self._db = None

    def _once(
        self, operation: str, user_id: int, key: str, effect: Callable[[sqlite3.Connection], dict[str, Any]]
    ) -> None:
        """Runs *effect* at most once for *key*. It returns the values that `_undo` needs to restore the old state."""

        def request() -> None:
            with self._transaction() as db:
                state, _ = self._lookup(db, key)
                if state == "done":
                    return
                if state == "undone":
                    raise RefusedError(f"{self.name}: {key!r} was undone before it arrived")
                before = effect(db)
                db.execute("INSERT INTO requests VALUES (?, 'done', ?)", (key, json.dumps(before)))

        self.faults.deliver(self.name, operation, user_id, request)

    def _undo(
        self, operation: str, user_id: int, key: str, reverse: Callable[[sqlite3.Connection, dict[str, Any]], None]
    ) -> None:
        """Undoes the effect of *key* once, if it had one. After that, *key* is refused."""

        def request() -> None:
            with self._transaction() as db:
                state, before = self._lookup(db, key)
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
        """The row of a user, which must exist."""
        row: tuple[Any, ...] | None = db.execute(select, (user_id,)).fetchone()
        if row is None:
            raise RefusedError(f"{self.name} has no user {user_id}")
        return row

    @staticmethod
    def _lookup(db: sqlite3.Connection, key: str) -> tuple[str, dict[str, Any]]:
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
        # All threads share one connection, under the lock.
        db = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, timeout=30.0)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute("CREATE TABLE IF NOT EXISTS requests (key TEXT PRIMARY KEY, state TEXT NOT NULL, before TEXT)")
        db.executescript(self.tables)
        return db
