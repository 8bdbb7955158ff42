"""The product: a saga and the branches of its groups, walked together, execution by execution; only for small ones.

Nothing is abstracted here. Each branch is an execution with a ledger of its own, to which everything can happen that
can happen to any; the parent's driver looks at them when it likes, as often as it likes, and dies when it likes. It is
what the verifier's walk, which sees a branch as one of a few words, is held against.

A branch may have groups of its own; their branches are words again, those that the verifier finds for them. So a depth
is held against the depth above it, one at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from fsm_mediator import Saga
from fsm_mediator.definition.waits import EACH
from fsm_mediator.errors import RefusedError
from fsm_mediator.execution.execution import Execution
from fsm_mediator.execution.rules import RUNNING
from fsm_mediator.machine.parts import Kind
from fsm_mediator.records import CANCEL, Branch, Branches, InboxItem, OperatorRetry, OperatorUndo
from fsm_mediator.states import (
    COMPENSATING,
    ENDED,
    FAILED,
    RETRYING_COMPENSATION,
    STUCK,
    STUCK_PHASES,
    SUCCEEDED,
    WAITING,
)
from fsm_mediator.verifier.abstract_states import _essence, initial_execution
from fsm_mediator.verifier.action import CANCEL_COMES, DEADLINE_PASSES, Action, copied
from fsm_mediator.verifier.actions import ActionModel
from fsm_mediator.verifier.branches import Status, spawned_by, status_of
from fsm_mediator.verifier.choices import ChoicePoints
from fsm_mediator.verifier.effect_ledger import EffectLedger
from fsm_mediator.verifier.settings_changes import settings_of
from fsm_mediator.verifier.state_space import StateSpace

OF_BRANCHES = ("branch ", "a person retries branch ", "the driver undoes branch ", "the driver checks ")
"""How the labels begin of what the verifier has happen to branches; here they see to themselves."""


class One(NamedTuple):
    """One execution, and its ledger."""

    execution: Execution
    ledger: EffectLedger

    @property
    def key(self) -> Any:
        """What its future depends on."""
        return _essence(self.execution), self.ledger


class World(NamedTuple):
    """A parent, and its branches by group and name."""

    parent: One
    branches: tuple[tuple[str, str, One], ...] = ()
    settled: frozenset[str] = frozenset()
    """The groups that a person settled by hand: nobody looks at their branches any more."""

    @property
    def key(self) -> Any:
        """What its future depends on."""
        return self.parent.key, tuple((path, name, one.key) for path, name, one in self.branches), self.settled


class TooManyWorldsError(Exception):
    """The saga is too large to be walked so."""


class Product:
    """Every world that a saga can come to, and what is wrong in any; unless *to_the_end*, up to the first that is.

    Args:
        saga: The saga.
        to_the_end: Go on where something is wrong.
        most: The most worlds.
        thorough: As in `ActionModel`, for the parent.
        told: Have a cancel or a deadline come to a branch only from the driver of its parent, who was given one or has
            seen another branch fail; else they come at any time.

    Raises:
        TooManyWorldsError: There are more than *most*.

    Attributes:
        reached: Where the parent stands, and how the branches do, as its driver would tell.
        wrong: What is wrong anywhere.
        worlds: How many there are.
        failed_fast: How often a branch got a cancel because another had failed.
    """

    def __init__(
        self, saga: Saga, *, to_the_end: bool = True, most: int = 100_000, thorough: bool = True, told: bool = False
    ) -> None:
        self.told = told
        self.failed_fast = 0
        self.decisions = ChoicePoints(saga)
        self.saga = self.decisions.saga
        self.possible = ActionModel(self.saga, thorough=thorough)
        self.inside = {
            (path, name): model_of(branch)
            for path, branches in saga.branches.items()
            for name, branch in branches.items()
        }
        self.reached: set[tuple[str, tuple[str, ...]]] = set()
        self.wrong: set[str] = set()
        first = World(One(initial_execution(self.saga), self.possible.nothing))
        self.judge(first)
        seen = {first.key}
        todo = [first]
        while todo and (to_the_end or not self.wrong):
            if len(seen) > most:
                raise TooManyWorldsError
            for world in self.after(todo.pop()):
                self.judge(world)
                if world.key not in seen:
                    seen.add(world.key)
                    todo.append(world)
        self.worlds = len(seen)

    def after(self, world: World) -> Iterator[World]:
        """The worlds that one thing leads to."""
        execution, ledger = world.parent
        for move in self.possible.at(execution, ledger):
            if move.label.startswith(OF_BRANCHES):
                continue

            def act(move: Action = move) -> World:
                other = copied(execution)
                other.history = []
                with settings_of(move, other):
                    try:
                        move.act(other, 0.0)
                    except RefusedError as error:
                        self.wrong.add(f"refused: {error}")
                    reached = self.advanced(world, other, move.ledger)
                if move.observation.startswith("settled"):
                    settled = reached.settled | {execution.state.partition(".")[2]}
                    reached = World(reached.parent, reached.branches, settled)
                return reached

            for _, reached in list(self.decisions.every(act)):
                yield self.told_to_stuck(reached) if move.observation == "retry" else reached
        yield from self.branches_after(world)
        yield from self.looked(world)

    def advanced(self, world: World, execution: Execution, ledger: EffectLedger) -> World:
        """The parent goes on as far as it can without an effect; branches come into being."""
        while execution.advance(0.0) is not None:
            pass
        branches = list(world.branches)
        for acceptance in execution.pop_new_branches():
            path, _, name = acceptance.saga_id.partition("/")[2].rpartition(".")
            name_of_saga = name if name in self.saga.branches[path] else EACH
            saga = self.saga.branches[path][name_of_saga]
            one = One(initial_execution(saga), self.inside[path, name_of_saga].nothing)
            branches.append((path, name, one))
        return World(One(execution, ledger), tuple(branches), world.settled)

    def branches_after(self, world: World) -> Iterator[World]:
        """Everything that can happen to any branch; none is undone by itself."""
        for number, (_, _, one) in enumerate(world.branches):
            model = self.model_of_branch(world, number)
            for move in model.at(*one):
                if move.observation == "undo" or (self.told and move.observation in (CANCEL_COMES, DEADLINE_PASSES)):
                    continue
                other = copied(one.execution)
                other.history = []
                move.act(other, 0.0)
                yield _with(world, number, gone_on(model, other, move.ledger))

    def model_of_branch(self, world: World, number: int) -> ActionModel:
        """What can happen to the branch of this number."""
        path, name, _ = world.branches[number]
        return self.inside.get((path, name)) or self.inside[path, EACH]

    def looked(self, world: World) -> Iterator[World]:
        """The parent's driver looks at the branches of the group that it stands in, and sees to them."""
        execution, ledger = world.parent
        if not execution.group:
            return
        path = execution.state.partition(".")[2]
        mine = [(number, name, one) for number, (group, name, one) in enumerate(world.branches) if group == path]
        undo = []
        if execution.phase == COMPENSATING:
            undo = [each for each in mine if each[2].execution.machine.has_transition("undo", each[2].execution.state)]
        for number, _, one in undo:
            other = copied(one.execution)
            other.history = []
            other.feed(OperatorUndo(), 0.0)
            yield _with(world, number, One(other, one.ledger))
        yield from self.cancelled(world, mine)
        undoable = {name for _, name, _ in undo}
        branches = Branches(tuple(_seen(name, one, undoable=name in undoable) for _, name, one in mine))
        other = copied(execution)
        other.history = []
        try:
            other.feed(branches, 0.0)
        except RefusedError as error:
            self.wrong.add(f"refused: {error}")
        yield self.advanced(world, other, ledger)

    def cancelled(self, world: World, mine: list[tuple[int, str, One]]) -> Iterator[World]:
        """The driver sends the cancel or the deadline of the parent to a branch; or a cancel, where one has failed."""
        execution, _ = world.parent
        part = execution.machine.places[execution.state].part
        assert part is not None
        if execution.phase != WAITING:
            return
        item = execution.cancel
        if item is None and part.cancels_on_failure and not part.forward_only:
            failed = next((name for _, name, one in mine if has_failed(one.execution)), None)
            item = None if failed is None else InboxItem(CANCEL, failed, number=1)
        for number, _, one in mine:
            if one.execution.ended or (item is None and execution.deadline_at is None):
                continue
            other = copied(one.execution)
            other.history = []
            if item is not None:
                other.receive(item)
                self.failed_fast += bool(item.name and other.cancelled)
            else:
                other.deadline_at = execution.deadline_at
            yield _with(world, number, gone_on(self.model_of_branch(world, number), other, one.ledger))

    def told_to_stuck(self, world: World) -> World:
        """A person who tries the whole again tries each of its branches that are stuck."""
        path = world.parent.execution.state.partition(".")[2]
        for number, (group, _, one) in enumerate(world.branches):
            if group == path and one.execution.phase in STUCK_PHASES and one.ledger.running is None:
                other = copied(one.execution)
                other.history = []
                other.feed(OperatorRetry(), 0.0)
                world = _with(world, number, One(other, one.ledger))
        return world

    # What must hold

    def judge(self, world: World) -> None:
        """Hold the world against what must be so."""
        execution, ledger = world.parent
        if not world.settled:
            self.reached.add(told(execution, [one.execution for _, _, one in world.branches]))
        if execution.state == SUCCEEDED:
            for path, name, one in world.branches:
                if one.execution.state != SUCCEEDED and path not in world.settled:
                    self.wrong.add(f"succeeded, and {path}.{name} did not")
        if execution.state == FAILED:
            for part, effect in zip(self.saga.parts, ledger.effects, strict=True):
                if effect and part.kind is Kind.STEP and part.path not in execution.leftovers:
                    self.wrong.add(f"failed, and {part.path} has an effect")
            for path, name, one in world.branches:
                self.judge_branch(world, path, name, one)
        if execution.state.startswith(COMPENSATING):
            at = self.possible.index[execution.state.partition(".")[2]]
            for path, name, one in world.branches:
                if self.possible.index[path] > at and self.owes(one) and path not in world.settled:
                    self.wrong.add(f"{execution.state}, and {path}.{name} is not undone")

    def judge_branch(self, world: World, path: str, name: str, one: One) -> None:
        """A saga has failed; so what of this branch of it?"""
        if path in world.settled:
            return
        for part, effect in zip(one.execution.saga.parts, one.ledger.effects, strict=True):
            if not effect or part.kind is not Kind.STEP:
                continue
            undoable = part.compensatable and one.execution.machine.has_transition("undo", SUCCEEDED)
            if undoable and one.execution.state in ENDED:
                self.wrong.add(f"failed, and {path}.{name} has an effect in {part.path}")
            elif f"{path}.{name}.{part.path}" not in world.parent.execution.leftovers:
                self.wrong.add(f"failed, and {path}.{name}.{part.path} is not left over")
        if one.execution.ended:
            for left in left_over_by(one.execution):
                if f"{path}.{name}.{left}" not in world.parent.execution.leftovers:
                    self.wrong.add(f"failed, and {path}.{name}.{left} is not left over")

    @staticmethod
    def owes(one: One) -> bool:
        """Whether a branch has something that is still to be undone."""
        state = one.execution.state
        return state != FAILED and (state != SUCCEEDED or one.execution.machine.has_transition("undo", state))


