"""Waits: parts of a saga that wait instead of calling a step: a signal, a sleep, a group, or a choice.

Each wait is an immutable definition. It is checked when it is created, and a `Saga` has it as a part, like a step. A
wait ends at a time, or when an item comes to the execution's inbox. The rules are in ``execution``.
"""

from __future__ import annotations

import copy
import datetime as dt
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, Self, TypeAlias

from fsm_mediator.definition.checks import callback_of, check_name
from fsm_mediator.definition.part_sequence import PartSequence
from fsm_mediator.definition.steps import Step
from fsm_mediator.error_types import DecisionError, DefinitionError, safe_repr
from fsm_mediator.machine.parts import Callback, Kind, Part
from fsm_mediator.retry import check_wait, takes_number

Branch: TypeAlias = "Step | PartSequence | Wait"
"""The type of a branch of a group or a choice: a step, a saga or a wait."""

_SEPTEMBER_2001 = 1e9
"""A time in seconds since the epoch. A smaller number is certainly a duration, not a time."""

_YEAR_10000 = 253_402_300_800
"""A time in seconds since the epoch. Python's calendar cannot represent this or a later time."""


class Wait:
    """The base class of all waits: parts of a saga that wait.

    Attributes:
        name: The name of the part, unique in its saga.
        kind: The kind of the part.
    """

    kind: Kind
    name: str
    decide: Callback | None = None

    def _named(self, what: str, name: Any) -> None:
        object.__setattr__(self, "name", check_name(what, name))

    def named(self, name: str) -> Self:
        """A copy of the part with another name."""
        other = copy.copy(self)
        other._named(f"a {self.kind.value}", name)
        return other

    def _decided_by(self, setting: str, function: Any) -> Callback:
        where = f"{self.kind.value} {self.name!r}"
        if not callable(function):
            raise DefinitionError(f"{where}: {setting} must be a function of (payload) or (payload, context)")
        object.__setattr__(self, setting, function)
        callback = callback_of(self, setting)
        assert callback is not None
        if callback.is_coroutine:
            raise DefinitionError(
                f"{where}: {setting} is a coroutine function; it must be a plain function that only looks at the "
                f"payload and the results. Put slow or failing work into a step before it"
            )
        return callback

    def __setattr__(self, attribute: str, value: Any) -> None:
        raise AttributeError(f"{self.kind.value} {self.name!r} is immutable; define another one")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"


def _name_of(where: str, branch: Any) -> str:
    """The name of *branch*. *where*: the group or choice, for the message.

    Raises:
        DefinitionError: *branch* cannot be part of a saga.
    """
    name = getattr(branch, "name", None)
    if not isinstance(name, str):
        raise DefinitionError(
            f"{where}: {branch!r} is not a part: give steps (made with @step), sagas, groups or waits"
        )
    return name


def check_payload_type(where: str, payload: Any) -> None:
    """Check that *payload* is a type, or None.

    Raises:
        DefinitionError: *payload* is neither a type nor None.
    """
    if payload is not None and not isinstance(payload, type) and typing.get_origin(payload) is None:
        raise DefinitionError(f"{where}: payload must be a type, not {safe_repr(payload)}")


class Signal(Wait):
    """Waits for a value from outside: an approval, a webhook call, the answer of another saga.

    The saga parks in ``waiting.NAME`` and uses no thread. It resumes when any process calls `Mediator.signal` with the
    id of the execution and this name. A signal may also come before the saga waits for it. Only its first value counts.

    Args:
        name: Letters, digits, underscores and hyphens.
        timeout: The maximum wait in seconds. After that the saga compensates. If the `Signal` is placed after the
            pivot, the saga gets stuck instead. None for no limit.
        payload: The type of the signal's value. None if any value is allowed.

    Raises:
        DefinitionError: The name, the timeout or the payload is wrong.
    """

    kind = Kind.SIGNAL

    def __init__(self, name: str, *, timeout: float | None = None, payload: Any = None) -> None:
        self._named("a signal", name)
        if timeout is not None:
            check_wait(f"signal {name!r}: timeout", timeout, above=True)
        check_payload_type(f"signal {name!r}", payload)
        object.__setattr__(self, "timeout", timeout)
        object.__setattr__(self, "payload", payload)

    timeout: float | None
    payload: Any


