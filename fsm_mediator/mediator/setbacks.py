"""Setbacks: counts the failures to drive executions in the background, and decides when each is tried again."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Final

from fsm_mediator.errors import JournalError, MediatorError
from fsm_mediator.retry import Retry

logger: logging.Logger = logging.getLogger("fsm_mediator")

BACKOFF: Final = Retry(attempts=None, wait_initial=0.5, wait_max=300.0, wait_jitter=0.0)
"""The waits between tries to drive an execution, after consecutive failures."""


class Setbacks:
    """Counts the consecutive failures to drive each execution.

    Args:
        monotonic: Returns the time of a clock that is never set back, in seconds.

    Attributes:
        timer_max: The maximum number of seconds of a wait after a failure of the journal. A timer of the mediator ends
            such a wait.
    """

    timer_max: float = 30.0

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._failed: dict[str, tuple[int, float]] = {}

    def log(self, saga_id: str, error: MediatorError) -> float | None:
        """Log that an execution is no longer driven, because of *error*.

        Returns the seconds after which a timer claims it again. None if only a daemon claims it again.
        """
        timer = type(error) is JournalError
        wait = self.note(saga_id, timer=timer)
        later = f"and taken up again in {wait:g} s" if timer else f"and a daemon tries it again in {wait:g} s"
        logger.error("execution %r is left in its current state, %s: %s", saga_id, later, error)
        return wait if timer else None

    def note(self, saga_id: str, *, timer: bool = True) -> float:
        """Count a failure. Returns the seconds until the next try.

        *timer* says whether a timer makes the next try. Otherwise a daemon makes it.
        """
        count = self._failed.get(saga_id, (0, 0.0))[0] + 1
        wait = min(BACKOFF.wait(count, 0.0), self.timer_max if timer else math.inf)
        self._failed[saga_id] = (count, math.inf if timer else self._monotonic() + wait)
        return wait

    def forget(self, saga_id: str) -> None:
        """Reset the count of an execution after it could be driven."""
        self._failed.pop(saga_id, None)

    def waiting(self) -> list[str]:
        """The ids of the executions for which `is_waiting` is true: it is too early for a daemon to try them again."""
        return [saga_id for saga_id in list(self._failed) if self.is_waiting(saga_id)]

    def is_waiting(self, saga_id: str) -> bool:
        """Whether it is too early for a daemon to try an execution again after a failure."""
        return self._monotonic() < self._failed.get(saga_id, (0, -math.inf))[1]
