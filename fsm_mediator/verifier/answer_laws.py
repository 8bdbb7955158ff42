"""The laws of answers.

An execution records an answer, such as the result of a call or a command, or refuses it. The record of a failure names
the error. The settings or a deciding function determine the duration of each wait and the branches of each group.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from fsm_mediator.definition.saga import Saga
from fsm_mediator.definition.steps import Context
from fsm_mediator.errors import (
    AttemptCrashedError,
    AttemptTimedOutError,
    DeadlineExceededError,
    RefusedError,
    ResultRefusedError,
    SagaCancelledError,
    SiblingFailedError,
    SignalTimedOutError,
)
from fsm_mediator.execution.execution import Execution
from fsm_mediator.ids import branch_id, branch_name
from fsm_mediator.machine.parts import COMPENSATE, EXECUTE, GROUPS, Kind, Part
from fsm_mediator.records import (
    WAKE,
    Acceptance,
    Answer,
    Begin,
    InboxItem,
    OperatorRetry,
    OperatorSettled,
    OperatorUndo,
    Record,
    Returned,
)
from fsm_mediator.states import COMPENSATING, EXECUTING, FAILED, PROBING, SUCCEEDED, WAITING, path_of, split_state
from fsm_mediator.verifier.action import (
    ABANDONED,
    CANCEL_COMES,
    CRASHED,
    DEADLINE_PASSES,
    DUE,
    JOIN_REFUSED,
    LOOK,
    NOTHING,
    PARTICIPANT,
    PERSON,
    POISONED,
    PROBE_POISONED,
    REFUSED_RESULT,
    SIBLING_FAILED,
    TIMED_OUT,
    copied,
)
from fsm_mediator.verifier.attempt_laws import ERRORED, GIVE_UP_EVENTS, Reaction, seen_wrongly
from fsm_mediator.verifier.branches import GOING_ON, Status, result_of_branch
from fsm_mediator.verifier.choices import Taken
from fsm_mediator.verifier.rules_table import Broken, broken

_FAILS: Final = GIVE_UP_EVENTS | ERRORED | {"undo"}

_CALLS: Final = (EXECUTING, PROBING, COMPENSATING)

_LATER: Final = 1_000_000
"""An inbox number that is higher than the numbers of all other items."""

_COMMANDS: Final[tuple[tuple[str, Answer], ...]] = (
    ("start", Begin()),
    ("retry", OperatorRetry()),
    ("settled_done", OperatorSettled(True, "seen")),
    ("settled_undone", OperatorSettled(False, "seen")),
    ("undo", OperatorUndo()),
    ("", Returned()),
)
"""Answers that the search feeds in every state, because a mediator may feed them at any time.