class Sleep(Wait):
    """Waits for a duration, or until a time. The end is journaled, so a restarted process waits only for the rest.

    Args:
        name: Letters, digits, underscores and hyphens.
        seconds: The duration in seconds. Either a number, or a function of ``(payload)`` or ``(payload, context)`` that
            returns the number.
        until: The time of the end, instead of *seconds*. Either a `datetime` with a time zone, or seconds since the
            epoch, or a function that returns one of these. A past time ends the wait at once.

    Raises:
        DefinitionError: The name is wrong, or *seconds* and *until* are both set, both missing, or wrong.
    """

    kind = Kind.SLEEP

    def __init__(
        self,
        name: str,
        seconds: float | Callable[..., float] | None = None,
        *,
        until: float | dt.datetime | Callable[..., float | dt.datetime] | None = None,
    ) -> None:
        self._named("a sleep", name)
        where = f"sleep {name!r}"
        if (seconds is None) == (until is None):
            raise DefinitionError(f"{where} takes either seconds, how long to wait, or until=, the moment to wait for")
        value = seconds if until is None else until
        fixed: Any = None
        if callable(value):
            object.__setattr__(self, "decide", self._decided_by("seconds" if until is None else "until", value))
        elif until is None:
            check_wait(f"{where}: seconds", value)
            fixed = float(typing.cast("float", value))
        else:
            try:
                fixed = _moment(value)
            except DecisionError as error:
                raise DefinitionError(f"{where}: {error}") from None
        object.__setattr__(self, "relative", until is None)
        object.__setattr__(self, "fixed", fixed)

    relative: bool
    fixed: float | None

    def due_at(self, at: float, decided: Any) -> float:
        """The end of the wait, in seconds since the epoch.

        Args:
            at: The time at which the wait begins, in seconds since the epoch.
            decided: The answer of the deciding function. None if there is no such function.

        Raises:
            DecisionError: The answer is not a duration or not a time.
        """
        if self.decide is None:
            assert self.fixed is not None
            return at + self.fixed if self.relative else self.fixed
        if not self.relative:
            return _moment(decided)
        try:
            check_wait(f"{self.decide.label}: the returned seconds", decided)
        except DefinitionError as error:
            raise DecisionError(str(error)) from None
        return at + float(decided)


def _moment(value: Any) -> float:
    if isinstance(value, dt.datetime):
        if value.tzinfo is None:
            raise DecisionError(f"{value!r} has no time zone; give it one")
        return value.timestamp()
    if not takes_number(value):
        raise DecisionError(
            f"{safe_repr(value)} is not a moment: give a datetime with a time zone, or seconds since the epoch"
        )
    if value >= _YEAR_10000:
        raise DecisionError(f"{safe_repr(value)} is not a valid moment: it is after the year 9999")
    if value < _SEPTEMBER_2001:
        raise DecisionError(
            f"{safe_repr(value)} is too early for seconds since the epoch. For a duration, use seconds="
        )
    return float(value)


