"""Writing commits: one commit in one statement, or any number of commits in one transaction.

The usual commit opens an execution, or adds records to an execution with an empty inbox. It is one statement. This
statement finds its row only if the driver knows the current epoch, owner and last record. If it finds no row, or if
the commit does more, all rows are first locked and read. A refused commit changes nothing.

A driver writes a commit again if the answer to the first call was lost. The journal recognises the repetition and
does not refuse it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from fsm_mediator.ciphers import Cipher
from fsm_mediator.errors import JournalError, LeaseLostError
from fsm_mediator.journal.attention import ANSWERS_KEPT, has_driver_look, next_attention_at
from fsm_mediator.journal.attributes import changed_attributes
from fsm_mediator.journal.codec import Codec
from fsm_mediator.journal.note_rows import note_row
from fsm_mediator.journal.notes import ATTRIBUTES, Note
from fsm_mediator.journal.planning import Plan
from fsm_mediator.journal.postgres import sql
from fsm_mediator.journal.postgres.connections import Session
from fsm_mediator.journal.postgres.errors import unknown_driver
from fsm_mediator.journal.postgres.slots import SlotJudge, SlotRules, in_columns
from fsm_mediator.journal.postgres.usual import usual_statement
from fsm_mediator.journal.protocol import Commit, IdTakenError, InboxChangedError, Queued, Written, check_unless_mail
from fsm_mediator.journal.rows import (
    Row,
    acceptance_row,
    answer_row,
    are_same,
    ended_row,
    item_row,
    items_of,
    planned_rows,
    record_rows,
)
from fsm_mediator.journal.storable import is_text, stored_name
from fsm_mediator.records import Acceptance
from fsm_mediator.states import ENDED


class Write:
    """A commit with its values encoded.

    Raises:
        PayloadError: A value or a name cannot be journaled.
        JournalError: The numbers of its records are not consecutive.
    """

    __slots__ = ("cipher", "commit", "notes", "opens", "owner", "plans", "posts", "rows", "saga_ids")

    def __init__(self, commit: Commit, codec: Codec) -> None:
        self.commit: Commit = commit
        self.cipher: Cipher | None = codec.cipher
        cipher = self.cipher
        self.owner: str | None = commit.driver if commit.held else None
        self.rows: list[Row] = record_rows(commit.records, commit.saga_id, codec)
        self.opens: list[tuple[Acceptance, Row]] = []
        if commit.acceptance is not None:
            if self.rows and self.rows[0][0] != 1:
                raise JournalError(f"execution {commit.saga_id!r} is new, so that its first record must be number 1")
            self.rows.insert(0, acceptance_row(commit.acceptance, codec.encode, cipher))
        self.opens = [
            (child, acceptance_row(child, codec.json, cipher)) for child in (*commit.children, *commit.dormant)
        ]
        self.posts: list[tuple[str, dict[str, Any]]] = [
            (to, item_parameters(item_row(item, to, codec.json, cipher), to)) for to, item in commit.posts
        ]
        self.notes: list[dict[str, Any]] = [note_parameters(note, cipher) for note in commit.notes]
        planned = () if commit.plan is None else commit.plan.branches
        self.plans: list[Row] = [] if commit.plan is None else planned_rows(commit.plan, codec)
        new_ids = [child.saga_id for child, _ in self.opens]
        opened = (commit.saga_id, *new_ids) if commit.acceptance is not None else new_ids
        for saga_id in (*opened, *(branch.saga_id for branch in planned)):
            stored_name(saga_id, "the id")
        self.saga_ids: tuple[str, *tuple[str, ...]] = (commit.saga_id, *new_ids)

    def as_one_statement(self) -> tuple[str, dict[str, Any]] | None:
        """The single statement that writes this commit, with its parameters.

        None if the commit needs more than one statement.

        The statement finds no row if the execution is not as the driver knows it.
        """
        commit, rows = self.commit, self.rows
        if commit.taken or self.opens or self.posts or commit.token or commit.plan or commit.slot or not rows:
            return None
        if commit.notes:
            return None
        return usual_statement(commit, rows, self.owner)


def item_parameters(row: Row, saga_id: str) -> dict[str, Any]:
    """The row of an inbox item as the parameters of `sql.POST`."""
    names = "kind", "name", "value", "reason", "actor", "carrier", "at"
    return {"saga_id": saga_id, **dict(zip(names, without_nul(row), strict=True))}


def note_parameters(note: Note, cipher: Cipher | None, token: int = 0) -> dict[str, Any]:
    """A note as the parameters of `sql.NOTE`."""
    names = "saga", "step", "kind", "value", "actor", "reason", "at"
    row = dict(zip(names, without_nul(note_row(note, cipher)), strict=True))
    kept, removed = changed_attributes(note.value) if note.kind == ATTRIBUTES else ({}, [])
    changes = {"names": list(kept), "values": list(kept.values()), "removed": removed}
    return {"saga_id": note.saga_id, "token": token or None, **row, **changes}


def without_nul(row: Iterable[Any]) -> list[Any]:
    """Return *row* as a list, with each NUL in a text replaced by an escape. PostgreSQL's text type cannot hold NUL."""
    return [value.replace("\0", "\\x00") if isinstance(value, str) else value for value in row]


