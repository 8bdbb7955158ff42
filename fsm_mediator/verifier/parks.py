"""Parks: finds the cause of each park.

A park is a state in which a saga stops until an operator or a signal comes.
"""

from __future__ import annotations

from typing import Final

from fsm_mediator.execution.execution import Execution
from fsm_mediator.machine.parts import Kind
from fsm_mediator.states import COMPENSATING, STUCK_PHASES, WAITING
from fsm_mediator.verifier.action import ABANDONED, POISONED, Action

CAUSES: Final = (
    COMPENSATION_FAILS := "its compensation is given up, or a branch of it cannot be undone",
    OUTLIVES := "its call outlives time-out and grace",
    OUTLIVES_A_NEW_ONE := "its call outlives a time-out that a new version adds",
    EVERY_DRIVER_DIES := "every driver dies in it",
    PIVOT_IN_DOUBT := "it is the pivot, and is given up in doubt",
    AFTER_THE_PIVOT := "it comes after the pivot, and is given up",
    WAITS_FOR_A_SIGNAL := "it waits for its signal, without a time-out",
)
"""The causes of a park, in words."""


def park_of(before: Execution, move: Action, after: Execution) -> str | None:
    """The cause, one of `CAUSES`, for which *move* stopped the execution.

    None if the execution *after* does not stop, or the execution *before* was already stuck.
    """
    part = after.machine.places[after.state].part
    if part is None or before.phase in STUCK_PHASES:
        return None
    if after.phase == WAITING and part.kind is Kind.SIGNAL and after.due_at is None:
        return WAITS_FOR_A_SIGNAL
    if after.phase not in STUCK_PHASES:
        return None
    if move.seen == POISONED:
        return EVERY_DRIVER_DIES
    if move.seen == ABANDONED:
        return OUTLIVES if part.timeout is not None else OUTLIVES_A_NEW_ONE
    if before.phase == COMPENSATING:
        return COMPENSATION_FAILS
    return PIVOT_IN_DOUBT if part.pivot else AFTER_THE_PIVOT
