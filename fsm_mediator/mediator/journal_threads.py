"""JournalThreads: threads that call a journal for the tasks of one event loop.

A call wakes one thread, and the answer wakes the loop. A thread pool of the standard library needs about twice as many
context switches. It also wakes its threads through a semaphore, and passes each answer from the future of the thread to
a future of the loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import queue
import threading
import weakref
from collections.abc import Callable
from typing import Any, Final, TypeAlias

from fsm_mediator.mediator.pool import without_own_frame

Answered: TypeAlias = Callable[[Any, BaseException | None], object]
"""A function that is called on the loop with the result of a call, or with its error."""

_Calls: TypeAlias = "queue.SimpleQueue[tuple[Callable[..., Any], tuple[Any, ...], Answered, Callable[[], bool]] | None]"


class JournalThreads:
    """Calls a journal in at most *most* threads, which are created when needed. Call all methods on the loop.

    The threads end after `stop`, or when the object is no longer referenced. The threads are daemon threads, so that a
    journal that hangs cannot keep a process from ending.

    Args:
        loop: The event loop.
        most: The maximum number of threads.
        name: The prefix of the threads' names.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, most: int, name: str) -> None:
        self._loop = loop
        self._most = most
        self._name = name
        self._calls: _Calls = queue.SimpleQueue()
        self._threads = 0
        self._under_way = 0  # the calls without an answer
        # Only a loop with a virtual clock has this set. Its time does not jump while the set has a call.
        self._awaited: Final[set[object] | None] = getattr(loop, "in_threads", None)
        self._end = weakref.finalize(self, _end_all, self._calls, most)

    async def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call *function* in a thread, and return its result.

        If the caller is cancelled before the call begins, the call is not made.
        """
        answer: asyncio.Future[Any] = self._loop.create_future()
        self.submit(function, arguments, functools.partial(_pass_on, answer), answer.cancelled)
        return await answer

    def submit(
        self,
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
        answered: Answered,
        is_cancelled: Callable[[], bool] = bool,
    ) -> None:
        """Call *function* in a thread, then call *answered* on the loop, unless the loop is closed by then.

        Raises:
            RuntimeError: The system has no more threads, and no thread was created yet.
        """
        if self._under_way >= self._threads < self._most:
            self._start_thread()
        self._under_way += 1
        if self._awaited is not None:
            self._awaited.add(answered)
        self._calls.put((function, arguments, functools.partial(self._answer, answered), is_cancelled))

    def _start_thread(self) -> None:
        name = f"{self._name}_{self._threads}"
        thread = threading.Thread(target=_work, args=(self._loop, self._calls), name=name, daemon=True)
        try:
            thread.start()
        except RuntimeError:
            if not self._threads:
                raise
        else:
            self._threads += 1

    def _answer(self, answered: Answered, result: Any, error: BaseException | None) -> None:
        self._under_way -= 1
        if self._awaited is not None:
            self._awaited.discard(answered)
        answered(result, error)

    def stop(self) -> None:
        """End the threads, after they have made all calls."""
        self._end()


def _end_all(calls: _Calls, threads: int) -> None:
    for _ in range(threads):
        calls.put(None)


def _pass_on(answer: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if answer.done():
        return
    if error is None:
        answer.set_result(result)
    else:
        answer.set_exception(error)


def _work(loop: asyncio.AbstractEventLoop, calls: _Calls) -> None:
    """Make the calls in a queue, one after the other. A waiting thread keeps no object of its last call alive."""
    while (call := calls.get()) is not None:
        function, arguments, answered, is_cancelled = call
        result = fault = None
        try:
            if not is_cancelled():
                result = function(*arguments)
        except BaseException as error:  # the task that waits for the answer raises it
            fault = without_own_frame(error)
        with contextlib.suppress(RuntimeError):  # the loop is closed: nothing waits for the answer
            loop.call_soon_threadsafe(answered, result, fault)
        del call, function, arguments, answered, is_cancelled, result, fault
