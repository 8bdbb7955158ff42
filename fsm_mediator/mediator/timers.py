"""WakeTimers: claims parked executions again when they are due. One timer serves all of them.

A daemon finds due executions in the journal. These timers serve a mediator without a daemon.
"""

from __future__ import annotations

import heapq
import math
import threading
from collections.abc import Callable
from functools import partial


class WakeTimers:
    """Wakes executions when they are due, in the order of their times.

    An execution that has continued before its time is woken too. Its driver then finds that there is nothing to do.

    Args:
        set_timer: Calls a function at a given time, in seconds since the epoch, or shortly after it.
        clock: Returns the time, in seconds since the epoch.
        wake: Claims the execution with an id. Its second argument is a time that counts as passed.
    """

    def __init__(
        self,
        set_timer: Callable[[float, Callable[[], object]], object],
        clock: Callable[[], float],
        wake: Callable[[str, float], object],
    ) -> None:
        self._set_timer = set_timer
        self._clock = clock
        self._wake = wake
        self._lock = threading.Lock()
        self._heap: list[tuple[float, str, float]] = []
        self._set_for = math.inf

    def add(self, at: float, saga_id: str, until: float = -math.inf) -> None:
        """Wake the execution *saga_id* at time *at*, in seconds since the epoch.

        The time *until* then counts as passed, even if the clock shows an earlier time.
        """
        with self._lock:
            heapq.heappush(self._heap, (at, saga_id, until))
            if at >= self._set_for:
                return
            self._set_for = at
        self._set_timer(at, partial(self._fire, at))

    def _fire(self, set_for: float) -> None:
        due: list[tuple[float, str, float]] = []
        with self._lock:
            if set_for != self._set_for:
                return  # an earlier timer was set meanwhile, and replaces this timer
            now = max(self._clock(), set_for)  # *set_for* has passed, at least by the monotonic clock
            while self._heap and self._heap[0][0] <= now:
                due.append(heapq.heappop(self._heap))
            self._set_for = following = self._heap[0][0] if self._heap else math.inf
        if following < math.inf:
            self._set_timer(following, partial(self._fire, following))
        for at, saga_id, until in due:
            self._wake(saga_id, max(at, until))

    def rearm(self) -> None:
        """Set the timer again, because the former timer was lost with its thread or loop."""
        with self._lock:
            self._set_for = following = self._heap[0][0] if self._heap else math.inf
        if following < math.inf:
            self._set_timer(following, partial(self._fire, following))
