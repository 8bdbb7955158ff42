"""Around: enters the user's context managers around each attempt, and sends notices about driven executions.

A mediator without context managers and notices uses a plain `ExecutionDriver`, which does not have their cost.
"""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any, TypeAlias

import msgspec

from fsm_mediator.definition.steps import Context
from fsm_mediator.error_types import is_interrupt, safe_repr
from fsm_mediator.errors import DefinitionError, LeaseLostError
from fsm_mediator.execution.outcome import Outcome
from fsm_mediator.journal.protocol import Commit, Written
from fsm_mediator.machine.parts import Effect
from fsm_mediator.mediator.active import ActiveExecution
from fsm_mediator.mediator.driving import ExecutionDriver
from fsm_mediator.mediator.ownership import OwnedExecutions
from fsm_mediator.observe import notices
from fsm_mediator.observe.notices import Notice
from fsm_mediator.records import Answer, Raised, Record
from fsm_mediator.states import is_settled

logger: logging.Logger = logging.getLogger("fsm_mediator")

Hook: TypeAlias = Callable[[Context], AbstractContextManager[Any] | AbstractAsyncContextManager[Any]]
"""A function that returns a context manager, which is entered around one attempt."""

Entered: TypeAlias = list[tuple[Any, Hook]]
"""The context managers that were entered, in order. Each is in a pair with the hook that returned it."""


class Hooks:
    """The hooks around the attempts of a mediator.

    The answer of a step cannot change after the first context manager exits. An error that a hook raises is logged.

    Args:
        hooks: The user's functions that return context managers.
        coroutines: Whether the mediator can await asynchronous context managers.

    Attributes:
        awaited: The hooks that return asynchronous context managers.

    Raises:
        DefinitionError: A hook cannot be called, or a hook is asynchronous and the mediator cannot await it.
    """

    def __init__(self, hooks: Iterable[Hook], *, coroutines: bool) -> None:
        self.hooks: tuple[Hook, ...] = tuple(hooks)
        self.awaited: tuple[Hook, ...] = tuple(hook for hook in self.hooks if _is_awaited(hook))
        self._plain = tuple(hook for hook in self.hooks if hook not in self.awaited)
        if self.awaited and not coroutines:
            raise DefinitionError(
                f"around: {safe_repr(self.awaited[0])} makes an asynchronous context manager, which Mediator cannot "
                f"enter; make it with contextlib.contextmanager, or use AsyncMediator"
            )

    def around(self, function: Callable[..., Any], context: Context) -> Callable[..., Any]:
        """Wrap *function*, a plain function: hooks are entered around each call. Asynchronous hooks are left out."""
        return functools.partial(self._call, function, context)

    def around_coroutine(self, function: Callable[..., Any], context: Context) -> Callable[..., Any]:
        """Wrap *function*, a coroutine function: all hooks are entered around each call."""
        return functools.partial(self.call_and_await, self.hooks, function, context)

    def _call(self, function: Callable[..., Any], context: Context, *arguments: Any) -> Any:
        entered: Entered = []
        try:
            for hook in self._plain:
                _enter(hook, context, entered)
            value = function(*arguments)
        except BaseException as error:
            _leave(entered, error)
            raise
        _leave(entered, None)
        return value

    async def call_and_await(
        self, hooks: tuple[Hook, ...], function: Callable[..., Any], context: Context, *arguments: Any
    ) -> Any:
        """Enter *hooks*, call *function*, await its result, and exit the hooks in reverse order. Returns the result.

        The hooks exit with the error that *function* raised, or with the error in the result if the result is `Raised`.
        """
        entered: Entered = []
        try:
            for hook in hooks:
                if hook in self.awaited:
                    await _enter_awaited(hook, context, entered)
                else:
                    _enter(hook, context, entered)
            value = await function(*arguments)
        except BaseException as error:
            await _leave_awaited(entered, error)
            raise
        await _leave_awaited(entered, value.error if type(value) is Raised else None)
        return value


def _is_awaited(hook: Any) -> bool:
    """Whether *hook* makes asynchronous context managers.

    Raises:
        DefinitionError: *hook* cannot be called with a context, or returns no context manager.
    """
    call: Any = hook.func if isinstance(hook, functools.partial) else hook
    if not isinstance(call, type) and not inspect.isroutine(call):
        call = getattr(type(call), "__call__", None)  # noqa: B004
    if not callable(hook) or isinstance(hook, (AbstractContextManager, AbstractAsyncContextManager)):
        raise DefinitionError(
            f"around is a list of functions that take the context of an attempt and return a context manager for it, "
            f"not of {safe_repr(hook)}"
        )
    function = inspect.unwrap(call)
    if function is call and any(
        kind(function)
        for kind in (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction)
    ):
        raise DefinitionError(
            f"around: {safe_repr(hook)} returns no context manager; decorate it with contextlib.contextmanager or "
            f"contextlib.asynccontextmanager"
        )
    if isinstance(call, type):
        return hasattr(call, "__aenter__") and not hasattr(call, "__enter__")
    return inspect.isasyncgenfunction(function)


