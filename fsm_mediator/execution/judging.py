"""The meaning of a step's exception: whether the attempt is in doubt, whether it is repeated, and after how long.

The meaning of an exception group follows from the exceptions in the group, at any depth. A `BaseException` that is no
`Exception`, such as `SystemExit`, ended the step during its call. Then the attempt is in doubt and is repeated, as
after a crash.
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
"""The exceptions whose meaning does not follow from the settings of the step alone."""


def leaves_doubt(part: Part, error: BaseException) -> bool:
    """Whether the attempt at *part* that raised *error* may have had its effect."""
    if isinstance(error, BaseExceptionGroup):
        return any(leaves_doubt(part, leaf) for leaf in leaves_of(error))
    if isinstance(error, StepSignalError):
        return isinstance(error, OutcomeUnknownError)
    if not isinstance(error, Exception):
        return True
    # If both settings have a class of the error, the more specific class counts.
    doubtful = [kind for kind in part.in_doubt_on if isinstance(error, kind)]
    return bool(doubtful) and not any(
        isinstance(error, sure) and all(issubclass(sure, kind) for kind in doubtful) for sure in part.no_effect_on
    )


def is_worth_retrying(policy: Retry, error: BaseException) -> bool:
    """Whether *policy* repeats an attempt that raised *error*, if attempts are left."""
    return policy.covers(error) if isinstance(error, Exception) else True


def wait_after(error: BaseException, wait: float) -> float:
    """The seconds until the next attempt: *wait*, or more if the step requests more with a `RetryAfterError`."""
    if isinstance(error, BaseExceptionGroup):
        return max(wait_after(leaf, wait) for leaf in leaves_of(error))
    return max(wait, error.seconds) if isinstance(error, RetryAfterError) else wait
