"""Count the executions of one machine, from their records. This module knows neither journals nor pictures."""

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
        """Whether the time span from *begin* to *end* overlaps the period."""
        return end >= self.since and begin < self.until


RUN: Final = "run"
STATE: Final = "state"
PART: Final = "part"
MOVE: Final = "move"
DOUBT: Final = "doubt"


class Moved(Protocol):
    """The fields of a record that `samples` reads."""

    @property
    def event(self) -> str:
        """The name of the transition, one of the machine's events."""

    @property
    def source(self) -> str:
        """The state that was left."""

    @property
    def target(self) -> str:
        """The state that was entered."""

    @property
    def at(self) -> float:
        """The time of the record, in seconds since the epoch."""

    @property
    def in_doubt(self) -> bool:
        """Whether the step may have had an effect, according to all that is known after this record."""


def samples(accepted_at: float, records: Iterable[Moved]) -> Iterator[tuple[float, str, str, float]]:
    """Yield the samples of one execution, as (time, kind, name, seconds). A sample is one occurrence to count.

    *time* is the time of the occurrence, and *seconds* is a duration. The kinds of samples are:

    - ``state``: the execution left the state *name* after *seconds*.
    - ``move``: the transition *name* (``event source target``) happened.
    - ``doubt``: an attempt to execute the step *name* ended in doubt.
    - ``run``: the execution ended, *seconds* after its acceptance.
    - ``part``: the step, wait or group *name* was completed or given up after *seconds*. Its compensation
      is not included.

    More *records* of the same execution only add samples at the end.
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
    """The statistics of one step, wait or group, which is called the part here.

    Attributes:
        samples: The number of times that the part was completed or given up.
        failures: The number of times that the part was given up.
        retries: The number of attempts that followed a failed attempt.
        p50: The median duration of the part in seconds, including retries and waits. None without samples.
        p95: The 95th percentile of this duration. None without samples.
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
        runs: The durations from acceptance to end, in seconds.
        states: The durations of the stays in each state, by state.
        parts: The durations of each step, wait or group, by path.
        moves: The number of times that each transition happened, by ``event source target``.
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
        """Add an execution to `now`, the number of executions in each state.

        An execution that ended outside of *period* is not counted.
        """
        if not is_ended(entry.state) or period.has(entry.changed_at):
            self.now[entry.state] = self.now.get(entry.state, 0) + 1

    def add(self, accepted_at: float, records: Iterable[Record], period: Period) -> None:
        """Count the samples of one execution that are in *period*. *records* must be all its records."""
        counted = False
        for at, kind, name, seconds in samples(accepted_at, records):
            if period.has(at):
                counted = True
                self.count_sample(kind, name, size_of(seconds), 1)
        self.executions += counted

    def count_sample(self, kind: str, name: str, size: int, count: int) -> None:
        """Add *count* samples of the same kind and name to the counts. *size* is the size class of their durations.

        See `samples` and `size_of`.
        """
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
        """The statistics of the part at *path*."""
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
        """The number of transitions that left a state of the part at *path* and whose event is in *events*."""
        total = 0
        for move, count in self.moves.items():
            event, source, _ = move.split(" ")
            if event in events and path_of(source) == path:
                total += count
        return total
