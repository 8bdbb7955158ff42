"""Witness: what one execution really did, beside what the journal has of it; and the laws, held to both.

Nothing here makes anything happen.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from fsm_mediator.definition.saga import Saga
from fsm_mediator.definition.steps import Context
from fsm_mediator.definition.waits import EACH
from fsm_mediator.errors import MediatorError
from fsm_mediator.execution.execution import Execution
from fsm_mediator.machine.parts import EXECUTE, PROBE, Kind, Part
from fsm_mediator.records import Acceptance, Record
from fsm_mediator.states import SUCCEEDED
from fsm_mediator.verifier.action import Action
from fsm_mediator.verifier.actions import ActionModel
from fsm_mediator.verifier.branches import AGAIN, GOING_ON, BranchModel, Child, Status, status_of
from fsm_mediator.verifier.effect_ledger import EffectLedger
from fsm_mediator.verifier.laws import Laws

if TYPE_CHECKING:
    from tests.player.replay import Replay
    from tests.player.script import Role


class Witness:
    """One execution: its records, its ledger, its branches.

    Args:
        replay: What it is a part of.
        saga_id: The execution's id.
        saga: Its saga, of actors.

    Attributes:
        place: Where it stands in the whole, ``fan.x``; empty: it is the whole.
        about_to_settle: Whether the commit with which it ends, or gets stuck, waits until that may be seen.
        is_left: Whether its driver could not go on.
    """

    def __init__(self, replay: Replay, saga_id: str, saga: Saga) -> None:
        self.saga_id = saga_id
        self.saga = saga
        self.place = saga_id.partition("/")[2]
        self.about_to_settle = self.is_left = False
        self._replay = replay
        self._possible = ActionModel(saga, strict=replay.strict, thorough=True)
        self._laws = Laws(saga, {path: _Played(self, model) for path, model in self._possible.branch_models.items()})
        self._acceptance = Acceptance(saga_id, saga.name, saga.version, saga.fingerprint, None, 0.0)
        self._before = self._ledger = self._possible.nothing
        self._by_hand: set[str] = set()
        self._judging = threading.RLock()
        self._judged = 0
        self._crashed = self._is_recovered = False
        self._calls: dict[tuple[str, str], int] = {}
        self._calling: tuple[str, int] | None = None

    @property
    def records(self) -> list[Record]:
        """What the journal has of it."""
        return self._replay.journal.records(self.saga_id)

    def execution(self) -> Execution:
        """It, as the journal has it."""
        return Execution.fold(self.saga, self._acceptance, map(_plain, self.records))

    @property
    def status(self) -> str:
        """How it stands, to the whole that it is a branch of."""
        execution = self.execution()
        status = status_of(execution)
        if status in AGAIN and self.about_to_settle:  # it has been settled by hand, and that may not be seen yet
            return AGAIN[status]
        return Status.UNDOING if status == Status.RUNNING and execution.state in self._laws.backward else status

    @property
    def effects(self) -> list[str]:
        """The paths of the steps that really have an effect now."""
        each = zip(self.saga.parts, self._ledger.effects, strict=True)
        return [part.path for part, effect in each if effect and part.kind is Kind.STEP]

    def branches(self) -> dict[str, tuple[str, ...]]:
        """The names of the branches that have come into being, by their group."""
        born: dict[str, tuple[str, ...]] = {}
        for record in self.records:
            path = record.target.partition(".")[2]
            if record.children and self._replay.journal.find(f"{self.saga_id}/{path}.{record.children[0]}"):
                born[path] = record.children
        return born

    def steps_at_every_depth(self) -> Iterator[str]:
        """The paths of its steps, and of those of the branches that came into being."""
        born = self.branches()
        for part in self.saga.parts:
            if part.kind is Kind.STEP:
                yield part.path
            for name in born.get(part.path, ()):
                place = f"{part.path}.{name}"
                yield from (f"{place}.{path}" for path in self.branch(place).steps_at_every_depth())

    def branch(self, place: str) -> Role:
        """The branch ``group.name``."""
        return self._replay.role(f"{self.saga_id}/{place}")

    def saga_of(self, place: str) -> Saga:
        """The saga of the branch ``group.name``."""
        path, _, name = place.rpartition(".")
        branches = self.saga.branches[path]
        return branches[name] if name in branches else branches[EACH]

    # The ledger

    def _happens(self, move: Action) -> None:
        """What *move* does to the ledger."""
        if move.observation.startswith("settled"):
            self._by_hand.add(self.execution().state.partition(".")[2])
        self._before, self._ledger = self._ledger, move.ledger

    def _seen(self, ledger: EffectLedger) -> EffectLedger:
        """The ledger with the branches as they really stand, but for those that a person has settled by hand."""
        for path, names in self.branches().items():
            if path not in self._by_hand:
                statuses = tuple(self.branch(f"{path}.{name}").status for name in names)
                ledger = self._possible.branch_models[path].with_statuses(ledger, names, statuses)
        return ledger

    # Judging

    def _count(self, verb: str, context: Context) -> None:
        if verb == PROBE:
            return
        key = (context.step, verb)
        self._calls[key] = calls = self._calls.get(key, 0) + 1
        part = self.saga.part(context.step)
        policy = part.retry if verb == EXECUTE else part.compensation_retry
        if policy.attempts is not None and calls > policy.attempts:
            self._break(1, f"{verb} of {context.step} is called {calls} times, which has {policy.attempts} attempts")

    def _judge(self) -> None:
        """Hold the laws against what the journal has got since the last time, and against what a recovery finds."""
        with self._judging:
            records = self.records
            new = records[self._judged :]
            if not new and not self._is_recovered:
                return
            self._judged = len(records)
            self._is_recovered = False
            if (
                new
                and self._calling is not None
                and new[0].source == self._calling[0]
                and new[0].attempt != self._calling[1]
            ):
                self._break(5, f"attempt {self._calling[1]} in {new[0].source} is recorded as attempt {new[0].attempt}")
            self._calling = None
            again = {record.source.partition(".")[2] for record in new if record.event == "retry"}
            self._calls = {key: calls for key, calls in self._calls.items() if key[0] not in again}
            try:
                execution = self.execution()
            except MediatorError as error:
                self._break(5, f"its records cannot be folded: {error}")
                return
            self._ledger = self._seen(self._ledger)
            for law, what, _ in self._laws.broken_by(self._laws.passage(execution, new), self._before, self._ledger):
                self._break(law, what)
            self._before = self._ledger
            if execution.state == SUCCEEDED:
                self._calls.clear()

    def fails(self, error: MediatorError) -> None:
        """Its driver cannot go on, and leaves it where it stands."""
        self.is_left = True
        self._break(1, f"the mediator itself is refused what it does: {error}")

    def judge_recovery(self, running: Execution) -> None:
        """Its driver has just written: whoever took it up now would have to find what the driver knows."""
        try:
            differs = _essence(self.execution()) != _essence(running)
        except MediatorError:
            differs = True
        if differs:
            self._break(5, f"in {running.state}, a recovery would not find what its driver knows")

    def judge_the_end(self) -> None:
        """Nothing goes on any more: what stands still must have ended, or visibly wait for somebody."""
        self._judge()
        if not self.is_at_an_end():
            self._break(1, f"it stands in {self.execution().state} for ever, where nothing wakes it")

    def is_at_an_end(self) -> bool:
        """Whether it has ended, or waits for a person, a signal, or a branch that does."""
        execution = self.execution()
        part = execution.machine.places[execution.state].part
        if status_of(execution) not in GOING_ON or (part is not None and part.kind is Kind.SIGNAL):
            return True
        names = self.branches().get(part.path, ()) if part is not None else ()
        each = [self.branch(f"{part.path}.{name}") for name in names if part is not None]
        return any(one.status in GOING_ON and one.is_at_an_end() for one in each)

    def _break(self, law: int, what: str) -> None:
        what = f"branch {self.place}: {what}" if self.place else what
        self._replay.broken.setdefault(5 if self._crashed else law, what)


def _plain(record: Record) -> Record:
    """The record with its value decoded, whatever the type that it should have: a fault may have left it incomplete."""
    if not isinstance(record.value, msgspec.Raw):
        return record
    return msgspec.structs.replace(record, value=msgspec.json.decode(record.value))


def _essence(execution: Execution) -> tuple[Any, ...]:
    """What the records must tell of an execution; what has come to its inbox is kept there."""
    plans, left = execution.plans or {}, execution.branch_leftovers or {}
    known = (tuple(execution.answered), execution.doubtful, tuple(sorted(plans.items())), tuple(sorted(left.items())))
    return execution.state, execution.attempt, execution.doubt, execution.due_at is not None, *known


class _Played(BranchModel):
    """A group whose branches are played, and really leave something over."""

    def __init__(self, witness: Witness, model: BranchModel) -> None:
        self._witness = witness
        part: Part = witness.saga.part(model.path)
        known: Mapping[str, Child] = model.known
        super().__init__(part, model.at, dict(known), once=False)

    def leftovers_of(self, name: str, status: str) -> tuple[str, ...]:
        """As `BranchModel.leftovers_of`; for a failed branch, the leftovers of its own outcome."""
        place = f"{self.path}.{name}"
        branch = self._witness.branch(place)
        if status == Status.LEFT:
            return tuple(f"{place}.{path}" for path in branch.execution().leftovers)
        if status == Status.SUCCEEDED and not self.child(name).undoable:
            return tuple(f"{place}.{path}" for path in branch.steps_at_every_depth())
        return ()
