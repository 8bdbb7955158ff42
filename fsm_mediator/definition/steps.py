"""Steps: the functions of a participant (`Step`, `step`), and the context of their calls (`Context`).

A step is checked when it is defined, and again when it is placed in a saga. This module does not run steps.
"""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, Generic, Protocol, Self, TypeVar, Unpack, overload

import msgspec

from fsm_mediator.definition.checks import (
    DEFAULT_IN_DOUBT_ON,
    DEFAULT_NO_EFFECT_ON,
    SETTINGS,
    StepSettings,
    callback_of,
    check_name,
    check_settings,
    is_of_instances,
    label_of,
    refuse_misspelt,
    snake_case,
)
from fsm_mediator.definition.pickling import object_at, refuse, remade
from fsm_mediator.definition.type_variables import P, Parameters, Payload_co, R, Result_co, Returned_co, T_co
from fsm_mediator.error_types import DefinitionError, NoResultError, safe_repr
from fsm_mediator.records import Failure
from fsm_mediator.retry import Retry

F = TypeVar("F", bound=Callable[..., Any])
DEFAULT_COMPENSATION_RETRY = Retry(attempts=10)
"""The default policy of compensations. Its waits take about 50 seconds, longer than those of `Retry()`, because an
operator must settle a compensation after its last attempt."""


class Executable(Protocol[T_co]):
    """The type of a step for type checkers: an object with an ``execute`` that returns a *T_co*."""

    @property
    def execute(self) -> Callable[..., T_co]:
        """The function that performs the step."""


class Context(msgspec.Struct, Generic[Payload_co], frozen=True, eq=False):
    """The context of one call of a step. A step gets it as its second argument.

    For a type checker, ``Context[Order]`` is the context of a step with an ``Order`` as its payload.

    Attributes:
        saga_id: The id of the execution.
        step: The step's path in the saga.
        attempt: The number of this attempt, from 1.
        verb: The function that is called: ``execute``, ``compensate`` or ``probe``. ``decide`` for a deciding function.
        results: The results of earlier steps, by name. A step of a nested saga gets only the results of that saga.
        result: In ``compensate``, the result of this step's `execute`, or None if `execute` never returned. Otherwise
            None.
        in_doubt: Whether an earlier attempt of `execute` may have had an effect, although it gave no answer.
        error: In ``compensate``, the error that started the compensation. Otherwise None.
        seq: The number of the record that was written before this attempt. A later attempt of an execution has a higher
            number. *attempt* starts at 1 again for each step and after an operator's retry.
    """

    saga_id: str
    step: str
    attempt: int
    verb: str
    results: Mapping[str, Any]
    result: Any = None
    in_doubt: bool = False
    error: Failure | None = None
    seq: int = 0

    @overload
    def result_of(self, step: Executable[R | Coroutine[Any, Any, R]]) -> R: ...
    @overload
    def result_of(self, step: Executable[Coroutine[Any, Any, R]]) -> R: ...  # type: ignore[overload-cannot-match]  # mypy needs it
    def result_of(self, step: Executable[Any]) -> Any:
        """The result of an earlier step of the same saga, with the type of the step's result.

        Args:
            step: The step as it was placed in the saga. The result is found by the name of the step.

        Raises:
            NoResultError: The step was not executed before, or is in another saga or branch.
            DefinitionError: *step* is not a step.
        """
        name = name_of_step(step)
        if name in self.results:
            return self.results[name]
        known = ", ".join(self.results) or "none yet"
        raise NoResultError(
            f"saga {self.saga_id!r}: step {self.step!r} sees no result of step {name!r}; there are {known}. A step "
            f"sees the results of the steps before it in its own saga. The results of a nested saga or a group are in "
            f"context.results, under its name",
            self.saga_id,
            name,
        )

    @property
    def idempotency_key(self) -> str:
        """The idempotency key of this call. All attempts have the same key, so a participant recognises a repetition.

        A probe has the key of `execute`.
        """
        return f"{self.saga_id}:{self.step}:{'execute' if self.verb == 'probe' else self.verb}"

    @property
    def execute_key(self) -> str:
        """The idempotency key of `execute`. A compensation can use this key to identify the effect to undo."""
        return f"{self.saga_id}:{self.step}:execute"


