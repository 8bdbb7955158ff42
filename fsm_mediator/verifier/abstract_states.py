"""Abstract states: the states of a saga's executions without the ledger, and the successors of each state.

The ledger has the effects that really happened (`effect_ledger`). The reaction of an execution to an action does not
depend on the ledger. So the search computes a reaction once for each abstract state, with the machine and the `feed` of
production.

After each reaction the search also simulates a recovery. It replays the records into a second execution, and puts the
items that are still in the inbox into this execution. The second execution must equal the first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from fsm_mediator.definition.saga import Saga
from fsm_mediator.errors import MediatorError, RefusedError
from fsm_mediator.execution.execution import Execution
from fsm_mediator.records import Acceptance, Record
from fsm_mediator.states import COMPENSATING, PENDING, RETRYING_COMPENSATION, STUCK_EXECUTING
from fsm_mediator.verifier.action import Action, copied
from fsm_mediator.verifier.actions import ActionModel
from fsm_mediator.verifier.answer_laws import broken_by_answer, created_wrongly
from fsm_mediator.verifier.attempt_laws import Reaction, begun_at_a_time, broken_by_reaction, broken_by_records
from fsm_mediator.verifier.branches import Births, spawned_by
from fsm_mediator.verifier.choices import ChoicePoints
from fsm_mediator.verifier.laws import Laws, TransitionView
from fsm_mediator.verifier.rules_table import Broken, broken
from fsm_mediator.verifier.settings_changes import settings_of

UNLIMITED_ATTEMPTS: Final = 2
"""The highest attempt number in an abstract state, under a policy without limit.

