"""Batch: many commits, written together in a transaction that the caller began.

The journal checks only this: the epoch and the driver in an execution's row are those of the commit, and the commit's
first record follows the last stored record. All rows are read first, in one query. A refused commit changes nothing.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from sqlite3 import Cursor
from typing import Any, TypeAlias

import msgspec

from fsm_mediator.errors import JournalError, LeaseLostError
from fsm_mediator.journal.attention import ANSWERS_KEPT, next_attention_at
from fsm_mediator.journal.planning import Plan
from fsm_mediator.journal.protocol import IdTakenError, InboxChangedError, Queued, check_unless_mail
from fsm_mediator.journal.rows import Row, answer_row, are_same, ended_row, execution_row, items_of
from fsm_mediator.journal.sqlite import sql
from fsm_mediator.journal.sqlite.commit import Write
from fsm_mediator.journal.sqlite.leases import IdCache, has_unseen, post, unknown_driver
from fsm_mediator.journal.sqlite.many_rows import many
from fsm_mediator.journal.sqlite.notes import add as add_note
from fsm_mediator.journal.sqlite.slots import Place, note
from fsm_mediator.journal.storable import stored_name
from fsm_mediator.records import Acceptance
from fsm_mediator.states import ENDED, FAILED, PENDING, phase_of

_Found: TypeAlias = tuple[int, int, int | None, int, bool, int]
"""An execution in the journal: its number, epoch, owner, mail count, whether it has a ``wake_at``, its last record."""

_Planned: TypeAlias = tuple[int, int, int]
"""An execution after a commit: its number, its last record, its mail count."""

_found_in = msgspec.json.Decoder(list[tuple[int, int, int, int | None, int, bool, int]]).decode


def execute_batch(cursor: Cursor, ids: IdCache, writes: Sequence[Write]) -> list[Any]:
    """Execute *writes* in few statements, in a transaction that the caller began.

    The number of statements matters, because each statement releases the interpreter's lock and waits to get it back.
    With many threads, this wait takes several times as long as the statement itself.

    Returns:
        One result for each write: the inbox after the write, or the error that refuses the write.
    """
    if len(writes) == 1:
        return _Batch(cursor, ids, writes).execute()
    results: list[Any] = [()] * len(writes)
    left = _fast_path(cursor, writes)
    while left:
        # If two writes open the same id, or ask for a slot, the second must see the effect of the first.
        saga_ids: set[str] = set()
        now, later, asks = [], [], False
        for index in left:
            if saga_ids.isdisjoint(writes[index].saga_ids) and not (asks and writes[index].commit.slot):
                saga_ids.update(writes[index].saga_ids)
                asks = asks or bool(writes[index].commit.slot)
                now.append(index)
            else:
                later.append(index)
        for index, result in zip(now, _Batch(cursor, ids, [writes[each] for each in now]).execute(), strict=True):
            results[index] = result
        left = later
    return results


def _fast_path(cursor: Cursor, writes: Sequence[Write]) -> list[int]:
    """Execute the plain writes in a few statements. Returns the indexes of the other writes.

    A plain write only opens an execution, or only adds the execution's next record: see `Write`. The other writes have
    changed nothing. They include plain writes that do not match their rows.
    """
    saga_ids: set[str] = set()
    opens: dict[int, tuple[int, int]] = {}
    appends: defaultdict[tuple[int, int], dict[int, int]] = defaultdict(dict)
    for index, write in enumerate(writes):
        commit = write.commit
        if commit.saga_id in saga_ids:
            continue
        saga_ids.add(commit.saga_id)
        if commit.acceptance is None:
            if (append := write.as_plain_append()) is not None:
                number, own = append
                appends[commit.epoch, own][index] = number
        elif (opening := write.as_plain_open()) is not None:
            opens[index] = opening
    done: dict[int, int] = {}
    for (epoch, own), numbers in appends.items():
        # Rows are counted by number and id, because the number of a pruned execution may belong to another execution
        # now. If the count is right, each number still belongs to its execution.
        wanted = msgspec.json.encode({number: writes[index].commit.saga_id for index, number in numbers.items()})
        if cursor.execute(sql.COUNT_OWNED, (wanted.decode(), epoch, own)).fetchone()[0] == len(numbers):
            done.update(numbers)
    owners = sorted({own for _, own in opens.values()})
    if opens and cursor.execute(sql.COUNT_DRIVERS, (sql.as_json(owners),)).fetchone()[0] == len(owners):
        highest = cursor.execute(sql.HIGHEST_NUMBER).fetchone()[0]
        opened_as = dict(zip(opens, range(highest + 1, highest + 1 + len(opens)), strict=True))
        rows = [(number, writes[index].commit.saga_id, *opens[index]) for index, number in opened_as.items()]
        if many(cursor, sql.OPEN_NEXT, rows) == len(rows):
            done.update(opened_as)
        else:  # an execution with one of these ids exists
            cursor.execute(sql.UNDO_OPEN, (highest,))
    records: list[Row] = []
    for index, number in done.items():
        rows = writes[index].rows
        records.extend([(number, *row) for row in rows])
        writes[index].remember(number, rows[-1][0])
    many(cursor, sql.RECORD, records)
    return [] if len(done) == len(writes) else [index for index in range(len(writes)) if index not in done]


class _Batch:
    """Writes of any kind, for different executions. The writes are planned together, and then executed by kind."""

    def __init__(self, cursor: Cursor, ids: IdCache, writes: Sequence[Write]) -> None:
        self._cursor = cursor
        self._ids = ids
        self._writes = writes
        self._found, self._highest = self._load()
        self._forgotten: set[str] = set()
        if opened := [write.commit.saga_id for write in writes if write.commit.acceptance is not None]:
            ids.drivers.clear()  # a driver that another process has dismissed must not own executions
            self._forgotten.update(*cursor.execute(sql.FORGOTTEN_OF, (sql.as_json(opened),)).fetchall())
        self._opened: list[Row] = []
        self._records: list[Row] = []
        self._updated: list[Row] = []
        self._wakes: list[Row] = []
        self._counted: list[Row] = []
        self._planned: list[Row] = []
        self._created: list[tuple[int, str, int, int, int]] = []
        self._repeated: list[Write] = []

    def execute(self) -> list[Any]:
        """Execute all writes. Returns, for each write, the inbox after it, or the error that refuses it."""
        cursor = self._cursor
        planned = list(zip(self._writes, map(self._plan, self._writes), strict=True))
        many(cursor, sql.OPEN, self._opened)
        many(cursor, sql.RECORD, self._records)
        many(cursor, sql.UPDATE_ROW, self._updated)
        many(cursor, sql.WAKE, self._wakes)
        many(cursor, sql.COUNT_RECOVERIES, self._counted)
        many(cursor, sql.PLAN, self._planned)
        for before, parent, *which in self._created:
            cursor.execute(sql.CREATE, (before, parent, *which))
            cursor.execute(sql.CREATED_RECORD, (before, *which))
            cursor.execute(sql.CREATED, which)
        called: set[str] = set()
        for write, plan in planned:
            if not write.plain and not isinstance(plan, JournalError) and write not in self._repeated:
                for saga_id, row in write.posts:
                    post(cursor, saga_id, row)
                    called.add(saga_id)
                for about, row in write.notes:
                    add_note(cursor, about, row)
        return [self._result(write, plan, called) for write, plan in planned]

    def _result(self, write: Write, plan: JournalError | _Planned, called: set[str]) -> Any:
        """The inbox after *write*, or its error.

        *called*: the ids of the executions to which this batch posted items. An inbox is read only if it had items, or
        if its execution is in *called*.
        """
        if isinstance(plan, JournalError):
            self._ids.last_written.pop(write.commit.saga_id, None)
            return plan
        number, last, mail = plan
        write.remember(number, last)
        if write.place is not None and write not in self._repeated:
            note(self._cursor, write.commit, number, write.place)
        has_mail = mail or write.commit.saga_id in called
        rows = self._cursor.execute(sql.MAIL, (number,)).fetchall() if has_mail else ()
        inbox = items_of(rows, write.commit.saga_id, write.cipher)
        return inbox if write.place is None or write.place.begins else Queued(inbox)

    def _load(self) -> tuple[dict[str, _Found], int]:
        """The existing executions of the writes, by id, and the highest number of any execution.

        The highest number is 0 if no write can open an execution.
        """
        saga_ids = [saga_id for write in self._writes for saga_id in write.saga_ids]
        if len(saga_ids) == 1:
            found = self._cursor.execute(sql.LOAD_ONE, saga_ids).fetchone()
            if found is not None:
                return {saga_ids[0]: found}, 0
            return {}, self._cursor.execute(sql.HIGHEST_NUMBER).fetchone()[0]
        rows, highest = self._cursor.execute(sql.LOAD, (sql.as_json(saga_ids),)).fetchone()
        return {saga_ids[each[0]]: each[1:] for each in _found_in(rows)}, highest

    def _plan(self, write: Write) -> JournalError | _Planned:
        """Collect the rows of *write*, unless it was written before. Returns the execution after it, or the refusal."""
        planned = self._gather(write) if write.rows or not self._is_written(write) else None
        if planned is None or (isinstance(planned, (IdTakenError, LeaseLostError)) and self._is_written(write)):
            number, _, _, mail, _, last = self._found[write.commit.saga_id]
            self._repeated.append(write)
            if write.commit.slot:
                slot = self._cursor.execute(sql.SLOT_OF, (number, write.commit.slot, write.commit.epoch)).fetchone()
                write.place = None if slot is None else Place(slot[0], begins=bool(slot[1]))
            return number, last, mail
        return planned

    def _is_written(self, write: Write) -> bool:
        """Whether this commit repeats the last commit of its execution. A repetition is not written again."""
        cursor, commit, rows = self._cursor, write.commit, write.rows
        execution = self._found.get(commit.saga_id)
        if execution is None or execution[1] != commit.epoch:
            return False
        number, _, driver, _, _, last = execution
        if not rows:
            return commit.token != 0 and cursor.execute(sql.LAST_COMMIT, (number,)).fetchone() == (commit.token,)
        if last != rows[-1][0] or driver != (self._ids.driver(cursor, commit.driver) if write.held else None):
            return False
        kept: list[Row] = cursor.execute(sql.ROWS_FROM, (number, rows[0][0])).fetchall()
        return are_same(kept, rows, commit.saga_id, write.cipher)

    def _gather(self, write: Write) -> JournalError | _Planned:
        commit = write.commit
        for saga_id in write.saga_ids if commit.acceptance is not None else write.saga_ids[1:]:
            if saga_id in self._found or saga_id in self._forgotten:
                return IdTakenError(f"an execution {saga_id!r} exists, or is forgotten; nothing was written")
        own = self._ids.driver(self._cursor, commit.driver)
        if own is None and write.held:
            return unknown_driver(commit.driver)
        owner = own if write.held else None
        if commit.acceptance is not None:
            _, _, _, state, at, _ = write.rows[-1]
            wake_at = write.ask_for_slot(self._cursor, None, own, at)
            number = self._open(commit.acceptance, state, at, owner, wake_at)
            last, mail = write.rows[-1][0], 0
        else:
            execution = self._found.get(commit.saga_id)
            refusal = _refusal(write, own, execution)
            if refusal is not None:
                return refusal
            assert execution is not None
            if commit.unless_mail is not None:
                try:
                    rows = self._cursor.execute(sql.MAIL, (execution[0],)).fetchall()
                    check_unless_mail(commit, items_of(rows, commit.saga_id, None))
                except InboxChangedError as error:
                    return error
            number, last, mail = self._append(write, own, execution)
            if commit.recoveries is not None:
                self._counted.append((*commit.recoveries, number))
        if commit.token:
            self._cursor.execute(sql.KEEP_COMMIT, (commit.token, number))
        self._records.extend((number, *row) for row in write.rows)
        for index, (child, row) in enumerate(() if write.plain else write.opens):
            wake_at = None if index < len(commit.children) else math.inf  # dormant
            self._records.append((self._open(child, PENDING, child.at, None, wake_at), *row))
        if commit.plan is not None:
            self._gather_plan(write, commit.plan, number)
        return number, last, mail

    def _gather_plan(self, write: Write, plan: Plan, number: int) -> None:
        """Collect the changes to the planned branches of the execution with this number."""
        for place, (child, row) in enumerate(zip(plan.branches, write.plans, strict=True)):
            definition = self._ids.definition(self._cursor, child)
            self._planned.append((number, place, child.saga_id, definition, *row))
        first, end = plan.creates
        if first < end:
            highest = self._highest or self._cursor.execute(sql.HIGHEST_NUMBER).fetchone()[0]
            self._created.append((highest + 1 - first, write.commit.saga_id, number, first, end))
            self._highest = highest + end - first
        if plan.ends is not None:
            ended = ended_row(plan.ends, write.commit.saga_id, write.cipher)
            self._cursor.execute(sql.END_PLANNED, (ended, number))

    def _open(self, acceptance: Acceptance, state: str, at: float, driver: int | None, wake_at: float | None) -> int:
        """Collect the row of a new execution. Returns its number."""
        self._highest += 1
        dormant = wake_at == math.inf
        row = (
            self._highest,
            acceptance.saga_id,
            self._ids.definition(self._cursor, acceptance),
            acceptance.deadline_at,
            None if acceptance.parent is None else stored_name(acceptance.parent, "the parent"),
            driver,
            wake_at,
            next_attention_at(state, driver is not None, 0, None if dormant else wake_at, awaits=dormant),
            at if driver is None and state in ENDED else None,
            *(state == FAILED, phase_of(state)),
        )
        self._opened.append(row)
        return self._highest

    def _append(self, write: Write, own: int | None, execution: _Found) -> _Planned:
        """Collect the changes to the row of an existing execution, if any. Returns the execution after *write*."""
        cursor, commit = self._cursor, write.commit
        number, epoch, driver, mail, has_wake, last = execution
        for answer in commit.answers:
            cursor.execute(sql.FORGET_ANSWERS, (answer.at - ANSWERS_KEPT,))
            cursor.execute(sql.KEEP_ANSWER, answer_row(answer, write.cipher))
        for item in commit.taken:
            mail -= cursor.execute(sql.TAKE, (item, number)).rowcount
        if write.rows:
            last, state, at = write.rows[-1][0], write.rows[-1][3], write.rows[-1][4]
        else:
            state, at = cursor.execute(sql.LAST_RECORD, (number,)).fetchone()
        wake_at = write.ask_for_slot(cursor, number, own, at)
        has_wake = has_wake or wake_at is not None
        if write.held and not commit.taken:
            if has_wake:
                self._wakes.append((wake_at, number))
        elif driver is None or commit.taken or epoch != 1 or state not in ENDED or mail or has_wake:
            owner = own if write.held else None
            unseen = has_unseen(cursor, number, mail, state, commit.seen, held=owner is not None)
            self._updated.append(
                execution_row(number, owner, state, at, mail, wake_at, unseen=unseen, awaits=commit.awaits)
            )
        return number, last, mail


def _refusal(write: Write, own: int | None, execution: _Found | None) -> JournalError | None:
    """The error that refuses to append the records to this execution. None if they can be appended."""
    saga_id = write.commit.saga_id
    if execution is None:
        return JournalError(f"the journal knows no execution {saga_id!r}; was it pruned? Nothing was written")
    _, epoch, driver, _, _, last = execution
    if epoch != write.commit.epoch or driver != own or (own is None and write.commit.driver is not None):
        return LeaseLostError(
            f"execution {saga_id!r} was taken over by another driver or released; the driver stops, nothing was written"
        )
    if write.rows and write.rows[0][0] != last + 1:
        return LeaseLostError(
            f"execution {saga_id!r} is at record {last}, so that {write.rows[0][0]} cannot be its next: another "
            f"driver has written in the meantime; nothing was written"
        )
    return None
