"""Progress: the state of each step in a run, from the run's records. For the steps view. Draws nothing."""

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
    """The state of a step in a run. Worse states come first."""

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
    """The mark of a run on a step. In a group over items, one mark is for the step in all branches."""

    state: StepState = StepState.NEVER  # the worst state, if there are several branches
    counts: tuple[tuple[StepState, int], ...] = ()  # the number of branches in each state
    attempts: int = 0  # the number of attempts to execute the step
    seconds: float | None = None  # total seconds of executing, probing, retrying and waiting. None if it never ended
    leftover: bool = False  # whether it has, or may have, an effect that nothing undoes
    errors: tuple[str, ...] = ()  # without repetitions

    @property
    def is_silent(self) -> bool:
        """Whether there is nothing to show, because the step was never reached or nothing is known about it."""
        return self.state in (StepState.NEVER, StepState.UNKNOWN) and not self.leftover

    @property
    def note(self) -> str:
        """A summary in a few words."""
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
    """The state of a whole branch."""
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
    """The marks of *run* on each part, by path. If *undone*, completed steps count as left over."""
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
    """One mark for a step, merged from the marks of the step in all branches of a group over items."""
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