All later attempts have this number too. They behave equally, so the search does not distinguish them.
"""


class Successor(NamedTuple):
    """One possible result of an action.

    Attributes:
        position: The new abstract state.
        decided: The answers of the deciding functions in the action, as a suffix for the action's label. Empty if no
            such function was called.
        passage: The view of the transition that the laws check.
        births: The branches that the action starts.
        quiet: Whether the action made no record.
        endless: Whether the action is a retry under a policy without limit.
        broken: The rules that the action breaks, whatever effects the ledger has.
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
        number: The number of this abstract state, from 0.
        backward: Whether the execution compensates, or has failed.
        leftovers: The leftovers that the execution lists during compensation.
        led: For each observation (`Action.observation`) that was tried in this state, the list of its successors. If
            the execution refuses the action, the reason as a text instead of the list.
    """

    __slots__ = ("backward", "execution", "led", "leftovers", "number")

    def __init__(self, execution: Execution, number: int, *, backward: bool, leftovers: frozenset[str]) -> None:
        execution.history = []  # no law reads the history, and storing it in every state would use much memory
        execution.forwarded = ()
        self.execution: Execution = execution
        self.number: int = number
        self.backward: bool = backward
        self.leftovers: frozenset[str] = leftovers
        self.led: dict[str, list[Successor] | str] = {}


class EqualErrors:
    """Exceptions that have the same meaning in a state of the machine. The search tries only one of them.

    The rules read the exception, never the abstract state. So all exceptions are tried only in the first abstract state
    of each machine state. Two exceptions are equal if they led to the same successors there, and if the settings give
    them the same meaning. In the other abstract states, one of several equal exceptions is tried.
    """

    def __init__(self) -> None:
        self._first: dict[str, AbstractState] = {}
        self._of_class: dict[Any, str] = {}
        self._instead: dict[tuple[str, str], str] = {}

    def equal(self, position: AbstractState, move: Action) -> str | None:
        """The observation of the exception that equals the exception of *move* and was tried in *position*.

        None if there is no such exception, so that *move* must be tried.
        """
        state = position.execution.state
        if move.raises is None or self._first.get(state, position) is position:
            return None
        instead = self._instead.get((state, move.observation))
        return instead if instead in position.led else None

    def note(self, position: AbstractState, move: Action) -> None:
        """If *position* is the first abstract state of its machine state, store which exceptions are equal there.

        *move*: an action that was just tried in *position*, and may raise an exception.
        """
        state = position.execution.state
        if move.raises is None or self._first.setdefault(state, position) is not position:
            return
        led = position.led[move.observation]
        meaning = move.doubt, move.repeats, move.settings, move.seen.endswith(" late"), move.seen == "raised again"
        self._instead[state, move.observation] = self._of_class.setdefault((id(led), *meaning), move.observation)


class StateTable:
    """All abstract states of a saga that were reached.

    Args:
        saga: The saga.
        possible: The actions that can happen.
        laws: The laws to check.
        errors_alike: Whether only one of several equal exceptions is tried (`EqualErrors`).

    Attributes:
        saga: The saga to search, with every deciding function replaced.
        states: The machine's states that were reached.
        taken: The machine's transitions that were taken, as event and source.
    """

    def __init__(self, saga: Saga, possible: ActionModel, laws: Laws, *, errors_alike: bool = False) -> None:
        self._decisions = ChoicePoints(saga)
        self.saga: Saga = self._decisions.saga
        self._index = possible.index
        self._laws = laws
        self._known: dict[Any, AbstractState] = {}
        self.states: set[str] = {PENDING}
        self.taken: set[tuple[str, str]] = set()
        self._latest: AbstractState | None = None
        self._led_to: dict[Any, Successor] = {}
        self._right_views: set[tuple[str, str]] = set()
        self._errors = EqualErrors() if errors_alike else None

    def first(self) -> AbstractState:
        """The abstract state of a new execution, which was accepted and has not started yet."""
        execution = initial_execution(self.saga)
        return self._of(execution, _essence(execution), frozenset())

    def after(self, position: AbstractState, move: Action) -> list[Successor] | str:
        """The successors of *position* after *move*.

        Returns:
            One successor for each combination of answers of the deciding functions. If the execution refuses the move,
            the reason as a text.
        """
        known = position.led.get(move.observation)
        if known is None:
            other = self._errors.equal(position, move) if self._errors is not None else None
            known = self._found(position, move) if other is None else position.led[other]
            # Equal lists of successors become one object, so that the search can compare them by identity.
            alike = (led for led in position.led.values() if led == known)
            known = position.led[move.observation] = next(alike, known)
            if self._errors is not None:
                self._errors.note(position, move)
        return known

    def _found(self, position: AbstractState, move: Action) -> list[Successor] | str:
        if self._latest is not position:
            self._latest = position
            self._led_to = {}

        def make() -> Successor:
            execution = copied(position.execution)
            with settings_of(move, execution):
                records = apply_action(execution, move, 0.0)
                consumed = execution.drain_consumed()
                parts = execution.saga.parts
                reaction = Reaction(position.execution, move, records, execution, parts, self._index, self._right_views)
                decided = self._decisions.latest
                broken = (*broken_by_reaction(reaction), *broken_by_answer(reaction, decided))
                broken += tuple(created_wrongly(execution, self.saga, decided))
                essence = _essence(execution)
                inbox = (consumed, move.outside, move.item.number if move.item is not None else 0, move.settings)
                key = (essence, inbox, tuple(map(_likeness, records)))
                led = self._led_to.get(key)
                if led is None:
                    led = self._led_to[key] = self._led(position, reaction, essence, consumed)
            return led if not broken else led._replace(broken=led.broken + broken)

        try:
            if not self._decisions.any:
                return [make()]
            return [led._replace(decided=decided) for decided, led in self._decisions.every(make)]
        except RefusedError as error:
            return str(error)

    def _led(
        self, position: AbstractState, reaction: Reaction, essence: tuple[Any, ...], consumed: tuple[int, ...]
    ) -> Successor:
        """The `Successor` after *reaction*.

        *essence*: the `_essence` of the execution after the reaction. *consumed*: the numbers of the inbox items
        that the reaction has consumed.
        """
        execution, records = reaction.after, reaction.records
        broken = (*broken_by_records(reaction), *begun_at_a_time(execution, self._index))
        passage = self._laws.passage(execution, records, position.leftovers)
        births = spawned_by(execution, records)
        for record in records:
            self.states.add(record.target)
            self.taken.add((record.event, record.source))
        broken += tuple(self._lost_in_recovery(position.execution, essence, reaction.move, records, consumed))
        after = self._of(execution, essence, passage.leftovers)
        return Successor(after, "", passage, births, not records, self._is_without_limit(records), broken)

    def _lost_in_recovery(
        self,
        before: Execution,
        ran: tuple[Any, ...],
        move: Action,
        records: Sequence[Record],
        consumed: tuple[int, ...],
    ) -> Iterator[Broken]:
        """Yields a broken rule if a recovery by another driver does not give the same execution as the run.

        The recovery has only the records and the inbox. An item stays in the inbox until a commit deletes the item.
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
            yield broken("recovery", f"the records cannot be replayed: {error}")
            return
        for item in inbox:
            if item.number not in consumed:
                folded.receive(item)
        found = _essence(folded)
        if found != ran:
            yield broken("recovery", f"the records and the inbox give the execution {found}, not {ran}")

    def _is_without_limit(self, records: Sequence[Record]) -> bool:
        for record in records:
            if record.step is not None and record.event in ("retry_due", "compensation_due"):
                part = self.saga.parts[self._index[record.step]]
                policy = part.retry if record.event == "retry_due" else part.compensation_retry
                if policy.attempts is None:
                    return True
        return False

    def _of(self, execution: Execution, essence: tuple[Any, ...], leftovers: frozenset[str]) -> AbstractState:
        """The abstract state of an execution. Executions with the same future share one abstract state.

        Args:
            execution: The execution.
            essence: The values that decide the future of the execution.
            leftovers: The leftovers that the execution lists during compensation. Only their presence distinguishes
                abstract states, because the laws check the leftovers themselves in each transition.
        """
        state, _, *rest, answered, doubtful = essence
        backward = execution.state in self._laws.backward
        distinguishing = (bool(leftovers),) if backward else (answered, doubtful)
        key = (state, _state_key(execution), *rest, *distinguishing)
        position = self._known.get(key)
        if position is None:
            position = AbstractState(execution, len(self._known), backward=backward, leftovers=leftovers)
            self._known[key] = position
        return position


