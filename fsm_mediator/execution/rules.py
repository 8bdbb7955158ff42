"""The rules: one function for each phase of an execution decides the event that follows from an answer.

A rule returns a `Decision` and changes nothing. A timeout or a crash leaves an attempt in doubt. `judging` decides
whether an exception leaves an attempt in doubt. The doubt remains during later attempts of the step. It ends when the
step returns, or when its probe finds out whether the effect happened.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from fsm_mediator.error_types import (
    AttemptCrashedError,
    AttemptTimedOutError,
    DeadlineExceededError,
    DecisionError,
    RefusedError,
    ResultRefusedError,
    SagaCancelledError,
    SagaUndoneError,
    SiblingFailedError,
    SignalTimedOutError,
    safe_repr,
)
from fsm_mediator.execution.data import INTERRUPTIBLE, ExecutionData
from fsm_mediator.execution.judging import SPECIAL, is_worth_retrying, leaves_doubt, wait_after
from fsm_mediator.machine.parts import GROUPS, Kind, Part
from fsm_mediator.records import (
    Abandoned,
    Answer,
    Begin,
    Branch,
    Branches,
    Crashed,
    Due,
    Failure,
    Happened,
    InboxItem,
    NotHappened,
    OperatorRetry,
    OperatorSettled,
    OperatorUndo,
    Raised,
    Returned,
    Signalled,
    TimedOut,
)
from fsm_mediator.retry import Retry
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
    SUCCEEDED,
    WAITING,
)

RUNNING: Final = "running"
"""The state of a `Branch` that has not settled."""

NOT_BEGUN: Final = "not begun"
"""The state of a `Branch` that was planned, but ended before it was created."""

MOST_NAMED: Final = 20
"""The maximum number of branches in one state that a record lists by name."""


class Decision(msgspec.Struct, frozen=True, gc=False):
    """The event that follows from an answer, and the content of its record. Other fields are as in `Record`.

    Attributes:
        event: One of the machine's events.
        value: The result that the record stores.
        unbegun: The number of attempts that a record announced, but that will not begin.
        widest: Whether `Saga.widest_machine`, which has every possible transition, may make the move. The saga's own
            machine may lack the transition under the current settings.
    """

    event: str
    value: Any = None
    error: Failure | None = None
    in_doubt: bool = False
    due_at: float | None = None
    reason: str | None = None
    abandoned: bool = False
    unbegun: int = 0
    widest: bool = False
    actor: str | None = None


MOST_CRASHES: Final = 10
"""The number of crashes after which a deciding function is not called again. The same number applies to the probe of a
step without a limit of attempts: then the probe could not find out whether the effect happened."""

RETRY_DUE: Final = Decision("retry_due")
RETRY_IN_DOUBT: Final = Decision("retry_due", in_doubt=True)


# There is one function for each phase. It returns None if there is no move. *part* is the part of the current state.


def _pending(data: ExecutionData, _part: Part, answer: Answer, _at: float, _chance: float) -> Decision | None:
    return Decision("start") if isinstance(answer, Begin) else _ignore_or_refuse(data, answer)


def _executing(data: ExecutionData, part: Part, answer: Answer, at: float, chance: float) -> Decision | None:
    if type(answer) is not Raised:
        if isinstance(answer, Returned):
            return Decision("executed", answer.value, reason="answered late" if answer.late else None)
        if isinstance(answer, Abandoned):
            overdue = Failure.of(_error_of(data, answer, _attempt_of(data, part)))
            return Decision("exhausted", error=overdue, in_doubt=True, abandoned=True)
        if isinstance(answer, Crashed) and answer.too_often:
            return _poisoned(data, part, "exhausted", doubt=True)
    policy = part.retry
    error, doubt, again = _judge(data, part, answer, policy)
    failure = Failure.of(error)
    doubted = data.doubt or doubt
    due_at = None
    if again and policy.allows(data.attempt):
        wait = policy.wait(data.attempt, chance)
        due_at = at + (wait_after(error, wait) if isinstance(error, SPECIAL) else wait)
    again = due_at is not None and (not doubted or part.repeatable)
    if part.probe is not None and (doubt or (doubted and not again)):
        return Decision("unsure", None, failure, True, due_at)
    if again:
        return Decision("errored", None, failure, doubted, due_at)
    return _give_up(part, failure, doubted)


def _retrying(data: ExecutionData, part: Part, answer: Answer, _at: float, _chance: float) -> Decision | None:
    if not isinstance(answer, Due):
        return _ignore_or_refuse(data, answer)
    if not part.retry.allows(data.attempt):  # the current policy may allow fewer attempts than when the wait began
        return _give_up(part, data.trouble, data.doubt)
    return RETRY_IN_DOUBT if data.doubt else RETRY_DUE


def _probing(data: ExecutionData, part: Part, answer: Answer, at: float, _chance: float) -> Decision | None:
    if isinstance(answer, Crashed) and answer.too_often:
        return _poisoned(data, part, "exhausted", doubt=True)
    if isinstance(answer, Crashed) and answer.times < (part.retry.attempts or MOST_CRASHES):
        return None
    doubt, reason = True, None
    if isinstance(answer, Returned) and isinstance(answer.value, Happened):
        return Decision("executed", answer.value.result, reason="its probe says that it happened")
    if isinstance(answer, Returned) and isinstance(answer.value, NotHappened):
        doubt, reason = False, "its probe says that it did not happen"
    elif isinstance(answer, Returned):
        reason = (
            f"its probe returned {safe_repr(answer.value)}, neither Happened nor NotHappened, and so could not tell"
        )
    elif isinstance(answer, (Raised, TimedOut, Abandoned)):
        why = Failure.of(answer.error) if isinstance(answer, Raised) else f"no answer {_within(answer)}"
        reason = f"its probe could not tell: {why}"
    elif isinstance(answer, Crashed):
        reason = f"its probe could not tell: whoever asked it ended before the answer, {answer.times} times"
    else:
        return _ignore_or_refuse(data, answer)
    # The current policy may allow fewer attempts than when the execution decided to call the probe.
    if data.due_at is not None and part.retry.allows(data.attempt) and (part.repeatable or not doubt):
        return Decision("errored", None, data.trouble, doubt, max(data.due_at, at), reason)
    return _give_up(part, data.trouble, doubt, reason)


def _waiting(data: ExecutionData, part: Part, answer: Answer, at: float, _chance: float) -> Decision | None:
    if isinstance(answer, Due) and part.kind is Kind.SLEEP:
        return Decision("executed")
    if isinstance(answer, Due) and part.kind is Kind.SIGNAL:
        late = SignalTimedOutError(f"the signal {part.path!r} did not come within {part.seconds or 0:g} seconds")
        return _give_up(part, Failure.of(late), doubt=False, widest=True)  # the signal may have no time-out any more
    if isinstance(answer, Signalled) and part.kind is Kind.SIGNAL:
        return Decision("executed", answer.value, actor=answer.actor)
    if isinstance(answer, Branches) and part.kind in GROUPS:
        return _joined(data, part, answer.branches, at)
    return _ignore_or_refuse(data, answer)


def _joined(data: ExecutionData, part: Part, branches: Sequence[Branch], at: float) -> Decision | None:
    if any(branch.state == RUNNING for branch in branches):
        return None
    wrong = [branch for branch in branches if branch.state != SUCCEEDED]
    if wrong:
        failure = Failure.of(_error_of_branches(data, part, wrong, at))
        return _give_up(part, failure, doubt=True, reason=_branches_summary(branches))
    results = [branch.result for branch in branches]
    value: Any = results if part.each else dict(zip((branch.name for branch in branches), results, strict=True))
    if data.encoding is not None:
        try:
            value = data.encoding.accept_result(part, value)
        except ResultRefusedError as error:  # for example each result is small enough, but all together are too large
            return _give_up(part, Failure.of(error), doubt=not part.forward_only)
    return Decision("executed", value)


def _error_of_branches(data: ExecutionData, part: Part, wrong: Sequence[Branch], at: float) -> BaseException:
    if data.cancel is not None:
        return _cancelled(data.cancel)
    errors = [branch.error for branch in wrong if branch.error is not None]
    late = next((error for error in errors if isinstance(error, DeadlineExceededError)), None)
    if late is not None and data.deadline_at is not None and at >= data.deadline_at:
        return late
    own = [error for error in errors if not isinstance(error, SiblingFailedError)] or errors
    return _one_of(own, f"{len(own)} branches of {part.path!r} did not succeed")


def _compensating(data: ExecutionData, part: Part, answer: Answer, at: float, chance: float) -> Decision | None:
    if part.kind in GROUPS:
        return _compensating_group(data, answer)
    if isinstance(answer, Returned):
        return Decision("compensated", reason="answered late" if answer.late else None)
    if isinstance(answer, Crashed) and answer.too_often:
        return _poisoned(data, part, "compensation_exhausted", doubt=data.doubt)
    error = _error_of(data, answer, f"attempt {data.attempt} to compensate {part.path!r}")
    failure = Failure.of(error)
    if isinstance(answer, Abandoned):
        return Decision("compensation_exhausted", error=failure, in_doubt=data.doubt, abandoned=True)
    policy = part.compensation_retry
    if policy.allows(data.attempt) and (not isinstance(answer, Raised) or is_worth_retrying(policy, error)):
        due_at = at + wait_after(error, policy.wait(data.attempt, chance))
        return Decision("compensation_errored", None, failure, data.doubt, due_at)
    return Decision("compensation_exhausted", error=failure, in_doubt=data.doubt)


def _compensating_group(data: ExecutionData, answer: Answer) -> Decision | None:
    if not isinstance(answer, Branches):
        return _ignore_or_refuse(data, answer)  # a crash changes nothing: the next driver reads the branches again
    branches = answer.branches
    if any(branch.state == RUNNING or branch.undoable for branch in branches):
        return None
    stuck = [branch for branch in branches if branch.state == STUCK]
    if stuck:
        errors = [branch.error for branch in stuck if branch.error is not None]
        failure = Failure.of(_one_of(errors, f"{len(stuck)} branches are stuck"))
        return Decision("compensation_exhausted", error=failure, reason=_branches_summary(branches))
    left = [f"{branch.name}.{path}" for branch in branches for path in branch.leftovers]
    return Decision("compensated", left or None)


def _retrying_compensation(
    data: ExecutionData, _part: Part, answer: Answer, _at: float, _chance: float
) -> Decision | None:
    if isinstance(answer, Due):
        return Decision("compensation_due", in_doubt=data.doubt)
    return _ignore_or_refuse(data, answer)


def _stuck(data: ExecutionData, _part: Part, answer: Answer, _at: float, _chance: float) -> Decision | None:
    if isinstance(answer, Branches):
        if any(branch.state in (STUCK, RUNNING) for branch in answer.branches):
            return None
        if data.failure is None and not data.doubt:
            return None  # all branches succeeded, but their joined result was refused: an operator must act
        return Decision("retry", in_doubt=data.doubt, reason="none of its branches is stuck any more")
    if isinstance(answer, OperatorRetry):
        return Decision("retry", in_doubt=data.doubt, reason=answer.reason, actor=answer.actor)
    if isinstance(answer, OperatorSettled):
        if answer.done:
            return Decision("settled_done", answer.result, reason=answer.reason, actor=answer.actor)
        return Decision("settled_undone", reason=answer.reason, actor=answer.actor)
    return _ignore_or_refuse(data, answer)


def _ended(data: ExecutionData, _part: Part, answer: Answer, _at: float, _chance: float) -> Decision | None:
    if isinstance(answer, OperatorUndo):
        error = SagaUndoneError(f"it was undone: {answer.reason}" if answer.reason else "it was undone")
        return Decision("undo", error=Failure.of(error), reason=answer.reason, actor=answer.actor)
    return _ignore_or_refuse(data, answer)


if TYPE_CHECKING:
    Rule = Callable[[ExecutionData, Part, Answer, float, float], Decision | None]

RULES: Final[dict[str, Rule]] = {
    PENDING: _pending,
    EXECUTING: _executing,
    RETRYING: _retrying,
    PROBING: _probing,
    WAITING: _waiting,
    COMPENSATING: _compensating,
    RETRYING_COMPENSATION: _retrying_compensation,
    **dict.fromkeys(STUCK_PHASES, _stuck),
    SUCCEEDED: _ended,
    FAILED: _ended,
}


# Interruptions, by a cancel or the deadline, end a phase without an answer.


def interrupted(data: ExecutionData, at: float) -> Decision | None:
    """The decision after a cancel or the deadline, if one of them takes effect now. Otherwise None."""
    phase, part = data.places[data.state]
    if phase not in INTERRUPTIBLE or (part or data.saga.parts[0]).forward_only:
        return None
    if data.group and not data.new_branches:
        return None  # the branches exist and get the cancel or the deadline themselves; the parent waits for them
    error: Exception
    reason = actor = None
    if data.cancel is not None:
        reason, actor = data.cancel.reason, data.cancel.actor
        error = _cancelled(data.cancel)
    elif (late := _deadline_exceeded(data, at)) is not None:
        error = late
    else:
        return None
    if part is None:
        return Decision("rejected", error=Failure.of(error), reason=reason, actor=actor)
    # In the phase ``executing`` the attempt was announced, but has not begun. It will not be made.
    return _give_up(part, Failure.of(error), data.doubt, reason, unbegun=1 if phase == EXECUTING else 0, actor=actor)


def end_of_planned(data: ExecutionData, part: Part, at: float, failed: InboxItem | None) -> Failure | None:
    """The error of the planned branches of the group *part*, if they must end now, before they are created.

    None if the planned branches are still to be created. *failed*: the cancel that a failed branch caused for the other
    branches. None if no branch failed.
    """
    if part.forward_only:
        return None
    cancel = data.cancel or failed
    error = _deadline_exceeded(data, at) if cancel is None else _cancelled(cancel)
    return None if error is None else Failure.of(error)


def undecided(data: ExecutionData, part: Part) -> Decision:
    """The decision to give *part* up, because its deciding function gave no answer."""
    error = data.undecided or DecisionError(f"it was never decided what {part.path!r} waits for")
    return _give_up(part, Failure.of(error), doubt=False, widest=True)  # the part may have no function any more


# Helpers of several rules.


def _judge(data: ExecutionData, part: Part, answer: Answer, policy: Retry) -> tuple[BaseException, bool, bool]:
    """The error of an attempt at *part*, whether the attempt is in doubt, and whether *policy* repeats the attempt."""
    if isinstance(answer, Raised):
        error = answer.error
        if isinstance(error, Exception) and not isinstance(error, SPECIAL):
            return error, isinstance(error, part.in_doubt_on) and leaves_doubt(part, error), policy.covers(error)
        if isinstance(error, ResultRefusedError):  # the step had its effect, and another attempt would return the same
            return error, True, False
        return error, leaves_doubt(part, error), is_worth_retrying(policy, error)
    return _error_of(data, answer, _attempt_of(data, part)), True, True


def _attempt_of(data: ExecutionData, part: Part) -> str:
    return f"attempt {data.attempt} of {part.path!r}"


def _error_of(data: ExecutionData, answer: Answer, attempt: str) -> BaseException:
    """The error of the attempt that ended with *answer*. *attempt*: the number and part of the attempt, as text."""
    if isinstance(answer, Raised):
        return answer.error
    if isinstance(answer, (TimedOut, Abandoned)):
        return AttemptTimedOutError(f"{attempt} gave no answer {_within(answer)}")
    if isinstance(answer, Crashed):
        return AttemptCrashedError(f"{attempt}: whoever drove it ended before its answer was journaled")
    raise _refusal(data, answer)


def _give_up(
    part: Part,
    failure: Failure | None,
    doubt: bool,
    reason: str | None = None,
    *,
    unbegun: int = 0,
    widest: bool = False,
    actor: str | None = None,
) -> Decision:
    """The decision to end the attempts at *part*. The saga then compensates, or is stuck until an operator acts."""
    if part.forward_only or (part.pivot and doubt):
        event = "exhausted"
    elif doubt and part.compensatable:
        event = "in_doubt"
    else:
        event = "rejected"
    return Decision(event, None, failure, doubt, None, reason, False, unbegun, widest, actor)


def _poisoned(data: ExecutionData, part: Part, event: str, *, doubt: bool) -> Decision:
    """The decision to give up *part* with *event*: too many drivers died at this part. The saga is then stuck."""
    error = AttemptCrashedError(
        f"{part.path!r}: one driver after another died in {data.phase}, more often than max_recoveries allows"
    )
    return Decision(event, error=Failure.of(error), in_doubt=doubt, widest=True)


def _ignore_or_refuse(data: ExecutionData, answer: Answer) -> Decision | None:
    """None for a crash, because no attempt was running. For any other answer, raise a `RefusedError`."""
    if isinstance(answer, Crashed):
        return None
    raise _refusal(data, answer)


def _refusal(data: ExecutionData, answer: Answer) -> RefusedError:
    """The error for an *answer* that does not fit the current state. Its message explains the reason."""
    event = {OperatorRetry: "retry", OperatorUndo: "undo", Begin: "start"}.get(type(answer))
    if isinstance(answer, OperatorSettled):
        event = "settled_done" if answer.done else "settled_undone"
    why = (
        data.machine.refusal(event, data.state)
        if event
        else f"{safe_repr(answer)} does not fit the state {data.state!r}"
    )
    return RefusedError(f"saga {data.saga_id!r}: {why}")


def _deadline_exceeded(data: ExecutionData, at: float) -> DeadlineExceededError | None:
    """The error of a deadline that has passed. None if there is no deadline, or it has not passed."""
    if data.deadline_at is None or at < data.deadline_at:
        return None
    seconds = data.deadline_at - data.acceptance.at
    return DeadlineExceededError(f"its deadline, {seconds:g} seconds after it was accepted, passed")


def _cancelled(cancel: InboxItem) -> SagaCancelledError:
    """The error of a cancel. A cancel that has the name of a branch was caused by the failure of that branch."""
    return (SiblingFailedError if cancel.name else SagaCancelledError)(cancel.reason or "it was cancelled")


def _within(answer: TimedOut | Abandoned) -> str:
    return f"within {answer.seconds:g} seconds"


def _one_of(errors: Sequence[BaseException], message: str) -> BaseException:
    return errors[0] if len(errors) == 1 else BaseExceptionGroup(message, errors)


def _branches_summary(branches: Iterable[Branch]) -> str:
    by_state: dict[str, list[str]] = {}
    for branch in branches:
        by_state.setdefault(branch.state, []).append(branch.name)
    return "; ".join(f"{state}: {_listed(names)}" for state, names in by_state.items())


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_NAMED:,} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more