class _Standing(msgspec.Struct):
    """The row of an execution within a batch: the columns of `sql.LOCK` after the id, and the changes of the batch."""

    number: int | None
    epoch: int
    driver: str | None
    mail: int
    wake_at: float | None
    attention: float | None
    state: str
    changed_at: float
    seq: int
    last_token: int | None = None
    opened: Acceptance | None = None
    recoveries: tuple[int | None, int | None] = (None, None)
    is_changed: bool = False
    inbox: list[Row] = msgspec.field(default_factory=list)

    @property
    def ended_at(self) -> float | None:
        """When the execution ended, in seconds since the epoch. None if it has not ended, or if it has an owner."""
        has_ended = self.driver is None and self.state in ENDED and self.attention is None
        return self.changed_at if has_ended else None


class Batch:
    """Commits that are written in one transaction, which the caller began.

    A batch takes two round trips, however many commits it has. Slots take one more, or several more if no slot is free.
    """

    def __init__(self, session: Session, writes: Sequence[Write], rules: SlotRules) -> None:
        self._session = session
        self._writes = writes
        self._records: list[Row] = []
        self._taken: list[int] = []
        self._answers: list[Row] = []
        self._repeated: list[Write] = []
        self._plans: list[tuple[str, Any]] = []
        self._without_slot: list[int] = []
        self._queued: set[str] = set()
        self._load()
        self._slots = SlotJudge(session, [write.commit for write in writes if write.commit.slot], rules)

    def _load(self) -> None:
        """Lock and read all rows of executions, inboxes and slots that the commits need or change."""
        execute, writes = self._session.execute, self._writes
        opening = [write.commit.saga_id for write in writes if write.commit.acceptance is not None]
        going_on = [write.commit.saga_id for write in writes if write.commit.acceptance is None]
        named = {saga_id for write in writes for saga_id in (*write.saga_ids, *(to for to, _ in write.posts))}
        owners = sorted({write.owner for write in writes if write.owner is not None})
        with self._session.pipeline():
            drivers = execute(sql.LOCK_DRIVERS, (owners,))
            locked = execute(sql.LOCK, (list(filter(is_text, named)),))
            forgotten = execute(sql.FORGOTTEN_OF, (opening,))
            inboxes = execute(sql.INBOXES, (list(filter(is_text, going_on)),)) if going_on else ()
        self._drivers = {driver_id for (driver_id,) in drivers}
        self._found = {saga_id: _Standing(*row) for saga_id, *row in locked}
        self._forgotten = {saga_id for (saga_id,) in forgotten}
        for saga_id, *row in inboxes:
            if saga_id in self._found:
                self._found[saga_id].inbox.append(tuple(row))

    def execute(self) -> list[Written | JournalError]:
        """Execute all commits. Returns, for each commit, the inbox after it, or the error that refuses it."""
        refusals = [self._plan(write) for write in self._writes]
        done = [write for write, refusal in zip(self._writes, refusals, strict=True) if refusal is None]
        posts = [post for write in done if write not in self._repeated for post in write.posts if is_text(post[0])]
        with_mail = [write.commit.saga_id for write in done if posts or self._found[write.commit.saga_id].mail]
        execute = self._session.execute
        with self._session.pipeline():
            for statement, rows in (
                (sql.INSERT, [_new_row(*each) for each in self._found.items() if each[1].number is None]),
                (sql.UPDATE, [_row_of(its) for its in self._found.values() if its.is_changed and its.number]),
                (sql.RECORD, self._records),
                (sql.TAKE, [(number,) for number in self._taken]),
                (sql.GIVE_UP, [(number,) for number in self._without_slot]),
            ):
                if rows:
                    execute(statement, in_columns(rows))
            for planned in (*self._plans, *self._slots.statements()):
                execute(*planned)
            for answer in self._answers:
                execute(sql.KEEP_ANSWER, answer)
            for _, parameters in posts:
                execute(sql.POST, parameters)
            for note in (note for write in done if write not in self._repeated for note in write.notes):
                execute(sql.NOTE, note)
            mail = execute(sql.INBOXES, (with_mail,)) if with_mail else None
        inboxes: dict[str, list[Row]] = {}
        for saga_id, *row in mail or ():
            inboxes.setdefault(saga_id, []).append(tuple(row))
        return [
            self._result(write, inboxes.get(write.commit.saga_id, ())) if refusal is None else refusal
            for write, refusal in zip(self._writes, refusals, strict=True)
        ]

    def _result(self, write: Write, inbox: Iterable[Row]) -> Written:
        items = items_of(inbox, write.commit.saga_id, write.cipher)
        return Queued(items) if write.commit.saga_id in self._queued else items

    def _plan(self, write: Write) -> JournalError | None:
        """Collect the changes of one commit, for later statements. Returns the error that refuses it, or None."""
        commit, found = write.commit, self._found
        its = found.get(commit.saga_id)
        if its is not None and self._is_written(write, its):
            self._repeated.append(write)
            if commit.slot and self._slots.is_queued(commit):
                self._queued.add(commit.saga_id)
            return None
        for saga_id in write.saga_ids if commit.acceptance is not None else write.saga_ids[1:]:
            if saga_id in found or saga_id in self._forgotten:
                return IdTakenError(f"an execution {saga_id!r} exists, or is forgotten; nothing was written")
        if write.owner is not None and write.owner not in self._drivers:
            return unknown_driver(write.owner)
        if commit.acceptance is not None:
            its = found[commit.saga_id] = _opened(commit.acceptance, write.rows, write.owner, commit.wake_at)
        else:
            refusal = refusal_of(write, its)
            if refusal is not None:
                return refusal
            assert its is not None
            self._go_on(write, its)
        self._records += [(commit.saga_id, *row) for row in write.rows]
        for index, (child, row) in enumerate(write.opens):
            wake_at = None if index < len(commit.children) else math.inf  # dormant
            found[child.saga_id] = _opened(child, [row], None, wake_at)
            self._records.append((child.saga_id, *row))
        self._ask_for_slot(commit, its)
        if commit.plan is not None:
            self._plan_branches(write, commit.plan)
        return None

    def _ask_for_slot(self, commit: Commit, its: _Standing) -> None:
        """Ask for the slot that the commit names, or give up the execution's slot."""
        if commit.slot and self._slots.ask(commit):
            self._queued.add(commit.saga_id)
            its.wake_at = its.changed_at if commit.wake_at is None else commit.wake_at
        elif commit.slot == "" and its.number is not None:
            self._slots.give_up(commit.saga_id)
            self._without_slot.append(its.number)

    def _plan_branches(self, write: Write, plan: Plan) -> None:
        """Collect the changes to the planned branches of an execution."""
        saga_id, (first, end) = write.commit.saga_id, plan.creates
        rows = [
            (saga_id, number, child.saga_id, child.saga, child.version, child.fingerprint, *row)
            for number, (child, row) in enumerate(zip(plan.branches, write.plans, strict=True))
        ]
        if rows:
            self._plans.append((sql.PLAN, in_columns(rows)))
        if first < end:
            self._plans.append((sql.CREATE, {"saga_id": saga_id, "first": first, "end": end}))
        if plan.ends is not None:
            ended = ended_row(plan.ends, saga_id, write.cipher)
            self._plans.append((sql.END_PLANNED, (ended, saga_id)))

    def _go_on(self, write: Write, its: _Standing) -> None:
        """Apply a commit to *its*, the row of an existing execution."""
        commit = write.commit
        taken = [number for number, *_ in its.inbox if number in commit.taken]
        its.inbox = [row for row in its.inbox if row[0] not in commit.taken]
        self._taken += taken
        its.mail -= len(taken)
        if write.rows:
            its.seq, _, _, its.state, its.changed_at, _ = write.rows[-1]
        if write.owner is None or commit.taken:
            held = write.owner is not None
            unseen = sum(row[0] > commit.seen and (held or has_driver_look(row[1], its.state)) for row in its.inbox)
            its.attention = next_attention_at(its.state, held, unseen, commit.wake_at, awaits=commit.awaits)
        its.driver, its.wake_at = write.owner, commit.wake_at
        its.recoveries = commit.recoveries or its.recoveries
        its.last_token = commit.token or its.last_token
        self._answers += [
            (answer.at - ANSWERS_KEPT, *without_nul(answer_row(answer, write.cipher))) for answer in commit.answers
        ]
        its.is_changed = True

    def _is_written(self, write: Write, its: _Standing) -> bool:
        """Whether this commit repeats the last commit of its execution. A repetition is not written again."""
        rows, commit = write.rows, write.commit
        if its.epoch != commit.epoch or its.number is None:
            return False
        if not rows:
            return commit.token != 0 and its.last_token == commit.token
        if its.driver != write.owner or its.seq != rows[-1][0]:
            return False
        kept = self._session.execute(sql.KEPT, (its.number, rows[0][0], rows[-1][0])).fetchall()
        return are_same(kept, rows, commit.saga_id, write.cipher)


