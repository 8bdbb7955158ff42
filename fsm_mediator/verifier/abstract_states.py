"""Abstract states: the states of a saga's executions without the ledger, and the successors of each.

The reaction of an execution does not depend on the ledger. So each reaction is computed once for each abstract state,
with the machine and the `feed` of production. Its records are also replayed into a second execution, which must equal
the first: recovery gives the same state as the run.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from fsm_mediator.definition.saga import Saga
from fsm_mediator.errors import MediatorError, RefusedError
from fsm_mediator.execution.execution import Execution
from fsm_mediator.records import Acceptance, Record
from fsm_mediator.states import COMPENSATING, PENDING, RETRYING_COMPENSATION
from fsm_mediator.verifier.action import Action, copied
from fsm_mediator.verifier.actions import ActionModel
from fsm_mediator.verifier.branches import Births, spawned_by
from fsm_mediator.verifier.choices import ChoicePoints
from fsm_mediator.verifier.laws import Laws, TransitionView

UNLIMITED_ATTEMPTS: Final = 2
"""With a policy without limit, attempts are distinguished up to this number. Later ones behave like it."""


class Successor(NamedTuple):
    """One result of an action.

    Attributes:
        position: The new abstract state.
        decided: The decisions in the action, in words.
        passage: The transition, as the laws see it.
        births: The branches that it starts.
        quiet: Whether nothing was recorded.
        endless: Whether it is a retry under a policy without limit.
        differs: The difference that recovery would find; None: there is none.
    """

    position: AbstractState
    decided: str
    passage: TransitionView
    births: Births
    quiet: bool
    endless: bool
    differs: str | None


class AbstractState:
    """A state of an execution, without the ledger.

    Attributes:
        execution: An execution in this state.
        number: Its number, from 0.
        backward: Whether the execution compensates, or has failed.
        led: The successors, by observation; a text is the reason of a refusal.
    """

    __slots__ = ("backward", "execution", "led", "number")

    def __init__(self, execution: Execution, number: int, *, backward: bool) -> None:
        execution.history = []  # no judgement reads it, and kept in every stand it would grow with each path
        self.execution = execution
        self.number = number
        self.backward = backward
        self.led: dict[str, list[Successor] | str] = {}


class StateTable:
    """All abstract states of a saga that were reached.

    Attributes:
        saga: The saga to search, with every deciding function replaced.
        states: The machine's states that were reached.
        taken: Its transitions that were taken, by event and source.
    """

    def __init__(self, saga: Saga, possible: ActionModel, laws: Laws) -> None:
        self._decisions = ChoicePoints(saga)
        self.saga = self._decisions.saga
        self._index = possible.index
        self._laws = laws
        self._known: dict[Any, AbstractState] = {}
        self.states = {PENDING}
        self.taken: set[tuple[str, str]] = set()

    def first(self) -> AbstractState:
        """The state of an accepted execution before its start."""
        return self._of(initial_execution(self.saga))

    def after(self, position: AbstractState, move: Action) -> list[Successor] | str:
        """The successors of *position* under a move, one for each combination of decisions in it.

        Returns:
            The successors; or the reason why the move is refused.
        """
        known = position.led.get(move.observation)
        if known is None:
            known = position.led[move.observation] = self._found(position, move)
        return known

    def _found(self, position: AbstractState, move: Action) -> list[Successor] | str:
        def make() -> tuple[Execution, tuple[Record, ...]]:
            execution = copied(position.execution)
            return execution, apply_action(execution, move, 0.0)

        try:
            every = list(self._decisions.every(make)) if self._decisions.any else [("", make())]
        except RefusedError as error:
            return str(error)
        found = []
        for decided, (execution, records) in every:
            for record in records:
                self.states.add(record.target)
                self.taken.add((record.event, record.source))
            differs = self._fold_differs(position.execution, execution, move, records)
            passage = self._laws.passage(execution, records, position.execution)
            births = spawned_by(execution, records)
            endless = self._is_without_limit(records)
            found.append(Successor(self._of(execution), decided, passage, births, not records, endless, differs))
        return found

    def _fold_differs(
        self, before: Execution, after: Execution, move: Action, records: tuple[Record, ...]
    ) -> str | None:
        """The difference between the execution and a replay of its records; None if recovery finds the same state."""
        folded = copied(before)
        if move.outside:
            move.act(folded, 0.0)
        for record in records:
            try:
                folded.replay(record)
            except MediatorError as error:
                return f"its records cannot be folded: {error}"
        if _essence(folded) == _essence(after):
            return None
        return f"folded from its records it is {_essence(folded)}, not {_essence(after)}"

    def _is_without_limit(self, records: tuple[Record, ...]) -> bool:
        for record in records:
            if record.step is not None and record.event in ("retry_due", "compensation_due"):
                part = self.saga.parts[self._index[record.step]]
                policy = part.retry if record.event == "retry_due" else part.compensation_retry
                if policy.attempts is None:
                    return True
        return False

    def _of(self, execution: Execution) -> AbstractState:
        """The abstract state of an execution. Executions with the same future share one."""
        state, _, *rest, answered, doubtful = _essence(execution)
        backward = execution.state in self._laws.backward
        # On the way back the leftovers are what they were where it turned back (`TransitionView.turns`, `.forgets`).
        distinguishing = (bool(execution.leftovers),) if backward else (answered, doubtful)
        key = (state, _state_key(execution), *rest, *distinguishing)
        position = self._known.get(key)
        if position is None:
            position = self._known[key] = AbstractState(execution, len(self._known), backward=backward)
        return position


def initial_execution(saga: Saga) -> Execution:
    """An accepted execution before its start."""
    return Execution(saga, Acceptance("verified", saga.name, saga.version, saga.fingerprint, None, 0.0))


def apply_action(execution: Execution, move: Action, at: float) -> tuple[Record, ...]:
    """Make *move* and all transitions that follow without an effect; return the records.

    Raises:
        RefusedError: The execution refuses it.
    """
    before = len(execution.history)
    move.act(execution, at)
    while execution.advance(at) is not None:
        pass
    execution.drain_consumed()
    return tuple(execution.history[before:])


def _state_key(execution: Execution) -> int:
    """The number of the attempt, as far as the future depends on it."""
    part = execution.machine.places[execution.state].part
    if part is None:
        return 0
    policy = part.compensation_retry if execution.phase in (COMPENSATING, RETRYING_COMPENSATION) else part.retry
    return min(execution.attempt, UNLIMITED_ATTEMPTS) if policy.attempts is None else execution.attempt


def _essence(execution: Execution) -> tuple[Any, ...]:
    """The values that decide the future of an execution."""
    return (
        execution.state,
        execution.attempt,
        execution.doubt,
        execution.due_at is not None,
        execution.deadline_at is not None and execution.cancellable,
        execution.cancelled,
        tuple(sorted(execution.signals or ())),
        tuple(sorted((execution.plans or {}).items())),
        tuple(sorted((execution.branch_leftovers or {}).items())),
        tuple(execution.answered),
        execution.doubtful,
    )
