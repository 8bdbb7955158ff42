"""The machine: a neutral tuple of parts becomes a table, the table a checked ``transitions.Machine``.

Every transition there is stands in this file, in `moves`, and this is the only file that imports ``transitions``.
Nothing here runs a step, knows a saga or holds an execution: one machine is shared by all executions of a definition,
each of which is only an object with the attributes ``state`` and ``effect``.

The theory
----------
A saga executes its parts in order. Where a part cannot be executed, everything done before is compensated, newest
first (*backward recovery*). The **pivot** is the go/no-go part: once it is executed the saga is only completed
(*forward recovery*), for as long as it takes, and what cannot be completed waits for a person. An attempt that gave
no answer is **in doubt**: it may have had its effect, so it is repeated with the same key, asked about (``probing``),
or compensated itself. A state is ``phase`` or ``phase.part``; the events are few and generic, and do not grow in
number with the parts::

    pending ─start→ executing.S ─executed→ ... → succeeded ─undo→ compensating.T
                     │  ↑
              errored↓  │retry_due             rejected   S had no effect: back to the nearest earlier part
                    retrying.S                 in_doubt   S may have had one: compensate S itself first
                                               exhausted  no way back (pivot or after it): stuck.S
    compensating.S ─compensated→ compensating.R → ... → failed
      │  ↑      └─compensation_exhausted→ stuck.S ─retry→ compensating.S
      ↓  │                                        ─settled_undone→ as compensated
    retrying_compensation.S

Sources: Garcia-Molina & Salem, "Sagas", 1987; Richardson, "Microservices Patterns", chapter 4.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, Final, NamedTuple

from transitions import Machine, State
from transitions.core import Event, EventData, Transition

from fsm_mediator.errors import DefinitionError
from fsm_mediator.parts import AWAIT, COMPENSATE, EXECUTE, PROBE, WAIT, Effect, Kind, Part, rest

logger = logging.getLogger("fsm_mediator")

TABLE_FORMAT: Final = 1
"""The number of this table's format; part of every fingerprint."""

PENDING: Final = "pending"
EXECUTING: Final = "executing"
RETRYING: Final = "retrying"
PROBING: Final = "probing"
WAITING: Final = "waiting"
COMPENSATING: Final = "compensating"
RETRYING_COMPENSATION: Final = "retrying_compensation"
STUCK: Final = "stuck"
STUCK_EXECUTING: Final = "stuck_executing"
SUCCEEDED: Final = "succeeded"
FAILED: Final = "failed"

ENDED: Final = frozenset({SUCCEEDED, FAILED})
PHASES: Final = (
    *(PENDING, EXECUTING, RETRYING, PROBING, WAITING),
    *(COMPENSATING, RETRYING_COMPENSATION, STUCK, STUCK_EXECUTING, SUCCEEDED, FAILED),
)

EVENTS: Final[dict[str, str]] = {
    "start": "begins a pending execution",
    "executed": "completes a part that is being executed, probed or waited for",
    "errored": "ends an attempt after which another follows, in executing or probing",
    "unsure": "asks the probe about an attempt in doubt, in executing, where the step has a probe",
    "retry_due": "begins the next attempt, in retrying",
    "rejected": "gives a part up that had no effect, up to the pivot",
    "in_doubt": "gives a part up that may have had an effect, before the pivot, where it can be compensated",
    "exhausted": "gives a part up for a person to see to: the pivot, what follows it, or a thread that cannot be ended",
    "compensated": "completes a compensation that is under way",
    "compensation_errored": "ends an attempt to compensate after which another follows",
    "compensation_due": "begins the next attempt to compensate, in retrying_compensation",
    "compensation_exhausted": "gives a compensation up for a person to look at, in compensating",
    "retry": "tries a stuck part again",
    "settled_undone": "takes a person's word that a stuck part has no effect; not after the pivot",
    "settled_done": "takes a person's word that a part stuck in execution has its effect",
    "undo": "compensates a saga that has succeeded; not with a pivot, nor with nothing to compensate",
}
"""Every event, and what it does in which states."""


class Move(NamedTuple):
    """One row of the table."""

    event: str
    source: str
    target: str


