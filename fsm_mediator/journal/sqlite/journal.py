"""SQLiteJournal: a journal in one SQLite file, for many threads and for several processes on one machine.

What is in which file: the tables in ``schema``, the SQL in ``queries``, rows in ``rows``, what one commit does in
``writing``, how commits are shared in ``group`` and ``transaction``, connections and the fork in ``connections`` and
``forking``. Here they become the `Journal` protocol.
"""

from __future__ import annotations

import functools
import math
import os
import sqlite3
import time
import weakref
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal

from fsm_mediator import forking
from fsm_mediator.errors import DefinitionError, JournalError, PayloadError
from fsm_mediator.journal.codec import MAX_BYTES
from fsm_mediator.journal.liveness import is_alive, process_exists
from fsm_mediator.journal.protocol import Commit, Driver, Entry, Written, check_bounds
from fsm_mediator.journal.sqlite import leases as holding
from fsm_mediator.journal.sqlite import queries, transaction
from fsm_mediator.journal.sqlite.commit import Write
from fsm_mediator.journal.sqlite.connections import MEMORY, Connections
from fsm_mediator.journal.sqlite.errors import ERRORS, fault
from fsm_mediator.journal.sqlite.group_commit import GroupCommit, Waiter
from fsm_mediator.journal.sqlite.rows import (
    Row,
    UnencodableError,
    driver_row,
    entry_of,
    is_text,
    item_row,
    items_of,
    record_of,
)
from fsm_mediator.records import InboxItem, Record
from fsm_mediator.retry import check_number
from fsm_mediator.states import ENDED, STUCK, STUCK_EXECUTING

_PAGE: Final = 200
"""Executions that are read at a time when many are listed."""

_BATCH: Final = 50
"""Executions that are pruned in one transaction, so that nobody waits long to write."""

_REMEMBERED: Final = 7 * 24 * 3600.0
"""Seconds for which a driver that holds nothing, and whose life cannot be seen from here, is kept in mind."""

_AT_REST: Final = queries.as_json(sorted((STUCK, STUCK_EXECUTING, *ENDED)))
_STUCK: Final = queries.as_json(sorted((STUCK, STUCK_EXECUTING)))


