"""Branches: a model of the branches of a group, with the information that their parent has about them.

A branch is an execution with its own driver, crashes and inbox. Its parent sees it only as a `Status`. A search over
the branch's own saga finds the possible outcomes; without a search, every outcome is possible.

Source: assume-guarantee reasoning, as in Clarke, Long and McMillan, "Compositional Model Checking", 1989.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple, TypeAlias

from fsm_mediator.definition.saga import Saga
from fsm_mediator.definition.waits import EACH
from fsm_mediator.errors import SiblingFailedError, StepRejectedError
from fsm_mediator.execution import rules
from fsm_mediator.execution.execution import Execution
from fsm_mediator.execution.rules import NOT_BEGUN
from fsm_mediator.execution.rules import RUNNING as GOES_ON
from fsm_mediator.machine.parts import GROUPS, Kind, Part
from fsm_mediator.records import CANCEL, Branch, Branches, Failure, InboxItem, Record
from fsm_mediator.states import COMPENSATING, FAILED, STUCK, STUCK_PHASES, SUCCEEDED, WAITING, path_of
from fsm_mediator.verifier.action import (
    DRIVER,
    JOIN_REFUSED,
    LOOK,
    NOTHING,
    OTHERS,
    PERSON,
    Action,
    feed_answer,
    join_refused,
    unobserved,
)
from fsm_mediator.verifier.effect_ledger import EffectLedger


class Status:
    """The status of a branch: all that its parent can see of it.

    `LEFT` is a failed branch with leftovers. `UNDOING` is a branch that is being undone. `STUCK` is a branch that got
    stuck before it began to compensate, and `STUCK_UNDOING` is stuck in compensation. `NOT_BEGUN` is a planned branch
    that ended before it began.
    """

    RUNNING: Final = "running"
    SUCCEEDED: Final = "succeeded"
    FAILED: Final = "failed"
    LEFT: Final = "failed, with leftovers"
    STUCK: Final = "stuck"
    UNDOING: Final = "being undone"
    STUCK_UNDOING: Final = "stuck in compensation"
    NOT_BEGUN: Final = NOT_BEGUN


FORWARD: Final = frozenset((Status.SUCCEEDED, Status.FAILED, Status.LEFT, Status.STUCK, Status.STUCK_UNDOING))
"""The possible outcomes of a running branch."""
BACKWARD: Final = frozenset((Status.FAILED, Status.LEFT, Status.STUCK_UNDOING))
"""The possible outcomes of a branch that is being undone."""

GOING_ON: Final = frozenset((Status.RUNNING, Status.UNDOING))
"""The statuses of a branch that is not settled."""
AGAIN: Final = {Status.STUCK: Status.RUNNING, Status.STUCK_UNDOING: Status.UNDOING}
"""The status of a stuck branch after an operator's retry."""

_BECOMES: Final = {
    Status.SUCCEEDED: "succeeds",
    Status.FAILED: "fails",
    Status.LEFT: "fails, with leftovers",
    Status.STUCK: "gets stuck",
    Status.STUCK_UNDOING: "gets stuck in compensation",
}
_EFFECTLESS: Final = frozenset((Status.FAILED, Status.LEFT, Status.NOT_BEGUN))
"""The statuses of a branch that has no effect to undo."""
_FAILED: Final = frozenset((Status.FAILED, Status.LEFT, Status.STUCK_UNDOING))
"""The statuses of a branch that has compensated or has begun to compensate."""

LEFTOVER: Final = "left"
"""The last name of the path ``group.branch.left``, which stands for all leftovers of a branch."""


Births: TypeAlias = tuple[tuple[str, tuple[str, ...]], ...]
"""The paths of the groups that started branches, each with the names of these branches."""