def _opened(acceptance: Acceptance, rows: Sequence[Row], owner: str | None, wake_at: float | None) -> _Standing:
    """The row of a new execution after its first records."""
    seq, _, _, state, changed_at, _ = rows[-1]
    dormant = wake_at == math.inf
    attention = next_attention_at(state, owner is not None, 0, None if dormant else wake_at, awaits=dormant)
    return _Standing(None, 1, owner, 0, wake_at, attention, state, changed_at, seq, opened=acceptance)


def _new_row(saga_id: str, its: _Standing) -> Row:
    """The parameters of `sql.INSERT` for one execution."""
    opened = its.opened
    assert opened is not None
    parent = None if opened.parent is None else stored_name(opened.parent, "the parent")
    definition = (opened.saga, opened.version, opened.fingerprint, opened.deadline_at, parent)
    return (
        saga_id,
        *definition,
        its.state,
        its.changed_at,
        its.seq,
        its.driver,
        its.wake_at,
        its.attention,
        its.ended_at,
    )


def _row_of(its: _Standing) -> Row:
    """The parameters of `sql.UPDATE` for one execution."""
    standing = (its.driver, its.wake_at, its.attention, its.mail, its.ended_at, its.state, its.changed_at, its.seq)
    return (its.number, *standing, its.last_token, *its.recoveries)


def refusal_of(write: Write, its: _Standing | None) -> JournalError | None:
    """The error that refuses a commit to the execution with the row *its*. None if the commit can be written."""
    commit = write.commit
    if its is None:
        return JournalError(f"the journal knows no execution {commit.saga_id!r}; was it pruned? Nothing was written")
    if (its.epoch, its.driver) != (commit.epoch, commit.driver):
        return LeaseLostError(
            f"execution {commit.saga_id!r} was taken over by another driver or released; the driver stops, nothing was "
            f"written"
        )
    if write.rows and write.rows[0][0] != its.seq + 1:
        return LeaseLostError(
            f"execution {commit.saga_id!r} is at record {its.seq}, so that {write.rows[0][0]} cannot be its next: "
            f"another driver has written in the meantime; nothing was written"
        )
    if commit.unless_mail is not None:
        try:
            check_unless_mail(commit, items_of(its.inbox, commit.saga_id, None))
        except InboxChangedError as error:
            return error
    return None
