"""Attention: says when a driver should drive an execution, and which items the inbox of an execution accepts."""

from __future__ import annotations

import math
from typing import Final

from fsm_mediator.records import CHILD, SIGNAL, VERBS, InboxItem
from fsm_mediator.states import (
    COMPENSATING,
    ENDED,
    EXECUTING,
    PENDING,
    PROBING,
    SUCCEEDED,
    WAITING,
    is_settled,
    phase_of,
)

NOW: Final = -math.inf
"""The result of `next_attention_at` if a driver should drive the execution immediately."""

PENDING_NOW: Final = -1e300
"""The result of `next_attention_at` for a pending execution without items: now, but after all begun executions."""

UNFINISHED: Final = frozenset((PENDING, EXECUTING, PROBING, COMPENSATING))
"""Phases in which a driver must act at once."""

ANSWERS_KEPT: Final = 24 * 3600.0
"""Seconds for which the answer to a verb is kept."""


def next_attention_at(
    state: str, held: bool, mail: int, wake_at: float | None, *, awaits: bool = False
) -> float | None:
    """When a driver should drive an execution. Its owner then reads the inbox. Without an owner, any driver claims it.

    Args:
        state: The execution's state.
        held: Whether a driver owns the execution.
        mail: The number of unseen inbox items for which a driver must look at the execution: see `has_driver_look`.
        wake_at: When a driver must drive the execution even without a new item.
        awaits: Whether the execution is between two attempts and waits for *wake_at* or an item.

    Returns:
        The time in seconds since the epoch. `NOW` or `PENDING_NOW` for immediately. None if only a new item matters.
    """
    if held:
        return NOW if mail else None
    if is_settled(state):
        return NOW if mail else None
    phase = phase_of(state)
    if mail or (phase in UNFINISHED and not awaits):
        return PENDING_NOW if phase == PENDING and not mail else NOW
    return wake_at


def has_driver_look(kind: str, state: str) -> bool:
    """Whether a driver must look at an execution in this state if its inbox has an unseen item of this kind."""
    return kind in VERBS or not is_settled(state) or (kind == CHILD and state not in ENDED)


def takes(kind: str, state: str) -> bool:
    """Whether the inbox of an execution in this state accepts an item of this kind."""
    return state not in ENDED or (state == SUCCEEDED and kind in VERBS)


def is_too_late(item: InboxItem, state: str, due_at: float | None) -> bool:
    """Whether the execution waits for the signal *item*, but the signal comes after the end of the wait."""
    return item.kind == SIGNAL and state == f"{WAITING}.{item.name}" and due_at is not None and item.at >= due_at
