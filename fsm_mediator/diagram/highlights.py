"""Marks: what a run did with the states and moves of its machine, read from its records.

Reads records and nothing else. Records that the machine does not know leave no mark.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from fsm_mediator.diagram.text import numbers, seconds
from fsm_mediator.machine.machine import CompiledMachine
from fsm_mediator.records import Record
from fsm_mediator.states import COMPENSATING, ENDED, EXECUTING, PENDING, WAITING, path_of


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """What a run did with one node or edge.

    Attributes:
        reached: Whether the run was ever there.
        orders: The numbers of the records that entered the node, or took the edge.
        attempts: How many attempts were begun there.
        seconds: How long the run was there, in all; None: it never left.
        current: Whether the run stands there now.
        ended: Whether it stands there for good.
        failed: Whether it was given up there.
        undone: Whether what was done there was undone later.
        errors: What went wrong there, each once, in order.
        reasons: Words of people, likewise.
    """

    reached: bool = False
    orders: tuple[int, ...] = ()
    attempts: int = 0
    seconds: float | None = None
    current: bool = False
    ended: bool = False
    failed: bool = False
    undone: bool = False
    errors: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()

    @property
    def note(self) -> str:
        """It all, in the room of a label."""
        told = []
        if self.current:
            told.append("ended here" if self.ended else "now")
        if self.attempts:
            told.append("1 attempt" if self.attempts == 1 else f"{self.attempts} attempts")
        elif len(self.orders) > 1:
            told.append(f"{len(self.orders)} times")
        if self.seconds is not None:
            told.append(seconds(self.seconds))
        if self.undone:
            told.append("undone")
        return " · ".join(told)

    def told(self) -> list[str]:
        """It all, a line each."""
        lines = []
        if self.orders:
            lines.append(f"record {numbers(self.orders)}" if len(self.orders) == 1 else f"records {_listed(self)}")
        if self.note:
            lines.append(self.note)
        if self.failed:
            lines.append("given up here")
        return [*lines, *self.errors, *self.reasons]


NEVER: Final = Mark()
"""The mark of what a run never reached."""


def _listed(mark: Mark) -> str:
    most = ", ".join(map(str, mark.orders[:20]))
    return most if len(mark.orders) <= 20 else f"{most} and {len(mark.orders) - 20} more"


GIVEN_UP: Final = frozenset({"rejected", "in_doubt", "exhausted", "compensation_exhausted"})
TELLING: Final = GIVEN_UP | {"errored", "unsure", "compensation_errored", "undo"}
"""The events whose record has an error of its own: others repeat one that was told before."""

STAYING: Final = frozenset({"errored", "unsure", "retry_due", "compensation_errored", "compensation_due"})
"""The events after which attempts are counted on."""


ATTEMPTING: Final = frozenset({EXECUTING, COMPENSATING})
"""The phases in which attempts are made."""


class _Tally:
    """A mark in the making."""

    def __init__(self) -> None:
        self.orders: list[int] = []
        self.attempts = 0
        self.seconds: float | None = None
        self.failed = False
        self.undone = False
        self.errors: dict[str, None] = {}
        self.reasons: dict[str, None] = {}

    def tell(self, record: Record) -> None:
        """What *record* says of what went wrong, and why."""
        if record.error is not None and record.event in TELLING:
            self.errors[str(record.error)] = None
        if record.reason:
            self.reasons[record.reason] = None
        self.failed = self.failed or record.event in GIVEN_UP

    def mark(self, *, current: bool, ended: bool) -> Mark:
        """What it came to."""
        return Mark(
            reached=True,
            orders=tuple(self.orders),
            attempts=self.attempts,
            seconds=self.seconds,
            current=current,
            ended=current and ended,
            failed=self.failed,
            undone=self.undone,
            errors=tuple(self.errors),
            reasons=tuple(self.reasons),
        )


def marks_of(machine: CompiledMachine, records: Iterable[Record], state: str, *, overview: bool) -> dict[object, Mark]:
    """The marks of a run, by node and by (event, source, target).

    Args:
        machine: The machine it ran on.
        records: Its records, in order; not necessarily all.
        state: Where it stands.
        overview: Whether nodes are phases, not states.
    """
    places = machine.places
    tallies: defaultdict[object, _Tally] = defaultdict(_Tally)

    def name(state: str) -> str:
        return places[state].phase if overview else state

    tallies[name(PENDING)] = _Tally()
    counted = 0  # the number of the attempt that was counted last, in this round of attempts
    since: float | None = None
    for record in records:
        if record.source not in places or record.target not in places:
            continue
        source, target = name(record.source), name(record.target)
        phase = places[record.source].phase
        left, taken = tallies[source], tallies[record.event, source, target]
        taken.orders.append(record.seq)
        tallies[target].orders.append(record.seq)
        if since is not None:
            left.seconds = (left.seconds or 0.0) + max(record.at - since, 0.0)
        since = record.at
        # An attempt that was announced, and taken back before it began, bears the number of the one before.
        if phase in ATTEMPTING and record.attempt > counted:
            left.attempts += 1
            counted = record.attempt
        if record.event not in STAYING:
            counted = 0
        for tally in (left, taken):
            tally.tell(record)
        if not overview:
            _tell_the_step(tallies, record, phase)
    if state not in places:
        return {key: tally.mark(current=False, ended=False) for key, tally in tallies.items()}
    here = name(state)
    tallies[here].attempts += places[state].phase in ATTEMPTING
    return {key: tally.mark(current=key == here, ended=state in ENDED) for key, tally in tallies.items()}


def _tell_the_step(tallies: Mapping[object, _Tally], record: Record, phase: str) -> None:
    """What a record says of the node that executes its step, though another was left: it gave up, or was undone."""
    path = path_of(record.source)
    undone = record.event in ("compensated", "settled_undone") and f"{COMPENSATING}.{path}" in tallies
    for forward in (EXECUTING, WAITING):
        done = tallies.get(f"{forward}.{path}")
        if done is not None:
            done.undone = done.undone or undone
            done.failed = done.failed or (record.event in GIVEN_UP and phase != COMPENSATING)
