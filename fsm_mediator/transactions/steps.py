"""TransactionalStep: a step that commits its effect, its key and its result in one transaction."""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar, overload

from fsm_mediator.definition.checks import StepSettings, check_name
from fsm_mediator.definition.steps import FunctionStep
from fsm_mediator.definition.type_variables import P, Parameters, R, Result_co, Returned_co
from fsm_mediator.errors import DefinitionError
from fsm_mediator.mediator.threads import run_blocking
from fsm_mediator.transactions.door import Door

F = TypeVar("F", bound=Callable[..., Any])


class TransactionalStep(FunctionStep[Result_co, Parameters, Returned_co]):
    """A step that `Transactions.step` makes. To test the decorated function, call the step with your own session."""

    probe: Callable[..., Any]
    compensate: Callable[..., Any]

    def __init__(
        self,
        function: Callable[Parameters, Returned_co],
        name: str,
        settings: StepSettings,
        door: Door,
        coroutine: bool,
    ) -> None:
        self._function = function
        self._door = door
        self._coroutine = coroutine
        super().__init__(self._with_session(function, door.execute), check_name("a step", name), settings)
        self.execute: Callable[..., Returned_co]  # takes the payload and the context, but no session
        self.__dict__["probe"] = _as_callback(door.probe, coroutine)

    def compensation(self, function: F) -> F:
        """A decorator that makes ``function(session, payload, context)`` the step's compensation.

        The function undoes the step's effect, in its own transaction. It is called only if the step took effect and is
        not undone yet.
        """
        self._attach("compensate", self._with_session(function, self._door.compensate))
        return function

    def probing(self, function: F) -> F:  # noqa: ARG002 - the overridden method has this parameter
        """Always raise an error: a transactional step already has a probe, which reads the step's key.

        Raises:
            DefinitionError: Always.
        """
        raise DefinitionError(f"step {self.name!r} needs no probe: its key in the database shows its effect")

    def __call__(self, *args: Parameters.args, **kwargs: Parameters.kwargs) -> Returned_co:
        """Call the decorated function directly, without the mediator."""
        return self._function(*args, **kwargs)

    def _with_session(self, function: Callable[..., Any], does: Callable[..., Any]) -> Callable[..., Any]:
        """A callback with the parameters ``(payload, context)`` that calls *function* in a transaction.

        The callback calls *does*, a method of `Door`, which calls *function* with a session.

        Raises:
            DefinitionError: *function* is a coroutine function and the sessions are not for coroutines, or the reverse.
        """
        if inspect.iscoroutinefunction(function) is not self._coroutine:
            raise DefinitionError(
                f"{getattr(function, '__qualname__', function)} must be a "
                f"{'coroutine ' if self._coroutine else ''}function: its sessions are"
                f"{'' if self._coroutine else ' not'} for coroutines"
            )
        takes_context = takes_context_of(function)

        def work(session: Any, payload: Any, context: Any) -> Any:
            return function(session, payload, context) if takes_context else function(session, payload)

        callback = _as_callback(functools.partial(does, work), self._coroutine)
        functools.update_wrapper(callback, function, updated=())
        parameters = list(inspect.signature(function).parameters.values())[1:2]
        context = inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD)
        callback.__signature__ = inspect.Signature([*parameters, context])  # type: ignore[attr-defined]
        names = {parameters[0].name, "return"}
        callback.__annotations__ = {
            name: hint for name, hint in inspect.get_annotations(function).items() if name in names
        }
        return callback


class TransactionalStepDecorator(Protocol):
    """The type of the decorator that ``tx.step(...)`` returns."""

    @overload
    def __call__(
        self, function: Callable[P, Coroutine[Any, Any, R]], /
    ) -> TransactionalStep[R, P, Coroutine[Any, Any, R]]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> TransactionalStep[R, P, R]: ...


def _as_callback(does: Callable[..., Any], coroutine: bool) -> Callable[..., Any]:
    if coroutine:

        async def call_in_loop(payload: Any, context: Any) -> Any:
            return await does(payload, context)

        return call_in_loop

    def call(payload: Any, context: Any) -> Any:
        return run_blocking(does, payload, context)

    return call


def takes_context_of(function: Callable[..., Any]) -> bool:
    """Whether *function* takes a context after the session and the payload.

    Raises:
        DefinitionError: *function* takes neither ``(session, payload)`` nor ``(session, payload, context)``.
    """
    parameters = [
        each
        for each in inspect.signature(function).parameters.values()
        if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)
    ]
    if len(parameters) not in (2, 3):
        raise DefinitionError(
            f"{getattr(function, '__qualname__', function)}{inspect.signature(function)} must take (session, payload) "
            f"or (session, payload, context)"
        )
    return len(parameters) == 3


def result_type_of(function: Callable[..., Any]) -> Any:
    """The annotated return type of *function*. ``Any`` if there is no annotation, or the function never returns."""
    returns = typing.get_type_hints(function).get("return", Any)
    return returns if returns is not typing.NoReturn and returns is not typing.Never else Any
