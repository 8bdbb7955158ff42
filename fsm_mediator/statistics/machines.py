"""The counts of one machine's executions, added up record by record. Independent of journals and pictures."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator
from typing import Final, Protocol

import msgspec

from fsm_mediator.journal.protocol import Entry
from fsm_mediator.records import Record
from fsm_mediator.states import EXECUTING, PROBING, RETRYING, WAITING, is_ended, is_stuck, path_of, phase_of
from fsm_mediator.statistics.durations import Durations, size_of

_FORWARD = frozenset({EXECUTING, PROBING, RETRYING, WAITING})
_GAVE_UP = frozenset({"rejected", "in_doubt", "exhausted"})


class Period(msgspec.Struct, frozen=True):
    """The period of the counted records: from *since* (included) to *until* (excluded)."""

    since: float = -math.inf
    until: float = math.inf

    def has(self, at: float) -> bool:
        """Whether the time *at* is in the period."""
        return self.since <= at < self.until

    def meets(self, begin: float, end: float) -> bool:
        """Whether the time from *begin* to *end* overlaps the period."""
        return end >= self.since and begin < self.until


RUN: Final = "run"
STATE: Final = "state"
PART: Final = "part"
MOVE: Final = "move"
DOUBT: Final = "doubt"


class Moved(Protocol):
    """The fields of a record that the counts need."""

    @property
    def event(self) -> str:
        """The event."""

    @property
    def source(self) -> str:
        """The state before the record."""

    @property
    def target(self) -> str:
        """The state after the record."""

    @property
    def at(self) -> float:
        """The time of the record, in seconds since the epoch."""

    @property
    def in_doubt(self) -> bool:
        """Whether the step is in doubt."""


def samples(accepted_at: float, records: Iterable[Moved]) -> Iterator[tuple[float, str, str, float]]:
    """The samples of the records of one execution: time, kind, name, seconds.

    The kinds:

    - ``state``: the time that the execution was in a state.
    - ``move``: a transition was made (``event source target``).
    - ``doubt``: an attempt to execute the step *name* ended in doubt.
    - ``run``: the time from the acceptance to an end.
    - ``part``: the time to execute a step, wait or group, without its compensation.

    If *records* grow, the samples so far stay the same, and new samples follow them.
    """
    entered = begun = accepted_at
    for record in records:
        source, target, at = record.source, record.target, record.at
        path = path_of(source)
        yield at, STATE, source, at - entered
        yield at, MOVE, f"{record.event} {source} {target}", 0.0
        if record.in_doubt and phase_of(source) == EXECUTING:
            yield at, DOUBT, path, 0.0
        if is_ended(target):
            yield at, RUN, "", at - accepted_at
        left = phase_of(source) in _FORWARD
        onward = phase_of(target) in _FORWARD
        if left and not (onward and path_of(target) == path):
            yield at, PART, path, at - begun
            left = False
        if onward and not left:
            begun = at
        entered = at


class StepStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """The numbers of one step, wait or group.

    Attributes:
        samples: The number of times that the part was completed or given up.
        failures: The number of times that the part was given up.
        retries: The number of attempts that followed a failed attempt.
        p50: The median of the time for the part, in seconds, with retries and waits. None without samples.
        p95: The 95th percentile of the same time. None without samples.
        now: The number of executions that are in the part now.
        stuck: The number of executions that are stuck in the part now.
    """

    samples: int
    failures: int
    retries: int
    p50: float | None
    p95: float | None
    now: int
    stuck: int


class MachineStatistics(msgspec.Struct, kw_only=True):
    """The counts of all executions of one definition: a saga, or the branch of a group.

    Attributes:
        executions: The number of executions with a record in the period.
        now: The number of executions in each state. For ``succeeded`` and ``failed``, only executions that ended in
            the period.
        runs: The times from acceptance to end.
        states: The times spent in each state, by state.
        parts: The times to execute each step, wait or group, by path.
        moves: The number of times that each transition was made, by ``event source target``.
        doubts: The number of attempts that ended in doubt, by the path of the step.
    """

    executions: int = 0
    now: dict[str, int] = {}
    runs: Durations = msgspec.field(default_factory=Durations)
    states: dict[str, Durations] = {}
    parts: dict[str, Durations] = {}
    moves: dict[str, int] = {}
    doubts: dict[str, int] = {}

    def place(self, entry: Entry, period: Period) -> None:
        """Count the state that an execution is in."""
        if not is_ended(entry.state) or period.has(entry.changed_at):
            self.now[entry.state] = self.now.get(entry.state, 0) + 1

    def add(self, accepted_at: float, records: Iterable[Record], period: Period) -> None:
        """Count the records of one execution. Pass all its records; only records in *period* become samples."""
        counted = False
        for at, kind, name, seconds in samples(accepted_at, records):
            if period.has(at):
                counted = True
                self.count_sample(kind, name, size_of(seconds), 1)
        self.executions += counted

    def count_sample(self, kind: str, name: str, size: int, count: int) -> None:
        """Count *count* equal samples: see `samples`."""
        if kind == RUN:
            self.runs.count(size, count)
        elif kind == STATE:
            self.states.setdefault(name, Durations()).count(size, count)
        elif kind == PART:
            self.parts.setdefault(name, Durations()).count(size, count)
        elif kind == MOVE:
            self.moves[name] = self.moves.get(name, 0) + count
        elif kind == DOUBT:
            self.doubts[name] = self.doubts.get(name, 0) + count

    def step(self, path: str) -> StepStatistics:
        """The numbers of the part at *path*."""
        took = self.parts.get(path, Durations())
        here = {state: count for state, count in self.now.items() if path_of(state) == path}
        return StepStatistics(
            samples=took.samples,
            failures=self.count(_GAVE_UP, path),
            retries=self.count({"retry_due"}, path),
            p50=took.percentile(50),
            p95=took.percentile(95),
            now=sum(here.values()),
            stuck=sum(count for state, count in here.items() if is_stuck(state)),
        )

    def count(self, events: Collection[str], path: str) -> int:
        """The number of times that one of *events* left a state of the part at *path*."""
        total = 0
        for move, count in self.moves.items():
            event, source, _ = move.split(" ")
            if event in events and path_of(source) == path:
                total += count
        return total
