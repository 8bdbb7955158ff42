"""Runtime: everything that waits, blocks or runs elsewhere. It knows no saga, no record and no rule.

The core is written once, as coroutines over a runtime. There are two: `ThreadRuntime`, whose every wait blocks the
thread, so that a coroutine never suspends and is run by one ``send(None)``; and `LoopRuntime`, on an event loop. A test
can wrap a runtime to see or to change its calls, writes and waits.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, Final, Protocol, TypeVar

from fsm_mediator.journal.protocol import Commit, Written
from fsm_mediator.machine.parts import PROBE, Effect
from fsm_mediator.mediator.pool import RunningCall, ThreadCall
from fsm_mediator.records import Answer
from fsm_mediator.retry import Retry

T = TypeVar("T")

JOURNAL_RETRY: Final = Retry(attempts=6, wait_initial=0.05, wait_max=1.0, wait_jitter=0.05)
"""How often a commit that failed is tried again before its execution is dropped, to be loaded again later."""


class StepCall:
    """One call of a step's function.

    Attributes:
        saga_id: The execution that it is made for.
        effect: The effect, which names the function.
        arguments: The arguments.
        running: The call itself, where it has a thread or a task of its own.
    """

    __slots__ = ("arguments", "effect", "running", "saga_id")

    def __init__(self, saga_id: str, effect: Effect, arguments: tuple[Any, ...]) -> None:
        self.saga_id: str = saga_id
        self.effect: Effect = effect
        self.arguments: tuple[Any, ...] = arguments
        self.running: RunningCall | None = None

    @property
    def name(self) -> str:
        """A name for the thread."""
        return f"fsm-mediator {self.saga_id} {self.effect.kind} {self.effect.part.path}"

    @property
    def may_be_overtaken(self) -> bool:
        """Whether another attempt may begin while this one still runs."""
        return self.effect.part.overtake or self.effect.kind == PROBE

    @property
    def grace(self) -> float:
        """Seconds that a call which outlives its time-out is still waited for."""
        part = self.effect.part
        assert part.timeout is not None
        return part.grace if part.grace is not None else part.timeout

    def begin(self) -> ThreadCall:
        """The call in a thread of its own, which is not started yet."""
        assert self.effect.callback is not None
        self.running = call = ThreadCall(self.effect.callback.function, self.arguments, self.name)
        return call


class Event(Protocol):
    """A flag that one side waits for. `set` may be called from any thread."""

    def set(self) -> None:
        """Raise the flag."""

    def clear(self) -> None:
        """Lower the flag."""

    def is_set(self) -> bool:
        """Whether the flag is raised."""
        ...


class Runtime(Protocol):
    """The seam between the core and threads or an event loop.

    Attributes:
        inline: Whether a plain function may be called where the driver runs.
        direct: Whether the core may call a step and keep a record itself where nothing can block, past `call` and
            `write`.
        suspends: Whether a wait in the background gives its thread back, and a timer continues it.
        detaches: Whether a caller can stop waiting for a driver that continues.
        sleeps: Whether the user gave a *sleep*.
        journal_retry: How often a commit that failed is tried again.
        cancelled: The exceptions that end a task from outside.
        freed: Set when something driven in the background has ended or waits, and left its worker to another.
    """

    inline: bool
    direct: bool
    suspends: bool
    detaches: bool
    sleeps: bool
    journal_retry: Retry
    cancelled: tuple[type[BaseException], ...]

    @property
    def freed(self) -> Event: ...  # noqa: D102

    def bind(self) -> bool:
        """Bind to the caller's event loop, if there is one. True: the former loop and its tasks are gone.

        Raises:
            RefusedError: It is bound to another loop, which still exists.
        """
        ...

    def is_bound(self) -> bool:
        """Whether it is bound to the caller's loop."""
        ...

    def is_lost(self) -> bool:
        """Whether its loop is gone, so that no task runs."""
        ...

    def reset(self) -> None:
        """Forget everything, in the child of a fork."""

    def current(self) -> object:
        """The id of the caller's thread, or the caller's task."""

    def monotonic(self) -> float:
        """A time in seconds that is never set back."""
        ...

    def event(self) -> Event:
        """A new flag."""
        ...

    async def wait(self, event: Event, seconds: float | None) -> bool:
        """Wait until *event* is set; False: so many seconds have passed."""
        ...

    async def pause(self, seconds: float) -> None:
        """Wait so many seconds."""

    async def sleep(self, seconds: float) -> None:
        """Wait so many seconds, as the user wants to wait."""

    def check_cancelled(self) -> None:
        """Raise if the driver is to end here."""

    async def in_thread(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call what may block on the journal."""
        ...

    async def write(self, commit: Commit) -> Written:
        """Have the journal write *commit*."""
        ...

    async def call(self, call: StepCall) -> Answer:
        """Call a step's function, and return the answer."""
        ...

    def answer(self, call: StepCall, value: Any, late: bool = False) -> Answer:
        """The answer that a returned *value* is."""
        ...

    def raised(self, error: BaseException) -> Answer:
        """The answer to *error*, which is being handled and came out of a step that was called here.

        Raises:
            BaseException: The error itself, if it is for the driver: an interrupt, or its cancellation.
        """
        ...

    async def attach(
        self, work: Callable[..., Coroutine[Any, Any, T]], *arguments: Any, detached: Callable[[Any], object]
    ) -> T | None:
        """Run *work*, and wait for it. If the caller gives up, *detached* is called, and with its error at the end."""
        ...

    async def uncancellable(self, work: Callable[..., Coroutine[Any, Any, T]], *arguments: Any) -> T:
        """Run *work* to its end, even if the caller gives up."""
        ...

    def submit(
        self, work: Callable[[], Coroutine[Any, Any, None]], context: Context | None, never_ran: Callable[[], object]
    ) -> None:
        """Run *work* in the background; *never_ran* is called if it ended before it began, or will not begin."""

    def free_workers(self) -> int:
        """How many more executions could be driven in the background without waiting for a worker."""
        ...

    def post(self, function: Callable[..., object], *arguments: Any) -> None:
        """Call *function* where drivers run: now, or soon."""

    def at(self, time: float, call: Callable[[], object]) -> Any:
        """Call *call* at *time*, in seconds since the epoch; what it returns can be cancelled."""

    async def stop(self) -> None:
        """Start no further work, and end all work that can be ended."""

    async def shut_down(self, *last: Callable[[], object]) -> None:
        """Call *last*, which may block, and run nothing more."""
