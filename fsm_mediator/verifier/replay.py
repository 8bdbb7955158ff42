"""Replay: repeats a path of the search with a simulated clock, so that the records on the path have real times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

from fsm_mediator.definition.saga import Saga
from fsm_mediator.definition.waits import EACH
from fsm_mediator.errors import RefusedError
from fsm_mediator.ids import branch_name, group_of
from fsm_mediator.machine.parts import Kind
from fsm_mediator.records import Record
from fsm_mediator.verifier.abstract_states import apply_action, initial_execution
from fsm_mediator.verifier.action import DUE
from fsm_mediator.verifier.actions import ActionModel
from fsm_mediator.verifier.branch_traces import BranchSearch, cheapest_trace
from fsm_mediator.verifier.branches import spawned_by
from fsm_mediator.verifier.choices import ChoicePoints
from fsm_mediator.verifier.effect_ledger import EffectLedger
from fsm_mediator.verifier.settings_changes import settings_of
from fsm_mediator.verifier.violation import Violation

Searches: TypeAlias = Mapping[str, Mapping[str, BranchSearch]]
"""The searches over the branches of a saga, by the group's path and the branch's name."""


class NotReproducible(Exception):  # noqa: N818 - it is caught: the violation is then reported without paths of branches
    """No path of a branch leads to the statuses that its parent's path assumes. The message names the branch."""


class ReplayedTrace(NamedTuple):
    """The result of a replay.

    Attributes:
        recorded: The records of each action, up to the last action that could be replayed.
        ledger: The ledger after the last replayed action: it has the effects at the end of the path.
        branch_changes: For each branch, as ``group.branch``, its statuses in order. Statuses that an operator set by
            hand are not included.
    """

    recorded: tuple[tuple[Record, ...], ...]
    ledger: EffectLedger
    branch_changes: dict[str, list[str]]


def replay(saga: Saga, path: Sequence[str], possible: ActionModel) -> ReplayedTrace:
    """Replay the actions of *path*.

    Args:
        saga: The saga.
        path: The labels of the actions, as the search found them.
        possible: The actions that can happen to the saga.
    """
    decisions = ChoicePoints(saga)
    execution, ledger, at = initial_execution(decisions.saga), possible.nothing, 0.0
    recorded: list[tuple[Record, ...]] = []
    branch_changes: dict[str, list[str]] = {}
    for words in path:
        label, *decided = words.split("; ")
        move = next((move for move in possible.at(execution, ledger) if move.label == label), None)
        if move is None:  # the path ends with a crash, but no attempt is running that the crash could interrupt
            break
        if move.seen == DUE:
            at = max(at, execution.due_at or 0.0)
        if not move.seen.startswith("settled"):  # settling by hand does not change the branches themselves
            for place, status in possible.branch_changes(execution, ledger, move.ledger):
                branch_changes.setdefault(place, []).append(status)
        decisions.are(decided)
        with settings_of(move, execution):
            try:
                records = apply_action(execution, move, at)
            except RefusedError:
                records = ()
        execution.drain_consumed()
        recorded.append(records)
        ledger = possible.after(move.ledger, spawned_by(execution, records))
    return ReplayedTrace(tuple(recorded), ledger, branch_changes)


def violation_of(
    saga: Saga, law: int, what: str, path: Sequence[str], possible: ActionModel, walks: Searches | None = None
) -> Violation:
    """The violation at the end of *path*.

    Args:
        saga: The saga.
        law: The law that is broken.
        what: The problem, in words.
        path: The labels of the actions that lead to the broken law.
        possible: The actions of the saga.
        walks: The searches over the saga's branches, if there are any.
    """
    recorded, ledger, branch_changes = replay(saga, path, possible)
    each = zip(saga.parts, ledger.effects, strict=True)
    effects = tuple(part.path for part, effect in each if effect and part.kind is not Kind.SIGNAL)
    branches: dict[str, tuple[str, ...]] = {}
    unplayable = None
    try:
        branches = branch_traces_of(walks or {}, branch_changes)
    except NotReproducible as why:
        unplayable = str(why)
    return Violation(
        law=law,
        what=what,
        saga=saga,
        path=tuple(path[: len(recorded)]),
        recorded=recorded,
        effects=effects,
        strict=possible.strict,
        branches=branches,
        unplayable=unplayable,
    )


def branch_traces_of(walks: Searches, branch_changes: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """For each branch, and for the branches of branches, the labels of a path through the branch's statuses.

    The keys are places, such as ``fan.x`` for a branch, and ``fan.x/deep.v`` for a branch of this branch.

    Args:
        walks: The searches over the branches.
        branch_changes: The statuses of each branch, as ``group.branch``, in order.

    Raises:
        NotReproducible: The search over a branch found no path to its statuses.
    """
    ways: dict[str, tuple[str, ...]] = {}
    for place, statuses in branch_changes.items():
        group, name = group_of(place), branch_name(place)
        walk = walks[group].get(name) or walks[group][EACH]
        way = cheapest_trace(walk, statuses)  # also None if the branch must end before it began: it then has no records
        if way is None:
            wanted = ", then ".join(statuses)
            why = "; the branch breaks a law itself, so every outcome of it was assumed" if walk.is_broken else ""
            raise NotReproducible(f"no path was found on which the branch {place} is {wanted}{why}")
        ways[place] = way
        inside = branch_traces_of(walk.branches, replay(walk.saga, way, walk.possible).branch_changes)
        ways |= {f"{place}/{deeper}": way for deeper, way in inside.items()}
    return ways
