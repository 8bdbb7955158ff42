"""LoopRuntime: the runtime of `AsyncMediator`. Drivers are tasks. Threads run calls that may block.

The records that all tasks write in one turn of the loop share a commit.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextvars import Context
from typing import Any, Final, TypeVar

from msgspec.structs import replace

from fsm_mediator.error_types import is_interrupt
from fsm_mediator.errors import JournalError, MediatorClosedError, RefusedError
from fsm_mediator.journal.memory import MemoryJournal
from fsm_mediator.journal.protocol import Commit, Journal, Written
from fsm_mediator.mediator.eager import eager_task
from fsm_mediator.mediator.journal_threads import JournalThreads
from fsm_mediator.mediator.pool import without_own_frame
from fsm_mediator.mediator.runtime import JOURNAL_RETRY, StepCall
from fsm_mediator.mediator.tasks import LoopEvent, LoopTimer, TaskCall, Workers, answer_of
from fsm_mediator.records import Abandoned, Answer, Raised, Returned, TimedOut
from fsm_mediator.retry import Retry

LEAST_GRACE: Final = 0.05
"""The minimum number of seconds that a cancelled coroutine has to end."""

logger: logging.Logger = logging.getLogger("fsm_mediator")
T = TypeVar("T")

JOURNAL_THREADS: Final = 8
"""The maximum number of threads that call the journal. Their writes share commits, for example in a large recovery."""

TURN: Final = 64
"""The number of runs that may end without a wait before the event loop gets a turn."""


class LoopRuntime:
    """Runs drivers as tasks of one event loop. See `Runtime`.

    Args:
        journal: The journal.
        max_workers: The maximum number of threads that run plain functions at a time.
        clock: Returns the time, in seconds since the epoch.
        sleep: The user's coroutine function that waits. None for `asyncio.sleep`.
    """

    inline = False
    direct = True
    suspends = False
    detaches = True
    journal_retry: Retry = JOURNAL_RETRY
    cancelled: tuple[type[BaseException], ...] = (asyncio.CancelledError,)
    current: Callable[[], Any] = staticmethod(asyncio.current_task)
    loop: asyncio.AbstractEventLoop
    _workers: Workers

    def __init__(
        self,
        journal: Journal,
        max_workers: int,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] | None = None,
    ) -> None:
        self._journal = journal
        self._blocks = not isinstance(journal, MemoryJournal)
        self._max_workers = max_workers
        self.clock = clock
        self._sleep = sleep
        self.sleeps: bool = sleep is not None
        self.reset()

    def reset(self) -> None:
        """Forget all state, in a forked child: see `Runtime.reset`."""
        self._bound: asyncio.AbstractEventLoop | None = None
        self._threads: JournalThreads | None = None
        self._at_once = 0
        self._begin()

    def _begin(self) -> None:
        self._slots = asyncio.Semaphore(self._max_workers)
        self._tasks: set[asyncio.Future[Any]] = set()
        self.timers: set[LoopTimer] = set()
        self._pending: list[tuple[Commit, asyncio.Future[Written]]] = []
        self._under_way: list[tuple[Commit, asyncio.Future[Written]]] = []
        self._writing = False

    def bind(self) -> bool:
        """Bind to the running loop: see `Runtime.bind`. The former loop, if there is one, must be closed."""
        loop = asyncio.get_running_loop()
        if self._bound is loop:
            return False
        if self._bound is not None and not self._bound.is_closed():
            raise RefusedError("an AsyncMediator belongs to one event loop; make another one for this loop")
        self._begin()
        self._stop_threads()
        self._bound = self.loop = loop
        self._workers = Workers(loop, self._max_workers)
        return True

    def is_bound(self) -> bool:
        """Whether the runtime is bound to the caller's loop: see `Runtime.is_bound`."""
        return asyncio.get_running_loop() is self._bound

    def is_lost(self) -> bool:
        """Whether the loop is closed, so that no task runs any more: see `Runtime.is_lost`."""
        return self._bound is not None and self._bound.is_closed()

    def monotonic(self) -> float:
        """The seconds of a clock that is never set back: see `Runtime.monotonic`."""
        return self.loop.time()

    def event(self) -> LoopEvent:
        """A new event, which is not set: see `Runtime.event`."""
        return LoopEvent(self.loop)

    async def wait(self, event: Any, seconds: float | None) -> bool:
        """Wait until *event* is set: see `Runtime.wait`."""
        with self._workers.aside():
            return await self._wait(event, seconds)

    async def _wait(self, event: Any, seconds: float | None) -> bool:
        if event.is_set():
            return True
        try:
            async with asyncio.timeout(seconds) as patience:
                await event.wait()
        except TimeoutError:
            if not patience.expired():
                raise
            return bool(event.is_set())
        return True

    async def pause(self, seconds: float) -> None:
        """Wait for *seconds*: see `Runtime.pause`."""
        with self._workers.aside():
            await asyncio.sleep(seconds)

    async def sleep(self, seconds: float) -> None:
        """Wait, with the user's *sleep* if there is one: see `Runtime.sleep`."""
        with self._workers.aside():
            await (self._sleep or asyncio.sleep)(seconds)

    def check_cancelled(self) -> None:
        """Raise an error if the task was cancelled, because a step may have swallowed the cancellation.

        See `Runtime.check_cancelled`.
        """
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise asyncio.CancelledError

    async def in_thread(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call a function, in a thread if this journal blocks. Returns its result. See `Runtime.in_thread`."""
        if not self._blocks:
            return function(*arguments)
        answer: T = await self._journal_threads().call(function, *arguments)
        return answer

    def _journal_threads(self) -> JournalThreads:
        if self._threads is None:
            self._threads = JournalThreads(self.loop, JOURNAL_THREADS, "fsm-mediator-journal")
        return self._threads

    def _stop_threads(self) -> None:
        threads, self._threads = self._threads, None
        if threads is not None:
            threads.stop()

    # Writing

    async def write(self, commit: Commit) -> Written:
        """Write *commit*: see `Runtime.write`.

        If this journal blocks, the commits that arrive during one write share the next write.
        """
        if not self._blocks:
            return self._journal.write(commit)
        written: asyncio.Future[Written] = self.loop.create_future()
        self._pending.append((commit, written))
        if not self._writing:
            self._writing = True
            self.loop.call_soon(self._write_pending)  # after the other tasks of this turn
        return await written

    def _write_pending(self) -> None:
        """Write all waiting commits together, repeatedly, until none is left. Only one thread at a time writes."""
        self._under_way, self._pending = self._pending, []
        self._writing = bool(self._under_way)
        if self._writing:
            commits = [commit for commit, _ in self._under_way]
            try:
                self._journal_threads().submit(self._journal.write_all, (commits,), self._answer_all)
            except RuntimeError as error:  # the system has no more threads
                self._answer_all(None, error)

    def _answer_all(self, results: Sequence[Written | JournalError] | None, error: BaseException | None) -> None:
        batch, self._under_way = self._under_way, []
        if results is None:  # every error is passed on: drivers must not wait forever
            logger.debug("commits could not be written", exc_info=error)
            results = [JournalError(f"{error}") for _ in batch]
        for (_, written), result in zip(batch, results, strict=True):
            if written.done():
                continue
            if isinstance(result, JournalError):
                written.set_exception(result)
            else:
                written.set_result(result)
        self._write_pending()

    # Calling steps

    async def call(self, call: StepCall) -> Answer:
        """Call a step's function: see `Runtime.call`. A coroutine runs on the loop, a plain function in a thread."""
        callback = call.effect.callback
        assert callback is not None
        if not callback.is_coroutine:
            return await self._call_in_thread(call)
        with self.aside():
            if call.effect.part.timeout is not None:
                return await self._await_in_time(call, callback.function(*call.arguments))
            try:
                value = await callback.function(*call.arguments)
            except BaseException as error:
                return self.raised(error)
        return Returned(value)

    def aside(self) -> contextlib.AbstractContextManager[None]:
        """A context in which the current task awaits the coroutine of a step: see `Runtime.aside`."""
        return self._workers.aside(waits=False)

    async def _await_in_time(self, call: StepCall, awaitable: Awaitable[Any]) -> Answer:
        """Await *awaitable* in its own task. After the timeout the task is cancelled, and may end within the grace."""
        seconds, grace = call.effect.part.timeout, max(call.grace, LEAST_GRACE)
        assert seconds is not None
        task = self._spawn(answer_of(awaitable))
        call.running = TaskCall(task, self._call_off_loop, blocks=self._blocks)
        try:
            late = not (await asyncio.wait((task,), timeout=seconds))[0]
            if late:
                task.cancel()
                if not (await asyncio.wait((task,), timeout=grace))[0]:
                    self._cancel_again(task, grace)
                    if call.may_be_overtaken:
                        call.running = None
                        return TimedOut(seconds)
                    return Abandoned(seconds + call.grace)
        except asyncio.CancelledError:
            task.cancel()
            await asyncio.wait((task,), timeout=grace)
            raise
        if task.cancelled():
            return TimedOut(seconds) if late else Raised(asyncio.CancelledError())
        answer = task.result()
        return replace(answer, late=late)

    def _cancel_again(self, task: asyncio.Task[Any], seconds: float) -> None:
        """Cancel a task every *seconds* until it ends, because it may swallow its cancellations."""
        if not task.done():
            task.cancel()
            self.loop.call_later(seconds, self._cancel_again, task, seconds)

    def _call_off_loop(self, function: Callable[..., object], *arguments: Any) -> None:
        """Call a function that may block on the journal, without waiting for it."""
        if self._blocks and not self.loop.is_closed():
            self._journal_threads().submit(function, arguments, _log_error)
        else:
            function(*arguments)

    async def _call_in_thread(self, call: StepCall) -> Answer:
        callback, seconds, late, ended = call.effect.callback, call.effect.part.timeout, False, self.event()
        assert callback is not None
        async with self._slots:
            thread = call.begin()
            thread.add_done_callback(lambda _: ended.set())
            try:
                thread.start()
                if not await self._wait(ended, seconds):
                    assert seconds is not None
                    if call.may_be_overtaken:
                        return TimedOut(seconds)
                    late = True
                    if not await self._wait(ended, call.grace):
                        return Abandoned(seconds + call.grace)
            except RuntimeError as error:
                if thread.revoke() and not thread.answered:
                    return Raised(error)  # the system has no more threads: the function was not called
                raise
        fault = thread.error
        if fault is None:
            if not asyncio.iscoroutine(thread.value):
                return Returned(thread.value, late)
            if seconds is not None:  # the coroutine of a lambda, or of a wrapper of a coroutine function
                return await self._await_in_time(call, thread.value)
            try:
                return Returned(await thread.value)
            except BaseException as error:
                return self.raised(error)
        return Raised(fault, late)

    def answer(self, call: StepCall, value: Any, late: bool = False) -> Answer:  # noqa: ARG002 - `Runtime` has it
        """The answer for a value that a step returned: see `Runtime.answer`."""
        return Returned(value, late)

    def raised(self, error: BaseException) -> Answer:
        """The answer for an error that a step raised: see `Runtime.raised`.

        *error* is raised again if it is an interrupt. A `CancelledError` or a `GeneratorExit` is raised again if it is
        meant for the task: the task was cancelled, or no loop runs.
        """
        if not isinstance(error, Exception):
            running = asyncio._get_running_loop() is not None
            task = asyncio.current_task() if running else None
            asked = task is None or task.cancelling()
            if is_interrupt(error) or (asked and isinstance(error, (asyncio.CancelledError, GeneratorExit))):
                raise  # noqa: PLE0704 - only called while an error is handled
        return Raised(without_own_frame(error))

    # Tasks

    def _spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = self.loop.create_task(work)
        self._tasks.add(task)  # the loop itself keeps only weak references
        task.add_done_callback(self._tasks.discard)
        return task

    async def attach(
        self, work: Callable[..., Coroutine[Any, Any, T]], *arguments: Any, detached: Callable[[Any], object]
    ) -> T | None:
        """Run *work* in a new task, at once up to its first wait, and wait for its result: see `Runtime.attach`."""
        task = eager_task(self.loop, work(*arguments))
        try:
            if task.done():
                self._at_once += 1
                if self._at_once % TURN == 0:
                    await asyncio.sleep(0)
            else:
                # This does the same as asyncio.shield, which needs two futures and one more turn of the loop.
                ended: asyncio.Future[None] = self.loop.create_future()
                self._tasks.add(task)
                task.add_done_callback(functools.partial(self._ended, ended))
                await ended
            return task.result()
        except asyncio.CancelledError:
            if not task.cancelled():
                detached(None)
                task.add_done_callback(functools.partial(_report_error, detached))
                raise
            current = asyncio.current_task()
            if current is None or current.cancelling():
                raise
            return None  # only the task was cancelled, not the caller: by close, or by a step
        finally:
            del task, work, arguments, detached  # a step's error keeps this frame alive; the run must not be

    def _ended(self, ended: asyncio.Future[None], task: asyncio.Future[Any]) -> None:
        self._tasks.discard(task)
        if not ended.done():
            ended.set_result(None)

    async def uncancellable(self, work: Callable[..., Coroutine[Any, Any, T]], *arguments: Any) -> T:
        """Run *work* to its end, even if the caller is cancelled: see `Runtime.uncancellable`."""
        task = self._spawn(work(*arguments))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            current = asyncio.current_task()
            if task.cancelled() and current is not None and not current.cancelling():
                # Closing has cancelled the task, but the caller is not cancelled.
                raise MediatorClosedError("this mediator is closed; make another one") from None
            raise

    def submit(
        self,
        work: Callable[[], Coroutine[Any, Any, None]],
        context: Context | None,  # noqa: ARG002 - a task has a copy of its creator's context
        never_ran: Callable[[], object],
    ) -> None:
        """Run *work* in a new task: see `Runtime.submit`."""
        task = self.loop.create_task(work())
        self._tasks.add(task)
        self._workers.add(task)

        def ended(_: object) -> None:  # one callback, because each is a turn of the loop
            self._tasks.discard(task)
            self._workers.ended(task)
            never_ran()

        task.add_done_callback(ended)

    @property
    def freed(self) -> LoopEvent:
        """An event that is set when a worker in the background becomes free: see `Runtime.freed`."""
        return self._workers.freed

    def free_workers(self) -> int:
        """The number of further executions that can be driven in the background: see `Runtime.free_workers`.

        *max_workers* does not limit tasks that run a coroutine of a step. A higher limit applies to all tasks together.
        """
        return self._workers.free

    def post(self, function: Callable[..., object], *arguments: Any) -> None:
        """Let the loop call *function* soon: see `Runtime.post`."""
        if self._bound is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nothing waits on it any more
                self._bound.call_soon_threadsafe(function, *arguments)

    def at(self, time: float, call: Callable[[], object]) -> LoopTimer:
        """Call *call* at *time*: see `Runtime.at`."""
        return LoopTimer(self.loop, self.clock, self.timers, time, call)

    async def stop(self) -> None:
        """Cancel all tasks: see `Runtime.stop`. Wait at most a second for a task that swallows its cancellation."""
        for timer in list(self.timers):
            timer.cancel()
        rest = self._tasks - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        for _, written in (*self._under_way, *self._pending):
            written.cancel()
        self._pending.clear()
        if rest:
            await asyncio.wait(rest, timeout=1.0)

    async def shut_down(self, *last: Callable[[], object]) -> None:
        """Call the functions *last*, then run nothing more: see `Runtime.shut_down`."""
        for function in last:
            await self.in_thread(function)
        self._stop_threads()


def _log_error(_: object, error: BaseException | None) -> None:
    if error is not None:
        logger.error("a call of the journal failed in the background", exc_info=error)


def _report_error(detached: Callable[[Any], object], task: asyncio.Future[Any]) -> None:
    error = asyncio.CancelledError() if task.cancelled() else task.exception()
    if error is not None:
        detached(error)