class SQLiteJournal:
    """Keeps records in one SQLite file.

    A record is on the disk before `write` returns. Threads that write at the same time share a transaction, and so the
    wait for the disk. Everything is open once it is made, and opens again when it is used after `close`.

    ``":memory:"`` keeps it all in this process instead, until it is closed; a forked child's is empty.

    Args:
        path: The file; created, for its owner alone, if it does not exist. Its directory must.
        durability: What survives a power cut: ``full``, every commit; ``normal``, the last moments may be missing. What
            a process wrote before it crashed survives under both.
        busy_timeout: How many seconds to wait while another process writes.
        lease: For how many seconds a driver that cannot be seen from elsewhere counts as alive after each beat.
        clock: Tells the time for leases, in seconds since the epoch.
        max_value_bytes: The limit of one payload, result or signal value, as JSON.
        read_only: Only look: the file is never created nor changed, and those who write are not kept from it.

    Raises:
        JournalError: There can be no journal at *path*, or the file is none, or a later version's, or damaged.
    """

    encodes: bool = True

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        durability: Literal["full", "normal"] = "full",
        busy_timeout: float = 30.0,
        lease: float = 30.0,
        clock: Callable[[], float] = time.time,
        max_value_bytes: int = MAX_BYTES,
        read_only: bool = False,
    ) -> None:
        if durability not in ("full", "normal"):
            raise DefinitionError(f"SQLiteJournal: durability is 'full' or 'normal', not {durability!r}")
        check_number("SQLiteJournal: busy_timeout (seconds)", busy_timeout)
        check_number("SQLiteJournal: lease (seconds)", lease, above=True)
        check_number("SQLiteJournal: max_value_bytes", max_value_bytes, above=True)
        if not callable(clock):
            raise DefinitionError(f"SQLiteJournal: clock must be a function, not {clock!r}")
        self.path: Final = self._absolute(path)
        self.read_only: Final = read_only
        self.heartbeat: float | None = min(1.0, lease / 3)
        self.max_value_bytes = max_value_bytes
        self._lease = lease
        self._clock = clock
        self._connections = Connections(
            self.path, durability=durability, busy_timeout=busy_timeout, read_only=read_only
        )
        self._fork_ticket: Waiter[transaction.Job] | None = None
        self._begin_writing_anew()
        if read_only:
            self._connections.look()
        else:
            self._connections.writer()
        weakref.finalize(self, self._connections.close, 1.0)
        forking.watch(self)

    @staticmethod
    def _absolute(path: str | os.PathLike[str]) -> str:
        if not isinstance(path, (str, os.PathLike)) or not os.fspath(path):
            raise DefinitionError(f"SQLiteJournal: the path is the name of a file, not {path!r}")
        name = os.fsdecode(path)
        return name if name == MEMORY else str(Path(name).absolute())

    def _begin_writing_anew(self) -> None:
        self._group: GroupCommit[transaction.Job] = GroupCommit(self._commit, self._commit_alone)
        self._known = holding.IdCache()
        self._dead: set[tuple[int, str]] = set()

    # Writing

    def write(self, commit: Commit) -> Written:
        """As `Journal.write`."""
        if self.read_only:
            raise self._is_read_only()
        (written,) = self._group.perform((Write(commit, self._known, self.max_value_bytes),))
        if isinstance(written, tuple):
            return written
        raise written

    def write_all(self, commits: Sequence[Commit]) -> list[Written | JournalError]:
        """As `Journal.write_all`."""
        results: list[Written | JournalError | None] = []
        jobs: list[transaction.Job] = []
        for commit in commits:
            try:
                jobs.append(Write(commit, self._known, self.max_value_bytes))
                results.append(None)
            except PayloadError as error:
                results.append(UnencodableError(str(error)))
            except JournalError as error:
                results.append(error)
        done = iter(self._perform_all(jobs) if jobs else ())
        return [next(done) if result is None else result for result in results]

    def post(self, saga_id: str, item: InboxItem) -> bool:
        """As `Journal.post`."""
        if not is_text(saga_id):
            return False
        row = item_row(item, saga_id, self.max_value_bytes)
        return bool(self._perform(lambda cursor: holding.post(cursor, saga_id, row)))

    def enlist(self, driver: Driver) -> None:
        """As `Journal.enlist`."""
        row, now = driver_row(driver), self._clock()
        self._gone(now)
        over = queries.as_json(number for number, *seen in self._read(queries.IDLERS) if _is_over(seen, now))

        def job(cursor: sqlite3.Cursor) -> None:
            cursor.execute(queries.FORGET, (over,))
            cursor.execute(queries.ENLIST, (*row, now, self._lease))

        self._perform(job)

    def beat(self, driver_id: str) -> tuple[str, ...]:
        """As `Journal.beat`. The lease is renewed when a third of it is over, and what can wait is done on occasion."""
        if self.read_only:
            raise self._is_read_only()
        self._connections.check_identity()
        found = self._read(queries.LAST_BEAT, (driver_id,))
        if not found:
            raise holding.unknown_driver(driver_id)
        ((number, last),) = found
        now = self._clock()
        if not 0 <= now - last < self._lease / 3:
            self._perform(lambda cursor: cursor.execute(queries.BEAT, (now, self._lease, driver_id)).rowcount)
            self._book(number)
            if not self._connections.in_memory:
                self._read("PRAGMA wal_checkpoint(PASSIVE)")
        return tuple(saga_id for (saga_id,) in self._read(queries.CALLED, (number,)))

    def dismiss(self, driver_id: str) -> None:
        """As `Journal.dismiss`."""
        for (number,) in self._read(queries.DRIVER, (driver_id,)):
            self._book(number)
        self._perform(lambda cursor: holding.dismiss(cursor, self._known, driver_id))

    def claim(self, saga_id: str, driver_id: str) -> Entry | None:
        """As `Journal.claim`."""
        taken = self._perform(lambda cursor: holding.claim(cursor, self._known, saga_id, driver_id, self._lives))
        return self.find(saga_id) if taken else None

    def release(self, saga_id: str, epoch: int) -> None:
        """As `Journal.release`."""
        self._perform(lambda cursor: holding.release(cursor, self._known, saga_id, epoch))

    def prune(self, before: float, *, saga: str | None = None, limit: int = 1000) -> int:
        """As `Journal.prune`.

        An execution goes with its branches, once none goes on; they are counted, and a family is not divided.
        """
        check_bounds(before, limit)
        if self.read_only:
            raise self._is_read_only()
        for number, *_ in self._read(queries.HOLDERS):
            self._book(number)
        deleted, after = 0, -1
        query, parameters = (queries.PRUNABLE, ()) if saga is None else (queries.PRUNABLE_OF_SAGA, (saga,))
        while deleted < limit:
            found = self._read(query, (*parameters, after, before, _BATCH))
            families: list[int] = []
            batch = 0
            for number, size in found:
                if (families and batch + size > _BATCH) or ((families or deleted) and batch + size > limit - deleted):
                    break
                families.append(number)
                batch += size
            if not families:
                break
            after = families[-1]
            deleted += self._perform(functools.partial(holding.prune, numbers=families))
        return deleted

    def _gone(self, now: float) -> list[int]:
        """The drivers that hold something and live no more, once what has ended under them is booked."""
        gone = []
        for number, *seen in self._read(queries.HOLDERS):
            if not self._lives(number, seen, now):
                self._book(number, dead=(number, seen[2]) in self._dead)
                gone.append(number)
        return gone

    def _book(self, driver: int, *, dead: bool = False) -> None:
        """Book what has ended under a driver, some at a time.

        *dead*: also what it took up after that, to undo it, and left as it was; where that is certain, for whose lease
        is over may come back.
        """
        while found := self._read(queries.OVER, (driver, dead)):
            numbers = [number for (number,) in found]
            self._perform(functools.partial(holding.book, numbers=numbers, driver=driver, dead=dead))

    def _perform(self, job: transaction.Job) -> Any:
        (result,) = self._perform_all((job,))
        if isinstance(result, BaseException):
            raise result
        return result

    def _perform_all(self, jobs: Sequence[transaction.Job]) -> list[Any]:
        if self.read_only:
            raise self._is_read_only()
        return self._group.perform(jobs)

    def _is_read_only(self) -> JournalError:
        return JournalError(f"the journal {self.path!r} was opened to look only. Open it without read_only=True")

    def _commit_alone(self, job: transaction.Job) -> Any:
        if not isinstance(job, Write):
            return None
        connections = self._connections
        with connections.writing:
            cursor = connections.cursor or connections.writer()
            try:
                return job.alone(cursor)
            except BaseException as error:
                self._known.forget()
                if not transaction.rolled_back(cursor.connection):
                    connections.drop_writer()
                if isinstance(error, ERRORS):
                    raise fault(error, self.path, "written", connections.busy_timeout) from error
                raise

    def _commit(self, tickets: Sequence[Waiter[transaction.Job]]) -> None:
        connections = self._connections
        with connections.writing:
            usable = False
            try:
                usable = transaction.perform(
                    connections.writer(),
                    tickets,
                    path=self.path,
                    busy_timeout=connections.busy_timeout,
                    undone=self._known.forget,
                )
            except JournalError as error:
                for ticket in tickets:
                    ticket.failure = error if len(tickets) == 1 else JournalError(str(error))
            finally:
                if not usable and not self._can_be_kept(connections.cursor):
                    connections.drop_writer()

    def _can_be_kept(self, cursor: sqlite3.Cursor | None) -> bool:
        """Whether to go on with it after an interrupt: with that of a journal in memory, all would be lost."""
        return self._connections.in_memory and cursor is not None and transaction.rolled_back(cursor.connection)

    # Looking

    def find(self, saga_id: str) -> Entry | None:
        """As `Journal.find`."""
        if not is_text(saga_id):
            return None
        return next(iter(self._entries_of(self._read(queries.ENTRY, (saga_id,)))), None)

    def records(self, saga_id: str) -> list[Record]:
        """As `Journal.records`."""
        if not is_text(saga_id):
            return []
        rows = self._read(queries.RECORDS, (saga_id,))
        with self._reading():
            return [record_of(tuple(row), saga_id, saga) for saga, *row in rows]

    def inbox(self, saga_id: str) -> Written:
        """As `Journal.inbox`."""
        return items_of(self._read(queries.MAIL_OF, (saga_id,))) if is_text(saga_id) else ()

    def entries(
        self,
        *,
        phase: str | None = None,
        saga: str | None = None,
        parent: str | None = None,
        before: float | None = None,
        limit: int | None = None,
    ) -> Iterator[Entry]:
        """As `Journal.entries`; the newest was opened last. They are read some at a time, as they are asked for."""
        check_bounds(before, limit)
        chosen = ""
        parameters: list[Any] = []
        if phase is not None:
            chosen += f" AND {queries.IN_PHASE}"
            parameters += [phase, phase, STUCK_EXECUTING if phase == STUCK else phase]
        for value, condition in (
            (saga, queries.OF_SAGA),
            (parent, queries.OF_PARENT),
            (before, queries.BEFORE),
        ):
            if value is not None:
                chosen += f" AND {condition}"
                parameters.append(value)
        left = math.inf if limit is None else limit
        for page in self._pages(phase, chosen, parameters, left):
            for entry in self._entries_of(self._read(queries.LISTED, (queries.as_json(page),))):
                if left <= 0:
                    return
                left -= 1
                yield entry

    def _pages(self, phase: str | None, chosen: str, parameters: list[Any], limit: float) -> Iterator[list[int]]:
        """The numbers of executions, newest first, some at a time; nothing stays open in between."""
        if phase is not None and phase not in ENDED:
            # Those in hand are few beside those that have ended, and their index is not in this order: all their
            # numbers are taken at once, 8 bytes each.
            query = f"{queries.CHOSEN_IN_HAND}{chosen} {queries.NEWEST_FIRST}"
            most = -1 if limit == math.inf else int(limit)
            numbers = array("q", (number for (number,) in self._read(query, (*parameters, most))))
            for start in range(0, len(numbers), _PAGE):
                yield numbers[start : start + _PAGE].tolist()
            return
        query = f"{queries.CHOSEN} WHERE {queries.BELOW}{chosen} {queries.NEWEST_FIRST}"
        below = 2**63 - 1
        while page := [number for (number,) in self._read(query, (below, *parameters, int(min(_PAGE, limit))))]:
            yield page
            below = page[-1]

    def claimable(self, at: float, limit: int, skip: Sequence[str] = ()) -> list[str]:
        """As `Journal.claimable`; the oldest is the one that was opened first."""
        skipped = queries.as_json(skip)
        found = self._read(queries.UNHELD, (at, skipped, limit))
        for number in self._gone(self._clock()):
            found += self._read(queries.LEFT_BY, (number, skipped, _AT_REST, _STUCK, limit))
        return [saga_id for _, saga_id in sorted(found)[:limit]]

    def next_wake(self) -> float | None:
        """As `Journal.next_wake`."""
        ((wake,),) = self._read(queries.NEXT_WAKE)
        return None if wake is None else float(wake)

    def _entries_of(self, rows: list[Row]) -> list[Entry]:
        """The entries that *rows* are, each driver looked at once."""
        drivers: dict[int, tuple[Driver, bool]] = {}
        holders = {row[13] for row in rows} - {None}
        if holders:
            now = self._clock()
            for number, *seen in self._read(queries.DRIVERS):
                if number in holders:
                    drivers[number] = Driver(*seen[2:]), self._lives(number, seen, now)
        with self._reading():
            return [entry_of(row, *drivers.get(row[13], (None, False))) for row in rows]

    def _lives(self, number: int, seen: Sequence[Any], now: float | None = None) -> bool:
        last_beat, lease, *identity = seen
        driver = Driver(*identity)
        if (number, driver.id) in self._dead:
            return False
        if is_alive(driver, last_beat, lease, self._clock() if now is None else now):
            return True
        if process_exists(driver) is False:
            self._dead.add((number, driver.id))  # its process does not come back; its number may, in another file
        return False

    def _read(self, query: str, parameters: Sequence[Any] = ()) -> list[Row]:
        with self._reading():
            if self._connections.in_memory:
                with self._connections.writing:
                    return self._connections.writer().execute(query, parameters).fetchall()
            with self._connections.reader() as connection:
                return connection.execute(query, parameters).fetchall()

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except ERRORS as error:
            raise fault(error, self.path, "read", self._connections.busy_timeout) from error

    # Opening, closing, forking

    def close(self) -> None:
        """As `Journal.close`. What is kept in memory is gone then."""
        with self._group.stopped():
            self._connections.close()
            self._known.forget()

    def rest(self, timeout: float) -> bool:
        """Before a fork: close all connections, and let nobody open others."""
        try:
            ticket = self._group.stop(timeout)
        except JournalError:  # a process that forks while it writes, in the thread that does
            return False
        if ticket is None:
            return False
        rests = False
        try:
            rests = self._connections.in_memory or self._connections.shut(timeout)
        finally:
            if not rests:
                self._go_on(ticket)
        self._fork_ticket = ticket if rests else None
        return rests

    def go_on(self) -> None:
        """After a fork, in the parent: let others open connections again."""
        ticket, self._fork_ticket = self._fork_ticket, None
        if ticket is not None:
            self._go_on(ticket)

    def _go_on(self, ticket: Waiter[transaction.Job]) -> None:
        try:
            self._connections.reopen()
        finally:
            self._group.go_on(ticket)

    def begin_anew(self) -> None:
        """After a fork, in the child: it opens connections of its own."""
        self._fork_ticket = None
        self._connections.begin_anew()
        self._begin_writing_anew()

    def __repr__(self) -> str:
        return f"SQLiteJournal({self.path!r})"


def _is_over(seen: Sequence[Any], now: float) -> bool:
    last_beat, _, *identity = seen
    lives = process_exists(Driver(*identity))
    return now - last_beat > _REMEMBERED if lives is None else not lives
