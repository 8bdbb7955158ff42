"""Progress: the state of each step in a run, calculated from the run's records for the steps view. Draws nothing."""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Sequence
from typing import Final

import msgspec

from fsm_mediator.diagram.highlights import NEVER, marks_of
from fsm_mediator.diagram.history import Run
from fsm_mediator.diagram.text import seconds
from fsm_mediator.machine.machine import CompiledMachine
from fsm_mediator.machine.parts import Kind
from fsm_mediator.states import (
    COMPENSATING,
    EXECUTING,
    FAILED,
    PHASES,
    PROBING,
    RETRYING,
    RETRYING_COMPENSATION,
    STUCK_PHASES,
    SUCCEEDED,
    WAITING,
    path_of,
    phase_of,
)

TIMES: Final = "\N{MULTIPLICATION SIGN}"


class StepState(enum.StrEnum):
    """The state of a step, or of a branch, in a run. The first member is the worst state."""

    STUCK = "stuck"
    FAILED = "failed"
    IN_DOUBT = "in doubt"
    WAITING = "waiting"
    RUNNING = "running"
    COMPENSATED = "compensated"
    DONE = "done"
    NEVER = "never reached"
    UNKNOWN = "not known"


class StepMark(msgspec.Struct, frozen=True, kw_only=True):
    """The mark of a run on a step, or on a branch.

    A step in a group over items is executed once for each item. It has one mark for all items.
    """

    state: StepState = StepState.NEVER  # the worst state of the step for any item
    counts: tuple[tuple[StepState, int], ...] = ()  # for several items: the number of items in each state
    attempts: int = 0  # the number of attempts to execute the step. For several items, the largest number
    seconds: float | None = None  # the seconds of executing, probing, retrying and waiting. None if none of these ended
    leftover: bool = False  # whether the step has, or may have, an effect that the saga will not undo
    errors: tuple[str, ...] = ()  # the errors of the step, without repetitions

    @property
    def is_silent(self) -> bool:
        """Whether a picture shows no words for this mark: the step was never reached, or its state is not known."""
        return self.state in (StepState.NEVER, StepState.UNKNOWN) and not self.leftover

    @property
    def note(self) -> str:
        """A summary in a few words, for example the state, the number of attempts and the time. Empty if silent."""
        if self.is_silent:
            return ""
        if len(self.counts) > 1:
            return " · ".join(f"{number} {state}" for state, number in self.counts)
        words = ["left over" if self.leftover and self.state is StepState.DONE else str(self.state)]
        if self.attempts > 1:
            words.append(f"{self.attempts}{TIMES}")
        if self.seconds is not None:
            words.append(seconds(self.seconds))
        return " · ".join(words)


def became(run: Run) -> StepState:
    """The state of a whole branch. *run* is the run of the branch."""
    if not run.state:
        return StepState.NEVER
    if run.state == SUCCEEDED:
        return StepState.DONE
    if run.state == FAILED:
        undone = any(record.event == "undo" for record in run.records)
        return StepState.COMPENSATED if undone else StepState.FAILED
    return _POSITIONS.get(phase_of(run.state), StepState.RUNNING)


_POSITIONS: Final = {
    EXECUTING: StepState.RUNNING,
    PROBING: StepState.RUNNING,
    COMPENSATING: StepState.RUNNING,
    RETRYING: StepState.WAITING,
    RETRYING_COMPENSATION: StepState.WAITING,
    WAITING: StepState.WAITING,
    **dict.fromkeys(STUCK_PHASES, StepState.STUCK),
}
_BECOMES: Final = {
    "executed": StepState.DONE,
    "settled_done": StepState.DONE,
    "rejected": StepState.FAILED,
    "in_doubt": StepState.IN_DOUBT,
    "exhausted": StepState.STUCK,
    "compensated": StepState.COMPENSATED,
    "settled_undone": StepState.COMPENSATED,
    "compensation_exhausted": StepState.STUCK,
}


def marks_of_steps(machine: CompiledMachine, run: Run, *, undone: bool = False) -> dict[str, StepMark]:
    """The marks of *run* on each part, by path.

    *undone* is whether *run* is a branch and its group was given up. If so, steps that are still done are leftovers.
    """
    marks = marks_of(machine, run.records, run.state)
    states: dict[str, StepState] = {}
    for record in run.records:
        if record.event in _BECOMES:
            in_doubt = record.event == "rejected" and record.in_doubt
            states[path_of(record.source)] = StepState.IN_DOUBT if in_doubt else _BECOMES[record.event]
    if (here := path_of(run.state)) in {part.path for part in machine.parts}:
        states[here] = _POSITIONS[phase_of(run.state)]
    over = run.state == FAILED or (run.state == SUCCEEDED and undone)
    shown = {}
    for part in machine.parts:
        state = states.get(part.path, StepState.NEVER)
        found = {phase: marks.get(f"{phase}.{part.path}", NEVER) for phase in PHASES}
        forward = (EXECUTING, PROBING, RETRYING, WAITING)
        spent = [took for phase in forward if (took := found[phase].seconds) is not None]
        shown[part.path] = StepMark(
            state=state,
            attempts=found[EXECUTING].attempts,
            seconds=sum(spent) if spent else None,
            leftover=over and part.kind is Kind.STEP and state in (StepState.DONE, StepState.IN_DOUBT),
            errors=tuple(dict.fromkeys(error for each in found.values() for error in each.errors)),
        )
    return shown


def merged(marks: Sequence[StepMark]) -> StepMark:
    """One mark for a step in a group over items. *marks* has the mark of the step for each item."""
    if len(marks) == 1:
        return marks[0]
    counts = Counter(mark.state for mark in marks)
    order = [state for state in StepState if state in counts]
    slowest = [mark.seconds for mark in marks if mark.seconds is not None]
    return StepMark(
        state=order[0],
        counts=tuple((state, counts[state]) for state in order),
        attempts=max(mark.attempts for mark in marks),
        seconds=max(slowest, default=None),
        leftover=any(mark.leftover for mark in marks),
        errors=tuple(dict.fromkeys(error for mark in marks for error in mark.errors)),
    )