def moves(parts: Sequence[Part], *, every: bool = False) -> Iterator[Move]:
    """The whole table of a saga of *parts*.

    A state that the parts' settings rule out (``retrying.S`` where S has one attempt) is left out, unless *every* is
    set: an execution that was journaled under other settings may stand in it.
    """
    enter = [_enter(part) for part in parts]
    back: list[str] = []
    for index, part in enumerate(parts):
        back.append(_nearest_compensation(parts, index))
        after = enter[index + 1] if index + 1 < len(parts) else SUCCEEDED
        if index == 0:
            yield Move("start", PENDING, enter[0])
            if not part.forward_only:
                yield Move("rejected", PENDING, FAILED)
        if part.kind is Kind.STEP:
            yield from _step_moves(part, after, back[index], every)
        else:
            yield from _wait_moves(part, after, back[index], every)
        if part.compensatable:
            yield from _compensation_moves(part, back[index], every)
    last = _nearest_compensation(parts, len(parts))
    if any(part.undoes for part in parts) and not any(part.pivot for part in parts):
        yield Move("undo", SUCCEEDED, last)


def _step_moves(part: Part, after: str, back: str, every: bool) -> Iterator[Move]:
    executing, retrying, probing = f"{EXECUTING}.{part.path}", f"{RETRYING}.{part.path}", f"{PROBING}.{part.path}"
    sources = [executing]
    yield Move("executed", executing, after)
    if part.probe is not None:
        sources.append(probing)
        yield Move("unsure", executing, probing)
        yield Move("executed", probing, after)
    if part.retry.attempts != 1 or every:
        for source in sources:
            yield Move("errored", source, retrying)
        yield Move("retry_due", retrying, executing)
        sources.append(retrying)
    for source in sources:
        yield from _given_up(part, source, back)
    if part.forward_only or part.pivot:
        yield from _stuck_executing(part, f"{STUCK}.{part.path}", executing, after, back)
    elif part.can_outlive_its_timeout or every:
        stuck = f"{STUCK_EXECUTING if part.compensatable else STUCK}.{part.path}"
        yield Move("exhausted", executing, stuck)
        yield from _stuck_executing(part, stuck, executing, after, back)


def _wait_moves(part: Part, after: str, back: str, every: bool) -> Iterator[Move]:
    waiting = f"{WAITING}.{part.path}"
    yield Move("executed", waiting, after)
    if not part.forward_only:
        yield from _given_up(part, waiting, back)
    elif _can_be_given_up(part) or every:
        yield from _given_up(part, waiting, back)
        yield from _stuck_executing(part, f"{STUCK}.{part.path}", waiting, after, back)


def _can_be_given_up(part: Part) -> bool:
    """Whether waiting for *part* can come to nothing: a signal's time-out, a branch, what cannot be decided."""
    if part.kind is Kind.SIGNAL:
        return part.seconds is not None
    return part.kind is not Kind.SLEEP or part.decide is not None


def _given_up(part: Part, source: str, back: str) -> Iterator[Move]:
    if not part.forward_only:
        yield Move("rejected", source, back)
    if part.compensatable:
        yield Move("in_doubt", source, f"{COMPENSATING}.{part.path}")
    if part.pivot or part.forward_only:
        yield Move("exhausted", source, f"{STUCK}.{part.path}")


def _stuck_executing(part: Part, stuck: str, again: str, after: str, back: str) -> Iterator[Move]:
    yield Move("retry", stuck, again)
    yield Move("settled_done", stuck, after)
    if not part.forward_only:
        yield Move("settled_undone", stuck, back)


def _compensation_moves(part: Part, back: str, every: bool) -> Iterator[Move]:
    compensating, stuck = f"{COMPENSATING}.{part.path}", f"{STUCK}.{part.path}"
    yield Move("compensated", compensating, back)
    if part.kind is Kind.STEP and (part.compensation_retry.attempts != 1 or every):
        waits = f"{RETRYING_COMPENSATION}.{part.path}"
        yield Move("compensation_errored", compensating, waits)
        yield Move("compensation_due", waits, compensating)
    yield Move("compensation_exhausted", compensating, stuck)
    yield Move("retry", stuck, compensating)
    yield Move("settled_undone", stuck, back)


def _enter(part: Part) -> str:
    return f"{EXECUTING if part.kind is Kind.STEP else WAITING}.{part.path}"


def _nearest_compensation(parts: Sequence[Part], before: int) -> str:
    for index in range(before - 1, -1, -1):
        if parts[index].compensatable:
            return f"{COMPENSATING}.{parts[index].path}"
    return FAILED


class Place(NamedTuple):
    """What a state is: its phase, and the part it belongs to (None for ``pending``, ``succeeded`` and ``failed``)."""

    phase: str
    part: Part | None


