"""Runtime: the code that waits, blocks, or runs code elsewhere. It does not depend on sagas, records or rules.

The core is written once, as coroutines that use a runtime. There are two runtimes. In `ThreadRuntime` every wait blocks
the thread. Therefore a coroutine never suspends, and one ``send(None)`` runs it to its end. `LoopRuntime` uses an event
loop. A test can wrap a runtime to see or change its calls, writes and waits.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager
from contextvars import Context
from typing import Any, Final, Protocol, TypeVar

from fsm_mediator.journal.protocol import Commit, Written
from fsm_mediator.machine.parts import PROBE, Effect
from fsm_mediator.mediator.pool import RunningCall, ThreadCall
from fsm_mediator.records import Answer
from fsm_mediator.retry import Retry

T = TypeVar("T")

JOURNAL_RETRY: Final = Retry(attempts=6, wait_initial=0.05, wait_max=1.0, wait_jitter=0.05)
"""The policy by which a failed commit is repeated. After the last attempt, the driver leaves the execution, which is
loaded again later.
"""


class StepCall:
    """One call of a step's function.

    Attributes:
        saga_id: The execution.
        effect: The effect, which has the function.
        arguments: The arguments of the function.
        running: The running call. None if the call has neither its own thread nor its own task.
    """

    __slots__ = ("arguments", "effect", "running", "saga_id")

    def __init__(self, saga_id: str, effect: Effect, arguments: tuple[Any, ...]) -> None:
        self.saga_id: str = saga_id
        self.effect: Effect = effect
        self.arguments: tuple[Any, ...] = arguments
        self.running: RunningCall | None = None

    @property
    def name(self) -> str:
        """The name of the call's thread."""
        return f"fsm-mediator {self.saga_id} {self.effect.kind} {self.effect.part.path}"

    @property
    def may_be_overtaken(self) -> bool:
        """Whether another attempt may begin while this call still runs."""
        return self.effect.part.overtake or self.effect.kind == PROBE

    @property
    def grace(self) -> float:
        """Seconds to wait after the timeout for the call to end."""
        part = self.effect.part
        assert part.timeout is not None
        return part.grace if part.grace is not None else part.timeout

    def begin(self) -> ThreadCall:
        """Create the call in its own thread. The thread is not started yet."""
        assert self.effect.callback is not None
        self.running = call = ThreadCall(self.effect.callback.function, self.arguments, self.name)
        return call


class Event(Protocol):
    """A flag that code can wait for. Any thread may call `set`."""

    def set(self) -> None:
        """Set the flag."""

    def clear(self) -> None:
        """Clear the flag."""

    def is_set(self) -> bool:
        """Whether the flag is set."""
        ...


class Runtime(Protocol):
    """The interface between the core and threads or an event loop.

    Attributes:
        inline: Whether the driver may call a plain function in the driver's thread.
        direct: Whether the core may itself call a step and journal a record, without `call` and `write`.
        suspends: Whether an execution that waits in the background frees its thread until a timer resumes it.
        detaches: Whether a caller can stop waiting while the driver continues.
        sleeps: Whether the user passed a *sleep* function.
        journal_retry: The policy by which a failed commit is repeated.
        cancelled: The types of the exceptions that cancel a task from outside.
        freed: An event that is set when a worker in the background becomes free, because its job has ended or waits.
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
        """Bind the runtime to the caller's event loop, if there is one.

        Returns True if the former loop and its tasks are gone.

        Raises:
            RefusedError: The runtime is bound to another loop that is not closed.
        """
        ...

    def is_bound(self) -> bool:
        """Whether the runtime is bound to the caller's loop."""
        ...

    def is_lost(self) -> bool:
        """Whether the runtime's loop is closed, so that no task runs any more."""
        ...

    def reset(self) -> None:
        """Forget all state. A forked child calls this method."""

    def current(self) -> object:
        """The id of the caller's thread, or the caller's task."""

    def monotonic(self) -> float:
        """The time of a clock that is never set back, in seconds."""
        ...

    def event(self) -> Event:
        """A new `Event`, which is not set."""
        ...

    async def wait(self, event: Event, seconds: float | None) -> bool:
        """Wait until *event* is set. Returns False if *seconds* have passed first."""
        ...

    async def pause(self, seconds: float) -> None:
        """Wait for *seconds*."""

    async def sleep(self, seconds: float) -> None:
        """Wait for *seconds*, with the user's *sleep* function if there is one."""

    def check_cancelled(self) -> None:
        """Raise an error if the driver was cancelled."""

    async def in_thread(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call a function that may block on the journal. Returns its result."""
        ...

    async def write(self, commit: Commit) -> Written:
        """Write *commit* to the journal. Returns the result of `Journal.write`."""
        ...

    async def call(self, call: StepCall) -> Answer:
        """Call a step's function, and return the answer."""
        ...

    def aside(self) -> AbstractContextManager[None]:
        """A context in which a driver in the background awaits the coroutine of a step, and does not work itself."""
        ...

    def answer(self, call: StepCall, value: Any, late: bool = False) -> Answer:
        """The answer for the *value* that a step returned."""
        ...

    def raised(self, error: BaseException) -> Answer:
        """The answer for *error*, which a step raised here. Called while the error is handled.

        Raises:
            BaseException: *error* itself, if it is meant for the driver: an interrupt, or a cancellation.
        """
        ...

    async def attach(
        self, work: Callable[..., Coroutine[Any, Any, T]], *arguments: Any, detached: Callable[[Any], object]
    ) -> T | None:
        """Run *work*, and wait for its result.

        If the caller stops waiting, *detached* is called with the error of *work*, if any.
        """
        ...

    async def uncancellable(self, work: Callable[..., Coroutine[Any, Any, T]], *arguments: Any) -> T:
        """Run *work* to its end, even if the caller is cancelled. Returns its result."""
        ...

    def submit(
        self, work: Callable[[], Coroutine[Any, Any, None]], context: Context | None, never_ran: Callable[[], object]
    ) -> None:
        """Run *work* in the background, in a copy of *context*.

        *never_ran* is called if *work* will not begin. It may also be called after *work* has ended, and must do
        nothing then.
        """

    def free_workers(self) -> int:
        """The number of further executions that can be driven in the background without waiting for a worker."""
        ...

    def post(self, function: Callable[..., object], *arguments: Any) -> None:
        """Call *function* in a thread or loop where drivers run, now or soon."""

    def at(self, time: float, call: Callable[[], object]) -> Any:
        """Call *call* at *time*, in seconds since the epoch. Returns a timer that can be cancelled."""

    async def stop(self) -> None:
        """Start no further work, and end all work that can be ended."""

    async def shut_down(self, *last: Callable[[], object]) -> None:
        """Call the functions *last*, which may block. After that, the runtime runs nothing more."""
