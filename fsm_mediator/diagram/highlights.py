"""Highlights: the marks of a run on the states and transitions of its machine.

This module reads only the run's records. A record with an unknown state or transition leaves no mark.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from fsm_mediator.diagram.text import seconds
from fsm_mediator.machine.machine import CompiledMachine
from fsm_mediator.narration import who_and_why
from fsm_mediator.records import Record
from fsm_mediator.states import COMPENSATING, ENDED, EXECUTING, PENDING, WAITING, path_of

FAILURES: Final = frozenset({"rejected", "in_doubt", "exhausted", "compensation_exhausted"})
WITH_ERROR: Final = FAILURES | {"errored", "unsure", "compensation_errored", "undo"}
"""The events whose record has a new error. The records of other events repeat the error of an earlier record."""

RETRIED: Final = frozenset({"errored", "unsure", "retry_due", "compensation_errored", "compensation_due"})
"""The events after which the next attempt has the number of the previous attempt plus one.

After any other event, the next attempt has the number 1.
"""

ATTEMPTING: Final = frozenset({EXECUTING, COMPENSATING})
"""The phases in which a function of the saga is called. Each call is an attempt."""

MOST_NUMBERS: Final = 20
"""The maximum number of record numbers that a tooltip lists."""


class Highlight(msgspec.Struct, kw_only=True):
    """The mark of a run on one node or edge. In the comments, "here" is this node or edge."""

    reached: bool = True  # the run was here
    orders: list[int] = []  # the numbers of the records that entered the node, or took the edge
    attempts: int = 0  # the number of attempts that began here
    seconds: float | None = None  # the total time of the run here, in seconds. None if the run never left this node
    current: bool = False  # the run is here now
    ended: bool = False  # the run ended here
    failed: bool = False  # a part was given up here
    undone: bool = False  # the effect of this step was undone later
    errors: dict[str, None] = {}  # the errors in order, without repetitions
    reasons: dict[str, None] = {}  # the reasons that people gave, in order, without repetitions
    branches: str = ""  # for a group, the number of its branches in each state

    def add(self, record: Record) -> None:
        """Add the error, the actor and the reason of *record* to this mark."""
        if record.error is not None and record.event in WITH_ERROR:
            self.errors[str(record.error)] = None
        if words := who_and_why(record.actor, record.reason):
            self.reasons[words] = None
        self.failed = self.failed or record.event in FAILURES

    @property
    def note(self) -> str:
        """A summary in a few words: ``3 attempts · 0.3 s``."""
        words = [self.branches] if self.branches else []
        if self.current:
            words.append("ended here" if self.ended else "now")
        if self.attempts:
            words.append("1 attempt" if self.attempts == 1 else f"{self.attempts} attempts")
        elif len(self.orders) > 1:
            words.append(f"{len(self.orders)} times")
        if self.seconds is not None:
            words.append(seconds(self.seconds))
        if self.undone:
            words.append("undone")
        return " · ".join(words)

    @property
    def signed_note(self) -> str:
        """The note with a sign before it. The sign means the same as the colour: ``▶`` for the current node."""
        sign = "■ " if self.ended else "▶ " if self.current else "✗ " if self.failed else "↩ " if self.undone else ""
        return sign + self.note

    def lines(self) -> list[str]:
        """The lines of a tooltip: the record numbers, the note, the errors, and the reasons that people gave."""
        lines = []
        if len(self.orders) == 1:
            lines.append(f"record {self.orders[0]}")
        elif self.orders:
            more = len(self.orders) - MOST_NUMBERS
            shown = ", ".join(map(str, self.orders[:MOST_NUMBERS]))
            lines.append(f"records {shown}{f' and {more} more' if more > 0 else ''}")
        if self.note:
            lines.append(self.note)
        if self.failed:
            lines.append("given up here")
        return [*lines, *self.errors, *self.reasons]


Marks = Mapping[object, Highlight]
"""The highlights of a run. The key is a state, or a transition as (event, source, target)."""

NEVER: Final = Highlight(reached=False)
"""The highlight of a node or edge that the run never reached."""


def marks_of(machine: CompiledMachine, records: Iterable[Record], state: str) -> Marks:
    """The highlights of a run on the states and transitions of *machine*.

    Args:
        machine: The machine of the run.
        records: The run's records in order. Some may be missing.
        state: The current state of the run, or its last state if it has ended.
    """
    places = machine.places
    marks: defaultdict[object, Highlight] = defaultdict(Highlight)
    marks[PENDING] = Highlight()
    counted = 0  # the number of the last counted attempt. 0 if the next attempt starts a new round with the number 1
    since: float | None = None
    for record in records:
        if record.source not in places or record.target not in places:
            continue
        source, target = record.source, record.target
        phase = places[record.source].phase
        left, taken = marks[source], marks[record.event, source, target]
        taken.orders.append(record.seq)
        marks[target].orders.append(record.seq)
        if since is not None:
            left.seconds = (left.seconds or 0.0) + max(record.at - since, 0.0)
        since = record.at
        # An attempt that was cancelled before it began has the number of the previous attempt.
        if phase in ATTEMPTING and record.attempt > counted:
            left.attempts += 1
            counted = record.attempt
        if record.event not in RETRIED:
            counted = 0
        left.add(record)
        taken.add(record)
        _mark_step(marks, record, phase)
    if state in places:
        here = marks[state]
        here.attempts += places[state].phase in ATTEMPTING
        here.current, here.ended = True, state in ENDED
    return marks


def _mark_step(marks: Marks, record: Record, phase: str) -> None:
    """Mark the node that executes the step of *record* as given up or undone.

    *record* may belong to another node of the step, for example to the node that retries the step.
    """
    path = path_of(record.source)
    undone = record.event in ("compensated", "settled_undone") and f"{COMPENSATING}.{path}" in marks
    for forward in (EXECUTING, WAITING):
        done = marks.get(f"{forward}.{path}")
        if done is not None:
            done.undone = done.undone or undone
            done.failed = done.failed or (record.event in FAILURES and phase != COMPENSATING)
