"""The parts of `LoopRuntime`: an event that any thread can set, a timer, and a call in its own task."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, Final

from fsm_mediator.error_types import is_interrupt
from fsm_mediator.mediator.pool import without_own_frame
from fsm_mediator.records import Answer, Raised, Returned

MOST_AT_WORK: Final = 256
"""The maximum number of executions that work in the background of one event loop. While so many work, no further
execution is claimed.
"""


class LoopEvent(asyncio.Event):
    """An `asyncio.Event` that any thread can set."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._home = loop

    def set(self) -> None:
        """Set the event: at once in the thread of its loop, otherwise soon."""
        if asyncio._get_running_loop() is self._home:
            super().set()
        else:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nothing waits on it any more
                self._home.call_soon_threadsafe(super().set)


class Workers:
    """The tasks that drive executions in the background. A waiting task does not count as working.

    Args:
        loop: The event loop of the tasks.
        most: The number of tasks that may work at a time. Tasks that are in coroutines of steps do not count.

    Attributes:
        freed: An event that is set whenever a task ends or waits.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, most: int) -> None:
        self.freed: LoopEvent = LoopEvent(loop)
        self._most = most
        self._all: set[asyncio.Task[Any]] = set()
        self._waiting: set[asyncio.Task[Any]] = set()
        self._in_coroutines: set[asyncio.Task[Any]] = set()
        self._waits, self._awaits = _Aside(self, self._waiting), _Aside(self, self._in_coroutines)

    def add(self, task: asyncio.Task[Any]) -> None:
        """Count *task* as a worker until `ended` is called with it."""
        self._all.add(task)

    def ended(self, task: asyncio.Task[Any]) -> None:
        """Stop counting *task* as a worker, because it has ended."""
        self._all.discard(task)
        self.freed.set()

    @property
    def free(self) -> int:
        """The number of further tasks that may begin to work now."""
        at_work = self._all - self._waiting
        return max(0, min(MOST_AT_WORK - len(at_work), self._most - len(at_work - self._in_coroutines)))

    def aside(self, *, waits: bool = True) -> contextlib.AbstractContextManager[None]:
        """A context in which the current task counts as waiting.

        If *waits* is False, the task counts as running a coroutine of a step instead.
        """
        if asyncio.current_task() not in self._all:
            return _NO_WORKER
        return self._waits if waits else self._awaits


class _Aside(contextlib.AbstractContextManager[None]):
    """A context that marks the current task as waiting, or as running a coroutine of a step.

    It is a class, because a generator would add its frame to errors of steps.
    """

    def __init__(self, workers: Workers, those: set[asyncio.Task[Any]]) -> None:
        self._workers = workers
        self._those = those

    def __enter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._those.add(task)
        self._workers.freed.set()

    def __exit__(self, *_: object) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._those.discard(task)


_NO_WORKER: Final = contextlib.nullcontext()


class LoopTimer:
    """A function that is called as soon as the loop's clock or the mediator's clock reaches a given time."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        clock: Callable[[], float],
        timers: set[LoopTimer],
        time: float,
        call: Callable[[], object],
    ) -> None:
        self._loop, self._clock, self._timers = loop, clock, timers
        self._time, self._call = time, call
        self._ends = loop.time() + (time - clock())
        timers.add(self)
        self._arm()

    def _arm(self) -> None:
        wait = min(max(0.0, self._time - self._clock()), max(0.0, self._ends - self._loop.time()), 60.0)
        self._handle = self._loop.call_later(wait, self._fire)

    def _fire(self) -> None:
        if self._time > self._clock() and self._ends > self._loop.time():
            self._arm()
        else:
            self._timers.discard(self)
            self._call()

    def cancel(self) -> None:
        """Cancel the call of the function."""
        self._handle.cancel()
        self._timers.discard(self)


class TaskCall:
    """A call of a coroutine function in its own task. See `RunningCall`.

    Args:
        task: The task.
        call_off_loop: Calls a function in a thread where it may block.
        blocks: Whether *call_off_loop* uses a thread. If not, it uses the loop, where code must not wait.
    """

    def __init__(self, task: asyncio.Task[Answer], call_off_loop: Callable[..., None], *, blocks: bool) -> None:
        self._task = task
        self._call_off_loop = call_off_loop
        self._blocks = blocks

    @property
    def value(self) -> Any:
        """The return value of the call."""
        answer = None if self._task.cancelled() else self._task.result()
        return answer.value if isinstance(answer, Returned) else None

    @property
    def error(self) -> BaseException | None:
        """The error that the call raised. None if it raised no error."""
        if self._task.cancelled():
            return asyncio.CancelledError()
        answer = self._task.result()
        return answer.error if isinstance(answer, Raised) else None

    @property
    def answered(self) -> bool:
        """Whether the call has answered, and a thread is about to journal the answer."""
        return self._blocks and self._task.done()

    def revoke(self) -> bool:
        """Return whether the call has ended. The call cannot be prevented, because its task already exists."""
        return self._task.done()

    def add_done_callback(self, call: Callable[[TaskCall], None]) -> None:
        """Call *call* when this call has answered, in a thread where *call* may block."""
        self._task.add_done_callback(lambda _: self._call_off_loop(call, self))


async def answer_of(awaitable: Awaitable[Any]) -> Returned | Raised:
    """Await *awaitable*, the coroutine of a step, and return its answer.

    Errors are returned, not raised, because a `SystemExit` that leaves a task would end the loop.
    """
    try:
        return Returned(await awaitable)
    except asyncio.CancelledError:
        raise
    except BaseException as error:
        if is_interrupt(error) or asyncio._get_running_loop() is None:
            raise
        return Raised(without_own_frame(error))
