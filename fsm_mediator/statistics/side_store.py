"""SideStore: counts of a journal's executions, in a separate file (SQLite) or a separate schema (PostgreSQL).

A refresh reads the new changes of the journal and adds them to the counts. Drivers do not write to the store. You can
delete its file, or drop its schema, at any time: ``fsm-mediator stats --refresh`` builds the store again from the
journal.

This module reads the changes of the journal, and computes results from the counts. The connections, locks and tables
are in the modules ``side_sqlite`` and ``side_postgres``.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

from fsm_mediator.errors import JournalError
from fsm_mediator.journal.finding import Filter
from fsm_mediator.journal.following import is_counted, number_in
from fsm_mediator.journal.protocol import Journal
from fsm_mediator.states import PENDING, is_ended
from fsm_mediator.statistics import side_tables as sql
from fsm_mediator.statistics.machines import MachineStatistics
from fsm_mediator.statistics.numbers import SPAN, SagaNumbers, is_failing, numbers_from, span_of
from fsm_mediator.statistics.side_batches import Batch
from fsm_mediator.statistics.side_tables import Home, Tables

BATCH: Final = 5000
"""The maximum number of changes that are counted in one transaction."""

FRESH: Final = 60.0
"""The maximum age of a store, in seconds, at which commands and pages use its counts. See `SideStore.age`."""

LOOKS: Final = 20
"""The maximum number of times that a refresh reads the journal again because open transactions hold changes back."""

PAUSE: Final = 0.05
"""The number of seconds for which a refresh waits before it reads the journal again."""

RARELY: Final = 10
"""While no store exists, the pause between two checks by `filling` is multiplied by this number."""

logger: logging.Logger = logging.getLogger("fsm_mediator")


class _Place(NamedTuple):
    """The position in a journal up to which a store has counted the changes.

    Attributes:
        cursor: The cursor of the last counted change.
        at: The time, in seconds since the epoch, before which all changes are counted. 0 if the store has never
            counted all changes.
    """

    cursor: str = ""
    at: float = 0.0


class SideStore:
    """The counts of a journal's executions, stored outside of the journal. See this module's docstring.

    Args:
        journal: The journal.
        home: The place of the tables.
        clock: A function that returns the time, in seconds since the epoch. None for the clock of *home*.
        sleep: A function that waits for a number of seconds.
    """

    def __init__(
        self,
        journal: Any,
        home: Home,
        clock: Callable[[], float] | None = None,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._journal = journal
        self.home: Final = home
        self._clock = clock or home.now
        self._sleep = sleep
        self._begun: tuple[float, int] | None = None

    @property
    def exists(self) -> bool:
        """Whether the store exists, and has counted all changes of this journal at least once."""
        return self._filled() is not None

    def refresh(self, progress: Callable[[], object] | None = None, *, looks: int = LOOKS) -> int:
        """Count the journal's changes since the last refresh, and return the number of changes.

        Several processes may refresh the store at the same time, and any of them may be killed. Changes are counted in
        transactions. Each transaction also stores the position in the journal at which the next transaction continues.

        On PostgreSQL, an open transaction holds back the changes of later transactions: the journal does not return
        them yet. The refresh waits about a second for such transactions. If they are still open after that, the store
        counts as incomplete until a later refresh finds that they have ended.

        Args:
            progress: A function that is called after each transaction.
            looks: The maximum number of times to read the journal again because changes are held back.

        Raises:
            JournalError: The journal cannot be followed, or the store cannot be written.
        """
        counted = 0
        while True:
            # On a busy server, some transaction is always open. Therefore `_begun` keeps its time until all changes
            # before this time are counted.
            self._begun = self._begun or (self._clock(), self._journal.last_change())
            moves, is_complete = self._count_page(*self._begun)
            counted += moves
            if progress is not None:
                progress()
            if is_complete or moves == BATCH:
                self._begun = None
            if is_complete or (moves < BATCH and looks <= 0):
                return counted
            if moves < BATCH:
                looks -= 1
                self._sleep(PAUSE)

    def _count_page(self, begun: float, newest: int) -> tuple[int, bool]:
        """Count the next changes of the journal, at most `BATCH`, in one transaction.

        Args:
            begun: The time at which the refresh began, in seconds since the epoch.
            newest: The number of the journal's last change at the time *begun*.

        Returns:
            The number of changes, and whether all changes before the time *begun* are counted now.
        """
        with self.home.writing() as tables:
            place = self._place(tables)
            if place is None:
                tables.make()
                place = _Place()
            decided = self._journal.decided()  # this must be read before the changes
            moves = self._journal.moves(place.cursor, BATCH)
            Batch(tables).count(moves)
            cursor = moves[-1].cursor if moves else place.cursor
            is_complete = len(moves) < BATCH and (decided >= newest or not self._journal.is_changed(cursor))
            at = place.at
            if is_complete and not begun < at <= self._clock():  # another process may have stored a later time
                at = begun
            tables.write(sql.SET_PLACE, [(cursor, at, self.home.source())])
        return len(moves), is_complete

    def rebuild(self, progress: Callable[[], object] | None = None) -> int:
        """Delete all counts and count the whole journal again. Returns the number of changes, as `refresh` does."""
        with self.home.writing() as tables:
            tables.make()
        return self.refresh(progress)

    def age(self) -> float:
        """The number of seconds since the last time when the store had counted all changes of the journal.

        0 if the store has counted all changes now. Infinity if the store has never counted all changes.
        """
        place = self._filled()
        return math.inf if place is None else self._age(place)

    def _age(self, place: _Place) -> float:
        return max(0.0, self._clock() - place.at) if self._journal.is_changed(place.cursor) else 0.0

    def is_fresh(self) -> bool:
        """Whether the age of the store is at most `FRESH` seconds, so that its counts can be used."""
        place = self._filled()
        return place is not None and self._age(place) <= FRESH

    def is_just_filled(self, seconds: float) -> bool:
        """Whether the store has counted all changes that are at least *seconds* old."""
        place = self._filled()
        return place is not None and 0 <= self._clock() - place.at < seconds

    def count(self, chosen: Filter, by: str | None) -> dict[str, int] | None:
        """For each value of the key *by*, the number of executions that match *chosen*: see `FindingJournal.count`.

        None if the filter has attributes, a parent or a text, or excludes branches, because the store has no counts for
        these.
        """
        if chosen.attributes or chosen.parent is not None or chosen.text is not None or chosen.roots:
            return None
        where, values = _conditions(chosen)
        query = sql.COUNT.format(key=sql.KEYS[by], where=where)
        parts = (part for bounds in _bounds(chosen) for part in (*bounds, *values))
        with self.home.reading() as tables:
            return dict(tables.read(query, tuple(parts)))

    def states(self) -> dict[tuple[str, str], Counter[str]]:
        """The number of executions in each state, by saga and version."""
        found: dict[tuple[str, str], Counter[str]] = {}
        with self.home.reading() as tables:
            for saga, version, state, count in tables.read(sql.COUNTS):
                found.setdefault((saga, version), Counter())[state] = count
        return found

    def numbers(self, saga: str, version: str | None, first: int | None) -> SagaNumbers:
        """The statistics of the executions of *saga*. *version* is None for all versions.

        *first* is the number of the first hour that is counted, as returned by `span_of`. None for all hours.
        """
        with self.home.reading() as tables:
            place = self._place(tables)
            machine, groups = _counted(tables, saga, version, first)
        failures = ((*key, count) for key, count in groups.items())
        age = math.inf if place is None else self._age(place)
        return numbers_from(saga, version, first, machine, failures, age)

    def machine(self, saga: str, version: str) -> MachineStatistics:
        """The counts of all executions of this version of *saga*, which may also be the saga of a branch."""
        with self.home.reading() as tables:
            return _counted(tables, saga, version, None)[0]

    def with_text(self, text: str, below: int, limit: int) -> list[tuple[int, str, str, str]]:
        """The executions with *text* in their id, newest first, as (number in the journal, id, saga, version).

        Args:
            text: The text.
            below: Only executions with a number below this number are returned.
            limit: The maximum number of executions.
        """
        with self.home.reading() as tables:
            return tables.with_text(text, below, limit)

    def _filled(self) -> _Place | None:
        """The position up to which the store has counted the changes. None if it has never counted all changes."""
        if not self.home.is_there():
            return None
        with self.home.reading() as tables:
            place = self._place(tables)
        return place if place is not None and place.at > 0 else None

    def _place(self, tables: Tables) -> _Place | None:
        """The position up to which *tables* count the changes. None if they are of another journal or format."""
        found = tables.read(sql.PLACE) if tables.are_made() else []
        if not found:
            return None
        ((cursor, at, source),) = found
        is_ours = source == self.home.source() and number_in(cursor) <= self._journal.last_change()
        return _Place(cursor, at) if is_ours else None


def _conditions(chosen: Filter) -> tuple[str, list[Any]]:
    """The conditions of a filter, except its period, as SQL text and the parameters of this text."""
    where = [f"p.definition IN ({sql.OF_SAGA})"]
    values: list[Any] = [chosen.saga, chosen.saga, chosen.version, chosen.version]
    if chosen.states:
        where.append(f"({' OR '.join([sql.IN_STATE] * len(chosen.phases))})")
        values += [value for phase in chosen.phases for value in (phase, len(phase) + 1, f"{phase}.")]
    if chosen.error is not None:
        where.append(f"({sql.WITH_ERROR})")
        values += [chosen.error, len(chosen.error), len(chosen.error), f".{chosen.error}"]
    if chosen.step is not None:
        where.append(sql.AT_STEP)
        values.append(chosen.step)
    if chosen.roots:
        where.append(sql.IS_ROOT)
    return " AND ".join(where), values


def _bounds(chosen: Filter) -> tuple[tuple[float, float], ...]:
    """The period of a filter in three pieces, each from its beginning to its end.

    The first piece has the whole hours in the period, as numbers of `span_of`. The other two pieces have the rest of
    the period before and after these hours, as times.
    """
    since, until = -math.inf if chosen.since is None else chosen.since, chosen.until
    low = -(2**62) if chosen.since is None else span_of(since) + bool(since % SPAN)
    high = 2**62 if until is None else span_of(until)
    until = math.inf if until is None else until
    if low > high:  # the period is within one span
        return (low, high), (since, until), (until, until)
    before, after = min(float(low * SPAN), until), max(float(high * SPAN), since)
    return (low, high), (since, before), (after, until)


def _counted(
    tables: Tables, saga: str, version: str | None, first: int | None
) -> tuple[MachineStatistics, Counter[tuple[str, str]]]:
    """The counts of a saga's executions, and the number of failing executions by (step, error).

    *saga*, *version* and *first* have the same meaning as for `SideStore.numbers`.
    """
    machine = MachineStatistics()
    groups: Counter[tuple[str, str]] = Counter()
    lowest = -(2**62) if first is None else first
    for (definition,) in tables.read(sql.OF_SAGA, (saga, saga, version, version)):
        for kind, name, size, count in tables.read(sql.SAMPLES, (definition, lowest)):
            machine.count_sample(kind, name, size, count)
        for state, error, step, span, count in tables.read(sql.STATES, (definition,)):
            if span >= lowest or not is_ended(state):
                machine.now[state] = machine.now.get(state, 0) + count
            if span >= lowest and error and is_failing(state):
                groups[step, error] += count
            machine.executions += count if state != PENDING else 0
    return machine, groups


def side_store_of(journal: Any, clock: Callable[[], float] | None = None) -> SideStore | None:
    """The side store of *journal*, which need not exist yet. None if this kind of journal cannot have a side store."""
    if not is_counted(journal):
        return None
    stored: Any = journal
    if hasattr(stored, "side_connections"):
        from fsm_mediator.statistics.side_postgres import PostgresHome  # loads psycopg

        return SideStore(journal, PostgresHome(stored), clock)
    path = getattr(stored, "path", None)
    if not isinstance(path, str) or not Path(path).is_file():
        return None
    from fsm_mediator.statistics.side_sqlite import SQLiteHome  # loads sqlite3

    return SideStore(journal, SQLiteHome(path), clock)


def filled_store_of(journal: Any) -> SideStore | None:
    """The side store of *journal*. None if it does not exist, or has never counted all changes."""
    store = side_store_of(journal)
    return store if store is not None and store.exists else None


def fresh_store_of(journal: Any) -> SideStore | None:
    """The side store of *journal*. None if it does not exist, or is older than `FRESH` seconds."""
    store = side_store_of(journal)
    return store if store is not None and store.is_fresh() else None


@contextmanager
def filling(journal: Journal, every: float = 1.0) -> Iterator[None]:
    """Refresh the side store of *journal* repeatedly, in a thread, until the ``with`` block ends.

    A store that does not exist is not created.

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
    logged, is_there, pause = "", False, every
    while not ended.wait(pause):
        try:
            is_there = store.home.is_there()
            if is_there and not store.is_just_filled(every):
                store.refresh(looks=1)
            logged = ""
        except JournalError as error:  # an error of the side store must not end the daemon
            if is_there and str(error) != logged:
                logged = str(error)
                logger.warning("the side store is not filled: %s", error)
        pause = every if is_there else RARELY * every
