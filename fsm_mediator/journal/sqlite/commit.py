"""Writing commits, many at a time, in a transaction that the caller began.

The journal checks only this: the epoch and the driver in an execution's row are those of the commit, and the commit's
first record follows the last stored record. All rows are read first, in one query. A refused commit changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from sqlite3 import Cursor, IntegrityError
from typing import Any, Final, TypeAlias

import msgspec

from fsm_mediator.errors import JournalError, LeaseLostError, MediatorError
from fsm_mediator.journal.codec import Codec
from fsm_mediator.journal.note_rows import note_row
from fsm_mediator.journal.planning import Plan
from fsm_mediator.journal.protocol import Commit, IdTakenError, InboxChangedError, Queued, Written, check_unless_mail
from fsm_mediator.journal.rows import (
    ANSWERS_KEPT,
    Row,
    acceptance_row,
    answer_row,
    are_same,
    ended_row,
    execution_row,
    item_row,
    items_of,
    next_attention_at,
    planned_rows,
    record_rows,
    stored_name,
)
from fsm_mediator.journal.sqlite import sql
from fsm_mediator.journal.sqlite.leases import IdCache, has_unseen, post, unknown_driver
from fsm_mediator.journal.sqlite.many_rows import many
from fsm_mediator.journal.sqlite.notes import add as add_note
from fsm_mediator.journal.sqlite.slots import Place, SlotJudge, note
from fsm_mediator.records import Acceptance
from fsm_mediator.states import ENDED, FAILED, PENDING, phase_of

_Found: TypeAlias = tuple[int, int, int | None, int, bool, int]
"""An execution in the journal: its number, epoch, owner, mail count, whether it has a ``wake_at``, its last record."""

_Planned: TypeAlias = tuple[int, int, int]
"""An execution after a commit: its number, its last record, its mail count."""

_found_in = msgspec.json.Decoder(list[tuple[int, int, int, int | None, int, bool, int]]).decode


class Write:
    """A commit, encoded by the thread that writes it. The leader of the group commit executes it.

    Raises:
        PayloadError: A value or a name cannot be journaled.
        JournalError: The numbers of its records are not consecutive.
    """

    __slots__ = (
        *("_ids", "cipher", "commit", "held", "notes", "opens", "place", "plain", "plans", "posts", "rows", "slots"),
    )

    def __init__(self, commit: Commit, ids: IdCache, codec: Codec, slots: SlotJudge) -> None:
        self._ids = ids
        self.cipher: Final = codec.cipher
        self.slots = slots
        self.place: Place | None = None
        self.commit = commit
        self.held: bool = commit.held and commit.driver is not None
        self.rows: list[Row] = record_rows(commit.records, commit.saga_id, codec)
        more: Any = commit.taken or commit.children or commit.dormant or commit.posts or commit.unless_mail
        more = more or commit.plan or commit.notes or commit.token or commit.recoveries is not None
        self.plain: bool = not more and commit.slot is None
        if commit.acceptance is not None:
            if self.rows and self.rows[0][0] != 1:
                raise JournalError(f"execution {commit.saga_id!r} is new, so that its first record must be number 1")
            stored_name(commit.saga_id, "the id")
            self.rows.insert(0, acceptance_row(commit.acceptance, codec.encode, codec.cipher))
        if not self.plain:
            born, json, cipher = (*commit.children, *commit.dormant), codec.json, codec.cipher
            self.opens: list[tuple[Acceptance, Row]] = [(new, acceptance_row(new, json, cipher)) for new in born]
            self.posts: list[tuple[str, Row]] = [(to, item_row(item, to, json, cipher)) for to, item in commit.posts]
            self.plans: list[Row] = [] if commit.plan is None else planned_rows(commit.plan, codec)
            self.notes: list[tuple[str | None, Row]] = [(note.saga_id, note_row(note, cipher)) for note in commit.notes]
            for child in (*born, *(commit.plan.branches if commit.plan else ())):
                stored_name(child.saga_id, "the id")

    def ask_for_slot(self, cursor: Cursor, execution: int | None, own: int | None, at: float) -> float | None:
        """Ask for the commit's slot, or give it up. Returns the ``wake_at``, which is *at* if the attempt queues."""
        commit = self.commit
        if commit.slot == "":  # at once: the slot is free for the next commit of the batch
            cursor.execute(sql.GIVE_UP, (execution,))
        self.place = self.slots.ask(cursor, commit, execution, own) if commit.slot else None
        return commit.wake_at if self.place is None or self.place.begins or commit.wake_at is not None else at

    @property
    def saga_ids(self) -> tuple[str, ...]:
        """The ids of the execution and of the branches that the commit opens."""
        own = self.commit.saga_id
        return (own,) if self.plain else (own, *(child.saga_id for child, _ in self.opens))

    def as_plain_open(self) -> tuple[int, int] | None:
        """The numbers of definition and driver, if this commit only opens an execution that begins at once."""
        commit, ids = self.commit, self._ids
        acceptance = commit.acceptance
        if acceptance is None or not self.plain or not self.held or len(self.rows) != 2:
            return None
        if commit.wake_at is not None or acceptance.deadline_at is not None or acceptance.parent is not None:
            return None
        own = ids.drivers.get(commit.driver)
        definition = ids.definitions.get((acceptance.saga, acceptance.version, acceptance.fingerprint))
        return None if own is None or definition is None else (definition, own)

    def as_plain_append(self) -> tuple[int, int] | None:
        """The numbers of execution and driver, if this commit only appends one record to the last one written here."""
        commit, rows, ids = self.commit, self.rows, self._ids
        last_written = ids.last_written.get(commit.saga_id)
        if last_written is None or not self.plain or len(rows) != 1 or commit.acceptance is not None:
            return None
        number, last = last_written
        own = ids.drivers.get(commit.driver)
        if own is None or rows[0][0] != last + 1 or commit.wake_at is not None:
            return None
        if not self.held and (commit.epoch != 1 or rows[0][3] not in ENDED):
            return None
        return number, own

    def remember(self, number: int, last: int) -> None:
        """Store the execution's number and last record for `as_plain_append`, after the commit is written."""
        if self.held:
            self._ids.last_written[self.commit.saga_id] = (number, last)
        else:
            self._ids.last_written.pop(self.commit.saga_id, None)

    def execute_single(self, cursor: Cursor) -> Written | None:
        """Execute a plain open or append in as few statements as possible. Other commits: None, and nothing is done.

        Nothing is read first: a statement changes only a matching row. If no row matches, the result is None too.
        """
        commit, rows = self.commit, self.rows
        if (append := self.as_plain_append()) is not None:
            number, own = append
            try:
                cursor.execute(sql.APPEND, (*rows[0], number, commit.saga_id, commit.epoch, own))
            except IntegrityError:
                return None
            if cursor.rowcount != 1:
                return None
        elif (opening := self.as_plain_open()) is not None:
            cursor.execute("BEGIN IMMEDIATE")
            cursor.execute(sql.OPEN_HELD, (commit.saga_id, *opening))
            if cursor.rowcount != 1:
                cursor.execute("ROLLBACK")
                return None
            assert cursor.lastrowid is not None
            number = cursor.lastrowid
            cursor.execute(sql.RECORD[2], (number, *rows[0], number, *rows[1]))
            cursor.execute("COMMIT")
        else:
            return None
        self.remember(number, rows[-1][0])
        return ()

    def __call__(self, cursor: Cursor) -> Any:
        """Execute this commit alone, in a transaction. Raises the error if the commit is refused."""
        (result,) = _Batch(cursor, self._ids, (self,)).execute()
        if isinstance(result, MediatorError):
            raise result
        return result


