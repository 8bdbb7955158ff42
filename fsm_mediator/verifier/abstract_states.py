"""Abstract states: the states of a saga's executions without the ledger, and the successors of each.

The reaction of an execution does not depend on the ledger. So each reaction is computed once for each abstract state,
with the machine and the `feed` of production. Its records are also replayed into a second execution, which then gets
what is left in the inbox and must equal the first: recovery, which has nothing else, gives the same state as the run.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from fsm_mediator.definition.saga import Saga
from fsm_mediator.errors import MediatorError, RefusedError
from fsm_mediator.execution.execution import Execution
from fsm_mediator.records import Acceptance, Record
from fsm_mediator.states import COMPENSATING, PENDING, RETRYING_COMPENSATION, STUCK_EXECUTING
from fsm_mediator.verifier.action import Action, copied
from fsm_mediator.verifier.actions import ActionModel
from fsm_mediator.verifier.attempt_laws import Reaction, begun_at_a_time, broken_by_reaction
from fsm_mediator.verifier.branches import Births, spawned_by
from fsm_mediator.verifier.choices import ChoicePoints
from fsm_mediator.verifier.laws import Laws, TransitionView
from fsm_mediator.verifier.rules_table import Broken, broken
from fsm_mediator.verifier.settings_changes import settings_of

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
        broken: The laws that it breaks, whatever the ledger says.
    """

    position: AbstractState
    decided: str
    passage: TransitionView
    births: Births
    quiet: bool
    endless: bool
    broken: tuple[Broken, ...]


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
        execution.history = []  # no judgement reads it, and kept in every state it would grow with each path
        execution.forwarded = ()
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
            known = self._found(position, move)
            # Equal reactions are one, so that the search can see that they are.
            alike = (led for led in position.led.values() if led == known)
            known = position.led[move.observation] = next(alike, known)
        return known

    def _found(self, position: AbstractState, move: Action) -> list[Successor] | str:
        def make() -> Successor:
            execution = copied(position.execution)
            with settings_of(move, execution):
                records = apply_action(execution, move, 0.0)
                consumed = execution.drain_consumed()
                parts = execution.saga.parts
                reaction = Reaction(position.execution, move, records, execution, parts, self._index)
                broken = (*broken_by_reaction(reaction), *begun_at_a_time(execution, self._index))
                passage = self._laws.passage(execution, records, position.execution)
                births = spawned_by(execution, records)
            for record in records:
                self.states.add(record.target)
                self.taken.add((record.event, record.source))
            broken += tuple(self._lost_in_recovery(position.execution, execution, move, records, consumed))
            endless = self._is_without_limit(records)
            return Successor(self._of(execution), "", passage, births, not records, endless, broken)

        try:
            if not self._decisions.any:
                return [make()]
            return [led._replace(decided=decided) for decided, led in self._decisions.every(make)]
        except RefusedError as error:
            return str(error)

    def _lost_in_recovery(
        self, before: Execution, after: Execution, move: Action, records: tuple[Record, ...], consumed: tuple[int, ...]
    ) -> Iterator[Broken]:
        """The difference between the execution and what another driver finds: the records, and what is in the inbox.

        What an execution has received was in its inbox before. It stays there until a commit deletes it.
        """
        inbox = [*(before.signals or {}).values(), *([before.cancel] if before.cancel is not None else [])]
        if move.item is not None:
            inbox.append(move.item)
        folded = copied(before)
        folded.signals = folded.cancel = None
        if move.outside and move.item is None:
            move.act(folded, 0.0)
        try:
            for record in records:
                folded.replay(record)
        except MediatorError as error:
            yield broken("recovery", f"its records cannot be folded: {error}")
            return
        for item in inbox:
            if item.number not in consumed:
                folded.receive(item)
        found, ran = _essence(folded), _essence(after)
        if found != ran:
            yield broken("recovery", f"from its records and its inbox it is {found}, not {ran}")

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
        execution.deadline_at is not None and _deadline_may_count(execution),
        execution.cancelled,
        tuple(sorted((path, item.number) for path, item in (execution.signals or {}).items())),
        tuple(sorted((execution.plans or {}).items())),
        tuple(sorted((execution.branch_leftovers or {}).items())),
        tuple(execution.answered),
        execution.doubtful,
    )


def _deadline_may_count(execution: Execution) -> bool:
    """Whether the deadline can take hold, now or after an operator's retry that must lift it."""
    return execution.cancellable or (execution.phase == STUCK_EXECUTING and execution.failure is None)
