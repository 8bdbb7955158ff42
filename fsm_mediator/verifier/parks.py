"""Parks: the states in which a saga stops until a person, or a signal, comes; and the faults that lead to each."""

from __future__ import annotations

from typing import Final

from fsm_mediator.execution.execution import Execution
from fsm_mediator.machine.parts import Kind
from fsm_mediator.states import COMPENSATING, STUCK_PHASES, WAITING
from fsm_mediator.verifier.action import ABANDONED, POISONED, Action

CAUSES: Final = (
    COMPENSATION_FAILS := "its compensation is given up, or a branch of it cannot be undone",
    OUTLIVES := "a call of it outlives time-out and grace",
    EVERY_DRIVER_DIES := "every driver dies in it",
    PIVOT_IN_DOUBT := "it is the pivot, and is given up in doubt",
    AFTER_THE_PIVOT := "it comes after the pivot, and is given up",
    WAITS_FOR_A_SIGNAL := "it waits for its signal, without a time-out",
)
"""The causes of a park, in words."""


def park_of(before: Execution, move: Action, after: Execution) -> tuple[str, str] | None:
    """The cause, and the path of the part at which *after* stops; None: it goes on, or had stopped before."""
    part = after.machine.places[after.state].part
    if part is None or before.phase in STUCK_PHASES:
        return None
    if after.phase == WAITING and part.kind is Kind.SIGNAL and after.due_at is None:
        return WAITS_FOR_A_SIGNAL, part.path
    if after.phase not in STUCK_PHASES:
        return None
    if move.observation == POISONED:
        return EVERY_DRIVER_DIES, part.path
    if move.observation == ABANDONED:
        return OUTLIVES, part.path
    if before.phase == COMPENSATING:
        return COMPENSATION_FAILS, part.path
    return (PIVOT_IN_DOUBT if part.pivot else AFTER_THE_PIVOT), part.path
