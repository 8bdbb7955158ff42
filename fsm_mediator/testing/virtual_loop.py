"""VirtualLoop: an event loop in virtual time. When no task can run, its time jumps, so that waits take no real time."""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol


class Clock(Protocol):
    """A clock that a `VirtualLoop` moves together with its own time."""

    def advance(self, seconds: float) -> None:
        """Move the clock forward by *seconds*."""


class _Jumping(selectors.DefaultSelector):
    """A selector that moves the loop's time instead of waiting for a timeout."""

    loop: VirtualLoop

    def select(self, timeout: float | None = None) -> list[Any]:
        self.loop.is_woken = False
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if timeout is not None and not self.loop.awaits_others:
            self.loop.jumps()
            if ready := super().select(0):
                return ready
            self.loop.pass_time(timeout)
            return []
        began = time.monotonic()
        ready = self.loop.idle(super().select, timeout)
        if timeout is not None:
            self.loop.pass_time(min(timeout, time.monotonic() - began) if ready else timeout)
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop in virtual time. The time jumps to the next timer when no task can run.

    While the loop waits for a thread or a socket, its time passes like real time. A jump would end the timeout of a
    thread or a socket before it can answer.

    Args:
        clock: A clock to move together with the loop's time.

    Attributes:
        clock: The clock that moves together with the loop's time. None if there is no such clock.
        jumps: A function that is called before the time jumps.
        idle: A function that is called when the loop must wait for a thread or a socket. It gets the blocking `select`
            and a timeout in seconds.
        is_woken: Whether another thread has scheduled a callback that has not run yet.
        in_threads: One object for each call that runs in a thread now.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        selector = _Jumping()
        selector.loop = self
        self._now = 0.0
        self.clock = clock
        self.in_threads: set[object] = set()
        super().__init__(selector)
        self._own_files = len(selector.get_map())
        self.jumps: Callable[[], object] = lambda: None
        self.idle: Callable[..., list[Any]] = lambda select, timeout: select(timeout)
        self.is_woken: bool = False

    def time(self) -> float:
        """The time of this loop, in seconds since its creation."""
        return self._now

    def pass_time(self, seconds: float) -> None:
        """Move the time of the loop, and its *clock* if it has one, forward by *seconds*."""
        if seconds > 0:
            self._now += seconds
            if self.clock is not None:
                self.clock.advance(seconds)

    @property
    def awaits_others(self) -> bool:
        """Whether the loop waits for a thread or a socket. Then its time does not jump."""
        return bool(self.in_threads) or len(self._selector.get_map()) > self._own_files  # type: ignore[attr-defined]

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:  # noqa: ARG002
        """Shut the executor down as in any event loop, but ignore *timeout*, because the time may jump past it."""
        await super().shutdown_default_executor()

    def call_soon_threadsafe(self, *arguments: Any, **settings: Any) -> asyncio.Handle:  # type: ignore[override]
        """Schedule a callback from another thread, as in any event loop. This also sets *is_woken*."""
        self.is_woken = True
        return super().call_soon_threadsafe(*arguments, **settings)

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        """Call *func* in a thread, as in any event loop. The loop's time does not jump until the call has returned."""
        future = super().run_in_executor(executor, func, *args)
        self.in_threads.add(future)
        future.add_done_callback(self.in_threads.discard)
        return future


@contextmanager
def thread_awaited() -> Iterator[None]:
    """Inside of the ``with`` block, the time of the running loop does not jump.

    Use it while the loop waits for a thread that its executor did not start. It has an effect only on a `VirtualLoop`.
    """
    loop, call = asyncio._get_running_loop(), object()
    if isinstance(loop, VirtualLoop):
        loop.in_threads.add(call)
    try:
        yield
    finally:
        if isinstance(loop, VirtualLoop):
            loop.in_threads.discard(call)
