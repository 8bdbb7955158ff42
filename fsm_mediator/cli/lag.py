"""The lines that `serve` prints about outbox rows that its relays have not passed on."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from fsm_mediator.cli.console import err, say
from fsm_mediator.prometheus import lags_of


class ShownLag:
    """Prints a line if outbox rows have waited for at least *every* seconds, or if a relay has marked rows as refused.

    This class has the interface of a relay, so that a daemon calls it, but it passes no rows on.

    Args:
        every: The number of seconds between two checks, and the age of a row in seconds at which it counts as late.
        clock: A function that returns the time in seconds since the epoch.
    """

    def __init__(self, *, every: float = 10.0, clock: Callable[[], float] = time.time) -> None:
        self._every = every
        self._clock = clock
        self._looked = 0.0
        self._states: dict[int, tuple[bool, int]] = {}

    async def pass_on(self, mediator: Any) -> int:
        """Check the relays if the last check is at least *every* seconds ago. Returns 0: no row is passed on."""
        now = self._clock()
        if now < self._looked + self._every:
            return 0
        self._looked = now
        for number, lag in enumerate(await lags_of(mediator)):
            late = [f"{lag.waiting} waiting, the oldest for {lag.seconds:.0f} s"] if lag.seconds >= self._every else []
            refused = [f"{lag.refused} refused: see the column refused"] if lag.refused else []
            state = bool(late), lag.refused
            if state != self._states.get(number, (False, 0)):
                self._states[number] = state
                words = "; ".join(late + refused) or "nothing is late"
                say(f"outbox {number}: {words}", "dim", to=err)
        return 0
