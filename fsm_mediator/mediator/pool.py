"""Pool: a bounded thread pool, a timer thread, and a call in its own thread. This module does not depend on sagas.

All threads are daemon threads, so that a step that hangs cannot keep a process from ending. The attempt of such a step
is in the journal, where another driver finds it. The threads of the pool and the timer thread end when they are idle
for a while, and start again when they are needed. Therefore a mediator that is never closed leaves no threads.
"""

from __future__ import annotations

import contextlib
import contextvars
import heapq
import itertools
import logging
import queue
import threading
import time as _time
from collections.abc import Callable, Iterator
from typing import Any, Final, Protocol

logger: logging.Logger = logging.getLogger(__name__)

IDLE: Final = 10.0
"""Seconds for which an idle thread is kept."""

_pool: contextvars.ContextVar[ThreadPool | None] = contextvars.ContextVar("fsm_mediator_pool", default=None)
"""The pool of the running job. It is a context variable, because a step of the job may run in another thread."""


class ThreadPool:
    """Runs jobs in order, in at most *most* threads. Threads are created when they are needed.

    A thread that waits for other threads (`blocked`) does not count. Therefore jobs that wait for other jobs do not
    block the pool.

    Attributes:
        freed: An event that is set whenever another job could begin.
    """

    def __init__(self, most: int, name: str) -> None:
        self._most = most
        self._name = name
        self._jobs: queue.SimpleQueue[tuple[contextvars.Context, Callable[[], None]] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        # The lock protects each of these attributes.
        self._threads = 0
        self._idle = 0  # threads that wait for a job, or are about to
        self._queued = 0  # the jobs that no thread has taken yet
        self._blocked = 0
        self._stopped = False
        self.freed: threading.Event = threading.Event()

    @property
    def free(self) -> int:
        """The number of further jobs that could begin at once."""
        with self._lock:
            return max(0, self._most + self._blocked - (self._threads - self._idle) - self._queued)

    def submit(self, job: Callable[[], None], context: contextvars.Context | None = None) -> bool:
        """Run *job* soon, in a copy of *context*. An error of the job is logged. False if the pool was stopped."""
        context = contextvars.copy_context() if context is None else context.copy()
        with self._lock:
            if self._stopped:
                return False
            self._queued += 1
            self._jobs.put((context, job))
        self._grow()
        return True

    def stop(self) -> None:
        """Accept no more jobs. Each thread ends when no job is left."""
        with self._lock:
            self._stopped = True
            for _ in range(self._threads):
                self._jobs.put(None)

    @contextlib.contextmanager
    def blocked(self) -> Iterator[None]:
        """A context in which the caller waits for other threads. Meanwhile, the pool may start another thread."""
        if _pool.get() is not self:
            yield
            return
        with self._lock:
            self._blocked += 1
        self._grow()
        self.freed.set()
        try:
            yield
        finally:
            with self._lock:
                self._blocked -= 1

    def _grow(self) -> None:
        with self._lock:
            if self._queued <= self._idle or self._threads - self._blocked >= self._most:
                return
            self._threads += 1
            self._idle += 1
        thread = threading.Thread(target=self._work, name=f"{self._name}-{next(self._numbers)}", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the system has no more threads: the job waits for another thread
            logger.exception("%s: a thread could not be started", self._name)
            with self._lock:
                self._threads -= 1
                self._idle -= 1

    def _work(self) -> None:
        while True:
            try:
                todo = self._jobs.get(timeout=IDLE)
            except queue.Empty:
                with self._lock:
                    if self._queued >= self._idle:
                        continue  # a job has just come for this thread
                    self._thread_exits()
                    return
            if todo is None:
                with self._lock:
                    self._thread_exits()
                return
            with self._lock:
                self._queued -= 1
                self._idle -= 1
            context, job = todo
            try:
                context.run(self._perform, job)
            except BaseException:
                logger.exception("a background job of %s ended with an error", self._name)
            del todo, context, job
            with self._lock:
                self._idle += 1
                if self._threads - self._blocked > self._most:  # this thread replaced a blocked thread
                    self._thread_exits()
                    return
            self.freed.set()

    def _perform(self, job: Callable[[], None]) -> None:
        _pool.set(self)
        job()

    def _thread_exits(self) -> None:
        self._threads -= 1
        self._idle -= 1


class Timer:
    """A function that will be called at a given time."""

    __slots__ = ("_timers", "call")

    def __init__(self, timers: TimerThread, call: Callable[[], object]) -> None:
        self._timers = timers
        self.call: Callable[[], object] | None = call

    def cancel(self) -> None:
        """Cancel the call, and forget the function."""
        if self.call is not None:
            self.call = None
            self._timers._compact()


class TimerThread:
    """Calls functions at given times, on its own thread. The functions must be quick."""

    def __init__(self, clock: Callable[[], float], name: str) -> None:
        self._clock = clock
        self._name = name
        self.heap: list[tuple[float, int, float, Timer]] = []  # by the monotonic clock
        self._ahead = 0.0
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._cancelled = 0
        self._stopped = False

    def at(self, time: float, call: Callable[[], object]) -> Timer:
        """Call *call* at *time*, in seconds since the epoch, or at once if *time* is in the past. Returns the timer."""
        timer = Timer(self, call)
        ends = _time.monotonic() + (time - self._clock())
        with self._changed:
            if self._stopped:
                return timer
            heapq.heappush(self.heap, (ends, next(self._numbers), time, timer))
            if self._thread is None:
                thread = threading.Thread(target=self._watch, name=self._name, daemon=True)
                thread.start()
                self._thread = thread
            elif self.heap[0][3] is timer:
                self._changed.notify()
        return timer

    def _compact(self) -> None:
        """Count a cancelled timer. If most timers are cancelled, remove them from the heap.

        A cancelled timer that is not removed stays in the heap until its time, which may be days away.
        """
        with self._changed:
            self._cancelled += 1
            if self._cancelled > 64 and self._cancelled * 2 > len(self.heap):
                self.heap = [entry for entry in self.heap if entry[3].call is not None]
                heapq.heapify(self.heap)
                self._cancelled = 0

    def stop(self) -> None:
        """Remove all timers, and ignore timers that are set later."""
        with self._changed:
            self._stopped = True
            self.heap.clear()
            self._changed.notify()

    def _follow_the_clock(self) -> None:
        """If the clock was set forward, let the timers end earlier.

        If the clock was set back, the timers keep their monotonic times.
        """
        clock, now = self._clock(), _time.monotonic()
        ahead, self._ahead = self._ahead, clock - now
        if clock - now > ahead + 0.01:
            self.heap = [
                (min(ends, now + time - clock), number, time, timer) for ends, number, time, timer in self.heap
            ]
            heapq.heapify(self.heap)

    def _watch(self) -> None:
        while True:
            with self._changed:
                if not self.heap:
                    if self._stopped or not self._changed.wait_for(lambda: self.heap or self._stopped, IDLE):
                        self._thread = None
                        return
                    continue
                self._follow_the_clock()
                wait = self.heap[0][0] - _time.monotonic()
                if wait > 0:
                    self._changed.wait(min(wait, 60.0))  # in slices, because the clock may be set forward meanwhile
                    continue
                timer = heapq.heappop(self.heap)[3]
                call, timer.call = timer.call, None
            if call is not None:
                try:
                    call()
                except Exception:
                    logger.exception("a timer of %s ended with an error", self._name)
            del timer, call


class RunningCall(Protocol):
    """A running call. A driver can wait for it, and can leave it behind if it does not answer.

    Attributes:
        value: The result of the call.
        error: The exception of the call. None if it raised none.
    """

    @property
    def value(self) -> Any: ...  # noqa: D102

    @property
    def error(self) -> BaseException | None: ...  # noqa: D102

    @property
    def answered(self) -> bool:
        """Whether the call has answered."""
        ...

    def revoke(self) -> bool:
        """Prevent the call from starting. Returns False if it already runs."""
        ...

    def add_done_callback(self, call: Callable[[Any], None]) -> None:
        """Call *call* when this call has answered, in a thread where *call* may block."""
        ...


class ThreadCall:
    """A call in its own thread. A driver can wait for it, and can leave it behind if it does not answer.

    Attributes:
        value: The result of the call.
        error: The exception of the call. None if it raised none.
    """

    def __init__(self, function: Callable[..., Any], arguments: tuple[Any, ...], name: str) -> None:
        self.value: Any = None
        self.error: BaseException | None = None
        self._done = threading.Event()
        self._lock = threading.Lock()
        self._begun = self._revoked = False
        self._callbacks: list[Callable[[ThreadCall], None]] = []
        self._call = (contextvars.copy_context(), function, arguments)
        self._name = name

    def start(self) -> None:
        """Start the thread.

        Raises:
            RuntimeError: The system has no more threads. The function was not called.
        """
        threading.Thread(target=self._run, name=self._name, daemon=True).start()

    def revoke(self) -> bool:
        """Prevent the call from starting. Returns False if the call is running.

        This method is needed if a signal interrupts `start`: then it is unknown whether the thread exists.
        """
        with self._lock:
            self._revoked = not self._begun
            return self._revoked or self._done.is_set()

    def _run(self) -> None:
        with self._lock:
            if self._revoked:
                return
            self._begun = True
        context, function, arguments = self._call
        try:
            self.value = context.run(function, *arguments)
        except BaseException as error:
            self.error = without_own_frame(error)
        del self._call, context, function, arguments
        with self._lock:
            self._done.set()
            callbacks = self._callbacks
        for call in callbacks:
            call(self)
        del self  # the error keeps this frame alive; through *self* the frame would keep the error alive

    def wait(self, seconds: float | None = None) -> bool:
        """Wait for the answer, at most *seconds*. Returns whether the call has answered."""
        return self._done.wait(seconds)

    @property
    def answered(self) -> bool:
        """Whether the call has answered."""
        return self._done.is_set()

    def add_done_callback(self, call: Callable[[ThreadCall], None]) -> None:
        """Call *call* when this call has answered: in this call's thread, or at once in the caller's thread."""
        with self._lock:
            if not self._done.is_set():
                self._callbacks = [*self._callbacks, call]
                return
        call(self)


def without_own_frame(error: BaseException) -> Any:
    """Return *error* with a traceback that begins in the step. No frame of this library is then kept alive."""
    if error.__traceback__ is not None:
        error.__traceback__ = error.__traceback__.tb_next
    return error
