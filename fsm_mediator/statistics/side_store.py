"""SideStore: counts of a SQLite journal's executions, in a separate file beside the journal.

The store is filled by following the journal. No driver writes to the store. You can delete its file at any time: the
store is built again from the journal.
"""

from __future__ import annotations

import logging
import math
import os
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

from fsm_mediator.errors import JournalError
from fsm_mediator.journal.finding import Filter
from fsm_mediator.journal.following import is_counted
from fsm_mediator.journal.protocol import Journal
from fsm_mediator.states import PENDING, is_ended
from fsm_mediator.statistics import side_tables as sql
from fsm_mediator.statistics.machines import MachineStatistics
from fsm_mediator.statistics.numbers import SPAN, SagaNumbers, is_failing, numbers_from, span_of
from fsm_mediator.statistics.side_batches import Batch

BATCH: Final = 5000
"""Changes that are counted in one transaction."""

FRESH: Final = 60.0
"""Seconds; where newer changes are missing, a store that was filled longer ago answers no count."""

ENDING: Final = ".stats.db"

logger: logging.Logger = logging.getLogger("fsm_mediator")

_SHORT: Final = 3
"""Characters; the index of texts has none that are shorter."""


class SideStore:
    """The side store of a journal.

    Args:
        journal: The journal, in a file.
        path: The path of the journal.
        clock: The time, in seconds since the epoch.
    """

    def __init__(self, journal: Any, path: str, clock: Callable[[], float] = time.time) -> None:
        self._journal = journal
        self._source = path
        self._clock = clock
        where = Path(path)
        self.path: Final = where.with_suffix(ENDING) if where.suffix == ".db" else where.with_name(where.name + ENDING)

    @property
    def exists(self) -> bool:
        """Whether the store was ever filled from this journal."""
        if not self.path.exists():
            return False
        with self._opened() as connection:
            return self._place(connection) is not None

    def refresh(self, progress: Callable[[], object] | None = None) -> int:
        """Count the journal's changes since the last refresh, and return the number of changes.

        Several processes may do this at the same time, and any of them may be killed. Changes are counted in
        transactions. Each transaction also stores the position in the journal at which the next transaction continues.

        Args:
            progress: Called after each transaction.

        Raises:
            JournalError: The journal cannot be followed, or the store cannot be written.
        """
        counted = 0
        with self._opened(writes=True) as connection:
            while True:
                connection.execute("BEGIN IMMEDIATE")
                try:
                    place = self._place(connection)
                    if place is None:
                        _empty(connection)
                    moves = self._journal.moves("" if place is None else place[0], BATCH)
                    Batch(connection).count(moves)
                    cursor = moves[-1].cursor if moves else "0" if place is None else place[0]
                    connection.execute(sql.SET_PLACE, (cursor, self._clock(), self._file()))
                    connection.execute("COMMIT")
                finally:
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
                counted += len(moves)
                if progress is not None:
                    progress()
                if len(moves) < BATCH:
                    return counted

    def rebuild(self, progress: Callable[[], object] | None = None) -> int:
        """Delete all counts, then call `refresh`."""
        with self._opened(writes=True) as connection:
            connection.execute("BEGIN IMMEDIATE")
            _empty(connection)
            connection.execute("COMMIT")
        return self.refresh(progress)

    def age(self) -> float:
        """The seconds since the store was filled. 0 if no newer changes are missing."""
        with self._opened() as connection:
            return self._age(connection)

    def _age(self, connection: sqlite3.Connection) -> float:
        place = self._place(connection)
        assert place is not None
        cursor, at = place
        return max(0.0, self._clock() - at) if self._journal.moves(cursor, 1) else 0.0

    def is_fresh(self) -> bool:
        """Whether the store is recent enough to look up counts and texts in it."""
        return self.exists and self.age() <= FRESH

    def count(self, chosen: Filter, by: str | None) -> dict[str, int] | None:
        """As `FindingJournal.count`; None: it knows no attributes, parents and texts."""
        if chosen.attributes or chosen.parent is not None or chosen.text is not None:
            return None
        asked = [name for name in sql.CONDITIONS if getattr(chosen, name)]
        named = f"p.definition IN ({sql.OF_SAGA.replace('?1', ':saga').replace('?2', ':version')})"
        where = " AND ".join([named, *(sql.CONDITIONS[name] for name in asked)])
        values = {name: getattr(chosen, name) for name in ("saga", "version", "error", "step")}
        values["states"] = msgspec.json.encode(chosen.phases).decode()
        query = sql.COUNT.format(key=sql.KEYS[by], where=where)
        with self._opened() as connection:
            return dict(connection.execute(query, {**values, **_bounds(chosen)}).fetchall())

    def states(self) -> dict[tuple[str, str], Counter[str]]:
        """The number of executions in each state, by saga and version."""
        found: dict[tuple[str, str], Counter[str]] = {}
        with self._opened() as connection:
            for saga, version, state, count in connection.execute(sql.COUNTS):
                found.setdefault((saga, version), Counter())[state] = count
        return found

    def numbers(self, saga: str, version: str | None, first: int | None) -> SagaNumbers:
        """As `read_numbers`."""
        with self._opened() as connection:
            machine, groups = _counted(connection, saga, version, first)
            failures = ((*key, count) for key, count in groups.items())
            return numbers_from(saga, version, first, machine, failures, self._age(connection))

    def machine(self, saga: str, version: str) -> MachineStatistics:
        """All counts of one definition."""
        with self._opened() as connection:
            return _counted(connection, saga, version, None)[0]

    def with_text(self, text: str, below: int, limit: int) -> list[tuple[int, str, str, str]]:
        """The executions with *text* in their id, newest first, as (number in the journal, id, saga, version).

        Args:
            text: The text.
            below: The result has only executions with a number below this number.
            limit: The maximum number of executions.
        """
        with self._opened() as connection:
            if len(text) < _SHORT:
                return connection.execute(sql.WITH_SHORT_TEXT, (below, text, limit)).fetchall()
            phrase = '"' + text.replace('"', '""') + '"'
            return connection.execute(sql.WITH_TEXT, (phrase, below, text, limit)).fetchall()

    def _file(self) -> str:
        return str(Path(self._source).stat().st_ino)

    def _place(self, connection: sqlite3.Connection) -> tuple[str, float] | None:
        """The cursor, and the time at which it was read. None if the store has another journal or format."""
        known = _ids_of(connection) == (sql.APPLICATION_ID, sql.FORMAT)
        found = connection.execute(sql.PLACE).fetchone() if known else None
        if found is None or found[2] != self._file() or int(found[0]) > self._journal.last_change():
            return None
        return found[0], found[1]

    @contextmanager
    def _opened(self, *, writes: bool = False) -> Iterator[sqlite3.Connection]:
        try:
            if writes and not self.path.exists():
                os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))  # only its owner may read the ids
            uri = f"{self.path.absolute().as_uri()}?mode={'rw' if writes else 'ro'}"
            with closing(sqlite3.connect(uri, uri=True, isolation_level=None, timeout=30.0)) as connection:
                connection.execute("PRAGMA cache_size=-65536")
                if not writes:
                    connection.execute("BEGIN")  # all reads see the same snapshot
                yield connection
        except (sqlite3.Error, OSError) as error:
            raise JournalError(
                f"the side store {str(self.path)!r} cannot be used: {error}. It may be deleted, and built again by "
                f"fsm-mediator stats --refresh"
            ) from error


