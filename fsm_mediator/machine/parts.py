"""Part and Effect: the data of each part of a saga, and the next action in each state.

A part is a step (or a wait) at its place in a saga. It has its path, its settings with all defaults, and its callbacks.
An effect is the next action in a state of the machine: a call of one of the part's callbacks, or a wait. This module
does not know sagas, machines and executions.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any, Final

import msgspec

from fsm_mediator.retry import Retry


class Kind(enum.StrEnum):
    """The kind of a part: a step, or a kind of wait. A group and a choice wait for branches."""

    STEP = "step"
    SIGNAL = "signal"
    SLEEP = "sleep"
    GROUP = "group"
    CHOICE = "choice"


GROUPS: Final = frozenset((Kind.GROUP, Kind.CHOICE))
"""The kinds of part that wait for other executions, the branches. A choice has one branch."""


class Callback(msgspec.Struct, frozen=True, eq=False):
    """A participant's function. It is looked up once, when the saga is defined.

    Attributes:
        function: The function. It gets the payload, and the context if it takes a context.
        takes_context: Whether the function takes a context.
        is_coroutine: Whether a call of the function returns a coroutine.
        label: The name of the function for messages and diagrams, such as ``ChargeStep.execute``.
        takes: The annotation of the payload. ``Any`` if there is none.
        returns: The annotation of the result. ``Any`` if there is none.
    """

    function: Callable[..., Any]
    takes_context: bool
    is_coroutine: bool
    label: str
    returns: Any = Any
    takes: Any = Any


class Part(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """One part of a saga at its place, with all settings.

    Attributes:
        path: The names of the nested sagas that contain the part, and its own name, joined by dots: ``shipping.pack``.
        kind: The kind of the part.
        subject: The step, signal, sleep, group or choice in the user's definition.
        scope: The path of the nested saga that contains the part, with a trailing dot. Empty if it is not nested.
        execute: The function that performs the step. None for a part that only waits.
        compensate: The function that undoes the step. None if the step cannot be undone.
        probe: The function that finds out whether an attempt in doubt took effect. None if there is no probe.
        retry: The policy for repeating `execute`.
        compensation_retry: The policy for repeating `compensate`.
        timeout: The maximum duration of one attempt, in seconds. None for no limit.
        grace: The additional seconds to wait for a call that exceeds *timeout*.
        overtake: Whether an attempt may be repeated while the previous attempt may still be running.
        pivot: Whether the part is the go/no-go step.
        forward_only: Whether the part comes after the pivot.
        repeatable: Whether an attempt in doubt may be repeated.
        in_doubt_on: The exception types that leave an attempt in doubt.
        no_effect_on: The exception types that leave no doubt, although *in_doubt_on* has a base class of them.
        seconds: The duration of a sleep, or the timeout of a signal, in seconds. None if there is none, or if the sleep
            has a deciding function or a fixed end.
        decide: The deciding function: it returns the duration or the end of a sleep, the name of the chosen branch, or
            the items of a group. None if there is no such function.
        branches: The names of the branches of a group or a choice.
        each: Whether a group has one branch for each item that `decide` returns.
        at_most: The maximum number of branches of a group that run at a time. None for all.
        cancels_on_failure: Whether a failed branch of a group cancels the other branches. It has no effect after the
            pivot.
        group_compensates: Whether any branch of a group has a compensation.
        shape: The shapes of the branches of a group, as the fingerprint uses them.
        returns: The type of the result of a part that is not a step: a signal's value, or the results of a group.
    """

    path: str
    kind: Kind = Kind.STEP
    subject: Any = None
    scope: str = ""
    execute: Callback | None = None
    compensate: Callback | None = None
    probe: Callback | None = None
    retry: Retry = Retry()
    compensation_retry: Retry = Retry()
    timeout: float | None = None
    grace: float | None = None
    overtake: bool = False
    pivot: bool = False
    forward_only: bool = False
    repeatable: bool = True
    in_doubt_on: tuple[type[BaseException], ...] = ()
    no_effect_on: tuple[type[BaseException], ...] = ()
    seconds: float | None = None
    decide: Callback | None = None
    branches: tuple[str, ...] = ()
    each: bool = False
    at_most: int | None = None
    cancels_on_failure: bool = False
    group_compensates: bool = False
    shape: Any = None
    returns: Any = Any

    @property
    def compensatable(self) -> bool:
        """Whether the saga compensates the part. The pivot and the parts after it are never compensated.

        A group before the pivot is always compensated, even if no branch has a compensation, because its branches must
        end.
        """
        return (self.compensate is not None or self.kind in GROUPS) and not self.pivot and not self.forward_only

    @property
    def calls_compensation(self) -> bool:
        """Whether the compensation of the part calls a function."""
        return (self.compensate is not None or self.group_compensates) and self.compensatable

    @property
    def can_outlive_its_timeout(self) -> bool:
        """Whether the saga can get stuck because a call of `execute` still runs after timeout and grace.

        False with ``overtake``, because the saga then continues.
        """
        return self._outlives(self.execute)

    @property
    def compensation_can_outlive_its_timeout(self) -> bool:
        """Whether the saga can get stuck because a call of `compensate` still runs after timeout and grace."""
        return self._outlives(self.compensate)

    def _outlives(self, callback: Callback | None) -> bool:
        return callback is not None and self.timeout is not None and not self.overtake


EXECUTE: Final = "execute"
PROBE: Final = "probe"
COMPENSATE: Final = "compensate"
WAIT: Final = "wait"
AWAIT: Final = "await"


class Effect:
    """The next action for an execution. The machine sets it when the execution enters a state.

    Attributes:
        kind: ``execute``, ``probe`` and ``compensate`` call the part's callback. ``wait`` waits until the execution's
            ``due_at``. ``await`` waits until an item comes to the inbox, or until ``due_at``.
        part: The part of the state.
        callback: The function to call. None for a wait.
        is_simple: True if the call has no timeout and is no probe. Then every call that returns has succeeded.
        done: The event of the move after a successful call: ``executed`` or ``compensated``.
    """

    __slots__ = ("callback", "done", "is_simple", "kind", "part")

    def __init__(self, kind: str, part: Part, callback: Callback | None = None) -> None:
        self.kind: str = kind
        self.part: Part = part
        self.callback: Callback | None = callback
        self.is_simple: bool = part.timeout is None and kind != PROBE
        self.done: str = "compensated" if kind == COMPENSATE else "executed"

    def __call__(self, event: Any) -> None:
        """Set this effect as the next effect of the execution. The machine calls it as ``on_enter`` of a state."""
        event.model.effect = self

    def __repr__(self) -> str:
        return f"<{self.kind} {self.callback.label if self.callback else self.part.path}>"


class Rest:
    """The ``on_enter`` callback of a state without an action: pending, stuck or ended."""

    __slots__ = ()

    def __call__(self, event: Any) -> None:
        """Set the next effect of the execution to None."""
        event.model.effect = None

    def __repr__(self) -> str:
        return "<rest>"


rest: Final = Rest()
