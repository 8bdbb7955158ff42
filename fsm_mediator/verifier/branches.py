"""Branches: a model of the branches of a group, seen from the execution that waits for them.

A branch is an execution of its own, with a driver, crashes and an inbox of its own. To its parent it is one of a few
words (`Status`). What can become of it is found by walking the branch's own saga; where nobody has, anything can.

Source: assume-guarantee reasoning, as in Clarke, Long and McMillan, "Compositional Model Checking", 1989.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple, TypeAlias

from fsm_mediator.definition.saga import Saga
from fsm_mediator.definition.waits import EACH
from fsm_mediator.errors import StepRejectedError
from fsm_mediator.execution.execution import Execution
from fsm_mediator.execution.rules import RUNNING as GOES_ON
from fsm_mediator.machine.parts import GROUPS, Kind, Part
from fsm_mediator.records import Branch, Branches, Record
from fsm_mediator.states import COMPENSATING, FAILED, STUCK, STUCK_PHASES, SUCCEEDED, WAITING, path_of
from fsm_mediator.verifier.action import DRIVER, LOOK, NOTHING, OTHERS, PERSON, Action, feeding, unobserved
from fsm_mediator.verifier.effect_ledger import EffectLedger


class Status:
    """How a branch can stand, as far as its parent's future depends on it."""

    RUNNING: Final = "running"
    SUCCEEDED: Final = "succeeded"
    FAILED: Final = "failed"
    LEFT: Final = "failed, with something left over"
    STUCK: Final = "stuck"
    UNDOING: Final = "being undone"
    STUCK_UNDOING: Final = "stuck being undone"


FORWARD: Final = frozenset((Status.SUCCEEDED, Status.FAILED, Status.LEFT, Status.STUCK, Status.STUCK_UNDOING))
"""What can become of a branch that goes on."""
BACKWARD: Final = frozenset((Status.FAILED, Status.LEFT, Status.STUCK_UNDOING))
"""What can become of a branch that is being undone."""

GOING_ON: Final = frozenset((Status.RUNNING, Status.UNDOING))
AGAIN: Final = {Status.STUCK: Status.RUNNING, Status.STUCK_UNDOING: Status.UNDOING}
"""What a stuck branch does once a person has seen to it."""

_BECOMES: Final = {
    Status.SUCCEEDED: "succeeds",
    Status.FAILED: "fails",
    Status.LEFT: "fails, and leaves something over",
    Status.STUCK: "gets stuck",
    Status.STUCK_UNDOING: "gets stuck compensating",
}
LEFTOVER: Final = "left"
"""What a branch that leaves something over is taken to leave."""


Births: TypeAlias = tuple[tuple[str, tuple[str, ...]], ...]
"""The groups whose branches came into being, and the names of these."""


class Child(NamedTuple):
    """One branch, as far as its parent's future depends on it.

    Attributes:
        name: Its name.
        undoable: Whether it can be undone once it has succeeded.
        steps: What it leaves over where it has succeeded and cannot be undone.
        forward: What can become of it.
        backward: What can become of its undoing.
    """

    name: str
    undoable: bool
    steps: tuple[str, ...]
    forward: frozenset[str] = FORWARD
    backward: frozenset[str] = BACKWARD


def spawned_by(execution: Execution, records: Iterable[Record]) -> Births:
    """The branches that the commit of *records*, the latest of *execution*, starts."""
    born = execution.pop_new_branches()
    if not born:
        return ()
    entered = ((path_of(record.target), record.children) for record in records if record.children)
    prefix = f"{execution.saga_id}/"
    return tuple((path, names) for path, names in entered if born[0].saga_id.startswith(f"{prefix}{path}."))


def status_of(execution: Execution) -> str:
    """How an execution stands, to a parent."""
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
    """A branch of *saga*, with what can become of it."""
    undoable = saga.machine.has_transition("undo", SUCCEEDED)
    steps = tuple(part.path for part in saga.parts if part.kind is Kind.STEP)
    return Child(name, undoable, steps, *outcomes)


