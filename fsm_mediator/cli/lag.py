"""The lines of `serve` about rows that its relays have not passed on."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from fsm_mediator.cli.console import err, say
from fsm_mediator.prometheus import lags_of


class ShownLag:
    """A relay that passes nothing on. It prints a line if outbox rows have waited for longer than *every*.

    Args:
        every: Seconds between two checks, and the age of a row, in seconds, from which a line is printed.
        clock: Returns the time, in seconds.
    """

    def __init__(self, *, every: float = 10.0, clock: Callable[[], float] = time.time) -> None:
        self._every = every
        self._clock = clock
        self._looked = 0.0
        self._states: dict[int, tuple[bool, int]] = {}

    async def pass_on(self, mediator: Any) -> int:
        """Check the other relays of the mediator, if it is time. A daemon calls this method. Returns 0."""
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
