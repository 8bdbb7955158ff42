"""Wording: what a node says of its part, in words and in how much detail. No marks, no coordinates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from fsm_mediator.diagram.text import listed, seconds
from fsm_mediator.machine.parts import Callback, Kind, Part
from fsm_mediator.retry import Retry
from fsm_mediator.states import (
    COMPENSATING,
    EXECUTING,
    FAILED,
    PENDING,
    PHASES,
    PROBING,
    RETRYING,
    RETRYING_COMPENSATION,
    STUCK,
    STUCK_EXECUTING,
    STUCK_PHASES,
    SUCCEEDED,
    WAITING,
)

PHASE_WORDS: Final[dict[str, str]] = {
    PENDING: "pending",
    EXECUTING: "executing",
    RETRYING: "retrying",
    PROBING: "probing",
    WAITING: "waiting",
    COMPENSATING: "compensating",
    RETRYING_COMPENSATION: "retrying",
    STUCK: "stuck",
    STUCK_EXECUTING: "stuck",
    SUCCEEDED: "succeeded",
    FAILED: "failed",
}
"""Every phase, as a node calls it; the node's place tells the two sorts of `retrying` and `stuck` apart."""

assert PHASE_WORDS.keys() == set(PHASES)


def count(phase: str, paths: Sequence[str]) -> str:
    """How many parts."""
    if not paths:
        return ""
    noun = "part" if phase == WAITING else "step"
    return f"1 {noun}" if len(paths) == 1 else f"{len(paths)} {noun}s"


def caption(phase: str, part: Part) -> str:
    """What a node says first."""
    words = PHASE_WORDS[phase]
    if phase == EXECUTING:
        return f"{words} · pivot" if part.pivot else words
    if phase == WAITING:
        return f"{words} · {part.kind.value}"
    return words


def notes(phase: str, part: Part, callback: Callback | None) -> tuple[str, ...]:
    """The small print, a line each."""
    if phase == RETRYING:
        return _patience(part.retry)
    if phase == RETRYING_COMPENSATION:
        return _patience(part.compensation_retry)
    if phase in STUCK_PHASES:
        return ("waits for a person",)
    if phase == WAITING:
        return _waits(part)
    told = [_called(callback)] if callback is not None else []
    if phase == COMPENSATING and callback is None:
        told.append("the branches that succeeded")
    if phase == EXECUTING:
        if part.timeout is not None:
            told.append(f"time-out {seconds(part.timeout)}")
        if part.retry.attempts == 1:
            told.append("one attempt")
        elif not part.repeatable:
            told.append("not repeated in doubt")
    return tuple(told)


def _waits(part: Part) -> tuple[str, ...]:
    """For what a part waits, and who says for how long."""
    told = []
    if part.kind is Kind.SIGNAL:
        told.append(f"time-out {seconds(part.seconds)}" if part.seconds is not None else "no time-out")
    elif part.kind is Kind.SLEEP:
        if part.seconds is not None:
            told.append(f"for {seconds(part.seconds)}")
        told.append(f"as {part.decide.label} says" if part.decide is not None else "")
    elif part.each:
        told.append("for a branch for each item")
        told.append(f"of {part.decide.label}" if part.decide is not None else "")
    elif part.kind is Kind.CHOICE:
        told.append(f"one of {listed(part.branches, 30)}")
        told.append(f"as {part.decide.label} says" if part.decide is not None else "")
    else:
        told.append(f"for {listed(part.branches, 30)}")
    if part.at_most is not None:
        told.append(f"{part.at_most} at a time")
    return tuple(each for each in told if each)


def _called(callback: Callback) -> str:
    return f"async {callback.label}" if callback.is_coroutine else callback.label


def _patience(retry: Retry) -> tuple[str, str]:
    attempts = "no limit" if retry.attempts is None else f"up to {retry.attempts} attempts"
    return (attempts, _backoff(retry))


def _backoff(retry: Retry) -> str:
    longest = retry.wait_max if retry.attempts is None else retry.wait(max(retry.attempts - 1, 1))
    first = retry.wait_initial
    if longest <= 0:
        return "at once"
    if longest <= first:
        return f"after {seconds(first)}"
    return f"{seconds(first)} to {seconds(longest)}"


def in_full(phase: str, part: Part, callback: Callback | None) -> str:
    """Every setting that matters there, a line each, the first one empty."""
    told = [""]
    if callback is not None:
        told.append(f"calls {_called(callback)}")
    if phase in (EXECUTING, RETRYING):
        told.append(f"retry: {_policy(part.retry)}")
    if phase in (COMPENSATING, RETRYING_COMPENSATION) and part.kind is Kind.STEP:
        told.append(f"retry: {_policy(part.compensation_retry)}")
    if phase in (EXECUTING, COMPENSATING, PROBING) and part.timeout is not None:
        grace = "" if callback is None or callback.is_coroutine else f", then {seconds(part.grace or 0)} grace"
        told.append(f"time-out: {seconds(part.timeout)}{grace}")
    if phase == EXECUTING:
        if part.pivot:
            told.append("the pivot: once it is done there is no way back")
        elif part.forward_only:
            told.append("after the pivot: it is only completed, never undone")
        if not part.repeatable:
            told.append("an attempt in doubt is not repeated")
        if part.overtake:
            told.append("may be overtaken by its next attempt")
    return "\n".join(told)


def _policy(retry: Retry) -> str:
    attempts = "no limit of attempts" if retry.attempts is None else f"{retry.attempts} attempts"
    jitter = f", plus up to {seconds(retry.wait_jitter)} by chance" if retry.wait_jitter else ""
    return f"{attempts}, waits {_backoff(retry)}, {retry.wait_exp_base:g} times longer each{jitter}"
