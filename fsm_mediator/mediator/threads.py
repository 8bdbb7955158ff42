"""ThreadRuntime: the runtime of `Mediator`. Every wait blocks the thread that waits."""

from __future__ import annotations

import contextlib
import contextvars
import functools
import threading
import time
import types
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from fsm_mediator.error_types import is_interrupt
from fsm_mediator.errors import StepRejectedError
from fsm_mediator.journal.protocol import Commit, Journal, Written
from fsm_mediator.mediator.pool import ThreadPool, Timer, TimerThread, without_own_frame
from fsm_mediator.mediator.runtime import JOURNAL_RETRY, StepCall
from fsm_mediator.records import Abandoned, Answer, Raised, Returned, TimedOut
from fsm_mediator.retry import Retry

T = TypeVar("T")


def run_blocking(work: Callable[..., Coroutine[Any, Any, T]], *arguments: Any) -> T:
    """Run a coroutine function to its end in this thread, and return its result. Its waits block the thread.

    One expression creates and starts the coroutine. If an interrupt comes between the two, the coroutine has done
    nothing, and Python warns that it was never awaited.
    """
    try:
        work(*arguments).send(None)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]
    raise RuntimeError(f"{work!r} suspended, and nothing resumes it")


class ThreadRuntime:
    """Runs drivers in the caller's thread, and in a thread pool. See `Runtime`.

    Args:
        journal: The journal.
        max_workers: The maximum number of threads in the pool.
        clock: Returns the time, in seconds since the epoch.
        sleep: The user's function that waits. None for `time.sleep`.
    """

    inline = True
    direct = True
    suspends = True
    detaches = False
    journal_retry: Retry = JOURNAL_RETRY
    cancelled: tuple[type[BaseException], ...] = ()
    current: Callable[[], Any] = staticmethod(threading.get_ident)
    monotonic: Callable[[], float] = staticmethod(time.monotonic)
    event: Callable[[], threading.Event] = staticmethod(threading.Event)

    def __init__(
        self,
        journal: Journal,
        max_workers: int,
        clock: Callable[[], float],
        sleep: Callable[[float], None] | None = None,
    ) -> None:
        self._journal = journal
        self._max_workers = max_workers
        self._clock = clock
        self._sleep = sleep
        self.sleeps: bool = sleep is not None
        self.reset()

    def reset(self) -> None:
        """Forget all state, in a forked child: see `Runtime.reset`."""
        self._pool = ThreadPool(self._max_workers, "fsm-mediator")
        self._timers = TimerThread(self._clock, "fsm-mediator-timers")
        self.at: Callable[[float, Callable[[], object]], Timer] = self._timers.at

    @property
    def freed(self) -> threading.Event:
        """An event that is set when a worker in the background becomes free: see `Runtime.freed`."""
        return self._pool.freed

    def free_workers(self) -> int:
        """The number of further executions that can be driven in the background: see `Runtime.free_workers`.

        These are the free threads of the pool.
        """
        return self._pool.free

    def bind(self) -> bool:
        """Bind the runtime to the caller's event loop: see `Runtime.bind`.

        Does nothing, because any thread may use the runtime.
        """
        return False

    def is_bound(self) -> bool:
        """Return True, because any thread may use this runtime: see `Runtime.is_bound`."""
        return True

    def is_lost(self) -> bool:
        """Return False, because this runtime has no event loop: see `Runtime.is_lost`."""
        return False

    async def wait(self, event: Any, seconds: float | None) -> bool:
        """Wait until *event* is set: see `Runtime.wait`. While a worker waits, another job can begin."""
        if event.is_set():
            return True
        with self._pool.blocked():
            return bool(event.wait(seconds))

    async def pause(self, seconds: float) -> None:
        """Wait for *seconds*: see `Runtime.pause`."""
        with self._pool.blocked():
            time.sleep(seconds)  # noqa: ASYNC251 - a wait blocks this thread

    async def sleep(self, seconds: float) -> None:
        """Wait, with the user's *sleep* if there is one: see `Runtime.sleep`."""
        (self._sleep or time.sleep)(seconds)

    def check_cancelled(self) -> None:
        """Raise an error if the driver was cancelled: see `Runtime.check_cancelled`.

        Does nothing, because threads are not cancelled.
        """

    async def in_thread(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call a function that may block on the journal: see `Runtime.in_thread`.

        Calls the function here, because this thread may block.
        """
        return function(*arguments)

    async def write(self, commit: Commit) -> Written:
        """Write *commit* to the journal: see `Runtime.write`."""
        return self._journal.write(commit)

    async def call(self, call: StepCall) -> Answer:
        """Call a step's function: see `Runtime.call`.

        The call runs here, or in its own thread if the step has a timeout.
        """
        callback = call.effect.callback
        assert callback is not None
        if call.effect.part.timeout is not None:
            return self._call_in_time(call)
        try:
            value = callback.function(*call.arguments)
        except BaseException as error:
            return self.raised(error)
        return self.answer(call, value)

    def aside(self) -> contextlib.AbstractContextManager[None]:
        """A context without an effect, because a thread awaits no coroutines: see `Runtime.aside`."""
        return contextlib.nullcontext()

    def answer(self, call: StepCall, value: Any, late: bool = False) -> Answer:
        """The answer for a value that a step returned: see `Runtime.answer`. A coroutine is refused."""
        if type(value) is not types.CoroutineType:
            return Returned(value, late)
        value.close()
        assert call.effect.callback is not None
        return Raised(
            StepRejectedError(
                f"{call.effect.callback.label} returned a coroutine, which Mediator cannot await; nothing was done. "
                f"Use AsyncMediator, or make it a plain function"
            )
        )

    def raised(self, error: BaseException) -> Answer:
        """The answer for an error that a step raised: see `Runtime.raised`."""
        if not isinstance(error, Exception) and is_interrupt(error):
            raise  # noqa: PLE0704 - only called while an error is handled
        return Raised(without_own_frame(error))

    def _call_in_time(self, call: StepCall) -> Answer:
        thread, seconds, late = call.begin(), call.effect.part.timeout, False
        assert seconds is not None
        try:
            thread.start()
            if not thread.wait(seconds):
                if call.may_be_overtaken:
                    return TimedOut(seconds)
                seconds, late = seconds + call.grace, True
                if not thread.wait(call.grace):
                    return Abandoned(seconds)
        except RuntimeError as error:
            if thread.revoke():
                return Raised(error)  # the system has no more threads: the function was not called
            raise
        fault = thread.error
        if fault is None:
            return self.answer(call, thread.value, late)
        if is_interrupt(fault):
            raise fault
        return Raised(fault, late)

    async def attach(
        self, work: Callable[..., Coroutine[Any, Any, T]], *arguments: Any, detached: Callable[[Any], object]
    ) -> T | None:
        """Run *work*, and wait for its result: see `Runtime.attach`.

        The caller waits until the end, because a thread cannot be cancelled.
        """
        try:
            return await work(*arguments)
        finally:
            del work, arguments, detached  # a step's error keeps this frame alive; the run must not be

    async def uncancellable(self, work: Callable[..., Coroutine[Any, Any, T]], *arguments: Any) -> T:
        """Run *work* to its end, even if the caller is cancelled: see `Runtime.uncancellable`."""
        return await work(*arguments)

    def submit(
        self,
        work: Callable[[], Coroutine[Any, Any, None]],
        context: contextvars.Context | None,
        never_ran: Callable[[], object],
    ) -> None:
        """Run *work* in a thread of the pool: see `Runtime.submit`.

        *never_ran* is called only if the pool was stopped.
        """
        if not self._pool.submit(functools.partial(run_blocking, work), context):
            never_ran()

    def post(self, function: Callable[..., object], *arguments: Any) -> None:
        """Call *function* now, in this thread: see `Runtime.post`."""
        function(*arguments)

    async def stop(self) -> None:
        """End all work that can be ended: see `Runtime.stop`."""
        self._timers.stop()
        self._pool.stop()

    async def shut_down(self, *last: Callable[[], object]) -> None:
        """Call the functions *last*, then run nothing more: see `Runtime.shut_down`."""
        for function in last:
            function()
