"""The laws of attempts, waits, probes, cancels and results. Each law checks one action, and needs no ledger.

The laws read the action itself (`Action.doubt`, `Action.repeats`). They do not trust the fields in which the execution
stores its own view of the action.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from fsm_mediator.execution.execution import Execution
from fsm_mediator.machine.parts import COMPENSATE, EXECUTE, Kind, Part
from fsm_mediator.records import Record
from fsm_mediator.states import (
    COMPENSATING,
    EXECUTING,
    FAILED,
    PENDING,
    PROBING,
    RETRYING,
    RETRYING_COMPENSATION,
    STUCK,
    STUCK_PHASES,
    WAITING,
    path_of,
    split_name,
    split_state,
)
from fsm_mediator.verifier.action import ABANDONED, CANCEL_COMES, DEADLINE_PASSES, DUE, POISONED, SIBLING_FAILED, Action
from fsm_mediator.verifier.rules_table import Broken, broken
from fsm_mediator.verifier.troubles import ASKED_WAIT

GIVE_UP_EVENTS: Final = frozenset(("rejected", "in_doubt", "exhausted", "compensation_exhausted"))
"""The events by which the saga gives up a part or a compensation."""

AGAIN: Final = frozenset(("retry_due", "compensation_due"))
"""The events that begin the next attempt."""

ERRORED: Final = frozenset(("errored", "unsure", "compensation_errored"))
"""The events of a failed attempt or compensation after which the saga does not give up."""

_BETWEEN_EFFECTS: Final = frozenset((PENDING, EXECUTING, RETRYING, WAITING))
"""The phases in which a cancel or the deadline takes effect."""

_BACKWARD: Final = frozenset((COMPENSATING, RETRYING_COMPENSATION, FAILED, STUCK))

FIRST_VALUE: Final = "the value that came first"
"""The value of a signal that comes for the first time. A repeated signal has another value."""


class Reaction(NamedTuple):
    """One action, and the reaction of an execution to this action.

    Attributes:
        before: The execution before the action.
        move: The action.
        records: The records of the reaction.
        after: The execution after the reaction.
        parts: The parts of the saga, with their settings during the action.
        numbers: The index of each part in *parts*, by path.
        right: A cache of correct views, filled by the laws. A view is the path of a part, and the results that the part
            sees, as text.
    """

    before: Execution
    move: Action
    records: Sequence[Record]
    after: Execution
    parts: Sequence[Part]
    numbers: Mapping[str, int]
    right: set[tuple[str, str]]

    @property
    def part(self) -> Part | None:
        """The part of the state before the action. None if that state has no part."""
        _, path = split_state(self.before.state)
        return self.parts[self.numbers[path]] if path else None


def result_of(part: Part) -> str:
    """The result that every successful attempt at *part* returns in the search."""
    return f"the result of {part.path}"


def broken_by_records(reaction: Reaction) -> Iterator[Broken]:
    """The rules that the records of *reaction* break. These rules hold for every action."""
    if reaction.records:
        yield from _counted(reaction)
        yield from _seen(reaction)


def broken_by_reaction(reaction: Reaction) -> Iterator[Broken]:
    """The rules that *reaction* breaks because it does not fit its action. They do not depend on the ledger."""
    if reaction.records:
        yield from _stuck_where_it_may(reaction)
        yield from _waited_for(reaction)
        part = reaction.part
        if part is not None and part.kind is Kind.STEP:
            yield from _attempted_as_often(reaction, part)
            yield from _asked(reaction, part)
        yield from _first_signal(reaction)
    yield from _interrupted(reaction)


def _stuck_where_it_may(reaction: Reaction) -> Iterator[Broken]:
    """Yields a broken rule if a part before the pivot gets stuck, although no call of the part can be running.

    A compensation may get stuck.
    """
    last = reaction.records[-1]
    (before, path), (after, _) = split_state(last.source), split_state(last.target)
    if after not in STUCK_PHASES or before in (COMPENSATING, *STUCK_PHASES) or not path:
        return
    part = reaction.parts[reaction.numbers[path]]
    if not part.forward_only and not part.pivot and reaction.move.seen not in (ABANDONED, POISONED):
        yield broken("stuck", f"{part.path} is stuck before the pivot, although no call of it can be running")


def _counted(reaction: Reaction) -> Iterator[Broken]:
    """Yields a broken rule if the next attempt has the wrong number, or is one more than `Retry` allows.

    Also yields one if a person's `retry` keeps the old deadline.
    """
    after, event = reaction.after, reaction.records[-1].event
    effect = after.effect
    if after.deadline_at is not None and any(record.event == "retry" for record in reaction.records):
        yield broken("anew", "a person retries, but the old deadline still counts")
    if effect is None or effect.kind not in (EXECUTE, COMPENSATE):
        return
    due = reaction.before.attempt + 1 if event in AGAIN else 1
    if after.attempt != due:
        yield broken("anew", f"attempt {after.attempt} of {effect.part.path} is announced, but it is attempt {due}")
    policy = reaction.parts[reaction.numbers[effect.part.path]]
    limit = policy.retry.attempts if effect.kind == EXECUTE else None  # a waiting compensation always gets its attempt
    if limit is not None and after.attempt > limit:
        yield broken("at most", f"attempt {after.attempt} of {effect.part.path} begins, but {limit} are allowed")


def _waited_for(reaction: Reaction) -> Iterator[Broken]:
    """Yields a broken rule if a wait ended too early, or is shorter than its policy requires."""
    due_at = reaction.before.due_at
    for record in reaction.records:
        phase, path = split_state(record.source)
        part = reaction.parts[reaction.numbers[path]] if path else None
        over = record.event in AGAIN or (phase == WAITING and part is not None and part.kind is Kind.SLEEP)
        over = over and record.event not in GIVE_UP_EVENTS
        if over and due_at is not None and record.at < due_at:
            yield broken("waits", f"the wait in {record.source} is cut short")
        if part is not None and part.kind is Kind.STEP and record.event in ERRORED and record.due_at is not None:
            policy = part.compensation_retry if phase == COMPENSATING else part.retry
            asked = ASKED_WAIT if reaction.move.seen == "raised again" else 0.0
            if phase != PROBING and record.due_at - record.at < max(asked, policy.wait_initial) - 1e-9:
                yield broken("waits", f"the wait after {record.source} is too short")
        due_at = record.due_at


def _attempted_as_often(reaction: Reaction, part: Part) -> Iterator[Broken]:
    """Yields a broken rule if *part* gets more or fewer attempts than its policy and the action allow."""
    move, before, record = reaction.move, reaction.before, reaction.records[0]
    phase = before.phase
    if move.repeats is False and record.event in ERRORED and record.due_at is not None:
        yield broken("not again", f"{part.path} is attempted again after an error that forbids another attempt")
    policy = part.compensation_retry if phase in (COMPENSATING, RETRYING_COMPENSATION) else part.retry
    is_left = policy.attempts is None or before.attempt < policy.attempts
    if record.event == "compensation_errored" and not is_left:
        yield broken(
            "at most",
            f"attempt {before.attempt + 1} to compensate {part.path} follows, but {policy.attempts} are allowed",
        )
    if phase == PROBING and record.event == "errored" and not is_left:
        yield broken(
            "at most", f"attempt {before.attempt + 1} of {part.path} follows, but {policy.attempts} are allowed"
        )
    if record.event not in GIVE_UP_EVENTS:
        return
    if phase == PROBING:
        is_left = is_left and before.due_at is not None and (part.repeatable or move.seen == "not happened")
        early = (move.doubt and move.seen not in (POISONED, DUE)) or move.seen == "not happened"
    elif phase == EXECUTING:
        early = bool(move.repeats) and (part.repeatable or not (move.doubt or before.doubt))
    else:
        early = bool(move.repeats) if phase == COMPENSATING else move.seen.startswith(DUE)
    if early and is_left:
        yield broken("at least", f"{part.path} is given up too early, after attempt {before.attempt} in {before.state}")


def _asked(reaction: Reaction, part: Part) -> Iterator[Broken]:
    """Yields a broken rule if a probe was not called for an attempt in doubt, or its answer was ignored."""
    move, record = reaction.move, reaction.records[0]
    phase = reaction.before.phase
    if part.probe is None or move.seen in (ABANDONED, POISONED):
        return
    if phase == EXECUTING and move.doubt and not (split_state(record.target)[0] == PROBING and record.in_doubt):
        yield broken("probe", f"{part.path} is in doubt, but its probe is not called")
    if phase == PROBING and move.seen == "happened" and record.event != "executed":
        yield broken("probe", f"the probe of {part.path} returns Happened, and its answer is ignored")
    if phase == PROBING and move.seen == "not happened" and (record.in_doubt or record.event == "executed"):
        yield broken("probe", f"the probe of {part.path} returns NotHappened, and its answer is ignored")


def _interrupted(reaction: Reaction) -> Iterator[Broken]:
    """Yields a broken rule if the saga ignores a cancel or the deadline although it must act on it, or the reverse."""
    before, move, after = reaction.before, reaction.move, reaction.after
    if move.seen in (CANCEL_COMES, SIBLING_FAILED, DEADLINE_PASSES):
        takes_hold = _may_be_interrupted(before, reaction)
        if takes_hold and not (reaction.records and after.phase in _BACKWARD):
            yield broken("cancel", f"{move.label} in {before.state}, but the saga ignores it")
        if takes_hold and reaction.records and before.phase != PENDING:
            begun = before.attempt - (before.phase == EXECUTING)  # the announced attempt does not begin
            if reaction.records[0].attempt != begun:
                yield broken("anew", f"{reaction.records[0].attempt} attempts are recorded, but {begun} had begun")
        if not takes_hold and reaction.records:
            yield broken("cancel", f"{move.label} in {before.state}, and the saga acts on it, but must not")
    elif (after.cancelled or after.deadline_at is not None) and _may_be_interrupted(after, reaction):
        yield broken("cancel", f"a cancel or the deadline has come, but the saga goes on in {after.state}")


def _may_be_interrupted(execution: Execution, reaction: Reaction) -> bool:
    """Whether a cancel or the deadline takes effect in the state of *execution*."""
    phase, path = split_state(execution.state)
    part = reaction.parts[reaction.numbers[path] if path else 0]
    return phase in _BETWEEN_EFFECTS and not part.forward_only and not execution.group


def _first_signal(reaction: Reaction) -> Iterator[Broken]:
    """Yields a broken rule if the saga does not use the first value of a signal."""
    for record in reaction.records:
        phase, path = split_state(record.source)
        used = phase == WAITING and record.event == "executed" and record.value != FIRST_VALUE
        if used and reaction.parts[reaction.numbers[path]].kind is Kind.SIGNAL:
            yield broken("signal", f"the signal {path} has another value than the first value that came")


def _seen(reaction: Reaction) -> Iterator[Broken]:
    """Yields a broken rule if the next call sees wrong results.

    An attempt sees the results of the earlier parts of its saga. A compensation sees the result of its own step.
    """
    after = reaction.after
    effect = after.effect
    if effect is None or effect.kind not in (EXECUTE, COMPENSATE):
        return
    part, context = effect.part, after.context(effect)
    if effect.kind == COMPENSATE:
        own = result_of(part) if part.path in after.answered else None
        if context.result != own:
            yield broken(
                "results",
                f"the compensation of {part.path} sees the result {context.result!r}, not the result of its own step",
            )
        return
    view = part.path, repr(context.results)
    if view not in reaction.right:
        wrong = list(seen_wrongly(reaction, part, context.results))
        if not wrong:
            reaction.right.add(view)
        yield from wrong


def seen_wrongly(reaction: Reaction, part: Part, results: Mapping[str, Any]) -> Iterator[Broken]:
    """Yields a broken rule if *results* are not the results of the parts before *part* in its saga."""
    earlier = [each for each in reaction.parts[: reaction.numbers[part.path]] if each.path.startswith(part.scope)]
    names = {split_name(each.path.removeprefix(part.scope))[0] for each in earlier}
    if results.keys() != names:
        yield broken("results", f"{part.path} sees the wrong results: those of {', '.join(results) or 'nothing'}")
        return
    for each in earlier:
        if each.kind is Kind.STEP and _found(results, each.path.removeprefix(part.scope)) != result_of(each):
            yield broken("results", f"{part.path} sees a wrong result of {each.path}")


def _found(results: Mapping[str, Any], path: str) -> Any:
    """The result at *path* in nested results."""
    name, rest = split_name(path)
    return _found(results[name], rest) if rest else results.get(name)


def begun_at_a_time(execution: Execution, index: Mapping[str, int]) -> Iterator[Broken]:
    """Yields a broken rule if not exactly as many created branches begin immediately as `Part.at_most` allows."""
    born = execution.new_branches
    if born:
        part = execution.saga.parts[index[path_of(execution.state)]]
        waiting = {branch.successor for branch in born if branch.successor is not None}
        begun = sum(branch.saga_id not in waiting for branch in born)
        if begun != min(part.at_most or len(born), len(born)):
            yield broken("at a time", f"{begun} branches of {part.path} begin at once, but at_most is {part.at_most}")
