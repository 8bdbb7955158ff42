"""Judging the error of a step: whether the attempt is in doubt, whether to repeat it, and after how long.

An exception group is judged by the exceptions in it, at any depth. If the error is no `Exception`, it ended the step
during its call: the attempt is in doubt, and is repeated as after a crash.
"""

from __future__ import annotations

from typing import Final

from fsm_mediator.error_types import (
    OutcomeUnknownError,
    ResultRefusedError,
    RetryAfterError,
    StepSignalError,
    leaves_of,
)
from fsm_mediator.machine.parts import Part
from fsm_mediator.retry import Retry

SPECIAL: Final = (StepSignalError, ResultRefusedError, BaseExceptionGroup)
"""The exceptions that are not judged by their class alone."""


def leaves_doubt(part: Part, error: BaseException) -> bool:
    """Whether the attempt at *part* that raised *error* may have had its effect."""
    if isinstance(error, BaseExceptionGroup):
        return any(leaves_doubt(part, leaf) for leaf in leaves_of(error))
    if isinstance(error, StepSignalError):
        return isinstance(error, OutcomeUnknownError)
    if not isinstance(error, Exception):
        return True
    if not isinstance(error, part.in_doubt_on):
        return False
    if not isinstance(error, part.no_effect_on):
        return True
    # The more specific class counts.
    doubtful = [kind for kind in part.in_doubt_on if isinstance(error, kind)]
    return not any(
        isinstance(error, sure) and all(issubclass(sure, kind) for kind in doubtful) for sure in part.no_effect_on
    )


def is_worth_retrying(policy: Retry, error: BaseException) -> bool:
    """Whether *policy* repeats an attempt that raised *error*, if attempts are left."""
    return policy.covers(error) if isinstance(error, Exception) else True


def wait_after(error: BaseException, wait: float) -> float:
    """Seconds until the next attempt: *wait*, or longer if the step asks for it with a `RetryAfterError`."""
    if isinstance(error, BaseExceptionGroup):
        return max(wait_after(leaf, wait) for leaf in leaves_of(error))
    return max(wait, error.seconds) if isinstance(error, RetryAfterError) else wait
