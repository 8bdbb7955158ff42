"""Part and Effect: one row of plain data for each part of a saga, and the next action in each state.

A part is a step (or a wait) in its place: its path in the saga, its settings with every default resolved, its
callbacks looked up once. An effect is a part's callback bound to a state of the machine. Nothing here knows a saga,
a machine or an execution.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any, Final

import msgspec

from fsm_mediator.retry import Retry


class Kind(enum.StrEnum):
    """What sort of part it is."""

    STEP = "step"
    SIGNAL = "signal"
    SLEEP = "sleep"
    GROUP = "group"
    CHOICE = "choice"


GROUPS: Final = frozenset((Kind.GROUP, Kind.CHOICE))
"""The kinds of part that wait for executions of their own, the branches; a choice has one."""


class Callback(msgspec.Struct, frozen=True, eq=False):
    """A participant's function, looked up once, at definition.

    Attributes:
        function: What is called, with the payload, and the context where it takes one.
        takes_context: Whether it takes a context.
        is_coroutine: Whether calling it makes a coroutine.
        label: Its name for people: ``ChargeStep.execute``.
        takes: The annotation of the payload that it takes, and *returns*: of what it returns; ``Any`` where there is
            none.
    """

    function: Callable[..., Any]
    takes_context: bool
    is_coroutine: bool
    label: str
    returns: Any = Any
    takes: Any = Any


class Part(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """One part of a saga in its place, every setting resolved.

    Attributes:
        path: Its name, after the names of the sagas it is nested in: ``shipping.pack``.
        kind: What sort of part it is.
        subject: The step, signal, sleep or group itself.
        scope: The path of the saga it is nested in, with a trailing dot; empty at the top.
        execute: Does it; None for a part that only waits.
        compensate: Undoes it; None where it cannot be undone.
        probe: Tells whether an attempt in doubt took effect; None where there is none.
        retry: When an attempt of `execute` is repeated.
        compensation_retry: When an attempt of `compensate` is repeated.
        timeout: Seconds for one attempt; None for no limit.
        grace: Seconds that a call which outlives *timeout* is still waited for.
        overtake: Whether an attempt may be repeated while the one before may still be running.
        pivot: Whether it is the go/no-go step.
        forward_only: Whether it comes after the pivot.
        repeatable: Whether an attempt in doubt may be repeated.
        in_doubt_on: Exceptions that leave an attempt in doubt.
        no_effect_on: Exceptions among them, or of subclasses, that do not.
        seconds: How long a sleep waits, or a signal at the most.
        decide: Tells, from payload and results, until when a sleep waits, which branch is chosen, or over what a group
            goes; None where that is fixed.
        branches: The names of a group's branches, or of those of which one is chosen.
        each: Whether a group has one branch for each item that `decide` yields.
        at_most: How many branches of a group go on at a time; None for all.
        cancels_on_failure: Whether a group before the pivot cancels its other branches when one fails.
        group_compensates: Whether any branch of a group has a compensation.
        shape: What the branches of a group add to the saga's fingerprint.
        returns: The type of what it answers, where that is no step's: a signal's value, a group's results.
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
        """Whether the saga compensates it: never the pivot, nor what comes after.

        A group always is: its branches are seen to the end, also where none of them has a compensation.
        """
        return (self.compensate is not None or self.kind in GROUPS) and not self.pivot and not self.forward_only

    @property
    def calls_compensation(self) -> bool:
        """Whether compensating it calls any compensation at all."""
        return (self.compensate is not None or self.group_compensates) and self.compensatable

    @property
    def can_outlive_its_timeout(self) -> bool:
        """Whether a call of its `execute` may be left running after time-out and grace."""
        return self._outlives(self.execute)

    @property
    def compensation_can_outlive_its_timeout(self) -> bool:
        """Whether a call of its `compensate` may be left running after time-out and grace."""
        return self._outlives(self.compensate)

    def _outlives(self, callback: Callback | None) -> bool:
        return callback is not None and self.timeout is not None and not self.overtake


EXECUTE: Final = "execute"
PROBE: Final = "probe"
COMPENSATE: Final = "compensate"
WAIT: Final = "wait"
AWAIT: Final = "await"


class Effect:
    """What an execution wants done next; bound in the machine to the entry of one state.

    Attributes:
        kind: ``execute``, ``probe`` or ``compensate`` (call the part's callback), ``wait`` (until the execution's
            ``due_at``) or ``await`` (something in the inbox, or ``due_at``).
        part: The part that the state belongs to.
        callback: What is to be called; None for a wait.
        is_simple: Whether a call that returns has succeeded: it has no time-out and is no probe.
    """

    __slots__ = ("callback", "is_simple", "kind", "part")

    def __init__(self, kind: str, part: Part, callback: Callback | None = None) -> None:
        self.kind: str = kind
        self.part: Part = part
        self.callback: Callback | None = callback
        self.is_simple: bool = part.timeout is None and kind != PROBE

    def __call__(self, event: Any) -> None:
        """The machine's ``on_enter``: set the next effect, without I/O."""
        event.model.effect = self

    def __repr__(self) -> str:
        return f"<{self.kind} {self.callback.label if self.callback else self.part.path}>"


class Rest:
    """The ``on_enter`` of a state in which nothing is to be done: ended, or stuck."""

    __slots__ = ()

    def __call__(self, event: Any) -> None:
        """The machine's ``on_enter``."""
        event.model.effect = None

    def __repr__(self) -> str:
        return "<rest>"


rest: Final = Rest()
