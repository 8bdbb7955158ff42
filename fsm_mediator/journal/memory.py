"""MemoryJournal: a journal in the memory of this process. It is the default journal, and the journal for tests."""

from __future__ import annotations

import copy
import heapq
import itertools
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import msgspec

from fsm_mediator import forking
from fsm_mediator.errors import JournalError, LeaseLostError, PayloadError, UnknownExecutionError
from fsm_mediator.journal.attention import PENDING_NOW, is_too_late, takes
from fsm_mediator.journal.codec import MAX_BYTES, Codec
from fsm_mediator.journal.memory_finding import FindingRows
from fsm_mediator.journal.memory_operators import OperatorRows
from fsm_mediator.journal.memory_slots import Slots
from fsm_mediator.journal.memory_table import Row, Table
from fsm_mediator.journal.plain import Types
from fsm_mediator.journal.protocol import (
    Commit,
    Driver,
    Entry,
    Forgotten,
    IdTakenError,
    Queued,
    Written,
    check_bounds,
    check_unless_mail,
)
from fsm_mediator.journal.storable import encoded_commit, encoded_item
from fsm_mediator.records import VERBS, Acceptance, InboxItem, Record
from fsm_mediator.retry import check_number
from fsm_mediator.states import ENDED, is_in_phase

KEPT: Final = 10_000
"""The default number of ended executions that are kept."""