class DirectTransition(Transition):
    """A ``Transition`` that runs the callbacks there are, in the stock order, and makes no log calls."""

    def execute(self, event_data: EventData) -> bool:
        """As stock: prepare, conditions, before, exit, change, enter, final, after."""
        machine: Any = event_data.machine
        if self.prepare:
            machine.callbacks(self.prepare, event_data)
        if self.conditions and not self._eval_conditions(event_data):
            return False
        if self.before or machine._before_state_change:
            machine.callbacks(chain(machine._before_state_change, self.before), event_data)
        if self.dest:
            states = machine.states
            source = states[self.source]
            if source.on_exit:
                machine.callbacks(source.on_exit, event_data)
            model: Any = event_data.model
            model.state = self.dest
            event_data.state = dest = states[self.dest]
            for callback in dest.on_enter:
                if callable(callback):
                    callback(event_data)
                else:
                    machine.callback(callback, event_data)
            if dest.final and machine._on_final:
                machine.callbacks(machine._on_final, event_data)
        if self.after or machine._after_state_change:
            machine.callbacks(chain(self.after, machine._after_state_change), event_data)
        return True


class DirectEvent(Event):
    """An ``Event`` triggered without queue, partials and log calls: a fifth of the stock time, the same moves.

    The machine is neither queued nor logged about (observers tell what moves), which is what the stock class spends
    its time on. The callbacks of the machine are read from where its properties keep them. A test holds both classes
    against the stock ones over random triggers, and the version of ``transitions`` is pinned to the minor release.
    """

    def __init__(self, name: str, machine: Machine) -> None:
        super().__init__(name, machine)
        self._of_machine = vars(machine)  # for ``Machine.__getattr__`` makes every other way to its attributes slow

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_of_machine"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _of_machine=vars(state["machine"]))

    def trigger(self, model: Any, *args: Any, **kwargs: Any) -> bool:  # noqa: C901 - the usual case first, in one piece
        """As stock, errors included."""
        of_machine = self._of_machine
        name = model.state
        if not (
            args
            or kwargs
            or of_machine["_prepare_event"]
            or of_machine["_before_state_change"]
            or of_machine["_after_state_change"]
            or of_machine["_on_exception"]
            or of_machine["_finalize_event"]
            or of_machine["_on_final"]
        ):
            candidates = self.transitions.get(name)
            if candidates is not None:
                # Where the only callback is the one that a saga's state has, which needs to know of no event, none is
                # made up for it: that is two thirds of the time of a trigger.
                move: Any = candidates[0]
                dest = move.dest
                if dest and not (move.prepare or move.conditions or move.before or move.after):
                    states = of_machine["states"]
                    entered = states[dest].on_enter
                    if len(entered) == 1 and not states[name].on_exit:
                        callback = entered[0]
                        if type(callback) is Effect or callback is rest:
                            model.state = dest
                            callback.enter(model)
                            return True
        machine: Any = self.machine
        state = machine.states.get(name) or machine.get_state(name)  # which raises, as in stock
        data = EventData(state, self, machine, model, args, kwargs)
        try:
            candidates = self.transitions.get(name)
            if candidates is not None or self._is_valid_source(state):
                if machine._prepare_event:
                    machine.callbacks(machine._prepare_event, data)
                for transition in candidates or ():
                    data.transition = transition
                    if transition.execute(data):
                        data.result = True
                        break
        except BaseException as error:
            data.error = error  # type: ignore[assignment]  # stock assigns it likewise; its stub is too narrow
            if not machine._on_exception:
                raise
            machine.callbacks(machine._on_exception, data)
        finally:
            if machine._finalize_event:
                self._finalize(machine, data)
        return bool(data.result)

    @staticmethod
    def _finalize(machine: Any, data: EventData) -> None:
        try:
            machine.callbacks(machine._finalize_event, data)
        except BaseException as error:  # stock swallows it likewise: what it finalizes is done
            logger.exception("a finalize callback raised %s; what it finalizes is done", type(error).__name__)


class SagaMachine(Machine):
    """The machine of one saga: a ``transitions.Machine`` that knows which part each state belongs to.

    Attributes:
        parts: What it was compiled from.
        places: Phase and part of every state.
    """

    event_cls: type[Event] = DirectEvent
    transition_cls: type[Transition] = DirectTransition

    parts: tuple[Part, ...]
    places: dict[str, Place]

    def moves(self) -> Iterator[Move]:
        """Every transition that is in the machine now, as rows of the table."""
        for event in self.events.values():
            for transitions in event.transitions.values():
                for transition in transitions:
                    yield Move(event.name, transition.source, transition.dest or transition.source)

    def allowed(self, state: str) -> list[str]:
        """The events that have a transition from *state*."""
        return [name for name, event in self.events.items() if state in event.transitions]

    def takes(self, event: str, state: str) -> bool:
        """Whether *event* has a transition from *state*."""
        known = self.events.get(event)
        return known is not None and state in known.transitions

    def refusal(self, event: str, state: str) -> str:
        """Why *event* has no transition from *state*, in words."""
        if event not in EVENTS:
            return f"there is no event {event!r}; there are: {', '.join(EVENTS)}"
        if event == "undo" and state == SUCCEEDED:
            pivot = next((part.path for part in self.parts if part.pivot), None)
            if pivot is not None:
                return f"{pivot!r} is the saga's pivot: once it is done there is no way back"
            return "no step of this saga can be compensated"
        return f"{event!r} {EVENTS[event]}; from {state!r} there is only: {', '.join(self.allowed(state)) or 'nothing'}"


