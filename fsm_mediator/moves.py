"""Moves: everything that can happen to an execution, and what it does to a ledger that no execution can see.

At every place of an execution: the call returns, raises, leaves doubt with and without an effect, times out, is
abandoned, the driver dies; a cancel or the deadline comes; a person says something. The verifier tries them all; the
explorer offers them to a person. Laws and judgements must never enter this file: what a move leads to is decided by
`Execution.feed`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from fsm_mediator.errors import OutcomeUnknownError, ResultRefusedError, RetryAfterError, StepRejectedError
from fsm_mediator.execution import Execution
from fsm_mediator.machine import PENDING
from fsm_mediator.parts import COMPENSATE, EXECUTE, PROBE, WAIT, Part
from fsm_mediator.records import (
    CANCEL,
    Abandoned,
    Answer,
    Begin,
    Crashed,
    Happened,
    InboxItem,
    NotHappened,
    OperatorRetry,
    OperatorSettled,
    OperatorUndo,
    Raised,
    Record,
    Returned,
    TimedOut,
)
from fsm_mediator.saga import Saga

Act = Callable[[Execution, float], Record | None]
"""What a move does to an execution, at a time in seconds since the epoch."""

PARTICIPANT: Final = "participant"
DRIVER: Final = "driver"
OTHERS: Final = "others"
PERSON: Final = "person"
"""From whom a move comes: the participant's code, whoever drives, who writes to the inbox (or a clock), an operator."""


DUE: Final = "due"
CRASHED: Final = "crashed"
"""What an execution hears when its wait is over, and when its driver has died."""

DIES: Final = "the driver dies before it begins"
"""A label: what has been announced was not begun."""


class Ghost(NamedTuple):
    """What really happened, which no execution can see.

    Attributes:
        effects: For each part, whether it has an effect now.
        known: For each part, whether its effect is known to the saga, by an answer or a person.
        undoing: Whether a compensation has begun.
        running: The index of the part whose abandoned thread may still be running; None: there is none.
    """

    effects: tuple[bool, ...]
    known: tuple[bool, ...]
    undoing: bool = False
    running: int | None = None


class Move(NamedTuple):
    """One thing that can happen: in words, what it does to the execution, and the ledger after it.

    *who* it comes from. *crash* and *again* (an operator's retry) may go round in circles; *outside*: it comes from
    nothing in the records. *said*: what an execution hears of it; two moves with the same have it do the same.
    """

    label: str
    act: Act
    ghost: Ghost
    crash: bool = False
    again: bool = False
    outside: bool = False
    who: str = PARTICIPANT
    said: str = ""