def _enter(hook: Hook, context: Context, entered: Entered) -> None:
    try:
        manager: Any = hook(context)
        type(manager).__enter__(manager)
    except BaseException as fault:
        if is_interrupt(fault):
            raise
        _log_left_out(hook, context, fault)
    else:
        entered.append((manager, hook))


async def _enter_awaited(hook: Hook, context: Context, entered: Entered) -> None:
    try:
        manager: Any = hook(context)
        await type(manager).__aenter__(manager)
    except Exception as fault:  # a cancellation of the task is a BaseException, and belongs to the attempt
        _log_left_out(hook, context, fault)
    else:
        entered.append((manager, hook))


def _log_left_out(hook: Hook, context: Context, fault: BaseException) -> None:
    logger.error(
        "around: %r raised on entering, and is left out for this attempt to %s %r of execution %r",
        *(hook, context.verb, context.step, context.saga_id),
        exc_info=fault,
    )


def _leave(entered: Entered, error: BaseException | None) -> None:
    """Exit the context managers, the last one first. Their results are ignored. An interrupt propagates."""
    if not entered:
        return
    manager, hook = entered.pop()
    trace = error.__traceback__ if error is not None else None
    try:
        type(manager).__exit__(manager, *_raised(error))
    except BaseException as fault:
        if is_interrupt(fault):
            raise
        _log_on_leaving(hook, fault, error)
    finally:
        if error is not None:
            error.__traceback__ = trace
        _leave(entered, error)


async def _leave_awaited(entered: Entered, error: BaseException | None) -> None:
    """Exit the context managers, the last one first, and await the asynchronous context managers.

    If the task is cancelled here, the cancellation takes effect at the driver's next wait, after the step's answer is
    known.
    """
    while entered:
        manager, hook = entered[-1]
        if hasattr(type(manager), "__enter__"):
            last = [entered.pop()]
            _leave(last, error)
            continue
        entered.pop()
        trace = error.__traceback__ if error is not None else None
        try:
            await type(manager).__aexit__(manager, *_raised(error))
        except BaseException as fault:
            if is_interrupt(fault) or isinstance(fault, GeneratorExit):
                raise
            _log_on_leaving(hook, fault, error)
        finally:
            if error is not None:
                error.__traceback__ = trace


def _raised(error: BaseException | None) -> tuple[Any, Any, Any]:
    return (None, None, None) if error is None else (type(error), error, error.__traceback__)


def _log_on_leaving(hook: Hook, fault: BaseException, error: BaseException | None) -> None:
    if fault is not error:  # otherwise the hook only raised the step's own error again
        logger.error("around: %r raised on leaving; the step's answer counts", hook, exc_info=fault)


class NoticedExecutions(OwnedExecutions):
    """An `OwnedExecutions` that sends a notice when this mediator begins or stops to drive an execution.

    Attributes:
        listeners: Functions that are called with each notice.
    """

    listeners: tuple[Callable[[Notice], object], ...] = ()

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._begun: set[ActiveExecution] = set()

    def begin(self, active: ActiveExecution, *, opens: bool = False) -> None:
        """Send the notice that this mediator begins to drive *active*, unless it was already sent."""
        if active not in self._begun:
            self._begun.add(active)
            effect = active.execution.effect if active.recovered else None
            midway = effect is not None and effect.callback is not None
            self._tell(notices.RECOVERED if active.orphaned or midway else notices.CLAIMED, active, opens=opens)

    def finish(
        self, active: ActiveExecution, outcome: Outcome | None = None, error: BaseException | None = None
    ) -> None:
        """Send a notice, then stop driving *active* and wake waiting callers: see `OwnedExecutions.finish`."""
        if active in self._begun:
            self._begun.discard(active)
            if outcome is None:
                kind = notices.LEASE_LOST if isinstance(error, LeaseLostError) else notices.RELEASED
            elif is_settled(outcome.state):
                kind = notices.SETTLED
            else:
                kind = notices.RELEASED if active.stopping else notices.PARKED
            self._tell(kind, active, error=error)
        super().finish(active, outcome, error)

    def _tell(
        self, kind: str, active: ActiveExecution, *, opens: bool = False, error: BaseException | None = None
    ) -> None:
        if not self.listeners:
            return
        execution = active.execution
        begins, inbox = kind in (notices.CLAIMED, notices.RECOVERED), active.inbox
        notice = Notice(
            kind,
            active.saga_id,
            execution.saga,
            execution.acceptance,
            execution.state,
            self.store.clock(),
            opens,
            error,
            _carrier_of_last(execution.history) if begins else None,
            tuple(inbox.carriers) if begins else (),
        )
        for listener in self.listeners:
            try:
                listener(notice)
            except Exception:
                logger.exception("%r raised at a notice of execution %r; the saga goes on", listener, active.saga_id)


