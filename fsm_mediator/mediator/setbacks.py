"""Setbacks: executions that could not be driven in the background, and when each is to be tried again."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Final

from fsm_mediator.errors import JournalError, MediatorError
from fsm_mediator.retry import Retry

logger: logging.Logger = logging.getLogger("fsm_mediator")

BACKOFF: Final = Retry(attempts=None, wait_initial=0.5, wait_max=300.0, wait_jitter=0.0)
"""How long an execution waits that could not be driven so many times in a row."""


class Setbacks:
    """Remembers for each execution how often it could not be driven in a row.

    Args:
        monotonic: Returns the time, in seconds since any moment.

    Attributes:
        timer_max: The most seconds of a wait that ends with a timer of the mediator's, where the journal was to blame.
    """

    timer_max: float = 30.0

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._failed: dict[str, tuple[int, float]] = {}

    def log(self, saga_id: str, error: MediatorError) -> float | None:
        """Log that nothing drives it any more; the seconds after which to claim it again, None: only a daemon does."""
        timer = type(error) is JournalError
        wait = self.note(saga_id, timer=timer)
        later = f"and taken up again in {wait:g} s" if timer else f"and a daemon tries it again in {wait:g} s"
        logger.error("execution %r is left where it stands, %s: %s", saga_id, later, error)
        return wait if timer else None

    def note(self, saga_id: str, *, timer: bool = True) -> float:
        """Note one more. Returns the seconds until the next try; *timer*: a timer is set, and no daemon tries."""
        count = self._failed.get(saga_id, (0, 0.0))[0] + 1
        wait = min(BACKOFF.wait(count, 0.0), self.timer_max if timer else math.inf)
        self._failed[saga_id] = (count, math.inf if timer else self._monotonic() + wait)
        return wait

    def forget(self, saga_id: str) -> None:
        """It could be driven."""
        self._failed.pop(saga_id, None)

    def waiting(self) -> list[str]:
        """The executions for which it is too early: see `is_waiting`."""
        return [saga_id for saga_id in list(self._failed) if self.is_waiting(saga_id)]

    def is_waiting(self, saga_id: str) -> bool:
        """Whether it is too early for a daemon to try again."""
        return self._monotonic() < self._failed.get(saga_id, (0, -math.inf))[1]