def model_of(saga: Saga) -> ActionModel:
    """What can happen to a branch; its own branches come to what the verifier finds that they can."""
    walk = StateSpace(saga, strict=False, most_nodes=100_000, once=False)
    walk.report()
    children = {
        path: {name: inner.child(name) for name, inner in branches.items()} for path, branches in walk.branches.items()
    }
    return ActionModel(saga, children=children)


def gone_on(model: ActionModel, execution: Execution, ledger: EffectLedger) -> One:
    """A branch goes on as far as it can without an effect; its own branches begin."""
    while execution.advance(0.0) is not None:
        pass
    return One(execution, model.after(ledger, spawned_by(execution, execution.history)))


def left_over_by(execution: Execution) -> tuple[str, ...]:
    """What a branch that has ended leaves over, at every depth; one that can be undone has nothing yet."""
    if execution.state == FAILED:
        return execution.leftovers
    undoable = execution.machine.has_transition("undo", SUCCEEDED)
    return () if undoable else tuple(_steps_of(execution.saga))


def _steps_of(saga: Saga) -> Iterator[str]:
    for part in saga.parts:
        if part.kind is Kind.STEP:
            yield part.path
        for name, branch in saga.branches.get(part.path, {}).items():
            yield from (f"{part.path}.{name}.{path}" for path in _steps_of(branch))


