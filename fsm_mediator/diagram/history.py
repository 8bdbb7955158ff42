"""Runs: the records and the state of an execution and its branches, now or at an earlier moment. Draws nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import attrs

from fsm_mediator.definition.saga import Saga
from fsm_mediator.diagram.text import seconds, shorten
from fsm_mediator.machine.machine import CompiledMachine
from fsm_mediator.narration import in_words, place_in_words
from fsm_mediator.records import Record
from fsm_mediator.states import PENDING


@attrs.frozen(kw_only=True, eq=False)
class Run:
    """An execution as a diagram shows it. It is a frame if it shows the execution at an earlier moment."""

    saga_id: str
    state: str  # the state of the execution. Empty for a branch that never began
    records: tuple[Record, ...]
    branches: Mapping[str, Run] | None = None  # by group and name, ``fulfil.pack``. None if unknown and not to be shown
    number: int = 0  # in a frame: the number of records so far, including records of branches
    total: int | None = None  # in a frame: the number of records of the whole run. None if this is not a frame
    latest: Record | None = None  # in a frame: the newest record, which may belong to a branch
    end: Run | None = None  # in a frame: the run with all records

    @property
    def course(self) -> object:
        """The state and all transitions of the run and its branches, without times.

        Branches with the same course are drawn once.
        """
        run = self.end or self
        moves = tuple((record.event, record.source, record.target) for record in run.records)
        return run.state, moves, tuple((name, each.course) for name, each in sorted((run.branches or {}).items()))

    @property
    def summary(self) -> str:
        """The state of the run, its number of records and its total time, as text.

        For a frame: the number of the latest record, this record in words, and the state after it.
        """
        try:
            position = place_in_words(self.state)
        except (KeyError, IndexError):  # a person wrote these records by hand, and the state has no known phase
            position = shorten(self.state, 60)
        if self.total is not None:
            last = shorten(_in_words(self.latest), 60) if self.latest is not None else "accepted"
            return f"{self.number} of {self.total}: {last} → {position}"
        count = len(self.records)
        words = [position, "1 record" if count == 1 else f"{count} records"]
        if count > 1:
            words.append(seconds(max(self.records[-1].at - self.records[0].at, 0.0)))
        return " · ".join(words)

    @property
    def last_error(self) -> str:
        """The record with the last error of the run, in words, and the error itself.

        A single space if the run has no error, or if a step has succeeded after the error.
        """
        if self.state != PENDING:
            for record in reversed(self.records):
                if record.event in ("executed", "settled_done"):
                    break
                if record.error is not None and record.event not in ("retry_due", "compensation_due"):
                    return f"{_in_words(record)}: {record.error}"
        return " "


def _in_words(record: Record) -> str:
    try:
        return in_words(record)
    except KeyError:  # a person wrote this record by hand, and no machine has the event
        return record.event


NOT_BEGUN: Final = Run(saga_id="", state="", records=(), branches={})
"""The run of a branch that never began."""

_Place = tuple[str, ...]
"""The names of the branches that contain a record. The outermost branch is first. Empty for the run's own records."""


def frames_of(run: Run) -> list[Run]:
    """The frames of *run*: one before its first record, and one after each record.

    Records of the run and of all its branches count, in the order of their times.
    """
    entries = _in_time_order(run)
    frames = []
    taken: Counter[_Place] = Counter()
    for number in range(len(entries) + 1):
        if number:
            taken[entries[number - 1][1]] += 1
        frames.append(_frame(run, entries, number, taken))
    return frames


def number_of_records(run: Run) -> int:
    """The number of records of *run* and of all its branches."""
    return len(run.records) + sum(map(number_of_records, (run.branches or {}).values()))


def frame_of(run: Run, number: int) -> Run:
    """The frame of *run* after *number* of its records, the same as ``frames_of(run)[number]``.

    The time for all frames grows with the square of the number of branches: 200 branches take about a second.
    """
    entries = _in_time_order(run)
    return _frame(run, entries, number, Counter(place for _, place, _ in entries[:number]))


_Entry = tuple[float, _Place, Record]
"""A record with its time, and the place that it belongs to."""


def _in_time_order(run: Run) -> list[_Entry]:
    return sorted(_entries(run, ()), key=lambda each: (each[0], len(each[1])))


def _frame(run: Run, entries: Sequence[_Entry], number: int, taken: Mapping[_Place, int]) -> Run:
    frame = run if number == len(entries) else _as_of(run, (), taken)
    latest = entries[number - 1][2] if number else None
    return attrs.evolve(frame, number=number, total=len(entries), latest=latest)


def _entries(run: Run, place: _Place) -> Iterator[_Entry]:
    for record in run.records:
        yield record.at, place, record
    for name, branch in (run.branches or {}).items():
        yield from _entries(branch, (*place, name))


def _as_of(run: Run, place: _Place, taken: Mapping[_Place, int]) -> Run:
    """*run* as it was after a number of records. *taken* has this number for the run and for each branch.

    *place* is the key of *run* in *taken*. A branch without a taken record has not begun.
    """
    count = taken.get(place, 0)
    branches = None
    if run.branches is not None:
        branches = {name: _as_of(branch, (*place, name), taken) for name, branch in run.branches.items()}
    if count == len(run.records) and (count or not place):
        state = run.state
    elif count:
        state = run.records[count - 1].target
    else:
        state = run.records[0].source if not place else ""
    return attrs.evolve(run, records=run.records[:count], state=state, branches=branches, end=run.end or run)


def machine_of(saga: Saga, run: Run) -> CompiledMachine:
    """A machine of *saga* that has every transition of *run*.

    This is the saga's own machine, or its widest machine if the run was made with other settings and has transitions
    that are not in the saga's own machine.
    """
    own, records = saga.machine, (run.end or run).records
    knows = run.state in own.states and all(own.has_transition(record.event, record.source) for record in records)
    return own if knows or not run.state else saga.widest_machine