class Moves:
    """Everything that can happen to the executions of one saga; no step of it is called.

    Args:
        saga: The saga.
        strict: Take steps also to raise after an effect without saying so, which is against the rules.

    Attributes:
        index: The number of each part, by path: its place in a `Ghost`.
        nothing: The ledger before anything has happened.
    """

    def __init__(self, saga: Saga, *, strict: bool = False) -> None:
        self.strict = strict
        self.index = {part.path: number for number, part in enumerate(saga.parts)}
        none = (False,) * len(saga.parts)
        self.nothing = Ghost(none, none)

    def at(self, execution: Execution, ghost: Ghost) -> Iterator[Move]:
        """Everything that can happen to *execution* now, given what is in the ledger. No two have the same label."""
        if ghost.running is not None:
            yield from self._abandoned_thread_ends(ghost)
            return
        effect = execution.effect
        if execution.state == PENDING:
            yield Move("the saga begins", _feeding(Begin()), ghost, who=DRIVER, said="begin")
        if effect is not None:
            part = effect.part
            if effect.kind == EXECUTE:
                yield from self._execute_can_come_to(part, ghost)
            elif effect.kind == PROBE:
                yield from self._probe_can_come_to(part, ghost)
            elif effect.kind == COMPENSATE:
                yield from self._compensate_can_come_to(part, ghost)
            elif effect.kind == WAIT:
                due = _waiting_until(execution.due_at or 0.0)
                yield Move("the wait is over", due, ghost, who=OTHERS, said=DUE)
            yield Move(DIES, _CRASHED, ghost, crash=True, who=DRIVER, said=CRASHED)
        yield from self._others_can_say(execution, ghost)
        yield from self._operator_can_say(execution, ghost)

    def _execute_can_come_to(self, part: Part, ghost: Ghost) -> Iterator[Move]:
        at = self.index[part.path]
        done = _with(ghost, at, effect=True)
        known = _with(ghost, at, effect=True, known=True)
        name = part.path
        yield Move(f"{name} takes effect and returns", _RETURNED, known, said="returned")
        for label, said in ((f"{name} raises", "raised"), (f"{name} raises, to be tried again", "raised again")):
            yield Move(f"{label}, without effect", _TROUBLE[said], ghost, said=said)
            if self.strict:
                yield Move(f"{label}, after its effect and without saying so", _TROUBLE[said], done, said=said)
        yield Move(f"{name} rejects, without effect", _TROUBLE["rejected"], ghost, said="rejected")
        yield Move(f"{name} takes effect and returns what is refused", _TROUBLE["refused"], done, said="refused")
        if part.can_outlive_its_timeout:
            label = f"{name} outlives time-out and grace"
            yield Move(label, _feeding(Abandoned(1.0)), ghost._replace(running=at), said="abandoned")
            yield Move(f"{name} takes effect and returns late", _feeding(Returned(late=True)), known, said="late")
        doubts = [(f"{name} says that it does not know", "unknown", _TROUBLE["unknown"])]
        if part.timeout is not None and not part.can_outlive_its_timeout:
            doubts.append((f"{name} times out", "timed out", _feeding(TimedOut(part.timeout))))
        for label, said, act in doubts:
            yield Move(f"{label}, without effect", act, ghost, said=said)
            yield Move(f"{label}, after its effect", act, done, said=said)
        label = f"the driver dies after the effect of {name}"
        yield Move(label, _CRASHED, done, crash=True, who=DRIVER, said=CRASHED)

    def _probe_can_come_to(self, part: Part, ghost: Ghost) -> Iterator[Move]:
        at = self.index[part.path]
        name = f"the probe of {part.path}"
        if ghost.effects[at]:
            told = _with(ghost, at, effect=True, known=True)
            yield Move(f"{name}: it happened", _feeding(Returned(Happened())), told, said="happened")
        else:
            yield Move(f"{name}: it did not happen", _feeding(Returned(NotHappened())), ghost, said="not happened")
        yield Move(f"{name} raises", _TROUBLE["raised"], ghost, said="raised")
        yield Move(f"{name} returns nonsense", _RETURNED, ghost, said="returned")
        if part.timeout is not None:
            yield Move(f"{name} times out", _feeding(TimedOut(part.timeout)), ghost, said="timed out")

    def _compensate_can_come_to(self, part: Part, ghost: Ghost) -> Iterator[Move]:
        at = self.index[part.path]
        begun = ghost._replace(undoing=True)
        undone = _with(begun, at, effect=False, known=False)
        name = f"compensating {part.path}"
        yield Move(f"{name} returns", _RETURNED, undone, said="returned")
        fails = [
            ("raises", "raised", _TROUBLE["raised"]),
            ("rejects", "rejected", _TROUBLE["rejected"]),
            ("raises, to be tried again", "raised again", _TROUBLE["raised again"]),
        ]
        if part.compensation_can_outlive_its_timeout:
            abandoned = begun._replace(running=at)
            yield Move(f"{name} outlives time-out and grace", _feeding(Abandoned(1.0)), abandoned, said="abandoned")
            yield Move(f"{name} returns late", _feeding(Returned(late=True)), undone, said="late")
        elif part.timeout is not None:
            fails.append(("times out", "timed out", _feeding(TimedOut(part.timeout))))
        for label, said, act in fails:
            yield Move(f"{name} {label}, without having undone it", act, begun, said=said)
            yield Move(f"{name} {label}, after having undone it", act, undone, said=said)
        yield Move(f"the driver dies after {name}", _CRASHED, undone, crash=True, who=DRIVER, said=CRASHED)

    def _abandoned_thread_ends(self, ghost: Ghost) -> Iterator[Move]:
        """The saga is stuck, and refuses every verb, while the thread lives; then it has had its effect or not."""
        at = ghost.running
        assert at is not None
        over = ghost._replace(running=None)
        yield Move("the abandoned thread ends without effect", _seeing_nothing, over, said="nothing")
        done = _with(over, at, effect=not ghost.undoing)
        yield Move("the abandoned thread ends after its effect", _seeing_nothing, done, said="nothing")

    def _others_can_say(self, execution: Execution, ghost: Ghost) -> Iterator[Move]:
        if execution.cancellable and execution._cancel is None:
            cancel = _noting(InboxItem(CANCEL, number=1))
            yield Move("a cancel comes", cancel, ghost, outside=True, who=OTHERS, said="cancel")
            if execution.deadline_at is None:
                yield Move(
                    "the deadline passes", _passing_the_deadline, ghost, outside=True, who=OTHERS, said="deadline"
                )

    def _operator_can_say(self, execution: Execution, ghost: Ghost) -> Iterator[Move]:
        machine, state = execution.machine, execution.state
        if machine.takes("retry", state):
            again = _feeding(OperatorRetry())
            yield Move("a person says: try again", again, ghost, again=True, who=PERSON, said="retry")
        part = machine.places[state].part
        if part is not None:
            at = self.index[part.path]
            if machine.takes("settled_done", state):
                done = _with(ghost, at, effect=True, known=True)
                settled = _feeding(OperatorSettled(True, "seen"))
                yield Move("a person has made sure: it is done", settled, done, who=PERSON, said="settled done")
            if machine.takes("settled_undone", state):
                undone = _with(ghost, at, effect=False, known=False)
                settled = _feeding(OperatorSettled(False, "seen"))
                yield Move("a person has made sure: it is not done", settled, undone, who=PERSON, said="settled undone")
        if machine.takes("undo", state):
            yield Move("a person says: undo", _feeding(OperatorUndo()), ghost, who=PERSON, said="undo")