Each answer has the event that it requests. `Returned`, the answer of a call, requests no event: its event is empty.
"""

_ERRORS: Final[Mapping[str, type[BaseException]]] = {
    TIMED_OUT: AttemptTimedOutError,
    ABANDONED: AttemptTimedOutError,
    CRASHED: AttemptCrashedError,
    POISONED: AttemptCrashedError,
    REFUSED_RESULT: ResultRefusedError,
    JOIN_REFUSED: ResultRefusedError,
    CANCEL_COMES: SagaCancelledError,
    SIBLING_FAILED: SiblingFailedError,
    DEADLINE_PASSES: DeadlineExceededError,
}
"""The class of the error that the record must name, by `Action.observation`."""


def broken_by_answer(reaction: Reaction, taken: Sequence[Taken]) -> Iterator[Broken]:
    """The rules about answers that *reaction* breaks. *taken*: the answers of the deciding functions."""
    records = reaction.records
    if not records:
        if _must_be_recorded(reaction):
            yield broken("refused", f"{reaction.move.label} in {reaction.before.state}, but no record is made")
        return
    for record in records:
        if record.error is None and record.event in _FAILS:
            yield broken("error", f"{record.event} in {record.source}, but the record names no error")
    yield from _named_wrongly(reaction, records[0])
    if reaction.after.state == FAILED and reaction.after.failure is None:
        yield broken("error", "the saga failed, but names no error")
    goes_on = reaction.move.seen == ABANDONED and reaction.before.phase != PROBING
    if records[0].abandoned is not goes_on or any(record.abandoned for record in records[1:]):
        yield broken("overtaken", f"the record of {records[0].source} is wrong about whether its call may be running")
    for record in records:
        phase, path = split_state(record.target)
        if phase == WAITING:
            yield from _entered_wrongly(reaction, record, reaction.parts[reaction.numbers[path]], taken)
    yield from _joined_wrongly(reaction, records[0])
    for each in taken:
        if each.context is not None:
            part = reaction.parts[reaction.numbers[each.path]]
            yield from seen_wrongly(reaction, part, each.context.results)
            if _call(each.context) != (reaction.before.saga_id, each.path, 0, "decide"):
                yield broken("results", f"the function of {each.path} gets the wrong context {each.context!r}")


def _call(context: Context) -> tuple[str, str, int, str]:
    return context.saga_id, context.step, context.attempt, context.verb


def _must_be_recorded(reaction: Reaction) -> bool:
    """Whether the execution must make a record of the action."""
    move, phase = reaction.move, reaction.before.phase
    part = reaction.part
    if move.seen == NOTHING:
        return False
    if move.seen == CRASHED:
        return phase in (EXECUTING, COMPENSATING) and part is not None and part.kind is Kind.STEP
    if move.seen.startswith(LOOK):
        assert part is not None
        statuses = move.ledger.branches[reaction.numbers[part.path]]
        undone = phase == WAITING or (phase == COMPENSATING and Status.SUCCEEDED not in statuses)
        return undone and not GOING_ON.intersection(statuses)
    return (
        move.seen in (DUE, POISONED, PROBE_POISONED, "begin")
        or move.who == PERSON
        or (move.who == PARTICIPANT and phase in _CALLS)
    )


def _named_wrongly(reaction: Reaction, record: Record) -> Iterator[Broken]:
    """Yields a broken rule if *record* names another error than the action caused."""
    move, phase = reaction.move, reaction.before.phase
    if record.error is None or record.event == "undo":
        return
    error = record.error.exception
    expected = _ERRORS.get(move.seen)
    if phase == PROBING:
        return  # the record names the error of the attempt, not an error of its probe
    if move.raises is not None:
        expected = type(move.raises())
    elif move.seen == DUE and phase == WAITING:
        expected = SignalTimedOutError
    if expected is not None and type(error) is not expected:
        yield broken("error", f"{move.label}, but the record names the error {error!r}")
    if move.seen.startswith(LOOK) and not isinstance(error, BaseException):
        yield broken("error", f"{move.label}, but the record names no error of a branch")
    is_cancelled = move.seen.startswith(LOOK) and reaction.before.cancelled and phase == WAITING
    if is_cancelled and not isinstance(error, (SagaCancelledError, ResultRefusedError)):
        yield broken("error", f"the saga was cancelled, but the record names the error {error!r}")


def _entered_wrongly(reaction: Reaction, record: Record, part: Part, taken: Sequence[Taken]) -> Iterator[Broken]:
    """Yields a broken rule if *record* enters the wait at *part* with a wrong due time or wrong branches.

    The settings of *part* or its deciding function determine the due time and the branches.
    """
    decided = next((each for each in taken if each.path == part.path), None)
    failed = decided is not None and isinstance(decided.answer, Exception)
    if failed:
        left = next((each for each in reaction.records if each.source == record.target), None)
        error = None if left is None or left.error is None else left.error.exception
        is_interrupted = reaction.before.is_interruptible  # an earlier cancel or the deadline took effect first
        if decided is not None and error is not decided.answer and not is_interrupted:
            yield broken("decided", f"the function of {part.path} raises, but the record names another error")
        return
    if part.kind in GROUPS:
        names = _names(reaction.before, part, decided)
        if record.children != names:
            yield broken("decided", f"{part.path} has the branches {record.children}, but {names} were decided")
        return
    due_at = None if part.seconds is None else record.at + part.seconds
    if part.kind is Kind.SLEEP and part.subject is not None and decided is not None:
        due_at = record.at + decided.answer if part.subject.relative else decided.answer
    elif part.kind is Kind.SLEEP and part.subject is not None:
        due_at = part.subject.due_at(record.at, None)
    if record.due_at != due_at:
        yield broken("decided", f"{part.path} waits until {record.due_at}, but {due_at} was decided")


def _names(before: Execution, part: Part, decided: Taken | None) -> tuple[str, ...]:
    """The names of the branches that the group or choice *part* must have."""
    known = (before.plans or {}).get(part.path)
    if known is not None:
        return known
    if decided is None:
        return part.branches
    return tuple(map(str, range(len(decided.answer)))) if part.each else (decided.answer,)


def _joined_wrongly(reaction: Reaction, record: Record) -> Iterator[Broken]:
    """Yields a broken rule if the value of a group is not the results of its branches.

    The value is a dict by the names of the branches. For a group over items, it is a list in the order of the items.
    """
    phase, path = split_state(record.source)
    if phase != WAITING or record.event != "executed" or not reaction.move.seen.startswith(LOOK):
        return
    part = reaction.parts[reaction.numbers[path]]
    results = {name: result_of_branch(path, name) for name in reaction.before.group}
    if record.value != (list(results.values()) if part.each else results):
        yield broken("results", f"{path} has other results than its branches: {record.value!r}")


def created_wrongly(execution: Execution, saga: Saga, taken: Sequence[Taken]) -> Iterator[Broken]:
    """Yields a broken rule if *execution* has just created other branches, or other payloads, than its group has."""
    born = execution.new_branches
    if not born:
        return
    path = path_of(execution.state)
    decided = next((each for each in taken if each.path == path), None)
    names = [branch_name(branch.saga_id) for branch in born]
    for number, (name, branch) in enumerate(zip(names, born, strict=True)):
        part = saga.branches[path].get(name) or next(iter(saga.branches[path].values()))
        items = isinstance(decided.answer, list) if decided is not None else False
        payload = decided.answer[number] if items and decided is not None else execution.acceptance.payload
        expected = (branch_id(execution.saga_id, path, name), part.name, part.fingerprint, payload, execution.saga_id)
        if _of(branch) != expected or tuple(names) != execution.group:
            yield broken("decided", f"{path} creates {_of(branch)}, but {expected} was decided")


def _of(branch: Acceptance) -> tuple[Any, ...]:
    """The values by which `created_wrongly` compares two acceptances of a branch."""
    return branch.saga_id, branch.saga, branch.fingerprint, branch.payload, branch.parent


def accepted_wrongly(execution: Execution) -> Iterator[Broken]:
    """Yields a broken rule for each answer that *execution* must refuse with a reason, but does not.

    *execution* must refuse every answer in `_COMMANDS` that does not fit its state.
    """
    tried = copied(execution)
    state = execution.state
    for event, command in _COMMANDS:
        if execution.machine.has_transition(event, state) if event else execution.phase in _CALLS:
            continue
        try:
            tried.feed(command, 0.0)
        except RefusedError as error:
            is_explained = (event, state) == ("undo", SUCCEEDED)  # this refusal has a different message
            if not is_explained and (state not in str(error) or event not in str(error)):
                yield broken("refused", f"{command!r} is refused in {state} without an explanation: {str(error)!r}")
        else:
            yield broken("refused", f"{command!r} does not fit {state}, but is not refused")
            tried = copied(execution)


def held_wrongly(execution: Execution) -> Iterator[Broken]:
    """Yields a broken rule if the removal of a hold changes more than the start time of the announced attempt.

    A hold delays an announced attempt. When the hold is removed, this attempt must begin, and no other attempt.
    """
    effect, state, number = execution.effect, execution.state, execution.attempt
    if effect is None or effect.kind not in (EXECUTE, COMPENSATE) or effect.part.kind is not Kind.STEP:
        return
    woken = copied(execution)
    woken.receive(InboxItem(WAKE, number=_LATER))
    if woken.advance(0.0) is not None or woken.state != state:
        yield broken("held", f"a hold is removed in {state}, and the saga moves to {woken.state} without an attempt")
    elif woken.attempt != number:
        yield broken("held", f"attempt {number} is held in {state}, but attempt {woken.attempt} begins")
    elif _LATER not in woken.consumed:
        yield broken("held", f"a hold is removed in {state}, but its item stays in the inbox")
