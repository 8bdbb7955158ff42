"""The machine: a saga's parts, compiled into a checked ``transitions.Machine``.

All executions of a definition share one machine. The machine uses only the attributes ``state`` and ``effect`` of an
execution. This module does not run steps, and does not know sagas and executions. Only this folder imports
``transitions``.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any, Final, NamedTuple

from transitions import State
from transitions.core import Event
from transitions.core import Transition as StockTransition

from fsm_mediator.error_types import DefinitionError
from fsm_mediator.machine.fast import DirectEvent, DirectMachine, DirectTransition
from fsm_mediator.machine.parts import AWAIT, COMPENSATE, EXECUTE, PROBE, WAIT, Effect, Kind, Part, rest
from fsm_mediator.machine.table import Transition, transitions_of
from fsm_mediator.states import (
    COMPENSATING,
    ENDED,
    EVENTS,
    EXECUTING,
    PENDING,
    PROBING,
    STUCK_PHASES,
    SUCCEEDED,
    WAITING,
    split_state,
)

MANY: Final = 1000
"""If a saga has more parts than this number, it is defined and compiled while garbage collection is off."""


class StateInfo(NamedTuple):
    """The phase and the part of a state. The part is None for ``pending``, ``succeeded`` and ``failed``."""

    phase: str
    part: Part | None


class CompiledMachine(DirectMachine):
    """The machine of one saga: a ``transitions.Machine`` that also has the phase and the part of each state.

    Attributes:
        parts: The parts from which the machine was compiled.
        places: The phase and the part of every state.
    """

    event_cls: type[Event] = DirectEvent
    transition_cls: type[StockTransition] = DirectTransition

    parts: tuple[Part, ...]
    places: dict[str, StateInfo]

    def moves(self) -> Iterator[Transition]:
        """Every transition of the machine, each as a row of the table."""
        for event in self.events.values():
            for transitions in event.transitions.values():
                for transition in transitions:
                    yield Transition(event.name, transition.source, transition.dest or transition.source)

    def allowed(self, state: str) -> list[str]:
        """The events that have a transition from *state*."""
        return [name for name, event in self.events.items() if state in event.transitions]

    def has_transition(self, event: str, state: str) -> bool:
        """Whether *event* has a transition from *state*."""
        known = self.events.get(event)
        return known is not None and state in known.transitions

    def refusal(self, event: str, state: str) -> str:
        """The reason why *event* has no transition from *state*, as text."""
        if event not in EVENTS:
            return f"there is no event {event!r}; there are: {', '.join(EVENTS)}"
        if event == "undo" and state == SUCCEEDED:
            pivot = next((part.path for part in self.parts if part.pivot), None)
            if pivot is not None:
                return f"{pivot!r} is the saga's pivot: once it is done there is no way back"
            return "no step of this saga can be compensated"
        return f"{event!r} {EVENTS[event]}; from {state!r} there is only: {', '.join(self.allowed(state)) or 'nothing'}"


class StockMachine(CompiledMachine):
    """A machine with the stock ``Event`` and ``Transition`` of ``transitions``, for comparison."""

    event_cls = Event
    transition_cls = StockTransition


def compile_machine(parts: Sequence[Part], *, every: bool = False, stock: bool = False) -> CompiledMachine:
    """Build and check the machine of *parts*.

    Args:
        parts: The saga's parts in order, with unique paths.
        every: Whether to include also the states that no execution can enter under the present settings of the parts.
        stock: Whether to use the stock classes of ``transitions`` for events and transitions.

    Raises:
        DefinitionError: The machine fails a check (`check_machine`). This is a bug of this library.
    """
    with without_collection(len(parts)):
        return _compiled(parts, every=every, stock=stock)


@contextmanager
def without_collection(parts: int) -> Iterator[None]:
    """Turn garbage collection off in the ``with`` block, if *parts*, the number of parts, is above `MANY`.

    The definition of a large saga makes many objects and no garbage. Searches for garbage would double the time.
    """
    if parts <= MANY or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _compiled(parts: Sequence[Part], *, every: bool, stock: bool) -> CompiledMachine:
    table = list(transitions_of(parts, every=every))
    by_path = {part.path: part for part in parts}
    names = dict.fromkeys((PENDING, *chain.from_iterable((move.source, move.target) for move in table)))
    places = {}
    states = []
    for name in names:
        phase, path = split_state(name)
        places[name] = place = StateInfo(phase, by_path.get(path))
        states.append(State(name, on_enter=[_bound(place)], final=name in ENDED))
    machine = (StockMachine if stock else CompiledMachine)(
        model=None, states=None, initial=None, auto_transitions=False, send_event=True, queued=False
    )
    machine.parts = tuple(parts)
    machine.places = places
    # This code does the work of Machine.add_states and add_transition, without models and wildcards. It makes plain
    # dictionaries, in which a lookup is faster than in the `OrderedDict` of the stock machine.
    machine.states = {state.name: state for state in states}  # type: ignore[assignment]
    machine.events = {}
    machine.initial = PENDING
    for event, source, target in table:
        if event not in machine.events:
            machine.events[event] = machine.event_cls(event, machine)
        machine.events[event].add_transition(machine.transition_cls(source, target))
    for known in machine.events.values():
        # A `defaultdict` would grow with every refused trigger.
        known.transitions = dict(known.transitions)  # type: ignore[assignment]
    check_machine(machine)
    return machine


def _bound(place: StateInfo) -> Any:
    phase, part = place
    if part is None or phase in STUCK_PHASES:
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


def check_machine(machine: CompiledMachine) -> None:
    """Check that *machine* has the properties that every saga's machine must have.

    Raises:
        DefinitionError: A transition has an unknown state, an event is unknown, a state has two transitions for one
            event, a state cannot be reached, or no end can be reached from a state.
    """
    onward: dict[str, list[str]] = {name: [] for name in machine.states}
    backward: dict[str, list[str]] = {name: [] for name in machine.states}
    for event in machine.events.values():
        if event.name not in EVENTS:
            raise DefinitionError(f"the machine has an unknown event {event.name!r}")
        for source, (transition, *others) in event.transitions.items():
            target = transition.dest or source
            if source not in onward or target not in onward:
                raise DefinitionError(
                    f"the machine's move {event.name!r} from {source!r} to {target!r} names an unknown state"
                )
            if others:
                raise DefinitionError(f"the machine has two moves for {event.name!r} from {source!r}")
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
