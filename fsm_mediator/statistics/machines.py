"""The counts of one machine's executions, added up record by record. Knows no journal and no picture."""

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
    """The time in which records count: from *since* on, before *until*."""

    since: float = -math.inf
    until: float = math.inf

    def has(self, at: float) -> bool:
        """Whether the time *at* is in the period."""
        return self.since <= at < self.until

    def meets(self, begin: float, end: float) -> bool:
        """Whether the time between *begin* and *end* has a part in the period."""
        return end >= self.since and begin < self.until


RUN: Final = "run"
STATE: Final = "state"
PART: Final = "part"
MOVE: Final = "move"
DOUBT: Final = "doubt"


class Moved(Protocol):
    """The fields of a record that are counted."""

    @property
    def event(self) -> str:
        """The event."""

    @property
    def source(self) -> str:
        """The state before it."""

    @property
    def target(self) -> str:
        """The state after it."""

    @property
    def at(self) -> float:
        """The time, in seconds since the epoch."""

    @property
    def in_doubt(self) -> bool:
        """Whether it is in doubt."""


def samples(accepted_at: float, records: Iterable[Moved]) -> Iterator[tuple[float, str, str, float]]:
    """The samples of the records of one execution: time, kind, name, seconds.

    The kinds:

    - ``state``: how long a state was held.
    - ``move``: a transition was made (``event source target``).
    - ``doubt``: an attempt to execute the step *name* ended in doubt.
    - ``run``: from the acceptance to an end.
    - ``part``: how long a step, wait or group took forward.

    The samples of more records begin with those of fewer.
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
        samples: How often it ended: was done, or given up.
        failures: How often it was given up.
        retries: How many attempts to execute it followed another one.
        p50: Half of its samples took at most so many seconds, retries and waits included; None: no samples.
        p95: 95 per cent of its samples took at most so many seconds; None: no samples.
        now: How many executions are in it now.
        stuck: How many of these wait for a person.
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
        executions: How many have a record in the period.
        now: How many are in each state. For ``succeeded`` and ``failed``, how many ended in the period.
        runs: How long it took from the acceptance to the end.
        states: How long each state was held, by state.
        parts: How long each step, wait or group took forward, by path.
        moves: How often each transition was made: ``event source target``.
        doubts: How many attempts to execute ended in doubt, by the path of the step.
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
        """Count the records of one execution, from the first on; only those in *period* are samples."""
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
        """How often one of *events* left a state of the part at *path*."""
        total = 0
        for move, count in self.moves.items():
            event, source, _ = move.split(" ")
            if event in events and path_of(source) == path:
                total += count
        return total
