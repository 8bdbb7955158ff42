"""The table: all transitions of a saga as data, made from its parts. This module does not know executions.

The theory
----------
A saga executes its parts in order. If a part cannot be executed, all earlier parts are compensated, newest first
(*backward recovery*). The **pivot** is the go/no-go part. After the pivot was executed, the saga is only completed
(*forward recovery*), with as many attempts as necessary. A part that cannot be completed is stuck until an operator
acts.

An attempt that gave no answer is **in doubt**: it may have had its effect. So the saga repeats it with the same key,
calls its probe (``probing``), or compensates it. A state is ``phase`` or ``phase.part``. The events are the same for
all parts::

    pending ─start→ executing.S ─executed→ ... → succeeded ─undo→ compensating.T
                     │  ↑
              errored↓  │retry_due             rejected   S had no effect: back to the nearest earlier part
                    retrying.S                 in_doubt   S may have had an effect: compensate S itself first
                                               exhausted  no way back (pivot or after it): stuck.S
    compensating.S ─compensated→ compensating.R → ... → failed
      │  ↑      └─compensation_exhausted→ stuck.S ─retry→ compensating.S
      ↓  │                                        ─settled_undone→ as compensated
    retrying_compensation.S

Sources: Garcia-Molina & Salem, "Sagas", 1987; Richardson, "Microservices Patterns", chapter 4.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from fsm_mediator.machine.parts import Kind, Part
from fsm_mediator.states import (
    COMPENSATING,
    EXECUTING,
    FAILED,
    PENDING,
    PROBING,
    RETRYING,
    RETRYING_COMPENSATION,
    STUCK,
    STUCK_EXECUTING,
    SUCCEEDED,
    WAITING,
)

TABLE_FORMAT: Final = 1
"""The number of this table's format. It is part of every fingerprint."""


class Transition(NamedTuple):
    """One row of the table: in the state *source*, the event *event* leads to the state *target*."""

    event: str
    source: str
    target: str


def transitions_of(parts: Sequence[Part], *, every: bool) -> Iterator[Transition]:
    """The whole table of a saga of *parts*.

    States that the settings of the parts exclude (``retrying.S`` if S has one attempt) are omitted. With *every*, they
    are included, because an execution that was journaled under other settings may be in such a state.
    """
    enter = [_enter(part) for part in parts]
    before: list[Part] = []  # the earlier parts that can be compensated
    for index, part in enumerate(parts):
        back = nearest_compensation(before, len(before))
        after = enter[index + 1] if index + 1 < len(parts) else SUCCEEDED
        if index == 0:
            yield Transition("start", PENDING, enter[0])
            if not part.forward_only:
                yield Transition("rejected", PENDING, FAILED)
        if part.kind is Kind.STEP:
            yield from _step_moves(part, after, back, every)
        else:
            yield from _wait_moves(part, after, back, every)
        if part.compensatable:
            yield from _compensation_moves(part, back, every)
            before.append(part)
    last = nearest_compensation(before, len(before))
    if any(part.calls_compensation for part in parts) and not any(part.pivot for part in parts):
        yield Transition("undo", SUCCEEDED, last)


def _step_moves(part: Part, after: str, back: str, every: bool) -> Iterator[Transition]:
    executing, retrying, probing = f"{EXECUTING}.{part.path}", f"{RETRYING}.{part.path}", f"{PROBING}.{part.path}"
    sources = [executing]
    yield Transition("executed", executing, after)
    if part.probe is not None:
        sources.append(probing)
        yield Transition("unsure", executing, probing)
        yield Transition("executed", probing, after)
    if part.retry.attempts != 1 or every:
        for source in sources:
            yield Transition("errored", source, retrying)
        yield Transition("retry_due", retrying, executing)
        sources.append(retrying)
    for source in sources:
        yield from _give_up_moves(part, source, back)
    if part.forward_only or part.pivot:
        yield from _stuck_executing(part, f"{STUCK}.{part.path}", executing, after, back)
    elif part.can_outlive_its_timeout or every:
        stuck = f"{STUCK_EXECUTING if part.compensatable else STUCK}.{part.path}"
        yield Transition("exhausted", executing, stuck)
        if part.probe is not None and every:
            yield Transition("exhausted", probing, stuck)
        yield from _stuck_executing(part, stuck, executing, after, back)


def _wait_moves(part: Part, after: str, back: str, every: bool) -> Iterator[Transition]:
    waiting = f"{WAITING}.{part.path}"
    yield Transition("executed", waiting, after)
    if not part.forward_only:
        yield from _give_up_moves(part, waiting, back)
    elif _may_give_up(part) or every:
        yield from _give_up_moves(part, waiting, back)
        yield from _stuck_executing(part, f"{STUCK}.{part.path}", waiting, after, back)


def _may_give_up(part: Part) -> bool:
    """Whether the wait for *part* can fail: by a signal's timeout, by a branch, or by a deciding function."""
    if part.kind is Kind.SIGNAL:
        return part.seconds is not None
    return part.kind is not Kind.SLEEP or part.decide is not None


def _give_up_moves(part: Part, source: str, back: str) -> Iterator[Transition]:
    if not part.forward_only:
        yield Transition("rejected", source, back)
    if part.compensatable:
        yield Transition("in_doubt", source, f"{COMPENSATING}.{part.path}")
    if part.pivot or part.forward_only:
        yield Transition("exhausted", source, f"{STUCK}.{part.path}")


def _stuck_executing(part: Part, stuck: str, again: str, after: str, back: str) -> Iterator[Transition]:
    yield Transition("retry", stuck, again)
    yield Transition("settled_done", stuck, after)
    if not part.forward_only:
        yield Transition("settled_undone", stuck, back)


def _compensation_moves(part: Part, back: str, every: bool) -> Iterator[Transition]:
    compensating, stuck = f"{COMPENSATING}.{part.path}", f"{STUCK}.{part.path}"
    yield Transition("compensated", compensating, back)
    if part.kind is Kind.STEP and (part.compensation_retry.attempts != 1 or every):
        waits = f"{RETRYING_COMPENSATION}.{part.path}"
        yield Transition("compensation_errored", compensating, waits)
        yield Transition("compensation_due", waits, compensating)
    yield Transition("compensation_exhausted", compensating, stuck)
    yield Transition("retry", stuck, compensating)
    yield Transition("settled_undone", stuck, back)


def _enter(part: Part) -> str:
    return f"{EXECUTING if part.kind is Kind.STEP else WAITING}.{part.path}"


def nearest_compensation(parts: Sequence[Part], before: int) -> str:
    """The state that compensates the last compensatable part among the first *before* parts. ``failed`` if none."""
    for index in range(before - 1, -1, -1):
        if parts[index].compensatable:
            return f"{COMPENSATING}.{parts[index].path}"
    return FAILED
