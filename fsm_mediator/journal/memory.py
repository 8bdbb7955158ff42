"""MemoryJournal: a journal for one process, as long as it lives; the default, and the one for tests."""

from __future__ import annotations

import math
import os
import threading
import weakref
from collections import deque
from collections.abc import Iterator, Sequence

import msgspec

from fsm_mediator.errors import JournalError, LeaseLostError, PayloadError, UnknownExecutionError
from fsm_mediator.journal.codec import MAX_BYTES, encode
from fsm_mediator.journal.protocol import Commit, Driver, Entry, IdTakenError, Written, check_bounds
from fsm_mediator.records import CHILD, Acceptance, Failure, InboxItem, Record
from fsm_mediator.retry import check_number
from fsm_mediator.states import COMPENSATING, ENDED, EXECUTING, PENDING, PROBING, STUCK, STUCK_EXECUTING


class _Row:
    __slots__ = ("acceptance", "awaits", "driver", "epoch", "mail", "records", "seen", "shared", "wake_at")

    def __init__(self, acceptance: Acceptance, records: list[Record], *, dormant: bool = False) -> None:
        self.acceptance = acceptance
        self.awaits = dormant
        self.shared = False
        self.seen = 0
        self.records = records
        self.epoch = 1
        self.driver: str | None = None
        self.wake_at: float | None = math.inf if dormant else None
        self.mail: tuple[InboxItem, ...] = ()

    @property
    def state(self) -> str:
        return self.records[-1].target if self.records else PENDING

    @property
    def called(self) -> bool:
        """Whether something is in the inbox that no driver has seen; what is stuck is called by its branches alone."""
        if not self.mail or self.mail[-1].number <= self.seen:  # they are in order: a group's inbox can be long
            return False
        stuck = self.state.partition(".")[0] in _STUCK
        return any(item.number > self.seen and (not stuck or item.kind == CHILD) for item in reversed(self.mail))

    @property
    def changed_at(self) -> float:
        return self.records[-1].at if self.records else self.acceptance.at