def initial_execution(saga: Saga) -> Execution:
    """A new execution of *saga*, which was accepted and has not started yet."""
    return Execution(saga, Acceptance("verified", saga.name, saga.version, saga.fingerprint, "the payload", 0.0))


def apply_action(execution: Execution, move: Action, at: float) -> tuple[Record, ...]:
    """Make *move*, and all following transitions that need no effect. Returns the records.

    Raises:
        RefusedError: The execution refuses the move.
    """
    before = len(execution.history)
    move.act(execution, at)
    while execution.advance(at) is not None:
        pass
    return tuple(execution.history[before:])


def _state_key(execution: Execution) -> int:
    """The number of the current attempt of *execution*. Under a policy without limit, at most `UNLIMITED_ATTEMPTS`."""
    part = execution.machine.places[execution.state].part
    if part is None:
        return 0
    policy = part.compensation_retry if execution.phase in (COMPENSATING, RETRYING_COMPENSATION) else part.retry
    return min(execution.attempt, UNLIMITED_ATTEMPTS) if policy.attempts is None else execution.attempt


def _likeness(record: Record) -> tuple[Any, ...]:
    """The values that a fold reads from *record*. A fold reads only whether there is an error, not the error."""
    return (
        *(record.event, record.source, record.target, record.at, record.step, record.attempt, str(record.value)),
        *(record.error is None, record.in_doubt, record.due_at, record.abandoned, record.children),
    )


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
    """Whether the deadline can take effect now, or could do so if an operator's retry wrongly kept the deadline."""
    return execution.cancellable or (execution.phase == STUCK_EXECUTING and execution.failure is None)
