"""Table: the executions of a `MemoryJournal` and the ids of deleted executions. Each execution is a `Row`."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final

import msgspec

from fsm_mediator.journal.attention import ANSWERS_KEPT, NOW, has_driver_look, next_attention_at
from fsm_mediator.journal.forgetting import ForgottenIds
from fsm_mediator.journal.memory_notes import Notes
from fsm_mediator.journal.operators import Fault
from fsm_mediator.journal.planning import Plan, Planned
from fsm_mediator.journal.protocol import NO_RECOVERIES, Commit, Recoveries
from fsm_mediator.records import Acceptance, Failure, InboxItem, Record, VerbAnswer
from fsm_mediator.states import ENDED, PENDING, is_settled

TOKENS_KEPT: Final = 1000
"""The number of tokens of `Journal.prune` that are remembered. The oldest tokens are forgotten first."""


class PlannedBranches(msgspec.Struct, frozen=True):
    """The planned branches of one execution.

    Attributes:
        branches: For each branch, by its number in the group: its acceptance, and whether it is created dormant.
        ended: The error with which the branches ended before they were created. None if they will be created.
    """

    branches: dict[int, tuple[Acceptance, bool]]
    ended: Failure | None = None

    def created_by(self, plan: Plan) -> dict[int, tuple[Acceptance, bool]]:
        """The branches that *plan* creates, by number in the group, in the form of *branches*."""
        if self.ended is not None:
            return {}
        return {number: self.branches[number] for number in range(*plan.creates) if number in self.branches}

    def after(self, plan: Plan) -> PlannedBranches:
        """The branches that are still planned after *plan*."""
        created, later = self.created_by(plan), {branch.successor for branch in plan.branches}
        left = {number: branch for number, branch in self.branches.items() if number not in created}
        left |= {number: (branch, branch.saga_id in later) for number, branch in enumerate(plan.branches)}
        return PlannedBranches(left, self.ended or plan.ends)

    def interval(self) -> Planned | None:
        """The planned branches as the journal returns them. None if there are none."""
        if not self.branches:
            return None
        end = max(self.branches) + 1
        dormant = (number for number, (_, is_dormant) in self.branches.items() if is_dormant)
        return Planned(min(self.branches), end, min(dormant, default=end), self.ended)


NO_BRANCHES: Final = PlannedBranches({})


class Place(msgspec.Struct, frozen=True):
    """A slot of a limit, or a place in the queue for a slot.

    Attributes:
        limit: The limit's name.
        epoch: The execution's epoch when the execution asked for the slot. In a later epoch the place does not count.
        begun: True for a slot, False for a place in the queue.
    """

    limit: str
    epoch: int
    begun: bool


class Row(msgspec.Struct, eq=False):
    """One execution. A commit replaces the row by a new row. A change of a single attribute changes the row itself."""

    acceptance: Acceptance
    records: list[Record]
    driver: str | None = None
    shared: bool = False
    epoch: int = 1
    mail: tuple[InboxItem, ...] = ()
    wake_at: float | None = None
    awaits: bool = False
    abandoned: bool = False
    seen: int = 0
    token: int = 0
    recoveries: Recoveries = NO_RECOVERIES
    planned: PlannedBranches = NO_BRANCHES
    fault: tuple[int, Fault] | None = None
    place: Place | None = None

    def unshare(self) -> None:
        """Give the row its own copy of its records, but not a last record that starts branches: a commit adds it."""
        if self.shared:
            records = list(self.records)
            if records and records[-1].children is not None:
                records.pop()
            self.records = records
            self.shared = False

    def after(self, commit: Commit) -> Row:
        """The row that replaces this row when *commit* is written."""
        row = msgspec.structs.replace(
            self,
            records=[*self.records, *commit.records],
            shared=False,
            driver=commit.driver if commit.held else None,
            wake_at=commit.wake_at,
            awaits=commit.awaits,
        )
        if commit.seen > self.seen:
            row.seen = commit.seen
        if commit.token:
            row.token = commit.token
        if commit.recoveries is not None:
            row.recoveries = commit.recoveries
        if commit.taken:
            row.mail = tuple(item for item in self.mail if item.number not in commit.taken)
        if commit.plan is not None:
            row.planned = self.planned.after(commit.plan)
        return row

    def has_made(self, commit: Commit, *, encodes: bool) -> bool:
        """Whether *commit* repeats the last commit that was written. A repetition is not written again.

        *encodes*: whether records that are equal count as the same. Otherwise they must be the same objects.
        """
        if self.epoch != commit.epoch:
            return False
        if not commit.records and commit.acceptance is None:
            return commit.token != 0 and self.token == commit.token
        seq = commit.records[-1].seq if commit.records else 0
        if len(self.records) != seq or self.driver != (commit.driver if commit.held else None):
            return False
        kept = [*self.records[len(self.records) - len(commit.records) :], self.acceptance]
        repeated = [*commit.records, commit.acceptance or self.acceptance]
        return all(one is two or (encodes and one == two) for one, two in zip(kept, repeated, strict=True))

    @property
    def queued(self) -> str | None:
        """The name of the limit on which the execution is queued. None if it is not queued."""
        place = self.place
        waits = place is not None and not place.begun and place.epoch == self.epoch and self.driver is not None
        return place.limit if place is not None and waits else None

    @property
    def state(self) -> str:
        """The state of the execution."""
        return self.records[-1].target if self.records else PENDING

    @property
    def changed_at(self) -> float:
        """When the execution entered its state, in seconds since the epoch."""
        return self.records[-1].at if self.records else self.acceptance.at

    @property
    def has_unseen_message(self) -> bool:
        """Whether the inbox has an unseen item for which a driver must look at the execution: see `has_driver_look`."""
        if not self.mail or self.mail[-1].number <= self.seen:  # items are in order, and an inbox can be long
            return False
        state = self.state
        return any(item.number > self.seen and has_driver_look(item.kind, state) for item in reversed(self.mail))

    @property
    def attention(self) -> float | None:
        """When a driver should claim the execution, unless a living driver owns it: see `next_attention_at`."""
        if self.driver is not None and not is_settled(self.state):
            return NOW
        return next_attention_at(self.state, False, self.has_unseen_message, self.wake_at, awaits=self.awaits)

    @property
    def is_unfinished(self) -> bool:
        """Whether this execution, an ended execution or a branch of one, can still change.

        An ended branch that a driver owns is being undone. A stuck branch cannot change, because a person decided the
        outcome of the branch and of its parent.
        """
        ended = self.state in ENDED
        return self.driver is not None or (self.has_unseen_message if ended else not is_settled(self.state))


class Table:
    """The executions of one journal. Callers hold the lock of the journal.

    Attributes:
        rows: The executions, by id, in the order of opening.
        branches: The ids of branches, in order, by the id of their parent. Some of these ids may have no row in *rows*.
        ended: The ids of ended executions that are not branches, in the order in which they ended. Used only if the
            journal does not keep all executions.
        forgotten: The ids of deleted executions.
        answers: The answers to verbs, by the verb's name, oldest first.
        shapes: The shapes of the definitions that drivers enlisted with, by fingerprint.
        posted: The tokens of the items that were posted to each execution, by the id of the execution.
        pruned: For each token of a call of `Journal.prune`: the number of executions that were deleted with this token.
        notes: The notes about executions, sagas and steps, and the attributes of executions.
    """

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}
        self.branches: dict[str, dict[str, None]] = {}
        self.ended: deque[str] = deque()
        self.forgotten: ForgottenIds = ForgottenIds()
        self.answers: dict[str, VerbAnswer] = {}
        self.shapes: dict[str, str] = {}
        self.posted: dict[str, set[int]] = {}
        self.pruned: dict[int, int] = {}
        self.notes: Notes = Notes()

    def index_branch(self, acceptance: Acceptance) -> None:
        """Add an execution to the branches of its parent, if it has a parent."""
        if acceptance.parent is not None:
            self.branches.setdefault(acceptance.parent, {})[acceptance.saga_id] = None

    def keep_answers(self, answers: tuple[VerbAnswer, ...]) -> None:
        """Keep *answers*, and delete answers that are too old."""
        for answer in answers:
            self.answers[answer.name] = answer
            while (oldest := next(iter(self.answers.values()))).at < answer.at - ANSWERS_KEPT:
                del self.answers[oldest.name]

    def prune(self, before: float, saga: str | None, limit: int, *, forget_ids: bool, token: int) -> int:
        """Delete ended executions: see `Journal.prune`."""
        rows, deleted = self.rows, self.pruned.get(token, 0)
        for root in [saga_id for saga_id, row in rows.items() if row.acceptance.parent not in rows]:
            row = rows[root]
            if row.changed_at < before and saga in (None, row.acceptance.saga):
                whole = self._ended_whole(root)
                if deleted >= limit or (deleted and deleted + len(whole) > limit):
                    break
                self._delete(whole, forget_ids=forget_ids)
                deleted += len(whole)
        self._drop_deleted()
        if token:
            self.pruned[token] = deleted
            if len(self.pruned) > TOKENS_KEPT:
                del self.pruned[next(iter(self.pruned))]
        return deleted

    def prune_these(self, roots: Iterable[str], before: float) -> int:
        """Delete ended executions by id: see `RetainingJournal.prune_these`."""
        deleted = 0
        for root in roots:
            row = self.rows.get(root)
            if row is not None and row.acceptance.parent not in self.rows and row.changed_at < before:
                whole = self._ended_whole(root)
                self._delete(whole)
                deleted += len(whole)
        self._drop_deleted()
        return deleted

    def _drop_deleted(self) -> None:
        left = [saga_id for saga_id in self.ended if saga_id in self.rows]
        self.ended.clear()
        self.ended.extend(left)

    def evict(self, keep: int) -> None:
        """Delete the executions that ended first, until *keep* ended executions are left.

        One call deletes at most two of them, each with its branches. An execution that can still change goes to
        the end of the queue instead.
        """
        ended, rows = self.ended, self.rows
        for _ in (1, 2):
            if len(ended) <= keep:
                break
            oldest = ended.popleft()
            row = rows.get(oldest)
            if row is None:
                continue
            if row.driver is None and oldest not in self.branches and row.state in ENDED and not row.mail:
                self.forgotten.add(oldest)
                del rows[oldest]
                if self.posted:
                    self.posted.pop(oldest, None)
                self.notes.forget(oldest)
            elif whole := self._ended_whole(oldest):
                self._delete(whole)
            else:
                ended.append(oldest)

    def _ended_whole(self, saga_id: str) -> list[str]:
        """The ids of an execution and all its branches; each branch comes after its parent.

        Empty if one of them is unfinished.
        """
        rows = self.rows
        if rows[saga_id].state not in ENDED:
            return []
        whole = [saga_id]
        for each in whole:  # the list grows during the loop
            whole += [branch for branch in self.branches.get(each, ()) if branch in rows]
        return [] if any(rows[each].is_unfinished for each in whole) else whole

    def _delete(self, whole: list[str], *, forget_ids: bool = False) -> None:
        if whole and not forget_ids and self.rows[whole[0]].acceptance.parent is None:
            self.forgotten.add(whole[0])
        for saga_id in reversed(whole):  # branches first, so that no branch is ever without its parent
            del self.rows[saga_id]
            self.branches.pop(saga_id, None)
            self.posted.pop(saga_id, None)
            self.notes.forget(saga_id)