def _bounds(chosen: Filter) -> dict[str, float]:
    """The complete time spans within the period of a filter, and the rest of the period before and after the spans."""
    since, until = -math.inf if chosen.since is None else chosen.since, chosen.until
    low = -(2**62) if chosen.since is None else span_of(since) + bool(since % SPAN)
    high = 2**62 if until is None else span_of(until)
    until = math.inf if until is None else until
    if low > high:  # the period is within one span
        return {"low": low, "high": high, "since": since, "low_at": until, "high_at": until, "until": until}
    before, after = min(float(low * SPAN), until), max(float(high * SPAN), since)
    return {"low": low, "high": high, "since": since, "low_at": before, "high_at": after, "until": until}


def _ids_of(connection: sqlite3.Connection) -> tuple[int, int]:
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return application_id, version


def _empty(connection: sqlite3.Connection) -> None:
    """Drop all tables of a store, and create them again.

    Raises:
        JournalError: The file belongs to another application.
    """
    every = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table' AND sql IS NOT NULL").fetchall()
    if every and _ids_of(connection)[0] != sql.APPLICATION_ID:
        raise JournalError("the file of the side store belongs to another application; move it away")
    for (name,) in every:
        if name == "ids" or not name.startswith("ids_"):  # "ids_..." are parts of the table "ids"
            connection.execute(f'DROP TABLE "{name}"')
    for statement in sql.TABLES.split(";"):
        connection.execute(statement)
    connection.execute(f"PRAGMA application_id={sql.APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version={sql.FORMAT}")


def _counted(
    connection: sqlite3.Connection, saga: str, version: str | None, first: int | None
) -> tuple[MachineStatistics, Counter[tuple[str, str]]]:
    """The counts of a saga's executions, and the number of failures by step and error."""
    machine = MachineStatistics()
    groups: Counter[tuple[str, str]] = Counter()
    lowest = -(2**62) if first is None else first
    for (definition,) in connection.execute(sql.OF_SAGA, (saga, version)).fetchall():
        for kind, name, size, count in connection.execute(sql.SAMPLES, (definition, lowest)):
            machine.count_sample(kind, name, size, count)
        for state, error, step, span, count in connection.execute(sql.STATES, (definition,)):
            if span >= lowest or not is_ended(state):
                machine.now[state] = machine.now.get(state, 0) + count
            if span >= lowest and error and is_failing(state):
                groups[step, error] += count
            machine.executions += count if state != PENDING else 0
    return machine, groups


def side_store_of(journal: Any) -> SideStore | None:
    """The side store of a journal, even if it does not exist yet. None if this journal cannot have a side store."""
    path = getattr(journal, "path", None)
    if not is_counted(journal) or not isinstance(path, str) or not Path(path).is_file():
        return None
    return SideStore(journal, path)


def filled_store_of(journal: Any) -> SideStore | None:
    """The side store of a journal. None if it does not exist."""
    store = side_store_of(journal)
    return store if store is not None and store.exists else None


def fresh_store_of(journal: Any) -> SideStore | None:
    """The side store of a journal. None if it does not exist or is not fresh."""
    store = side_store_of(journal)
    return store if store is not None and store.is_fresh() else None


@contextmanager
def filling(journal: Journal, every: float = 1.0) -> Iterator[None]:
    """Until the block ends, refresh the side store of *journal* repeatedly in a thread, if the store exists.

    Args:
        journal: The journal.
        every: Seconds between two refreshes.
    """
    store = side_store_of(journal)
    if store is None:
        yield
        return
    ended = threading.Event()
    thread = threading.Thread(target=_fill, args=(store, ended, every), name="side store", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _fill(store: SideStore, ended: threading.Event, every: float) -> None:
    logged = ""
    while not ended.wait(every):
        try:
            if store.path.exists():
                store.refresh()
            logged = ""
        except JournalError as error:  # an error in counting must not stop the daemon
            if str(error) != logged:
                logged = str(error)
                logger.warning("the side store is not filled: %s", error)
