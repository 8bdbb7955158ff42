"""Steps: the functions of a participant (`Step`, `step`), and the context of their calls (`Context`).

A step is checked when it is defined, and again when it is placed in a saga. No code in this module runs it.
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
"""About 50 seconds, longer than `Retry()`, because a person has to settle a compensation that is given up."""


class Executable(Protocol[T_co]):
    """An object with an ``execute`` that returns a *T_co*: the type of a step for type checkers."""

    @property
    def execute(self) -> Callable[..., T_co]:
        """The function that is called."""


class Context(msgspec.Struct, Generic[Payload_co], frozen=True, eq=False):
    """The context of a call of a step, its second argument.

    For a type checker, ``Context[Order]`` is the context of a step whose payload is an ``Order``.

    Attributes:
        saga_id: The execution.
        step: The step's path in the saga.
        attempt: The number of this attempt, from 1.
        verb: ``execute``, ``compensate`` or ``probe``.
        results: The results of earlier steps, by name. In a nested saga: only of the steps in that saga.
        result: When compensating: the result of this step's `execute`. None if `execute` never returned.
        in_doubt: Whether an earlier attempt of `execute` may have had an effect without an answer.
        error: When compensating: the error that started the compensation.
        seq: The number of the record that announced this attempt. Unlike *attempt*, it only grows during an execution,
            so the later of two attempts has the higher number.
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
        """The result of an earlier step of the same saga. For a type checker it has the step's result type.

        Args:
            step: The step as it was placed in the saga. The result is found by the name of the step.

        Raises:
            NoResultError: It was not executed before, or is in another saga or branch.
            DefinitionError: *step* is no step.
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
        """The key of this call. Every attempt has the same key, so that a participant recognises a repetition."""
        return f"{self.saga_id}:{self.step}:{'execute' if self.verb == 'probe' else self.verb}"

    @property
    def execute_key(self) -> str:
        """The key of the call of `execute`. With this key a compensation names the effect to undo."""
        return f"{self.saga_id}:{self.step}:execute"


class Step(Generic[Result_co]):
    """One participant's part of a saga: ``execute`` performs it, ``compensate`` (optional) undoes its effect.

    Subclass it, give it its service by constructor, and place an instance in a `Saga`. Each of ``execute``,
    ``compensate`` and ``probe`` takes ``(payload)`` or ``(payload, context)``, and may be a coroutine function for
    `AsyncMediator`. A second parameter gets the context if it is required or named ``context``. For a type checker,
    the ``execute`` of a ``Step[int]`` returns an ``int``.

    ``compensate`` must be safe to repeat. It must also be safe if ``execute`` never took effect, because it is called
    when the effect is in doubt. ``probe`` returns `Happened(result)` or `NotHappened()`, or raises if it does not know.

    Attributes:
        name: By default the class name in snake_case without a trailing ``Step``.
        label: The name of the step in pictures, such as ``Charge the card``. None to use *name*.
        retry: When an attempt of `execute` is repeated. Unset: the saga's, else `Retry()`; no limit after the pivot.
        compensation_retry: When an attempt of `compensate` is repeated. Unset: the saga's, else ten attempts.
        timeout: Seconds for one attempt. None: no limit.
        grace: Further seconds to wait for a call that outlives *timeout*; a coroutine is cancelled first. Unset:
            *timeout* again.
        overtake: Python cannot end a thread, nor a coroutine that swallows its cancellation. True: a call that outlives
            time-out and grace may be repeated or compensated while it still runs. False: the saga gets stuck instead.
        pivot: The go/no-go step: before it a saga recovers backward, after it only forward.
        repeatable: Whether an attempt in doubt may be repeated (with the same idempotency key).
        in_doubt_on: Exception types after which the effect may have happened anyway.
        no_effect_on: Exception types after which there was certainly no effect, although *in_doubt_on* names a base
            class of them. Name only types that cannot be raised after any request of the attempt was sent. A step that
            makes two calls sets ``no_effect_on=()``, because the second call may be refused after the first took
            effect. The more specific class counts. If both settings name one class, the setting of the step counts
            before a default.

    Raises:
        DefinitionError: When the subclass is defined with a wrong setting, or with a misspelt name of the above
            (``compensat``, ``timout``). Other methods and attributes are allowed. Signatures are checked when an
            instance is placed in a saga.
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
        if not cls.__module__.startswith("fsm_mediator."):  # whose own subclasses decorate as `FunctionStep` does
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
            object.__setattr__(other, setting, value)  # the class may be frozen; nothing else has this copy yet
        check_settings(self.name, other)
        return other

    def named(self, name: str) -> Self:
        """A copy of the step with another name."""
        other = self._copy()
        object.__setattr__(other, "name", check_name("a step", name))
        return other

    def _copy(self) -> Self:
        other = copy.copy(self)
        other.__dict__.update(self.__dict__)  # a slotted attrs class copies its fields only, and would lose settings
        return other

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {getattr(self, 'name', None)!r}>"  # Step itself has no name, but may be shown


def name_of_step(step: object) -> str:
    """The name of the step that is an argument of `result_of`.

    Raises:
        DefinitionError: *step* is no step.
    """
    if not isinstance(step, Step):
        raise DefinitionError(f"result_of takes a step of the saga, not {safe_repr(step)}")
    return step.name


class FunctionStep(Step[Result_co], Generic[Result_co, Parameters, Returned_co]):
    """A step that `step` made from a function. A call of the step calls the undecorated function.

    Its type parameters are the step's result, the function's parameters, and the return type of a call. For a coroutine
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
        # Pickled by its name, if its module has the step under that name. Otherwise as changes to that step.
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
        """Decorator that makes *function* the step's compensation, which undoes its effect."""
        return self._attach("compensate", function)

    def probing(self, function: F) -> F:
        """Decorator that makes *function* the step's probe, which finds out whether an attempt in doubt took effect."""
        return self._attach("probe", function)

    def _attach(self, verb: str, function: F) -> F:
        if verb in self.__dict__:
            raise DefinitionError(f"step {self.name!r} has a {verb} already: {label_of(self.__dict__[verb])}")
        self.__dict__[verb] = function
        callback_of(self, verb)
        return function


class StepDecorator(Protocol):
    """The decorator that ``@step(...)`` returns."""

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
        **settings: Settings of the step: see the attributes of `Step`.

    Raises:
        DefinitionError: The function's signature or a setting is wrong.
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