class Step(Generic[Result_co]):
    """One participant's part of a saga: ``execute`` performs it, ``compensate`` (optional) undoes its effect.

    Make a subclass of `Step`, pass the service to its constructor, and place an instance in a `Saga`. Each of
    ``execute``, ``compensate`` and ``probe`` takes ``(payload)`` or ``(payload, context)``. It may be a coroutine
    function for `AsyncMediator`. The second parameter gets the context if it is required or named ``context``. For a
    type checker, the ``execute`` of a ``Step[int]`` returns an ``int``.

    ``compensate`` must be safe to repeat. It must also be safe if ``execute`` never took effect, because it is called
    when the effect is in doubt. ``probe`` returns `Happened(result)` or `NotHappened()`, or raises if it does not know.

    Attributes:
        name: The name of the step. The default is the class name in snake_case, without ``Step`` at its end.
        label: The name of the step in diagrams, such as ``Charge the card``. None to use *name*.
        retry: The policy for repeating `execute`. If None, the policy of the saga; if the saga has none, `Retry()`, and
            after the pivot `Retry(attempts=None)`.
        compensation_retry: The policy for repeating `compensate`. If None, the policy of the saga; if the saga has
            none, ten attempts.
        timeout: The maximum duration of one attempt, in seconds. None for no limit.
        grace: The additional seconds to wait for a call that exceeds *timeout*. A coroutine is cancelled first. If
            None, as many seconds as *timeout*.
        overtake: Whether to repeat or compensate a call that exceeds time-out and grace, although it may still run. If
            False, the saga gets stuck instead. (Python cannot end a thread, or a coroutine that ignores its
            cancellation.)
        pivot: Whether the step is the go/no-go step. A failure before the pivot makes the saga compensate. A failure
            after the pivot does not: the step is repeated, or the saga gets stuck.
        repeatable: Whether an attempt in doubt may be repeated (with the same idempotency key).
        in_doubt_on: Exception types that leave an attempt in doubt: the effect may have happened.
        no_effect_on: Exception types that leave no doubt, although *in_doubt_on* has a base class of them. The effect
            certainly did not happen. Name only types that cannot be raised after a request was sent. A step with two
            requests sets ``no_effect_on=()``, because the first request may take effect before the second is refused.
            For an error in both settings, the more specific class decides. If both have the same class, the setting of
            the step decides before the default.

    Raises:
        DefinitionError: The subclass has a wrong setting, or a misspelt name (``compensat``, ``timout``). Other methods
            and attributes are allowed. Signatures are checked when an instance is placed in a saga.
    """

    name: str
    label: str | None = None
    retry: Retry | None = None
    compensation_retry: Retry | None = None
    timeout: float | None = None
    grace: float | None = None
    overtake: bool = False
    pivot: bool = False
    repeatable: bool = True
    in_doubt_on: type[BaseException] | tuple[type[BaseException], ...] = DEFAULT_IN_DOUBT_ON
    no_effect_on: type[BaseException] | tuple[type[BaseException], ...] = DEFAULT_NO_EFFECT_ON

    if TYPE_CHECKING:
        execute: Callable[..., Result_co | Coroutine[Any, Any, Result_co]]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "name" not in cls.__dict__ and not is_of_instances(inspect.getattr_static(cls, "name", None)):
            cls.name = snake_case(cls.__name__.removesuffix("Step") or cls.__name__)
        if not cls.__module__.startswith("fsm_mediator."):  # the subclasses of this library have other methods
            refuse_misspelt(cls)
        check_settings(cls.__qualname__, cls)

    def with_(self, **settings: Unpack[StepSettings]) -> Self:
        """A copy of the step with other settings: ``charge.with_(retry=Retry(attempts=5))``.

        Raises:
            DefinitionError: A setting is unknown, or a value is out of range.
        """
        for setting in settings:
            if setting not in SETTINGS:
                raise DefinitionError(
                    f"{self.name}.with_: unknown setting {setting!r}; there are {', '.join(SETTINGS)}"
                )
        other = self._copy()
        for setting, value in settings.items():
            object.__setattr__(other, setting, value)  # the class may be frozen
        check_settings(self.name, other)
        return other

    def named(self, name: str) -> Self:
        """A copy of the step with another name."""
        other = self._copy()
        object.__setattr__(other, "name", check_name("a step", name))
        return other

    def _copy(self) -> Self:
        other = copy.copy(self)
        other.__dict__.update(self.__dict__)  # a slotted attrs class copies only its fields, without the settings
        return other

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {getattr(self, 'name', None)!r}>"  # the class `Step` itself has no name