class BranchModel:
    """The branches of one group.

    Attributes:
        path: The group's path.
        at: Its number among the saga's parts.
        known: Its branches as they are defined, by name.
        once: Whether of branches that are alike in all but their names, and stand alike, one is enough.
    """

    def __init__(self, part: Part, at: int, known: dict[str, Child], *, once: bool) -> None:
        self.path = part.path
        self.at = at
        self.known = known
        self.once = once
        first: dict[tuple[Any, ...], str] = {}
        for name, child in known.items():
            first.setdefault((child.undoable, len(child.steps), child.forward, child.backward), name)
        self._alike = {
            name: first[child.undoable, len(child.steps), child.forward, child.backward]
            for name, child in known.items()
        }

    def child(self, name: str) -> Child:
        """The branch of this name; of a group with one for each item, any."""
        return self.known.get(name) or self.known[EACH]

    def alike(self, name: str) -> str:
        """The first branch that is like this one in all but its name; itself where these are told apart."""
        return self._alike.get(name) or self._alike[EACH] if self.once else name

    def in_order(self, names: tuple[str, ...], statuses: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
        """The statuses of the branches in canonical order: the same for symmetric branches."""
        if not statuses:
            return ()  # it was about to be entered, and was not
        return tuple(sorted((self.alike(name), status) for name, status in zip(names, statuses, strict=True)))

    def statuses(self, execution: Execution, ledger: EffectLedger) -> tuple[str, ...]:
        """How the branches stand of the group that *execution* is in."""
        return ledger.branches[self.at] or (Status.RUNNING,) * len(execution.group)

    def born(self, ledger: EffectLedger, names: tuple[str, ...]) -> EffectLedger:
        """The ledger once the branches *names* are there."""
        if ledger.branches[self.at]:
            return ledger  # they were there before
        return self.standing(ledger, names, (Status.RUNNING,) * len(names))

    def standing(self, ledger: EffectLedger, names: tuple[str, ...], statuses: tuple[str, ...]) -> EffectLedger:
        """The ledger where the branches stand so."""
        owed = any(self.is_owed(name, status) for name, status in zip(names, statuses, strict=True))
        return ledger.with_branches(self.at, statuses).with_(self.at, effect=owed)

    def is_owed(self, name: str, status: str) -> bool:
        """Whether a saga that fails still has to see to a branch that stands so."""
        return status not in (Status.FAILED, Status.LEFT) and (status != Status.SUCCEEDED or self.child(name).undoable)

    def leaves(self, name: str, status: str) -> tuple[str, ...]:
        """What a branch that stands so leaves over, and the saga has to list if it fails."""
        if status == Status.LEFT:
            return (f"{self.path}.{name}.{LEFTOVER}",)
        if status == Status.SUCCEEDED and not self.child(name).undoable:
            return tuple(f"{self.path}.{name}.{step}" for step in self.child(name).steps)
        return ()

    def moves(self, execution: Execution, ledger: EffectLedger) -> Iterator[Action]:
        """What can happen to the branches, and that the driver looks at them: at any time, as often as it likes."""
        names = execution.group
        statuses = self.statuses(execution, ledger)
        calls_compensation = execution.phase == COMPENSATING
        seen = set()
        for number, (name, status) in enumerate(zip(names, statuses, strict=True)):
            same = (self.alike(name), status)
            if self.once and same in seen:
                continue
            seen.add(same)
            branch = f"branch {self.path}.{name}"

            def become(other: str, number: int = number) -> EffectLedger:
                return self.standing(ledger, names, (*statuses[:number], other, *statuses[number + 1 :]))

            if status in GOING_ON:
                child = self.child(name)
                for other in sorted(child.forward if status == Status.RUNNING else child.backward):
                    label = f"{branch} {_BECOMES[other]}"
                    yield Action(label, unobserved, become(other), who=OTHERS, observation=NOTHING)
            elif status in AGAIN:
                label = f"a person has {branch}, which was stuck, go on"
                yield Action(label, unobserved, become(AGAIN[status]), again=True, who=PERSON, observation=NOTHING)
            elif status == Status.SUCCEEDED and calls_compensation and self.child(name).undoable:
                label = f"the driver has {branch} undone"
                yield Action(label, unobserved, become(Status.UNDOING), who=DRIVER, observation=NOTHING)
        if execution.phase in (WAITING, COMPENSATING, STUCK):
            answer = Branches(
                tuple(
                    self._seen(name, status, calls_compensation=calls_compensation)
                    for name, status in zip(names, statuses, strict=True)
                )
            )
            label = f"the driver looks at the branches of {self.path}"
            yield Action(label, feeding(answer), ledger, who=DRIVER, observation=f"{LOOK} {statuses}")

    def all_again(self, execution: Execution, ledger: EffectLedger) -> EffectLedger:
        """The ledger once a person has had every stuck branch go on."""
        statuses = self.statuses(execution, ledger)
        return self.standing(ledger, execution.group, tuple(AGAIN.get(status, status) for status in statuses))

    def settled(self, execution: Execution, ledger: EffectLedger, *, done: bool) -> EffectLedger:
        """The ledger once a person has made sure by hand that the group is done, or is not."""
        status = Status.SUCCEEDED if done else Status.FAILED
        return self.standing(ledger, execution.group, (status,) * len(execution.group))

    def _seen(self, name: str, status: str, *, calls_compensation: bool) -> Branch:
        """A branch that stands so, as the driver tells of it."""
        prefix = len(f"{self.path}.{name}.")
        leftovers = tuple(path[prefix:] for path in self.leaves(name, status))
        if status in GOING_ON:
            return Branch(name, GOES_ON)
        if status == Status.SUCCEEDED:
            return Branch(
                name, SUCCEEDED, undoable=calls_compensation and self.child(name).undoable, leftovers=leftovers
            )
        state = FAILED if status in (Status.FAILED, Status.LEFT) else STUCK
        return Branch(name, state, error=StepRejectedError("rejected"), leftovers=leftovers)


def branch_models_of(
    saga: Saga, known: dict[str, dict[str, Child]] | None = None, *, once: bool = False
) -> dict[str, BranchModel]:
    """The branch models of the groups of *saga*, by path. *known*: branches already searched, with their outcomes."""
    groups = {}
    for at, part in enumerate(saga.parts):
        if part.kind in GROUPS:
            children = (known or {}).get(part.path) or {
                name: child_of(name, branch) for name, branch in saga.branches[part.path].items()
            }
            groups[part.path] = BranchModel(part, at, children, once=once)
    return groups