class Child(NamedTuple):
    """One branch, with the data that influences the future of its parent.

    Attributes:
        name: The name of the branch.
        undoable: Whether the branch can be undone after it succeeded.
        steps: The paths of all steps in the branch. If the branch succeeded and cannot be undone, these are leftovers.
        forward: The possible outcomes of the branch.
        backward: The possible outcomes of undoing the branch.
    """

    name: str
    undoable: bool
    steps: tuple[str, ...]
    forward: frozenset[str] = FORWARD
    backward: frozenset[str] = BACKWARD


def result_of_branch(path: str, name: str) -> str:
    """The result that the branch *name* of the group *path* returns in a search."""
    return f"the result of {path}.{name}"


def spawned_by(execution: Execution, records: Iterable[Record]) -> Births:
    """The branches that *execution* has just created. *records*: the latest records of *execution*."""
    born = execution.pop_new_branches()
    if not born:
        return ()
    entered = ((path_of(record.target), record.children) for record in records if record.children)
    prefix = f"{execution.saga_id}/"
    return tuple((path, names) for path, names in entered if born[0].saga_id.startswith(f"{prefix}{path}."))


def status_of(execution: Execution) -> str:
    """The `Status` in which a parent sees *execution*, which is one of its branches."""
    if execution.state == SUCCEEDED:
        return Status.SUCCEEDED
    if execution.state == FAILED:
        return Status.LEFT if execution.leftovers else Status.FAILED
    if execution.phase in STUCK_PHASES:
        return (
            Status.STUCK if execution.machine.has_transition("settled_done", execution.state) else Status.STUCK_UNDOING
        )
    return Status.RUNNING


def child_of(name: str, saga: Saga, outcomes: tuple[frozenset[str], frozenset[str]] = (FORWARD, BACKWARD)) -> Child:
    """A branch that runs *saga*. *outcomes*: its possible outcomes, as `Child.forward` and `Child.backward`."""
    undoable = saga.machine.has_transition("undo", SUCCEEDED)
    return Child(name, undoable, tuple(_steps_at_every_depth(saga)), *outcomes)


def _steps_at_every_depth(saga: Saga) -> Iterator[str]:
    """The path of each step of *saga* and, recursively, of its branches. In a branch: ``group.branch.step``."""
    for part in saga.parts:
        if part.kind is Kind.STEP:
            yield part.path
        elif part.kind in GROUPS:
            for name, branch in saga.branches[part.path].items():
                yield from (f"{part.path}.{name}.{path}" for path in _steps_at_every_depth(branch))


