"""SQLiteJournal: a journal in one SQLite file, for many threads and for several processes on one machine.

This module implements the `Journal` protocol with the other modules of this folder: the tables (``schema``), statements
(``sql``), commits (``commit``), owners and inboxes (``leases``), shared transactions (``group_commit``,
``transaction``, ``writing``), and connections (``connections``).
"""

from __future__ import annotations

import os
import sqlite3
import time
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from fsm_mediator import forking
from fsm_mediator.ciphers import Cipher
from fsm_mediator.errors import DefinitionError, JournalError, PayloadError
from fsm_mediator.journal.codec import MAX_BYTES, Codec
from fsm_mediator.journal.group_commit import GroupCommit, Waiter
from fsm_mediator.journal.liveness import LivenessCheck, is_forgettable
from fsm_mediator.journal.plain import Types
from fsm_mediator.journal.protocol import Commit, Driver, Entry, Written, check_bounds
from fsm_mediator.journal.resealing import Resealed, reseal_all
from fsm_mediator.journal.rows import Row, UnencodableError, driver_row, item_row
from fsm_mediator.journal.sqlite import claims, leases, pruning, sql, transaction
from fsm_mediator.journal.sqlite.claims import Claim
from fsm_mediator.journal.sqlite.commit import Write
from fsm_mediator.journal.sqlite.connections import MEMORY, Connections
from fsm_mediator.journal.sqlite.copying import CopyTables
from fsm_mediator.journal.sqlite.following import ChangeTable
from fsm_mediator.journal.sqlite.operators import note_definitions
from fsm_mediator.journal.sqlite.slots import SlotJudge
from fsm_mediator.journal.sqlite.writing import Writer
from fsm_mediator.journal.storable import is_text
from fsm_mediator.records import InboxItem
from fsm_mediator.retry import check_number