class MemoryJournal(FindingRows, OperatorRows):
    """Keeps executions in the memory of this process. They are lost when the process ends.

    The journal belongs to the process that made it: after a fork, the journal of the child is empty.

    Args:
        encode: Encode and decode payloads and results as a durable journal does, and keep only the text of errors. A
            test then sees the same values as with a durable journal. If False, objects are kept unchanged.
        max_value_bytes: The limit of one value in bytes, if *encode* is set.
        types: Two hooks for types that msgspec does not know, as for `SQLiteJournal`, if *encode* is set.
        keep: The number of ended executions to keep. If there are more, the execution that ended first is deleted
            with its branches, as by `prune`. Executions that have not ended are never deleted, and do not count. The
            last 1,000,000 deleted ids cannot be started again. If *keep* is None, all executions are kept.

    Raises:
        JournalError: *keep* is not a whole number of at least 1.
        DefinitionError: *max_value_bytes* is not a number above 0.
    """

    heartbeat: float | None = None

    def __init__(
        self,
        *,
        encode: bool = False,
        max_value_bytes: int = MAX_BYTES,
        types: Types | None = None,
        keep: int | None = KEPT,
    ) -> None:
        if keep is not None and (type(keep) is not int or keep < 1):
            raise JournalError(
                f"MemoryJournal: keep must be a whole number of at least 1, or None to keep all, not {keep!r}"
            )
        check_number("MemoryJournal: max_value_bytes", max_value_bytes, above=True)
        self.encodes = encode
        self.codec: Codec = Codec(max_value_bytes, types)
        self.keep = keep
        self._empty()
        forking.register(self)

    def _empty(self) -> None:
        self._lock = threading.Lock()
        self._table = table = Table()
        self._rows, self._ended = table.rows, table.ended
        self._drivers: dict[str, Driver] = {}
        self._slots = Slots(table.rows, self._drivers)
        self._last_item = 0

    def reset(self) -> None:
        """Forget all executions.

        A forked child calls this method, because the executions belong to the parent process.
        """
        for row in self._rows.values():
            row.driver = None  # a run that forked during an attempt sees this, and stops
        self._empty()

    # Writing

    def write(self, commit: Commit) -> Written:
        """Write *commit*, and return the inbox: see `Journal.write`."""
        commit = encoded_commit(commit, self.codec) if self.encodes else commit
        with self._lock:
            return self._write(commit)

    def write_all(self, commits: Sequence[Commit]) -> list[Written | JournalError]:
        """Write several commits together: see `Journal.write_all`."""
        results: list[Written | JournalError] = []
        for commit in commits:
            try:
                results.append(self.write(commit))
            except (JournalError, PayloadError) as error:
                results.append(error if isinstance(error, JournalError) else JournalError(str(error)))
        return results

    def _write(self, commit: Commit) -> Written:
        known = self._rows.get(commit.saga_id)
        if known is not None and known.has_made(commit, encodes=self.encodes):
            return known.mail if known.queued is None else Queued(known.mail)
        before = self._row_before(commit)
        row = before.after(commit)
        queued = commit.slot is not None and self._slots.ask(row, commit)
        changed = {commit.saga_id: row}
        created = [*((child, False) for child in commit.children), *((child, True) for child in commit.dormant)]
        if commit.plan is not None:
            created += before.planned.created_by(commit.plan).values()
        for child, dormant in created:
            changed[child.saga_id] = Row(child, [], awaits=dormant, wake_at=math.inf if dormant else None)
            self._table.index_branch(child)
        for saga_id, item in commit.posts:
            receiver = changed.get(saga_id) or self._rows.get(saga_id)
            if receiver is not None and receiver.state not in ENDED:
                if saga_id not in changed and not receiver.shared:  # the driver that shares a row reads this object
                    receiver = changed[saga_id] = copy.copy(receiver)
                self._deliver(receiver, item)
        if commit.acceptance is not None:
            self._table.index_branch(commit.acceptance)
        elif commit.records and commit.records[0].source in ENDED and commit.saga_id in self._ended:
            self._ended.remove(commit.saga_id)  # the execution is being undone, and will end again
        if self.keep is not None and commit.records and row.acceptance.parent is None and row.state in ENDED:
            self._ended.append(commit.saga_id)
            self._table.evict(self.keep)
        self._table.keep_answers(commit.answers)
        for note in commit.notes:
            if note.saga_id is None or note.saga_id in changed or note.saga_id in self._rows:
                self._table.notes.add(note)
        self._rows.update(changed)  # one call, so that an interrupt leaves all of the commit, or nothing
        return Queued(row.mail) if queued else row.mail

    def _row_before(self, commit: Commit) -> Row:
        """The row that *commit* changes. Raises a `JournalError` if the commit is not allowed."""
        rows = self._rows
        row = rows.get(commit.saga_id)
        if commit.acceptance is not None:
            if row is not None or hash(commit.saga_id) in self._table.forgotten.digests:
                raise IdTakenError(f"an execution {commit.saga_id!r} exists, or is forgotten; nothing was written")
            if commit.held and commit.driver is not None:
                self._check_driver(commit.driver)
            row = Row(commit.acceptance, [])
        elif row is None:
            raise JournalError(f"the journal knows no execution {commit.saga_id!r}; was it pruned? Nothing was written")
        elif row.epoch != commit.epoch or row.driver != commit.driver:
            raise self.lost(commit.saga_id)
        seq = len(row.records)
        if commit.records and commit.records[0].seq != seq + 1:
            raise LeaseLostError(
                f"execution {commit.saga_id!r} is at record {seq}, so that {commit.records[0].seq} cannot be its "
                f"next: another driver has written in the meantime; nothing was written"
            )
        if commit.unless_mail is not None:
            check_unless_mail(commit, row.mail)
        for child in (*commit.children, *commit.dormant):
            if child.saga_id in rows:
                raise IdTakenError(f"an execution {child.saga_id!r} exists; nothing was written")
        return row

    def open_shared(self, acceptance: Acceptance, driver: str, records: list[Record]) -> Row | None:
        """Open an execution that *driver* owns. Returns its row, or None if the id is taken.

        The row uses the list *records* itself: the driver journals a record by appending it to the list. No other
        write is needed, because nothing is encoded. Call `Row.unshare` before anything else is written.
        """
        row = Row(acceptance, records, driver, shared=True)
        with self._lock:
            self._check_driver(driver)
            saga_id, digests = acceptance.saga_id, self._table.forgotten.digests
            if saga_id in self._rows or (digests and hash(saga_id) in digests):
                return None
            self._rows[saga_id] = row
            return row

    def share(self, saga_id: str, driver: str, epoch: int) -> Row | None:
        """The row of an execution, to which its *driver* appends records as after `open_shared`. None if it is lost."""
        with self._lock:
            row = self._rows.get(saga_id)
            if row is None or row.epoch != epoch or row.driver != driver:
                return None
            row.shared = True
            return row

    def end_shared(self, row: Row) -> None:
        """Free an ended execution, which `open_shared` opened, from its driver."""
        keep, ended = self.keep, self._ended
        if keep is not None:
            ended.append(row.acceptance.saga_id)
            if len(ended) > keep:
                with self._lock:
                    self._table.evict(keep)
        row.driver = None

    def lost(self, saga_id: str) -> JournalError:
        """The error for a driver that no longer owns the execution."""
        if saga_id not in self._rows:
            return JournalError(f"the journal knows no execution {saga_id!r}; was this process forked meanwhile?")
        return LeaseLostError(
            f"execution {saga_id!r} was taken over by another driver or released; the driver stops, nothing was written"
        )

    def _check_driver(self, driver_id: str) -> None:
        if driver_id not in self._drivers:
            raise LeaseLostError(
                f"the journal does not know the driver {driver_id!r}: it was never enlisted, or was dismissed, and can "
                f"hold nothing; nothing was written"
            )

    # The inbox

    def post(self, saga_id: str, item: InboxItem, *, clock: Callable[[], float] | None = None, token: int = 0) -> bool:
        """Put an item into the inbox of an execution: see `Journal.post`."""
        if self.encodes:
            item = encoded_item(saga_id, item, self.codec.encode)
        with self._lock:
            row = self._rows.get(saga_id)
            if row is None:
                return False
            if item.kind in VERBS and (
                item.name in self._table.answers
                or any(item.name == each.name and each.kind in VERBS for each in row.mail)
            ):
                return True
            if token and token in self._table.posted.get(saga_id, ()):
                return True
            if not takes(item.kind, row.state):
                return False
            if clock is not None:
                item = msgspec.structs.replace(item, at=clock())
                if is_too_late(item, row.state, row.records[-1].due_at if row.records else None):
                    return False
            self._deliver(row, item)
            if token:
                self._table.posted.setdefault(saga_id, set()).add(token)
            return True

    def _deliver(self, row: Row, item: InboxItem) -> None:
        self._last_item += 1
        row.mail = (*row.mail, msgspec.structs.replace(item, number=self._last_item))

    # Drivers, and the executions they own

    def enlist(self, driver: Driver) -> None:
        """Register a driver: see `Journal.enlist`."""
        with self._lock:
            self._drivers[driver.id] = driver
            for each in driver.definitions:
                self._table.shapes.setdefault(each.fingerprint, each.shape)

    def beat(self, driver_id: str, *, everything: bool = False) -> tuple[str, ...]:
        """Renew a driver's lease: see `Journal.beat`."""
        with self._lock:
            self._check_driver(driver_id)
            owned = ((saga_id, row) for saga_id, row in self._rows.items() if row.driver == driver_id)
            return tuple(saga_id for saga_id, row in owned if everything or row.mail)

    def turns(self, driver_id: str) -> list[str]:
        """The queued executions for which a slot is free: see `SlotJournal.turns`."""
        with self._lock:
            limits = self._drivers[driver_id].limits if driver_id in self._drivers else ()
            first = (saga_id for name, _ in limits for saga_id in self._slots.next_in_queue(name))
            return [saga_id for saga_id in first if self._rows[saga_id].driver == driver_id]

    def dismiss(self, driver_id: str) -> None:
        """Delete a driver: see `Journal.dismiss`."""
        with self._lock:
            if self._drivers.pop(driver_id, None) is not None:
                for row in self._rows.values():
                    if row.driver == driver_id:
                        self._free(row)

    def claim(self, saga_id: str, driver_id: str) -> Entry | None:
        """Make a driver the owner of an execution: see `Journal.claim`."""
        with self._lock:
            row = self._rows.get(saga_id)
            if row is None:
                raise UnknownExecutionError(f"the journal knows no execution {saga_id!r}")
            self._check_driver(driver_id)
            if row.driver == driver_id:
                return msgspec.structs.replace(self._entry(row), abandoned=row.abandoned)
            if row.driver in self._drivers:
                return None
            return self._give(row, driver_id)

    def claim_some(
        self, driver_id: str, at: float, limit: int, skip: Sequence[str] = (), leave: Sequence[str] = ()
    ) -> list[Entry]:
        """Claim several executions at once: see `Journal.claim_some`."""
        with self._lock:
            self._check_driver(driver_id)
            free = (
                (row.driver is None, attention == PENDING_NOW, attention, number, row)
                for number, (saga_id, row, attention) in enumerate(self._claimable(at, skip))
                if saga_id not in leave
            )
            return [self._give(row, driver_id) for *_, row in heapq.nsmallest(limit, free)]

    def _give(self, row: Row, driver_id: str) -> Entry:
        row.abandoned = row.driver is not None
        row.epoch += 1  # first: after an interrupt here no driver owns the execution, instead of two drivers
        row.unshare()
        row.driver = driver_id
        return msgspec.structs.replace(self._entry(row), abandoned=row.abandoned)

    def release(self, saga_id: str, epoch: int) -> None:
        """Free an execution from its owner: see `Journal.release`."""
        with self._lock:
            row = self._rows.get(saga_id)
            if row is not None and row.epoch == epoch and row.driver is not None:
                if row.shared and row.state in ENDED:
                    self._ended.append(saga_id)  # an interrupt came before `end_shared` was called
                self._free(row)

    def _free(self, row: Row) -> None:
        row.unshare()
        row.driver = None
        row.awaits = False
        row.seen = 0  # the next owner has not seen any item yet

    def claimable(self, at: float, limit: int, skip: Sequence[str] = ()) -> list[str]:
        """List the ids of claimable executions: see `Journal.claimable`."""
        with self._lock:
            return [saga_id for saga_id, *_ in itertools.islice(self._claimable(at, skip), max(0, limit))]

    def _claimable(self, at: float, skip: Sequence[str]) -> Iterator[tuple[str, Row, float]]:
        """The ids of the claimable executions, oldest first, each with its row and its `Row.attention`."""
        for saga_id, row in self._rows.items():
            if row.driver in self._drivers or row.acceptance.fingerprint in skip:
                continue
            attention = row.attention
            if attention is not None and attention <= at:
                yield saga_id, row, attention

    def next_wake(self) -> float | None:
        """When the next execution without an owner is due: see `Journal.next_wake`."""
        with self._lock:
            rows = self._rows.values()
            wakes = [row.wake_at for row in rows if row.driver is None and row.wake_at not in (None, math.inf)]
        return min(wakes, default=None)

    # Reading

    def find(self, saga_id: str) -> Entry | None:
        """Find an execution by its id: see `Journal.find`."""
        with self._lock:
            row = self._rows.get(saga_id)
            return None if row is None else self._entry(row)

    def _entry(self, row: Row) -> Entry:
        owner = None if row.driver is None else self._drivers.get(row.driver) or Driver(row.driver)
        return Entry(
            row.acceptance,
            row.state,
            row.changed_at,
            len(row.records),
            row.epoch,
            owner,
            row.driver in self._drivers,
            row.wake_at,
            len(row.mail),
            row.has_unseen_message,
            row.recoveries,
            queued=row.queued,
        )

    def records(self, saga_id: str) -> list[Record]:
        """The records of an execution: see `Journal.records`."""
        with self._lock:
            row = self._rows.get(saga_id)
            return [] if row is None else list(row.records)

    def inbox(self, saga_id: str) -> Written:
        """The items in the inbox of an execution: see `Journal.inbox`."""
        with self._lock:
            row = self._rows.get(saga_id)
            return () if row is None else row.mail

    def entries(
        self,
        *,
        phase: str | None = None,
        saga: str | None = None,
        parent: str | None = None,
        before: float | None = None,
        limit: int | None = None,
    ) -> Iterator[Entry]:
        """List executions, the newest first: see `Journal.entries`."""
        check_bounds(before, limit)
        with self._lock:
            ids = list(self._rows if parent is None else self._table.branches.get(parent, ()))
        for saga_id in reversed(ids):
            if limit is not None and limit <= 0:
                return
            entry = self.find(saga_id)
            if (
                entry is not None
                and (phase is None or is_in_phase(entry.state, phase))
                and (saga is None or entry.acceptance.saga == saga)
                and (before is None or entry.changed_at < before)
            ):
                limit = None if limit is None else limit - 1
                yield entry

    # Deleting

    def prune(
        self, before: float, *, saga: str | None = None, limit: int = 1000, forget_ids: bool = False, token: int = 0
    ) -> int:
        """Delete ended executions: see `Journal.prune`. The tokens of the last 1,000 calls are remembered."""
        check_bounds(before, limit)
        with self._lock:
            return self._table.prune(before, saga, limit, forget_ids=forget_ids, token=token)

    def forgotten(self, saga_id: str) -> Forgotten | None:
        """The row that is kept for a deleted execution, without saga and state: see `Journal.forgotten`."""
        return Forgotten() if hash(saga_id) in self._table.forgotten.digests else None

    def check(self) -> list[str]:
        """Return an empty list, because a journal in memory has no damage: see `Journal.check`."""
        return []

    def close(self) -> None:
        """Do nothing: all executions are kept. See `Journal.close`."""

    def __repr__(self) -> str:
        keep = f", keep={self.keep}" if self.keep != KEPT else ""
        return f"MemoryJournal(encode={self.encodes}{keep})"
