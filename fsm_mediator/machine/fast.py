"""Faster event and transition classes for ``transitions``. A trigger makes the same move in a fifth of the time."""

from __future__ import annotations

import logging
from collections import OrderedDict
from itertools import chain
from typing import Any, Final

from transitions import Machine, State
from transitions.core import Event, EventData, Transition

from fsm_mediator.machine.parts import Effect, rest

logger: logging.Logger = logging.getLogger("fsm_mediator")


HOOKS: Final = (
    *("prepare_event", "before_state_change", "after_state_change"),
    *("on_exception", "finalize_event", "on_final"),
)
"""The names of the attributes of a machine that are lists of callbacks."""


class MoveData:
    """The attributes of a machine that every move reads. ``Machine.__getattr__`` makes them slow to read there.

    Attributes:
        states: The states of the machine, by name.
        hooks: The machine's lists of callbacks that were read or assigned, by name. All other lists are empty, because
            no code has used them.
    """

    __slots__ = ("hooks", "states")

    def __init__(self) -> None:
        self.states: OrderedDict[str, State] = OrderedDict()
        self.hooks: dict[str, list[Any]] = {}


class DirectMachine(Machine):
    """A ``Machine`` that knows which of its lists of callbacks can have members.

    Attributes:
        move_data: The attributes that every move reads.
    """

    move_data: MoveData

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        vars(self)["move_data"] = MoveData()
        super().__init__(*arguments, **settings)

    @property
    def states(self) -> OrderedDict[str, State]:
        """The states of the machine, by name."""
        return self.move_data.states

    @states.setter
    def states(self, value: OrderedDict[str, State]) -> None:
        self.move_data.states = value


def _in_hooks(name: str) -> property:
    """A property for the list *name* of a ``Machine``. Each read or assignment also updates `MoveData.hooks`."""
    stock: property = getattr(Machine, name)

    def read(machine: DirectMachine) -> Any:
        assert stock.fget is not None
        value = stock.fget(machine)
        data = machine.move_data
        data.hooks = {**data.hooks, name: value}
        return value

    def assign(machine: DirectMachine, value: Any) -> None:
        assert stock.fset is not None
        stock.fset(machine, value)
        if value is not None:
            read(machine)

    return property(read, assign)


for _name in HOOKS:
    setattr(DirectMachine, _name, _in_hooks(_name))


class DirectTransition(Transition):
    """A ``Transition`` that calls its callbacks in the order of the stock class, and does not log.

    Attributes:
        is_plain: Whether the transition has no lists of callbacks. A list is created when it is first read.
    """

    def __init__(self, source: str, dest: Any, *callbacks: Any, **named: Any) -> None:
        self.source: str = source
        self.dest: Any = dest
        self.is_plain: bool = True
        if any(callbacks) or named:
            super().__init__(source, dest, *callbacks, **named)

    def execute(self, event_data: EventData) -> bool:
        """Call the callbacks and change the state in the order of the stock method.

        The order is: prepare, conditions, before, exit, the change of the state, enter, final, after.
        """
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


def _made_when_read(name: str) -> property:
    """A property for a list of callbacks of a ``Transition``. The list is created when it is first read."""

    def read(transition: DirectTransition) -> Any:
        transition.is_plain = False
        return vars(transition).setdefault(name, [])

    def assign(transition: DirectTransition, value: Any) -> None:
        transition.is_plain = False
        vars(transition)[name] = value

    return property(read, assign)


for _name in ("prepare", "conditions", "before", "after"):
    setattr(DirectTransition, _name, _made_when_read(_name))


class DirectEvent(Event):
    """An ``Event`` that makes the same moves as the stock class, in a fifth of the time.

    The stock class spends most time on a queue and on logging. Neither is needed, because observers report all moves.
    A test compares the classes of this module with the stock classes, with random triggers. The minor release of
    ``transitions`` is pinned.
    """

    def __init__(self, name: str, machine: DirectMachine) -> None:
        super().__init__(name, machine)
        self._move_data: MoveData = machine.move_data

    def move(self, model: Any) -> bool:
        """Trigger this event on *model*, as ``trigger(model)`` does, but faster. Executions use this method.

        If the only callback is the effect of the new state, no event object is made, because an effect does not read
        its event. Making an event object takes two thirds of the time of a trigger.
        """
        name, data = model.state, self._move_data
        candidates = self.transitions.get(name)  # never `[name]`, which could add a list to the stock `defaultdict`
        if candidates and not (data.hooks and any(data.hooks.values())):
            move: Any = candidates[0]
            dest, states = move.dest, data.states
            if dest and move.is_plain and not states[name].on_exit:
                try:
                    (callback,) = states[dest].on_enter
                except ValueError:
                    callback = None  # there are several callbacks, or none
                if type(callback) is Effect:
                    model.state = dest
                    model.effect = callback
                    return True
                if callback is rest:
                    model.state = dest
                    model.effect = None
                    return True
        return self.trigger(model)

    def trigger(self, model: Any, *args: Any, **kwargs: Any) -> bool:
        """Trigger this event on *model*. The effects and the errors are those of the stock method."""
        name = model.state
        machine: Any = self.machine
        state = machine.states.get(name) or machine.get_state(name)  # `get_state` raises, as in the stock class
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
            data.error = error  # type: ignore[assignment]  # the stock class does the same; its stub is too narrow
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
        except BaseException as error:  # the stock class ignores this error too, because the transition is done
            logger.exception("a finalize callback raised %s; its transition is done", type(error).__name__)