def has_failed(execution: Execution) -> bool:
    """Whether a branch has left the way forward."""
    if execution.phase in STUCK_PHASES:
        return execution.failure is not None
    return execution.phase in (FAILED, COMPENSATING, RETRYING_COMPENSATION)


def told(execution: Execution, branches: list[Execution]) -> tuple[str, tuple[str, ...]]:
    """Where a parent stands, and how its branches do; whether one that goes on is being undone makes no difference."""
    statuses = tuple("going on" if status_of(one) == Status.RUNNING else status_of(one) for one in branches)
    return execution.state, statuses


def _seen(name: str, one: One, *, undoable: bool) -> Branch:
    """A branch, as a mediator tells of it."""
    execution = one.execution
    outcome = execution.outcome()
    if execution.state == SUCCEEDED:
        return Branch(name, SUCCEEDED, undoable=undoable, leftovers=tuple(_steps_of(execution.saga)))
    if execution.state in ENDED:
        return Branch(name, FAILED, error=outcome.error, leftovers=outcome.leftovers)
    if execution.phase in STUCK_PHASES:
        return Branch(name, STUCK, error=outcome.error, leftovers=outcome.leftovers)
    return Branch(name, RUNNING)


def _with(world: World, number: int, one: One) -> World:
    path, name, _ = world.branches[number]
    branches = (*world.branches[:number], (path, name, one), *world.branches[number + 1 :])
    return World(world.parent, branches, world.settled)
