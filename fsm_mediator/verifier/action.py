"""Move: one thing that can happen, in words, what it does to an execution, and the ledger after it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from fsm_mediator.errors import OutcomeUnknownError, ResultRefusedError, RetryAfterError, StepRejectedError
from fsm_mediator.execution.data import ExecutionData
from fsm_mediator.execution.execution import Execution
from fsm_mediator.records import Answer, Crashed, InboxItem, Raised, Record, Returned
from fsm_mediator.verifier.effect_ledger import EffectLedger

Act = Callable[[Execution, float], Record | None]
"""What a move does to an execution, at a time in seconds since the epoch."""

PARTICIPANT: Final = "participant"
DRIVER: Final = "driver"
OTHERS: Final = "others"
PERSON: Final = "person"
"""From whom a move comes: the participant's code, whoever drives, who writes to the inbox (or a clock), an operator."""

DUE: Final = "due"
CRASHED: Final = "crashed"
LOOK: Final = "look"
NOTHING: Final = "nothing"
"""What an execution hears: its wait is over, its driver died, how its branches stand, nothing at all."""

DIES: Final = "the driver dies before it begins"
"""A label: what has been announced was not begun."""


class Action(NamedTuple):
    """One thing that can happen: in words, what it does to the execution, and the ledger after it.

    *who* it comes from. *crash* and *again* (an operator's retry) may go round in circles; *outside*: it comes from
    nothing in the records. *observation*: what an execution hears of it; two moves with the same have it do the same.
    """

    label: str
    act: Act
    ledger: EffectLedger
    crash: bool = False
    again: bool = False
    outside: bool = False
    who: str = PARTICIPANT
    observation: str = ""


def copied(execution: Execution) -> Execution:
    """Another execution that stands where *execution* does."""
    other = Execution.__new__(Execution)
    for name in ExecutionData.__slots__:
        setattr(other, name, getattr(execution, name))
    other.history = list(execution.history)
    other.answered = dict(execution.answered)
    if execution.signals is not None:
        other.signals = dict(execution.signals)
    return other


def feeding(answer: Answer) -> Act:
    """It hears *answer*."""
    return lambda execution, at: execution.feed(answer, at)


def noting(item: InboxItem) -> Act:
    """*item* comes to its inbox."""
    return lambda execution, _at: execution.receive(item)


def waiting_until(due_at: float) -> Act:
    """Time passes, until *due_at* at least."""
    return lambda execution, at: execution.advance(max(at, due_at))


def passing_the_deadline(execution: Execution, at: float) -> None:
    """Its deadline is now; `advance` acts on it."""
    execution.deadline_at = at


def unobserved(_execution: Execution, _at: float) -> None:
    """The ledger changes, and the execution does not hear of it."""


RETURNED: Final = feeding(Returned())
CRASH: Final = feeding(Crashed())
TROUBLE: Final = {
    "raised": feeding(Raised(Exception("raised"))),
    "raised again": feeding(Raised(RetryAfterError(0.0))),
    "rejected": feeding(Raised(StepRejectedError("rejected"))),
    "refused": feeding(Raised(ResultRefusedError("it cannot be journaled"))),
    "unknown": feeding(Raised(OutcomeUnknownError("who knows"))),
}