class MemoryJournal:
    """Keeps executions in this process, and none longer than that.

    It belongs to the process that made it: after a fork, the child's is empty.

    Args:
        encode: Encode and decode payloads and results as a durable journal does, and keep only the text of errors, so
            that a test sees what is seen there. Otherwise objects are kept as they are.
        max_value_bytes: The limit of one value, where *encode* is set.
        keep: How many executions to keep: whenever one more is opened, the oldest that have ended are forgotten, each
            with its branches, as by `prune`. What has not ended is never forgotten, and counts. An id that is forgotten
            is unknown to whoever asks for it, and starts anew when it is run again. None: all are kept.

    Raises:
        JournalError: *keep* is no whole number of at least 1.
        DefinitionError: *max_value_bytes* is no number above 0.
    """

    heartbeat: float | None = None

    def __init__(self, *, encode: bool = False, max_value_bytes: int = MAX_BYTES, keep: int | None = None) -> None:
        if keep is not None and (type(keep) is not int or keep < 1):
            raise JournalError(
                f"MemoryJournal: keep must be a whole number of at least 1, or None to keep all, not {keep!r}"
            )
        check_number("MemoryJournal: max_value_bytes", max_value_bytes, above=True)
        self.encodes = encode
        self.max_value_bytes = max_value_bytes
        self.keep = keep
        self._begin_anew()
        _all.add(self)

    def _begin_anew(self) -> None:
        self._lock = threading.Lock()
        self._rows: dict[str, _Row] = {}
        self._families: dict[str, dict[str, None]] = {}  # the branches of each, in order
        self._in_turn: deque[str] = deque()  # where not all are kept: those that are no branches, the oldest first
        self._drivers: dict[str, Driver] = {}
        self._numbers = 0
        # What is being written: a KeyboardInterrupt may hit between any two lines, and whoever comes next finishes it.
        self._half: tuple[_Row, int, int, Commit] | None = None

    def write(self, commit: Commit) -> Written:
        """As `Journal.write`."""
        if self.encodes:
            commit = self._encoded(commit)
        with self._lock:
            return self._write(commit)

    def open_shared(self, acceptance: Acceptance, driver: str, records: list[Record]) -> _Row | None:
        """Open an execution that *driver* holds, and whose records are those of this very list; None: the id is taken.

        What is appended to it is journaled by that: in one process, and without encoding, there is nothing else to do.
        `unshare` ends it, before anything else is written.
        """
        row = _Row(acceptance, records)
        row.shared = True
        row.driver = driver
        with self._lock:
            if self._half is not None:
                self._finish(*self._half)
            if driver not in self._drivers:
                raise _unknown_driver(driver)
            if self._rows.setdefault(acceptance.saga_id, row) is not row:
                return None
            if self.keep is not None:
                self._make_room(self.keep, acceptance.saga_id)
            return row

    def lost(self, saga_id: str) -> JournalError:
        """The error of a driver who holds the execution no more."""
        if saga_id not in self._rows:
            return JournalError(f"the journal knows no execution {saga_id!r}; was this process forked in its midst?")
        return LeaseLostError(
            f"execution {saga_id!r} was taken over by another driver, or released; this one stops, nothing was written"
        )

    @staticmethod
    def unshare(row: _Row) -> None:
        """From now on its records are written by commits; one that tells of branches is yet to be, with them."""
        if row.shared:
            records = list(row.records)
            if records and records[-1].children is not None:
                records.pop()
            row.records = records
            row.shared = False

    def write_all(self, commits: Sequence[Commit]) -> list[Written | JournalError]:
        """As `Journal.write_all`."""
        results: list[Written | JournalError] = []
        for commit in commits:
            try:
                results.append(self.write(commit))
            except JournalError as error:
                results.append(error)
            except PayloadError as error:
                results.append(JournalError(str(error)))
        return results

    def _write(self, commit: Commit) -> Written:
        if self._half is not None:
            self._finish(*self._half)
        rows = self._rows
        row = rows.get(commit.saga_id)
        if commit.acceptance is not None:
            if row is not None:
                raise IdTakenError(f"an execution {commit.saga_id!r} exists; nothing was written")
            if commit.held and commit.driver is not None and commit.driver not in self._drivers:
                raise _unknown_driver(commit.driver)
            row = _Row(commit.acceptance, [])
        elif row is None:
            raise JournalError(f"the journal knows no execution {commit.saga_id!r}; was it pruned? Nothing was written")
        elif row.epoch != commit.epoch or row.driver != commit.driver:
            raise self.lost(commit.saga_id)
        seq = len(row.records)
        if commit.records and commit.records[0].seq != seq + 1:
            raise LeaseLostError(
                f"execution {commit.saga_id!r} stands at record {seq}, so that {commit.records[0].seq} cannot be its "
                f"next: somebody else has written in the meantime; nothing was written"
            )
        if commit.children or commit.dormant:
            for child in (*commit.children, *commit.dormant):
                if child.saga_id in rows:
                    raise IdTakenError(f"an execution {child.saga_id!r} exists; nothing was written")
        self._half = half = (row, seq, self._numbers, commit)
        self._finish(*half)
        return row.mail

    def _finish(self, row: _Row, seq: int, numbers: int, commit: Commit) -> None:
        """Do what a commit says; done twice, or half and then again, it is the same."""
        row.records[seq:] = commit.records
        row.wake_at = commit.wake_at
        row.driver = commit.driver if commit.held else None
        row.awaits = commit.awaits
        if commit.seen:
            row.seen = max(row.seen, commit.seen)
        if commit.taken:
            row.mail = tuple(item for item in row.mail if item.number not in commit.taken)
        self._rows[commit.saga_id] = row
        if commit.acceptance is not None:
            self._join_family(commit.acceptance)
            if self.keep is not None and commit.acceptance.parent is None:
                self._make_room(self.keep, commit.saga_id)
        if commit.children or commit.dormant:
            for children, dormant in ((commit.children, False), (commit.dormant, True)):
                for child in children:
                    if child.saga_id not in self._rows:
                        self._rows[child.saga_id] = _Row(child, [], dormant=dormant)
                    self._join_family(child)
        if commit.posts:
            self._numbers = numbers
            for saga_id, item in commit.posts:
                self._post(saga_id, item)
        self._half = None

    def _join_family(self, acceptance: Acceptance) -> None:
        if acceptance.parent is not None:
            self._families.setdefault(acceptance.parent, {})[acceptance.saga_id] = None

    def _make_room(self, keep: int, opened: str) -> None:
        """Take in one that was just opened; two that have had their turn go, if they may, or get another one."""
        in_turn = self._in_turn
        in_turn.append(opened)
        for _ in range(2):
            if len(in_turn) > keep:
                oldest = in_turn.popleft()
                if not self._forgets(oldest):
                    in_turn.append(oldest)

    def _forgets(self, saga_id: str) -> bool:
        """Forget one that has ended, with its branches; False: something in its family goes on."""
        rows = self._rows
        row = rows.get(saga_id)
        if row is None:
            return True
        if row.state not in ENDED:
            return False
        family = [saga_id]
        for known in family:  # which grows meanwhile
            family += [branch for branch in self._families.get(known, ()) if branch in rows]
        if any(_goes_on(rows[known]) for known in family):
            return False
        for known in reversed(family):  # whoever looks meanwhile finds no branch without the whole
            del rows[known]
            self._families.pop(known, None)
        return True

    def _encoded(self, commit: Commit) -> Commit:
        what = f"execution {commit.saga_id!r}: a value"

        def raw(value: object) -> msgspec.Raw:
            return msgspec.Raw(encode(value, what, self.max_value_bytes))

        def told(record: Record) -> Record:
            value = None if record.value is None else raw(record.value)
            error = record.error
            if error is not None:
                error = Failure(error.type, error.message, error.traceback)
            return msgspec.structs.replace(record, value=value, error=error)

        opened = commit.acceptance
        if opened is not None:
            opened = msgspec.structs.replace(opened, payload=raw(opened.payload))
        return msgspec.structs.replace(
            commit,
            records=tuple(told(record) for record in commit.records),
            acceptance=opened,
            children=tuple(msgspec.structs.replace(child, payload=raw(child.payload)) for child in commit.children),
            dormant=tuple(msgspec.structs.replace(child, payload=raw(child.payload)) for child in commit.dormant),
            posts=tuple((saga_id, self._encoded_item(saga_id, item)) for saga_id, item in commit.posts),
        )

    def _encoded_item(self, saga_id: str, item: InboxItem) -> InboxItem:
        if item.value is None:
            return item
        raw = msgspec.Raw(encode(item.value, f"execution {saga_id!r}: {item.name!r}", self.max_value_bytes))
        return msgspec.structs.replace(item, value=raw)

    def _row(self, saga_id: str) -> _Row | None:
        """The row of an execution; to be called under the lock, as everything that follows."""
        if self._half is not None:
            self._finish(*self._half)
        return self._rows.get(saga_id)

    def _all_rows(self) -> dict[str, _Row]:
        if self._half is not None:
            self._finish(*self._half)
        return self._rows

    def find(self, saga_id: str) -> Entry | None:
        """As `Journal.find`."""
        with self._lock:
            row = self._row(saga_id)
            return None if row is None else self._entry(row)

    def _entry(self, row: _Row) -> Entry:
        holder = None
        if row.driver is not None:
            holder = self._drivers.get(row.driver) or Driver(row.driver)
        return Entry(
            row.acceptance,
            row.state,
            row.changed_at,
            len(row.records),
            row.epoch,
            holder,
            row.driver in self._drivers,
            row.wake_at,
            len(row.mail),
            row.called,
        )

    def records(self, saga_id: str) -> list[Record]:
        """As `Journal.records`."""
        with self._lock:
            row = self._row(saga_id)
            return [] if row is None else list(row.records)

    def inbox(self, saga_id: str) -> Written:
        """As `Journal.inbox`."""
        with self._lock:
            row = self._row(saga_id)
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
        """As `Journal.entries`."""
        check_bounds(before, limit)
        with self._lock:
            known = self._all_rows()
            ids = known if parent is None else self._families.get(parent, {})
            rows = [known[saga_id] for saga_id in reversed(ids) if saga_id in known]
        for row in rows:
            if limit is not None and limit <= 0:
                return
            with self._lock:
                entry = self._entry(row)
            if (
                (phase is None or is_in_phase(entry.state, phase))
                and (saga is None or entry.acceptance.saga == saga)
                and (before is None or entry.changed_at < before)
            ):
                limit = None if limit is None else limit - 1
                yield entry

    def post(self, saga_id: str, item: InboxItem) -> bool:
        """As `Journal.post`."""
        if self.encodes:
            item = self._encoded_item(saga_id, item)
        with self._lock:
            self._all_rows()
            return self._post(saga_id, item)

    def _post(self, saga_id: str, item: InboxItem) -> bool:
        row = self._rows.get(saga_id)
        if row is None or row.state in ENDED:
            return False
        self._numbers += 1
        if not row.mail or row.mail[-1].number < self._numbers:  # else it was interrupted after this, and is done again
            row.mail = (*row.mail, msgspec.structs.replace(item, number=self._numbers))
        return True

    def enlist(self, driver: Driver) -> None:
        """As `Journal.enlist`."""
        with self._lock:
            self._drivers[driver.id] = driver

    def beat(self, driver_id: str) -> tuple[str, ...]:
        """As `Journal.beat`."""
        with self._lock:
            if driver_id not in self._drivers:
                raise _unknown_driver(driver_id)
            return tuple(id for id, row in self._all_rows().items() if row.driver == driver_id and row.mail)  # noqa: A001

    def dismiss(self, driver_id: str) -> None:
        """As `Journal.dismiss`."""
        with self._lock:
            if self._drivers.pop(driver_id, None) is not None:
                for row in self._all_rows().values():
                    if row.driver == driver_id:
                        self.unshare(row)
                        row.driver = None
                        row.awaits = False

    def claim(self, saga_id: str, driver_id: str) -> Entry | None:
        """As `Journal.claim`."""
        with self._lock:
            row = self._row(saga_id)
            if row is None:
                raise UnknownExecutionError(f"the journal knows no execution {saga_id!r}")
            if driver_id not in self._drivers:
                raise _unknown_driver(driver_id)
            if row.driver in self._drivers:
                return None
            row.epoch += 1  # first, so that an interrupt in between leaves it to nobody, rather than to two
            self.unshare(row)
            row.driver = driver_id
            return self._entry(row)

    def release(self, saga_id: str, epoch: int) -> None:
        """As `Journal.release`."""
        with self._lock:
            row = self._row(saga_id)
            if row is not None and row.epoch == epoch:
                self.unshare(row)
                row.driver = None
                row.awaits = False

    def claimable(self, at: float, limit: int, skip: Sequence[str] = ()) -> list[str]:
        """As `Journal.claimable`."""
        found: list[str] = []
        with self._lock:
            for saga_id, row in self._all_rows().items():
                if len(found) >= limit:
                    break
                phase = row.state.partition(".")[0]
                if row.driver in self._drivers or phase in ENDED or row.acceptance.fingerprint in skip:
                    continue
                due = row.wake_at is not None and row.wake_at <= at
                left = row.driver is not None or (phase in _UNFINISHED and not row.awaits)
                if row.called or (phase not in _STUCK and (due or left)):
                    found.append(saga_id)
        return found

    def next_wake(self) -> float | None:
        """As `Journal.next_wake`."""
        with self._lock:
            rows = self._all_rows().values()
            wakes = [r.wake_at for r in rows if r.wake_at not in (None, math.inf) and r.driver is None]
        return min(wakes, default=None)

    def prune(self, before: float, *, saga: str | None = None, limit: int = 1000) -> int:
        """As `Journal.prune`. An execution goes with its branches, once none of them goes on."""
        check_bounds(before, limit)
        with self._lock:
            rows = self._all_rows()
            families: dict[str, list[str]] = {}
            for saga_id, row in rows.items():
                root, parent = saga_id, row.acceptance.parent
                while parent in rows:
                    root, parent = parent, rows[parent].acceptance.parent
                families.setdefault(root, []).append(saga_id)
            deleted = 0
            for root, family in families.items():
                eldest = rows[root]
                old = eldest.state in ENDED and eldest.changed_at < before and saga in (None, eldest.acceptance.saga)
                if old and not any(_goes_on(rows[saga_id]) for saga_id in family):
                    if deleted and deleted + len(family) > limit:
                        break
                    for saga_id in family:
                        del rows[saga_id]
                        self._families.pop(saga_id, None)
                    deleted += len(family)
                    if deleted >= limit:
                        break
            return deleted

    def close(self) -> None:
        """Nothing is held open; what is kept stays."""

    def __repr__(self) -> str:
        keep = f", keep={self.keep}" if self.keep is not None else ""
        return f"MemoryJournal(encode={self.encodes}{keep})"