def name_of_step(step: object) -> str:
    """The name of *step*, the argument of `result_of`.

    Raises:
        DefinitionError: *step* is not a step.
    """
    if not isinstance(step, Step):
        raise DefinitionError(f"result_of takes a step of the saga, not {safe_repr(step)}")
    return step.name


class FunctionStep(Step[Result_co], Generic[Result_co, Parameters, Returned_co]):
    """A step that the decorator `step` made from a function. Calling the step calls the undecorated function.

    The type parameters are the step's result, the function's parameters, and the return type of a call. For a coroutine
    function the return type is awaitable.
    """

    def __init__(
        self, execute: Callable[Parameters, Returned_co], name: str, settings: StepSettings | Mapping[str, Any]
    ) -> None:
        self.name = name
        # A call returns the step's result. For a coroutine function it returns an awaitable.
        self.execute: Callable[Parameters, Returned_co] = execute  # type: ignore[assignment]
        functools.update_wrapper(self, execute, updated=())
        for setting, value in settings.items():
            setattr(self, setting, value)
        check_settings(name, self)
        callback_of(self, "execute")

    def __copy__(self) -> Self:
        return remade(type(self).__new__, (type(self),), self.__dict__)  # type: ignore[no-any-return]

    def __reduce__(self) -> str | tuple[Any, ...]:
        # If the module has this step under the function's name, the step is pickled as this name. If the module has
        # another step of the same function there, this step is pickled as its differences from the other step.
        path = getattr(self, "__qualname__", None)
        found = object_at(self.__module__, path)
        if found is self and path is not None:
            return str(path)
        if isinstance(found, FunctionStep) and found.execute is self.execute:
            changed = {name: value for name, value in self.__dict__.items() if found.__dict__.get(name) is not value}
            return remade, (copy.copy, (found,), changed)
        if found is not self.execute:
            refuse(f"step {self.name!r}", f"no module has {label_of(self.execute)!r} at its top level; define it there")
        return remade, (FunctionStep, (self.execute, self.name, {}), self.__dict__)

    def __call__(self, *args: Parameters.args, **kwargs: Parameters.kwargs) -> Returned_co:
        """Call the undecorated function."""
        return self.execute(*args, **kwargs)

    def compensation(self, function: F) -> F:
        """A decorator that makes *function* the step's compensation, which undoes the effect of the step."""
        return self._attach("compensate", function)

    def probing(self, function: F) -> F:
        """A decorator that makes *function* the step's probe: it finds out whether an attempt in doubt took effect."""
        return self._attach("probe", function)

    def _attach(self, verb: str, function: F) -> F:
        if verb in self.__dict__:
            raise DefinitionError(f"step {self.name!r} has a {verb} already: {label_of(self.__dict__[verb])}")
        self.__dict__[verb] = function
        callback_of(self, verb)
        return function


class StepDecorator(Protocol):
    """The type of the decorator that ``@step(...)`` returns. It makes a `FunctionStep` from a function."""

    @overload
    def __call__(
        self, function: Callable[P, Coroutine[Any, Any, R]], /
    ) -> FunctionStep[R, P, Coroutine[Any, Any, R]]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> FunctionStep[R, P, R]: ...


@overload
def step(function: Callable[P, Coroutine[Any, Any, R]], /) -> FunctionStep[R, P, Coroutine[Any, Any, R]]: ...
@overload
def step(function: Callable[P, R], /) -> FunctionStep[R, P, R]: ...
@overload
def step(*, name: str | None = None, **settings: Unpack[StepSettings]) -> StepDecorator: ...
def step(
    function: Callable[..., Any] | None = None, /, *, name: str | None = None, **settings: Unpack[StepSettings]
) -> Any:
    """Make a step from a function: ``@step`` or ``@step(retry=Retry(attempts=5), timeout=2.0)``.

    Args:
        function: The step's `execute`.
        name: The step's name. By default the name of the function.
        **settings: Settings of the step. The attributes of `Step` describe them.

    Raises:
        DefinitionError: The signature of the function, the name or a setting is wrong.
    """

    def make(function: Callable[..., Any]) -> FunctionStep:
        if isinstance(function, (type, Step)) or not callable(function):
            raise DefinitionError(f"@step takes a function, not {function!r}; for a class, subclass Step")
        own = name if name is not None else getattr(function, "__name__", "")
        for setting in settings:
            if setting not in SETTINGS:
                raise DefinitionError(f"@step: unknown setting {setting!r}; there are name, {', '.join(SETTINGS)}")
        return FunctionStep(function, check_name("a step", own), settings)

    return make if function is None else make(function)