def execute_batch(cursor: Cursor, ids: IdCache, writes: Sequence[Write]) -> list[Any]:
    """Execute *writes* in a transaction, in few statements. Returns the inbox after each of them, or its error.

    Each statement releases the interpreter's lock and waits to get it back. With many threads, this takes several times
    as long as the statement itself.
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
    """Execute the plain opens and appends in a few statements. Returns the indexes of the other writes.

    The other writes have changed nothing. Plain writes that do not match their rows are among them.
    """
    saga_ids: set[str] = set()
    opens: dict[int, tuple[int, int]] = {}
    appends: dict[tuple[int, int], dict[int, int]] = {}
    for index, write in enumerate(writes):
        commit = write.commit
        if commit.saga_id in saga_ids:
            continue
        saga_ids.add(commit.saga_id)
        if commit.acceptance is None:
            if (append := write.as_plain_append()) is not None:
                number, own = append
                appends.setdefault((commit.epoch, own), {})[index] = number
        elif (opening := write.as_plain_open()) is not None:
            opens[index] = opening
    done: dict[int, int] = {}
    for (epoch, own), numbers in appends.items():
        # By number and id: a pruned execution's number may be used again. If the count is right, each row is right.
        wanted = sql.as_json(numbers.values()), sql.as_json(writes[index].commit.saga_id for index in numbers)
        if cursor.execute(sql.COUNT_OWNED, (*wanted, epoch, own)).fetchone()[0] == len(numbers):
            done.update(numbers)
    owners = sorted({own for _, own in opens.values()})
    if opens and cursor.execute(sql.COUNT_DRIVERS, (sql.as_json(owners),)).fetchone()[0] == len(owners):
        highest = cursor.execute(sql.HIGHEST_NUMBER).fetchone()[0] or 0
        opened_as = dict(zip(opens, range(highest + 1, highest + 1 + len(opens)), strict=True))
        rows = [(number, writes[index].commit.saga_id, *opens[index]) for index, number in opened_as.items()]
        if many(cursor, sql.OPEN_NEXT, rows) == len(rows):
            done.update(opened_as)
        else:  # one of them exists
            cursor.execute(sql.UNDO_OPEN, (highest,))
    records = [(number, *row) for index, number in done.items() for row in writes[index].rows]
    many(cursor, sql.RECORD, records)
    for index, number in done.items():
        writes[index].remember(number, writes[index].rows[-1][0])
    return [index for index in range(len(writes)) if index not in done]


class _Batch:
    """Writes of any kind, for different executions. All are read in one query, then planned, then executed by kind."""

    def __init__(self, cursor: Cursor, ids: IdCache, writes: Sequence[Write]) -> None:
        ids.drivers.clear()  # a driver may be dismissed by now; its new executions would have no owner
        self._cursor = cursor
        self._ids = ids
        self._writes = writes
        self._found, self._highest = self._load()
        self._forgotten: set[str] = set()
        opened = [saga_id for write in writes if write.commit.acceptance is not None for saga_id in write.saga_ids[:1]]
        if opened:
            self._forgotten.update(*cursor.execute(sql.FORGOTTEN_OF, (sql.as_json(opened),)).fetchall())
        self._opened: list[Row] = []
        self._records: list[Row] = []
        self._updated: list[Row] = []
        self._wakes: list[Row] = []
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
        if self._wakes:
            cursor.executemany(sql.WAKE, self._wakes)
        many(cursor, sql.PLAN, self._planned)
        for before, parent, *which in self._created:
            cursor.execute(sql.CREATE, (before, parent, *which))
            cursor.execute(sql.CREATED_RECORD, (before, *which))
            cursor.execute(sql.CREATED, which)
        for write, plan in planned:
            if not write.plain and not isinstance(plan, JournalError) and write not in self._repeated:
                for saga_id, row in write.posts:
                    post(cursor, saga_id, row)
                for about, row in write.notes:
                    add_note(cursor, about, row)
        results: list[Any] = []
        for write, plan in planned:
            if isinstance(plan, JournalError):
                self._ids.last_written.pop(write.commit.saga_id, None)
                results.append(plan)
                continue
            number, last, mail = plan
            write.remember(number, last)
            if write.place is not None and write not in self._repeated:
                note(cursor, write.commit, number, write.place)
            mail_rows = cursor.execute(sql.MAIL, (number,)).fetchall() if mail or not write.plain else ()
            inbox = items_of(mail_rows, write.commit.saga_id, write.cipher)
            results.append(inbox if write.place is None or write.place.begins else Queued(inbox))
        return results

    def _load(self) -> tuple[dict[str, _Found], int]:
        """The executions that exist, by id. Also the highest number of an execution, if some may be opened."""
        saga_ids = [saga_id for write in self._writes for saga_id in write.saga_ids]
        if len(saga_ids) == 1:
            found = self._cursor.execute(sql.LOAD_ONE, saga_ids).fetchone()
            if found is not None:
                return {saga_ids[0]: found}, 0
            return {}, self._cursor.execute(sql.HIGHEST_NUMBER).fetchone()[0] or 0
        rows, highest = self._cursor.execute(sql.LOAD, (sql.as_json(saga_ids),)).fetchone()
        return {saga_ids[each[0]]: each[1:] for each in _found_in(rows)}, highest or 0

    def _plan(self, write: Write) -> JournalError | _Planned:
        """Collect the rows of *write*, unless it was written before. Returns the execution after it, or the error."""
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
        """Whether this commit is already written, and is the last one. Then only its result is returned."""
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
            state, at = (commit.records[-1].target, commit.records[-1].at) if commit.records else (PENDING, 0.0)
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
                self._cursor.execute(sql.COUNT_RECOVERIES, (*commit.recoveries, number))
        if commit.token:
            self._cursor.execute(sql.KEEP_COMMIT, (commit.token, number))
        self._records.extend((number, *row) for row in write.rows)
        for index, (child, row) in enumerate(() if write.plain else write.opens):
            wake_at = None if index < len(commit.children) else math.inf  # dormant
            self._records.append((self._open(child, PENDING, 0.0, None, wake_at), *row))
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
        """Collect the changes to the row of an existing execution, if there are any."""
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
                self._wakes.append((wake_at, number, wake_at))
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
            f"execution {saga_id!r} was taken over by another driver, or released; this one stops, nothing was written"
        )
    if write.rows and write.rows[0][0] != last + 1:
        return LeaseLostError(
            f"execution {saga_id!r} stands at record {last}, so that {write.rows[0][0]} cannot be its next: somebody "
            f"else has written in the meantime; nothing was written"
        )
    return None