def _carrier_of_last(history: Sequence[Record]) -> dict[str, str] | None:
    """The trace context in the newest record that has one, or None."""
    return next((record.carrier for record in reversed(history) if record.carrier is not None), None)


class AroundDriver(ExecutionDriver):
    """An `ExecutionDriver` that enters hooks around each attempt, and sends notices."""

    owned: NoticedExecutions
    owned_type: type[OwnedExecutions] = NoticedExecutions

    def __init__(self, *arguments: Any, around: Iterable[Hook], coroutines: bool, **settings: Any) -> None:
        self.hooks: Hooks = Hooks(around, coroutines=coroutines)
        self.around: tuple[Any, ...] = self.hooks.hooks
        super().__init__(*arguments, coroutines=coroutines, **settings)
        self.direct: bool = False  # no execution takes a fast path, because these paths call no hooks
        self.memory: Any = None
        self.store.around_decision = self.hooks.around
        self.store.carrier = next((hook.carrier for hook in self.around if hasattr(hook, "carrier")), None)
        self._carrier_of_stint: Callable[[str], dict[str, str] | None] | None = next(
            (hook.carrier_of_stint for hook in self.around if hasattr(hook, "carrier_of_stint")), None
        )
        self._listen()

    def _listen(self) -> None:
        found = {id(each): each.notice for each in (*self.around, *self.observers) if hasattr(each, "notice")}
        self.owned.listeners = tuple(found.values())

    def reset(self) -> None:
        """Become another driver, which sends notices too. A forked child calls this method: see `Core.reset`."""
        super().reset()
        self._listen()

    def drive(
        self, active: ActiveExecution, records: list[Record] | None = None, *, opens: bool = False
    ) -> Coroutine[Any, Any, Outcome | None]:
        """Send the notice that driving begins, and return the coroutine of `ExecutionDriver.drive`.

        For a new execution (*opens*), `write` sends the notice later. This method is not a coroutine itself, because an
        error of a step would keep the coroutine's frame alive.
        """
        if not opens:
            self.owned.begin(active)
        return super().drive(active, records, opens=opens)

    async def write(self, commit: Commit) -> Written:
        """Write *commit*: see `Core.write`. After the first commit of a new execution, send a notice about it."""
        written = await super().write(self._with_carriers(commit))
        if commit.acceptance is not None and (active := self.owned.active.get(commit.saga_id)) is not None:
            self.owned.begin(active, opens=not active.background)
        return written

    def _with_carriers(self, commit: Commit) -> Commit:
        """Return *commit* with the present trace context in its last record and in its new inbox items."""
        carrier = None if self._carrier_of_stint is None else self._carrier_of_stint(commit.saga_id)
        if carrier is None or not (commit.records or commit.posts):
            return commit
        replace, (*records, last) = msgspec.structs.replace, commit.records or (None,)
        records += [] if last is None else [replace(last, carrier=carrier)]
        posts = tuple((to, replace(item, carrier=carrier)) for to, item in commit.posts)
        return replace(commit, records=tuple(records), posts=posts)

    async def _call(self, active: ActiveExecution, effect: Effect) -> Answer:
        callback, context, hooks = effect.callback, active.execution.context(effect), self.hooks
        assert callback is not None
        answer: Answer | None = None
        wrap = hooks.around_coroutine if callback.is_coroutine else hooks.around
        function = wrap(callback.function, context)
        wrapped = Effect(effect.kind, effect.part, msgspec.structs.replace(callback, function=function))
        call = super()._call
        try:
            if callback.is_coroutine or not hooks.awaited:
                answer = await call(active, wrapped)
            else:  # asynchronous hooks run in this task, the function in a thread
                answer = await hooks.call_and_await(hooks.awaited, call, context, active, wrapped)
            return _without_own_frames(answer)
        finally:
            del active, answer, wrapped, function, call, context


def _without_own_frames(answer: Answer) -> Answer:
    """Return *answer*. If it is an error, its traceback no longer has the frames of this module."""
    if type(answer) is Raised:
        trace = answer.error.__traceback__
        while trace is not None and trace.tb_frame.f_globals.get("__name__") == __name__:
            trace = trace.tb_next
        answer.error.__traceback__ = trace
    return answer