_UNFINISHED = frozenset((PENDING, EXECUTING, PROBING, COMPENSATING))
"""Phases in which a driver that is there would be doing something."""

_STUCK = frozenset((STUCK, STUCK_EXECUTING))
"""Phases that nothing but a person's word leads out of, or that of a branch which was stuck."""


def _goes_on(row: _Row) -> bool:
    """Whether anything is to be expected of it, the branch of a whole that has ended.

    One that has ended and is held is just being undone; one that is stuck was settled by a person with the whole.
    """
    return row.driver is not None or not (row.state in ENDED or row.state.partition(".")[0] in _STUCK)


def _unknown_driver(driver_id: str) -> LeaseLostError:
    return LeaseLostError(
        f"the journal does not know the driver {driver_id!r}: it was never enlisted, or was dismissed, and can hold "
        f"nothing; nothing was written"
    )


def is_in_phase(state: str, phase: str) -> bool:
    """Whether *state* is, or is in, *phase*; ``stuck`` takes in ``stuck_executing``."""
    own = state.partition(".")[0]
    return phase in (state, own) or (phase == STUCK and own == STUCK_EXECUTING)


_all: weakref.WeakSet[MemoryJournal] = weakref.WeakSet()


def _forget_the_parents() -> None:
    for journal in list(_all):
        for row in journal._rows.values():
            row.driver = None  # who forked in the midst of an attempt, with no commit to be refused, is to see it
        journal._begin_anew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_the_parents)