class SQLiteJournal(ChangeTable, CopyTables):
    """Keeps records in one SQLite file.

    When `write` returns, the record is on the disk. Threads that write at the same time share a transaction, and so
    share the wait for the disk. The journal is open when it is made. If it is used after `close`, it opens again.

    ``":memory:"`` keeps all records in this process until `close`. After a fork, the child's journal is empty.

    Args:
        path: The file. If it does not exist, it is created, and only its owner can read it. Its directory must exist.
        durability: The commits that survive a power cut. ``full``: every commit. ``normal``: all commits except the
            last few. With both, everything that a process wrote before it crashed survives.
        busy_timeout: The number of seconds to wait while another process writes.
        lease: Seconds for which a driver counts as alive after a heartbeat, if this process cannot see the driver's
            process.
        clock: Returns the time for leases, in seconds since the epoch.
        max_value_bytes: The maximum size in bytes of one payload, result or signal value, as JSON.
        types: Two hooks for types that msgspec does not know: ``to_plain(value)`` returns plain data, and
            ``from_plain(type, plain)`` returns the value. A hook raises NotImplementedError for a type that it does not
            know.
        cipher: An `AesGcm` that seals payloads, results, signal values, messages of errors and reasons. Every process
            that uses the file needs it. Ids, names, states, times and the types of errors stay readable.
        read_only: Only read the journal. The file is never created or changed, and writers do not have to wait.

    Raises:
        JournalError: No journal can be at *path*; or the file is not a journal, is of a later version, or is damaged.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        durability: Literal["full", "normal"] = "full",
        busy_timeout: float = 30.0,
        lease: float = 30.0,
        clock: Callable[[], float] = time.time,
        max_value_bytes: int = MAX_BYTES,
        types: Types | None = None,
        cipher: Cipher | None = None,
        read_only: bool = False,
    ) -> None:
        if durability not in ("full", "normal"):
            raise DefinitionError(f"SQLiteJournal: durability is 'full' or 'normal', not {durability!r}")
        check_number("SQLiteJournal: busy_timeout (seconds)", busy_timeout)
        check_number("SQLiteJournal: lease (seconds)", lease, above=True)
        check_number("SQLiteJournal: max_value_bytes", max_value_bytes, above=True)
        if not callable(clock):
            raise DefinitionError(f"SQLiteJournal: clock must be a function, not {clock!r}")
        self.path: str = self._absolute(path)
        self.read_only: Final = read_only
        self.heartbeat: float | None = min(1.0, lease / 3)
        self.codec: Codec = Codec(max_value_bytes, types, cipher)
        self._lease = lease
        self._clock = clock
        self._connections = Connections(
            self.path, durability=durability, busy_timeout=busy_timeout, read_only=read_only
        )
        self._writer = Writer(self._connections)
        self._paused_by: Waiter[transaction.Job] | None = None
        self._reset_writing()
        if read_only:
            with self._connections.reader():
                pass  # the file can be opened
        else:
            self._connections.writer()
        weakref.finalize(self, self._writer.close_unless_used)
        forking.register(self)

    @staticmethod
    def _absolute(path: str | os.PathLike[str]) -> str:
        if not isinstance(path, (str, os.PathLike)) or not os.fspath(path):
            raise DefinitionError(f"SQLiteJournal: the path is the name of a file, not {path!r}")
        name = os.fsdecode(path)
        return name if name == MEMORY else str(Path(name).absolute())

    def _reset_writing(self) -> None:
        self._group: GroupCommit[transaction.Job] = self._writer.group
        self._ids: leases.IdCache = self._writer.ids
        self._liveness = LivenessCheck(self._clock)
        self._slots = SlotJudge(self._is_alive, self._clock, self._lease)
        self._more_claimable = False

    # Writing

    def write(self, commit: Commit) -> Written:
        """Write *commit*, and return the inbox: see `Journal.write`."""
        (written,) = self._group.perform((Write(commit, self._ids, self.codec, self._slots),))
        if isinstance(written, tuple):
            return written
        raise written

    def write_all(self, commits: Sequence[Commit]) -> list[Written | JournalError]:
        """Write several commits together: see `Journal.write_all`."""
        jobs: list[transaction.Job] = []
        refused: dict[int, JournalError] = {}
        for place, commit in enumerate(commits):
            try:
                jobs.append(Write(commit, self._ids, self.codec, self._slots))
            except PayloadError as error:
                refused[place] = UnencodableError(str(error))
            except JournalError as error:
                refused[place] = error
        results: list[Written | JournalError] = self._group.perform(jobs) if jobs else []
        for place, refusal in refused.items():  # in order, so that each comes to its place
            results.insert(place, refusal)
        return results

    def post(self, saga_id: str, item: InboxItem, *, clock: Callable[[], float] | None = None, token: int = 0) -> bool:
        """Put an item into the inbox of an execution: see `Journal.post`."""
        if not is_text(saga_id):
            return False
        row = item_row(item, saga_id, self.codec.encode, self.codec.cipher)

        def job(cursor: sqlite3.Cursor) -> bool:
            if leases.is_posted(cursor, token):
                return True
            if clock is None:
                return leases.post(cursor, saga_id, row, token)
            timed = msgspec.structs.replace(item, at=clock())
            return not leases.is_past_its_wait(cursor, saga_id, timed) and leases.post(
                cursor, saga_id, (*row[:-1], timed.at), token
            )

        return bool(self._perform(job))

    def enlist(self, driver: Driver) -> None:
        """Register a driver: see `Journal.enlist`."""
        row, now = driver_row(driver), self._clock()
        self._dead_owners()
        idle = self._read(sql.IDLE_DRIVERS)
        forgotten = sql.as_json(
            number for number, beat, _, *identity in idle if is_forgettable(Driver(*identity), beat, now)
        )

        def job(cursor: sqlite3.Cursor) -> None:
            cursor.execute(sql.DELETE_DRIVERS, (forgotten,))
            cursor.execute(sql.ENLIST, (*row, now, self._lease))
            for name, most in driver.limits:
                cursor.execute(sql.DECLARE, (name, most, driver.id))
            note_definitions(cursor, driver)

        self._perform(job)

    def beat(self, driver_id: str, *, everything: bool = False) -> tuple[str, ...]:
        """Renew a driver's lease: see `Journal.beat`.

        If a third of the lease has passed, the lease is renewed. Then the rows of the driver's ended executions are
        marked as ended: see ``schema``.
        """
        self._connections.check_writable()
        self._connections.check_files()
        found = self._read(sql.LAST_BEAT, (driver_id,))
        if not found:
            raise leases.unknown_driver(driver_id)
        ((number, last),) = found
        now = self._clock()
        if not 0 <= now - last < self._lease / 3:
            self._perform(lambda cursor: cursor.execute(sql.BEAT, (now, self._lease, driver_id)).rowcount)
            self._mark_ended(number)
            if not self._connections.in_memory:
                self._read("PRAGMA wal_checkpoint(PASSIVE)")
        return tuple(saga_id for (saga_id,) in self._read(sql.HELD if everything else sql.WITH_MAIL, (number,)))

    def turns(self, driver_id: str) -> list[str]:
        """The queued executions for which a slot is free: see `SlotJournal.turns`."""
        return [
            saga_id
            for (number,) in self._read(sql.DRIVER, (driver_id,))
            for (name,) in self._read(sql.LIMITS_OF, (number,))
            for saga_id in self._slots.turns(self._read, name, number)
        ]

    def dismiss(self, driver_id: str) -> None:
        """Delete a driver: see `Journal.dismiss`."""
        for (number,) in self._read(sql.DRIVER, (driver_id,)):
            self._mark_ended(number)
        self._perform(lambda cursor: leases.unregister_driver(cursor, self._ids, driver_id))

    def claim(self, saga_id: str, driver_id: str) -> Entry | None:
        """Make a driver the owner of an execution: see `Journal.claim`."""
        entry: Entry | None = self._perform(Claim(saga_id, driver_id, self._is_alive, self.codec.cipher))
        return entry

    def claim_all(self, saga_ids: Sequence[str], driver_id: str) -> dict[str, Entry]:
        """Make a driver the owner of several executions: see `ManyJournal.claim_all`."""
        asked = [Claim(saga_id, driver_id, self._is_alive, self.codec.cipher) for saga_id in saga_ids]
        claimed = self._group.perform(asked) if asked else ()
        return {entry.saga_id: entry for entry in claimed if isinstance(entry, Entry)}

    def claim_some(
        self, driver_id: str, at: float, limit: int, skip: Sequence[str] = (), leave: Sequence[str] = ()
    ) -> list[Entry]:
        """Claim several executions at once: see `Journal.claim_some`.

        If nothing can be claimed, nothing is written and no lock is taken. If the last call found *limit* executions,
        there are probably more. This call then claims without looking for them first.
        """
        chosen = (sql.as_json(skip), sql.as_json(leave))
        if not self._more_claimable:
            if not self._read(sql.DRIVER, (driver_id,)):
                raise leases.unknown_driver(driver_id)
            if not claims.find_claimable(self._read, self._dead_owners(), at, 1, *chosen):
                return []
        claimed: list[Entry] = self._perform(
            lambda cursor: claims.claim_some(
                cursor, self._ids, driver_id, self._is_alive, self.codec.cipher, at, limit, *chosen
            )
        )
        self._more_claimable = len(claimed) >= limit
        return claimed

    def release(self, saga_id: str, epoch: int) -> None:
        """Free an execution from its owner: see `Journal.release`."""
        self._perform(lambda cursor: leases.release(cursor, self._ids, saga_id, epoch))

    def prune(
        self, before: float, *, saga: str | None = None, limit: int = 1000, forget_ids: bool = False, token: int = 0
    ) -> int:
        """Delete ended executions: see `Journal.prune`.

        Branches count towards *limit*, but a branch is never deleted without its parent. The ids of deleted
        executions are kept in the table ``forgotten``. With *forget_ids*, the rows of this table whose executions ended
        before *before* are deleted too. Disk space is released.
        """
        check_bounds(before, limit)
        self._connections.check_writable()
        for number, *_ in self._read(sql.OWNERS):
            self._mark_ended(number)
        deleted = pruning.prune(
            *(self._read, self._perform, before),
            saga=saga,
            limit=limit,
            forget_ids=forget_ids,
            token=(token, self._clock()) if token else None,
        )
        if not self._connections.in_memory:
            self._connections.empty_log()
        return deleted

    def prune_these(self, saga_ids: Sequence[str], before: float) -> int:
        """Delete ended executions by id, and release their disk space: see `RetainingJournal.prune_these`."""
        check_bounds(before, None)
        self._connections.check_writable()
        for number, *_ in self._read(sql.OWNERS):
            self._mark_ended(number)
        return pruning.prune_these(self._read, self._perform, list(filter(is_text, saga_ids)), before)

    def reseal(self, advance: Callable[[int], object] = int) -> Resealed:
        """Seal all texts under the first key of the cipher: see `ResealingJournal.reseal`.

        Plain text may stay in free pages until a VACUUM.
        """
        self._connections.check_writable()

        def read(statement: str, parameters: Sequence[Any]) -> list[Row]:
            return self._read(statement.replace("journal.", ""), parameters)

        def write(statement: str, rows: Sequence[Row]) -> None:
            self._perform(lambda cursor: cursor.executemany(statement.replace("journal.", ""), rows).rowcount)

        return reseal_all(self.codec.cipher, read, write, advance)

    def repair(self, saga_id: str) -> None:
        """Derive the row of an execution again: see `RepairableJournal.repair`."""
        self._connections.check_writable()

        def job(cursor: sqlite3.Cursor) -> None:
            self._ids.last_written.pop(saga_id, None)
            if cursor.execute(sql.ROW_FAULTS, (saga_id,)).fetchone() is not None:
                cursor.execute(sql.DERIVE_ROW, (saga_id,))

        self._perform(job)

    def claimable(self, at: float, limit: int, skip: Sequence[str] = ()) -> list[str]:
        """List the ids of claimable executions: see `Journal.claimable`.

        The oldest executions come first, in the order in which they were opened.
        """
        skipped = sql.as_json(skip)
        found = self._read(sql.UNHELD, (at, skipped, limit))
        for number in self._dead_owners():
            found += self._read(sql.LEFT_BY, (number, skipped, *leases.SETTLED, limit))
        return [saga_id for _, saga_id in sorted(found)[:limit]]

    def _dead_owners(self) -> list[int]:
        """The numbers of the dead drivers that own executions.

        The rows of executions that ended under these drivers are first marked as ended: see ``schema``.
        """
        dead = []
        for number, *row in self._read(sql.OWNERS):
            if not self._is_alive(number, row):
                self._mark_ended(number, surely_dead=self._liveness.has_ended(number, Driver(*row[2:])))
                dead.append(number)
        return dead

    def _mark_ended(self, driver: int, *, surely_dead: bool = False) -> None:
        """Mark the rows of a driver's ended executions as ended, up to 1,000 rows in one transaction: see ``schema``.

        If the driver is *surely_dead*, rows of ended executions that the driver claimed for an undo, but did not
        change, are marked too.
        """
        parameters = (driver, surely_dead)
        while self._read(sql.ENDED_UNDER, parameters):
            self._perform(lambda cursor: cursor.execute(sql.MARK_ENDED, parameters).rowcount)

    def _perform(self, job: transaction.Job) -> Any:
        (result,) = self._group.perform((job,))
        if isinstance(result, BaseException):
            raise result
        return result

    # Closing and forking

    def close(self) -> None:
        """Close files and connections: see `Journal.close`. After this, a journal in memory is empty."""
        with self._group.exclusive():
            self._connections.close()
            self._ids.clear()

    def pause(self, timeout: float) -> bool:
        """Close all connections and keep threads from opening new ones. Called before a fork.

        Returns False if this takes longer than *timeout* seconds.
        """
        try:
            waiter = self._group.acquire(timeout)
        except JournalError:  # the thread that forks is writing at this moment
            return False
        if waiter is None:
            return False
        self._paused_by = waiter
        paused = False
        try:
            paused = self._connections.in_memory or self._connections.close_and_block(timeout)
        finally:
            if not paused:
                self.resume()
        return paused

    def resume(self) -> None:
        """Let threads open connections again. Called in the parent after a fork."""
        waiter, self._paused_by = self._paused_by, None
        if waiter is not None:
            try:
                self._connections.reopen()
            finally:
                self._group.release(waiter)

    def reset(self) -> None:
        """Open new connections. Called in the child after a fork."""
        self._paused_by = None
        self._connections.reset_after_fork()
        self._writer.reset()
        self._reset_writing()

    def __repr__(self) -> str:
        return f"SQLiteJournal({self.path!r})"
