"""Labels: the text in a node of the detail view, and all settings of a state for a tooltip. No marks of a run."""

from __future__ import annotations

from fsm_mediator.diagram.text import listed, seconds
from fsm_mediator.machine.parts import Callback, Kind, Part
from fsm_mediator.retry import Retry
from fsm_mediator.states import (
    COMPENSATING,
    EXECUTING,
    PROBING,
    RETRYING,
    RETRYING_COMPENSATION,
    STUCK_PHASES,
    WAITING,
)


def phase_in_words(phase: str) -> str:
    """The name of a phase as one word.

    A step and its compensation have the same words, ``retrying`` and ``stuck``. The position of the node shows which of
    the two is meant.
    """
    return phase.partition("_")[0]


def caption(phase: str, part: Part) -> str:
    """The first line of text in a node: the phase in words, and the kind of the part if it is a pivot or a wait."""
    words = phase_in_words(phase)
    if phase == EXECUTING:
        return f"{words} · pivot" if part.pivot else words
    if phase == WAITING:
        return f"{words} · {part.kind.value}"
    return words


def notes(phase: str, part: Part, callback: Callback | None) -> tuple[str, ...]:
    """The lines of small print in a node, for example the function it calls and the timeout. See `in_full`."""
    if phase in (RETRYING, RETRYING_COMPENSATION):
        retry = part.retry if phase == RETRYING else part.compensation_retry
        return ("no limit" if retry.attempts is None else f"up to {retry.attempts} attempts", _backoff(retry))
    if phase in STUCK_PHASES:
        return ("waits for a person",)
    if phase == WAITING:
        return _waits(part)
    lines = [_name(callback)] if callback is not None else []
    if phase == COMPENSATING and callback is None:
        lines.append("the branches that succeeded")
    if phase == EXECUTING:
        if part.timeout is not None:
            lines.append(f"time-out {seconds(part.timeout)}")
        if part.retry.attempts == 1:
            lines.append("one attempt")
        elif not part.repeatable:
            lines.append("not repeated in doubt")
    return tuple(lines)


def _waits(part: Part) -> tuple[str, ...]:
    """The lines of small print in a waiting node: the end of the wait, or the names of the awaited branches."""
    by, lines = part.decide.label if part.decide is not None else "", []
    if part.kind is Kind.SIGNAL:
        lines.append(f"time-out {seconds(part.seconds)}" if part.seconds is not None else "no time-out")
    elif part.kind is Kind.SLEEP and part.seconds is not None:
        lines.append(f"for {seconds(part.seconds)}")
    elif part.kind is Kind.CHOICE:
        lines.append(f"one of {listed(part.branches, 30)}")
    elif part.each:
        lines += ["for a branch for each item", f"of {by}" if by else ""]
    elif part.kind is not Kind.SLEEP:
        lines.append(f"for {listed(part.branches, 30)}")
    if part.kind in (Kind.SLEEP, Kind.CHOICE) and by:
        lines.append(f"as {by} says")
    if part.at_most is not None:
        lines.append(f"{part.at_most} at a time")
    return tuple(filter(None, lines))


def _name(callback: Callback) -> str:
    return f"async {callback.label}" if callback.is_coroutine else callback.label


def _backoff(retry: Retry) -> str:
    longest = retry.wait_max if retry.attempts is None else retry.wait(max(retry.attempts - 1, 1))
    first = retry.wait_initial
    if longest <= 0:
        return "at once"
    if longest <= first:
        return f"after {seconds(first)}"
    return f"{seconds(first)} to {seconds(longest)}"


def in_full(phase: str, part: Part, callback: Callback | None) -> str:
    """Every setting of *part* that matters in *phase*, one per line, for a tooltip. The first line is empty."""
    lines = [""]
    if callback is not None:
        lines.append(f"calls {_name(callback)}")
    if phase in (EXECUTING, RETRYING):
        lines.append(f"retry: {_policy(part.retry)}")
    if phase in (COMPENSATING, RETRYING_COMPENSATION) and part.kind is Kind.STEP:
        lines.append(f"retry: {_policy(part.compensation_retry)}")
    if phase in (EXECUTING, COMPENSATING, PROBING) and part.timeout is not None:
        grace = "" if callback is None or callback.is_coroutine else f", then {seconds(part.grace or 0)} grace"
        lines.append(f"time-out: {seconds(part.timeout)}{grace}")
    if phase == EXECUTING:
        if part.pivot:
            lines.append("the pivot: once it is done there is no way back")
        elif part.forward_only:
            lines.append("after the pivot: it is only completed, never undone")
        if not part.repeatable:
            lines.append("an attempt in doubt is not repeated")
        if part.overtake:
            lines.append("may be overtaken by its next attempt")
    return "\n".join(lines)


def _policy(retry: Retry) -> str:
    attempts = "no limit of attempts" if retry.attempts is None else f"{retry.attempts} attempts"
    jitter = f", plus up to {seconds(retry.wait_jitter)} by chance" if retry.wait_jitter else ""
    return f"{attempts}, waits {_backoff(retry)}, {retry.wait_exp_base:g} times longer each{jitter}"
