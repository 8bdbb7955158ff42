"""VirtualClock: a clock that moves only when a mediator waits, so that hours of backoff take microseconds."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from fsm_mediator.errors import DefinitionError
from fsm_mediator.retry import check_number
from fsm_mediator.testing.virtual_loop import VirtualLoop


class VirtualClock:
    """A clock for mediators under test. Its time moves only when a mediator waits. Each wait returns at once.

    Use it as ``Mediator(saga, **clock.settings)`` or ``AsyncMediator(saga, **clock.async_settings)``. Only the waits of
    the mediator take no real time. A step that sleeps by itself takes real time, and so does the timeout of a step. To
    make the waits and timeouts of coroutines instant too, use `event_loop`:
    ``asyncio.Runner(loop_factory=clock.event_loop)``.

    Attributes:
        now: The time, in seconds since the epoch.
        slept: Every wait so far, in seconds.
        chance: The number from 0 to 1 that mediators use as the random number for the jitter of waits.

    Raises:
        DefinitionError: *now* or *chance* is out of range, or is not a number.
    """

    def __init__(self, now: float = 1_700_000_000.0, *, chance: float = 0.5) -> None:
        check_number("VirtualClock: now (seconds)", now)
        check_number("VirtualClock: chance", chance)
        if chance > 1:
            raise DefinitionError(f"VirtualClock: chance is a number from 0 to 1, not {chance!r}")
        self.now: float = now
        self.slept: list[float] = []
        self.chance = chance
        self._lock = threading.Lock()

    def __call__(self) -> float:
        """The current time of this clock, in seconds since the epoch."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Move the clock forward by *seconds*, and return at once."""
        with self._lock:
            self.slept.append(round(seconds, 6))
            self.now += seconds

    async def sleep_async(self, seconds: float) -> None:
        """Move the clock forward by *seconds*. On a loop from `event_loop`, other tasks run during the wait."""
        loop = asyncio.get_running_loop()
        if isinstance(loop, VirtualLoop) and loop.clock is self:
            with self._lock:
                self.slept.append(round(seconds, 6))
            await asyncio.sleep(seconds)
        else:
            self.sleep(seconds)

    def event_loop(self) -> VirtualLoop:
        """A new event loop that moves this clock. When no task can run, the time jumps to the next timer."""
        return VirtualLoop(self)

    def advance(self, seconds: float) -> None:
        """Move the clock forward by *seconds*. `slept` does not change.

        Raises:
            DefinitionError: *seconds* is negative or not a number.
        """
        check_number("VirtualClock.advance (seconds)", seconds)
        with self._lock:
            self.now += seconds

    @property
    def settings(self) -> dict[str, Any]:
        """The keyword arguments that make a `Mediator` use this clock: ``Mediator(saga, **clock.settings)``."""
        return {"clock": self, "sleep": self.sleep, "chance": lambda: self.chance}

    @property
    def async_settings(self) -> dict[str, Any]:
        """The keyword arguments that make an `AsyncMediator` use this clock."""
        return {"clock": self, "sleep": self.sleep_async, "chance": lambda: self.chance}

    def __repr__(self) -> str:
        return f"<VirtualClock {self.now:.3f} s>"