class StockSagaMachine(SagaMachine):
    """The same table on the stock ``Event`` and ``Transition`` of ``transitions``; for comparison."""

    event_cls = Event
    transition_cls = Transition


def compile_machine(parts: Sequence[Part], *, every: bool = False, stock: bool = False) -> SagaMachine:
    """Build and check the machine of *parts*.

    Args:
        parts: The saga's parts in order, with unique paths.
        every: Generate the states that the parts' settings rule out as well.
        stock: Use the stock classes of ``transitions`` for events and transitions.

    Raises:
        DefinitionError: The table is not a sound machine. That is a bug of this library.
    """
    table = list(moves(parts, every=every))
    by_path = {part.path: part for part in parts}
    names = dict.fromkeys((PENDING, *chain.from_iterable((move.source, move.target) for move in table)))
    places = {}
    states = []
    for name in names:
        phase, _, path = name.partition(".")
        places[name] = place = Place(phase, by_path.get(path))
        states.append(State(name, on_enter=[_bound(place)], final=name in ENDED))
    machine = (StockSagaMachine if stock else SagaMachine)(
        model=None, states=None, initial=None, auto_transitions=False, send_event=True, queued=False
    )
    machine.parts = tuple(parts)
    machine.places = places
    # As Machine.add_states and add_transition do, without their work for models and wildcards.
    machine.states.update((state.name, state) for state in states)
    machine.initial = PENDING
    for event, source, target in table:
        if event not in machine.events:
            machine.events[event] = machine.event_cls(event, machine)
        machine.events[event].add_transition(machine.transition_cls(source, target))
    for known in machine.events.values():
        known.transitions.default_factory = None  # else it would grow with every refused trigger
    check_machine(machine)
    return machine


def _bound(place: Place) -> Any:
    phase, part = place
    if part is None or phase in (STUCK, STUCK_EXECUTING):
        return rest
    if phase == EXECUTING:
        return Effect(EXECUTE, part, part.execute)
    if phase == PROBING:
        return Effect(PROBE, part, part.probe)
    if phase == COMPENSATING:
        return Effect(COMPENSATE, part, part.compensate) if part.kind is Kind.STEP else Effect(AWAIT, part)
    if phase == WAITING and part.kind is not Kind.SLEEP:
        return Effect(AWAIT, part)
    return Effect(WAIT, part)


def check_machine(machine: SagaMachine) -> None:
    """Hold the machine as it is built against what every saga's machine must be.

    Raises:
        DefinitionError: A source or destination is not declared, an event is unknown or ambiguous, a state cannot be
            reached, or no end can be reached from it.
    """
    onward: dict[str, list[str]] = {name: [] for name in machine.states}
    backward: dict[str, list[str]] = {name: [] for name in machine.states}
    seen = set()
    for event, source, target in machine.moves():
        if event not in EVENTS:
            raise DefinitionError(f"the machine has an unknown event {event!r}")
        if source not in onward or target not in onward:
            raise DefinitionError(f"the machine's move {event!r} from {source!r} to {target!r} names an unknown state")
        if (event, source) in seen:
            raise DefinitionError(f"the machine has two moves for {event!r} from {source!r}")
        seen.add((event, source))
        onward[source].append(target)
        backward[target].append(source)
    lost = onward.keys() - _reached([PENDING], onward)
    if lost:
        raise DefinitionError(f"the machine cannot reach {', '.join(sorted(lost))}")
    endless = onward.keys() - _reached(ENDED & onward.keys(), backward)
    if endless:
        raise DefinitionError(f"the machine reaches no end from {', '.join(sorted(endless))}")


def _reached(starts: Any, edges: dict[str, list[str]]) -> set[str]:
    reached = set(starts)
    todo = list(starts)
    while todo:
        for target in edges[todo.pop()]:
            if target not in reached:
                reached.add(target)
                todo.append(target)
    return reached