class BranchModel:
    """The branches of one group.

    Two branches are symmetric if their parent can only distinguish them by their names.

    Attributes:
        path: The group's path.
        at: The group's number among the saga's parts.
        known: The defined branches of the group, by name.
        once: Whether to generate actions for only one of several symmetric branches in the same status.
    """

    def __init__(self, part: Part, at: int, known: dict[str, Child], *, once: bool) -> None:
        self.path: str = part.path
        self.at = at
        self.known = known
        self._part = part
        self.once = once
        first: dict[tuple[Any, ...], str] = {}
        for name, child in known.items():
            first.setdefault((child.undoable, len(child.steps), child.forward, child.backward), name)
        self._symmetric = {
            name: first[child.undoable, len(child.steps), child.forward, child.backward]
            for name, child in known.items()
        }

    def child(self, name: str) -> Child:
        """The branch with this name. In a group over items, all branches share one definition."""
        return self.known.get(name) or self.known[EACH]

    def symmetric(self, name: str) -> str:
        """The name of the first branch that is symmetric to the branch *name*. Without `once`, *name* itself."""
        return self._symmetric.get(name) or self._symmetric[EACH] if self.once else name

    def in_order(self, names: tuple[str, ...], statuses: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
        """For each branch in *names*, its first symmetric branch and its status, sorted.

        So the result does not change if symmetric branches exchange their statuses.
        """
        if not statuses:
            return ()  # the execution ended before the branches of the group were created
        return tuple(sorted((self.symmetric(name), status) for name, status in zip(names, statuses, strict=True)))

    def statuses(self, execution: Execution, ledger: EffectLedger) -> tuple[str, ...]:
        """The `Status` of each branch in `execution.group`, in the same order.

        *execution* must be in a state of this group. Branches that have not started count as running.
        """
        return ledger.branches[self.at] or (Status.RUNNING,) * len(execution.group)

    def with_spawned(self, ledger: EffectLedger, names: tuple[str, ...]) -> EffectLedger:
        """*ledger* with the branches *names* of this group as running. If they already exist, *ledger* itself."""
        if ledger.branches[self.at]:
            return ledger  # the branches already exist
        return self.with_statuses(ledger, names, (Status.RUNNING,) * len(names))

    def with_statuses(self, ledger: EffectLedger, names: tuple[str, ...], statuses: tuple[str, ...]) -> EffectLedger:
        """*ledger* with these *statuses* of the branches. They also decide whether the group has an effect."""
        owed = any(self.has_pending_effect(name, status) for name, status in zip(names, statuses, strict=True))
        return ledger.with_branches(self.at, statuses).with_(self.at, effect=owed)

    def has_pending_effect(self, name: str, status: str) -> bool:
        """Whether a saga that compensates must still undo a branch in this status, or wait for the branch."""
        return status not in _EFFECTLESS and (status != Status.SUCCEEDED or self.child(name).undoable)

    def leftovers_of(self, name: str, status: str) -> tuple[str, ...]:
        """The leftovers of a branch in this status. A failed saga must list these leftovers."""
        if status == Status.LEFT:
            return (f"{self.path}.{name}.{LEFTOVER}",)
        if status == Status.SUCCEEDED and not self.child(name).undoable:
            return tuple(f"{self.path}.{name}.{step}" for step in self.child(name).steps)
        return ()

    def moves(self, execution: Execution, ledger: EffectLedger) -> Iterator[Action]:
        """Everything that can happen to the branches of the current group of *execution*, as actions.

        In one of these actions the driver reads the statuses of the branches.
        """
        names = execution.group
        statuses = self.statuses(execution, ledger)
        calls_compensation = execution.phase == COMPENSATING
        seen = set()
        for number, (name, status) in enumerate(zip(names, statuses, strict=True)):
            same = (self.symmetric(name), status)
            if self.once and same in seen:
                continue
            seen.add(same)
            branch = f"branch {self.path}.{name}"

            def become(other: str, number: int = number) -> EffectLedger:
                return self.with_statuses(ledger, names, (*statuses[:number], other, *statuses[number + 1 :]))

            if status in GOING_ON:
                child = self.child(name)
                for other in sorted(child.forward if status == Status.RUNNING else child.backward):
                    label = f"{branch} {_BECOMES[other]}"
                    yield Action(label, unobserved, become(other), who=OTHERS, observation=NOTHING)
            elif status in AGAIN:
                label = f"a person retries {branch}, which was stuck"
                yield Action(label, unobserved, become(AGAIN[status]), again=True, who=PERSON, observation=NOTHING)
            elif status == Status.SUCCEEDED and calls_compensation and self.child(name).undoable:
                label = f"the driver undoes {branch}"
                yield Action(label, unobserved, become(Status.UNDOING), who=DRIVER, observation=NOTHING)
        yield from self._planned_branches_end(execution, ledger)
        if execution.phase in (WAITING, COMPENSATING, STUCK):
            ended = self._end_of_planned(execution, statuses)
            answer = Branches(
                tuple(
                    self._seen(name, status, ended, calls_compensation=calls_compensation)
                    for name, status in zip(names, statuses, strict=True)
                )
            )
            label = f"the driver checks the branches of {self.path}"
            yield Action(label, feed_answer(answer), ledger, who=DRIVER, observation=f"{LOOK} {statuses}")
            if execution.phase == WAITING and set(statuses) == {Status.SUCCEEDED}:
                label = f"the joined result of {self.path} is refused"
                yield Action(label, join_refused(answer), ledger, who=DRIVER, observation=JOIN_REFUSED)

    def _planned_branches_end(self, execution: Execution, ledger: EffectLedger) -> Iterator[Action]:
        """The actions that end the planned branches of a group over items.

        A large group creates its branches in several commits. Planned branches are not created yet, and end together.
        There is one action for each possible number of branches that are already created.
        """
        names, statuses = execution.group, self.statuses(execution, ledger)
        if not self._part.each or len(names) < 2 or execution.phase != WAITING:
            return  # the first branch is always created with its group
        if self._end_of_planned(execution, statuses) is None:
            return
        for first, name in enumerate(names):
            if set(statuses[first:]) == {Status.RUNNING}:
                ended = (*statuses[:first], *(Status.NOT_BEGUN,) * (len(names) - first))
                label = f"the planned branches of {self.path} from {name} on end before they begin"
                after = self.with_statuses(ledger, names, ended)
                yield Action(label, unobserved, after, who=DRIVER, observation=NOTHING)

    def _end_of_planned(self, execution: Execution, statuses: tuple[str, ...]) -> Failure | None:
        """The error with which the planned branches of the group end now. None if they do not end now."""
        failed = InboxItem(CANCEL, "another branch") if _FAILED.intersection(statuses) else None
        return rules.end_of_planned(execution, self._part, execution.deadline_at or 0.0, failed)

    def all_retried(self, execution: Execution, ledger: EffectLedger) -> EffectLedger:
        """*ledger*, after an operator retried every stuck branch in the current group of *execution*."""
        statuses = self.statuses(execution, ledger)
        return self.with_statuses(ledger, execution.group, tuple(AGAIN.get(status, status) for status in statuses))

    def settled(self, execution: Execution, ledger: EffectLedger, *, done: bool) -> EffectLedger:
        """*ledger*, after an operator settled the current group of *execution* by hand, as *done* or as not done."""
        status = Status.SUCCEEDED if done else Status.FAILED
        return self.with_statuses(ledger, execution.group, (status,) * len(execution.group))

    def _seen(self, name: str, status: str, ended: Failure | None, *, calls_compensation: bool) -> Branch:
        """The `Branch` that the driver reports for a branch in this status.

        Args:
            name: The name of the branch.
            status: The `Status` of the branch.
            ended: The error of the planned branches, if they end now.
            calls_compensation: Whether the parent is compensating the group.
        """
        prefix = len(f"{self.path}.{name}.")
        leftovers = tuple(path[prefix:] for path in self.leftovers_of(name, status))
        if status in GOING_ON:
            return Branch(name, GOES_ON)
        if status == Status.NOT_BEGUN:
            # If *ended* is None, the failed branch may be running again. The planned branches keep its error.
            error = SiblingFailedError("another branch failed") if ended is None else ended.raised()
            return Branch(name, NOT_BEGUN, error=error)
        if status == Status.SUCCEEDED:
            result = result_of_branch(self.path, name)
            return Branch(
                name, SUCCEEDED, result, undoable=calls_compensation and self.child(name).undoable, leftovers=leftovers
            )
        state = FAILED if status in (Status.FAILED, Status.LEFT) else STUCK
        return Branch(name, state, error=StepRejectedError("rejected"), leftovers=leftovers)


def branch_models_of(
    saga: Saga, known: dict[str, dict[str, Child]] | None = None, *, once: bool = False
) -> dict[str, BranchModel]:
    """The branch models of the groups of *saga*, by path. *known*: the searched branches, by group and name."""
    groups = {}
    for at, part in enumerate(saga.parts):
        if part.kind in GROUPS:
            children = (known or {}).get(part.path) or {
                name: child_of(name, branch) for name, branch in saga.branches[part.path].items()
            }
            groups[part.path] = BranchModel(part, at, children, once=once)
    return groups