def copied(execution: Execution) -> Execution:
    """Another execution that stands where *execution* does."""
    other = Execution.__new__(Execution)
    for name in Execution.__slots__:
        setattr(other, name, getattr(execution, name))
    other.history = list(execution.history)
    other._answered = dict(execution._answered)
    return other


def _with(ghost: Ghost, at: int, *, effect: bool, known: bool | None = None) -> Ghost:
    effects = (*ghost.effects[:at], effect, *ghost.effects[at + 1 :])
    is_known = ghost.known[at] if known is None else known
    return ghost._replace(effects=effects, known=(*ghost.known[:at], is_known, *ghost.known[at + 1 :]))


def _feeding(answer: Answer) -> Act:
    return lambda execution, at: execution.feed(answer, at)


def _noting(item: InboxItem) -> Act:
    return lambda execution, _at: execution.note(item)


def _waiting_until(due_at: float) -> Act:
    return lambda execution, at: execution.advance(max(at, due_at))


def _passing_the_deadline(execution: Execution, at: float) -> None:
    execution.deadline_at = at  # `advance` acts on it


def _seeing_nothing(_execution: Execution, _at: float) -> None:
    """The ledger changes, and the execution does not hear of it."""


_RETURNED: Final = _feeding(Returned())
_CRASHED: Final = _feeding(Crashed())
_TROUBLE: Final = {
    "raised": _feeding(Raised(Exception("raised"))),
    "raised again": _feeding(Raised(RetryAfterError(0.0))),
    "rejected": _feeding(Raised(StepRejectedError("rejected"))),
    "refused": _feeding(Raised(ResultRefusedError("it cannot be journaled"))),
    "unknown": _feeding(Raised(OutcomeUnknownError("who knows"))),
}