class Parallel(Wait):
    """Executes branches at the same time, each as a separate execution. The group succeeds when all branches succeed.

    If a branch fails, the other branches are cancelled: branches that have not begun do not begin, waiting branches
    end, and the group waits for running attempts. Then the succeeded branches are undone. After the pivot, all branches
    run to their end. The results of the branches are in ``context.results[NAME]``, by the names of the branches. For
    a group made by `each`, the results are a list.

    Args:
        name: Letters, digits, underscores and hyphens.
        branches: Steps, sagas or other parts, each with a different name.
        at_most: The maximum number of branches that run at a time. None for all.
        on_failure: With ``"cancel"``, a failed branch cancels the other branches. With ``"settle"``, the group first
            waits until all branches have ended. A change of this setting also applies to running executions.

    Raises:
        DefinitionError: There are no branches, two branches have the same name, or a setting is wrong.
    """

    kind = Kind.GROUP

    def __init__(
        self,
        name: str,
        branches: Iterable[Branch],
        *,
        at_most: int | None = None,
        on_failure: Literal["cancel", "settle"] = "cancel",
    ) -> None:
        self._named("a group", name)
        if isinstance(branches, (str, bytes, Mapping)) or not isinstance(branches, Iterable):
            raise DefinitionError(f"group {name!r}: the second argument is the list of its branches, not {branches!r}")
        by_name: dict[str, Branch] = {}
        for branch in branches:
            own = _name_of(f"group {name!r}", branch)
            if own in by_name:
                raise DefinitionError(f"group {name!r} has two branches named {own!r}; give one part.named('another')")
            by_name[own] = branch
        if not by_name:
            raise DefinitionError(f"group {name!r} has no branches; give it at least one")
        self._limited(at_most, on_failure)
        object.__setattr__(self, "branches", by_name)

    def _limited(self, at_most: int | None, on_failure: str) -> None:
        if on_failure not in ("cancel", "settle"):
            raise DefinitionError(f"group {self.name!r}: on_failure must be 'cancel' or 'settle', not {on_failure!r}")
        object.__setattr__(self, "on_failure", on_failure)
        if at_most is not None and (type(at_most) is not int or at_most < 1):
            raise DefinitionError(f"group {self.name!r}: at_most must be a whole number of at least 1, not {at_most!r}")
        object.__setattr__(self, "at_most", at_most)

    @classmethod
    def each(
        cls,
        name: str,
        branch: Branch,
        *,
        over: Callable[..., Iterable[Any]],
        payload: Any = None,
        at_most: int | None = None,
        on_failure: Literal["cancel", "settle"] = "cancel",
    ) -> Self:
        """A group with one branch for each item that *over* returns. There may be no items, and items may be equal.

        Args:
            name: Letters, digits, underscores and hyphens.
            branch: A step, a saga or another part. Its payload is the item.
            over: A function of ``(payload)`` or ``(payload, context)`` that returns the items: a list or another
                iterable, but no text. The function should only read its arguments.
            payload: The type of an item. If None, the payload type of *branch* if it is a saga with such a type;
                otherwise any value is allowed.
            at_most: The maximum number of branches that run at a time. None for all.
            on_failure: Whether a failed branch cancels the other branches (``"cancel"``) or not (``"settle"``).

        Raises:
            DefinitionError: *branch* is not a part, *over* is not a function, *payload* is not a type, or a setting is
                wrong.
        """
        group = cls.__new__(cls)
        group._named("a group", name)
        _name_of(f"group {name!r}", branch)
        check_payload_type(f"group {name!r}", payload)
        object.__setattr__(group, "decide", group._decided_by("over", over))
        group._limited(at_most, on_failure)
        object.__setattr__(group, "branches", {EACH: branch})
        object.__setattr__(group, "payload", payload)
        return group

    branches: Mapping[str, Branch]
    at_most: int | None
    on_failure: str
    payload: Any = None


def items_of(group: Part, decided: Any) -> list[Any]:
    """The items of *group*, as a list. *decided*: the answer of its deciding function.

    Raises:
        DecisionError: The answer is not an iterable, or is a text.
    """
    if isinstance(decided, Iterable) and not isinstance(decided, (str, bytes)):
        return list(decided)
    assert group.decide is not None
    raise DecisionError(
        f"{group.decide.label} returned {safe_repr(decided)} as items of {group.path!r}; it must return a list of them"
    )


class Choose(Wait):
    """Executes one of several branches. A function chooses the branch, and the choice is journaled.

    Args:
        name: Letters, digits, underscores and hyphens.
        branches: The parts to choose from, by name.
        by: A function of ``(payload)`` or ``(payload, context)`` that returns one of these names. The function should
            only read its arguments.

    Raises:
        DefinitionError: There are no branches, a name is wrong, or *by* is not a plain function.
    """

    kind = Kind.CHOICE

    def __init__(self, name: str, branches: Mapping[str, Branch], *, by: Callable[..., str]) -> None:
        self._named("a choice", name)
        if not isinstance(branches, Mapping) or not branches:
            raise DefinitionError(f"choice {name!r}: give the parts to choose from as a dict, by name")
        for key, branch in branches.items():
            check_name(f"a branch of choice {name!r}", key)
            _name_of(f"choice {name!r}", branch)
        object.__setattr__(self, "branches", dict(branches))
        object.__setattr__(self, "decide", self._decided_by("by", by))

    branches: Mapping[str, Branch]
    at_most: int | None = None


EACH = "*"
"""The name of the one defined branch in a group over items. This definition is used for every item."""
