"""SagaNumbers: statistics about the executions of one saga, as data that you can store and compare."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable
from typing import ClassVar, Final

import msgspec

from fsm_mediator.errors import JournalError
from fsm_mediator.journal.finding import failure_of
from fsm_mediator.journal.protocol import Journal, check_bounds
from fsm_mediator.states import (
    COMPENSATING,
    EXECUTING,
    FAILED,
    RETRYING,
    RETRYING_COMPENSATION,
    STUCK,
    STUCK_EXECUTING,
    path_of,
    phase_of,
)
from fsm_mediator.statistics.durations import Durations
from fsm_mediator.statistics.machines import MachineStatistics, Period

SPAN: Final = 3600
"""The length of the time spans in which samples are counted, in seconds. The spans are whole hours in UTC."""

FARTHEST: Final = 2**52
"""The latest time that is distinguished, in seconds since the epoch. A later time counts as this time."""


FAILING: Final = (FAILED, STUCK, STUCK_EXECUTING, RETRYING, COMPENSATING, RETRYING_COMPENSATION)
"""The phases that count as failures."""


class StateNumbers(msgspec.Struct, frozen=True, kw_only=True):
    """The statistics of one state.

    Attributes:
        now: The number of executions in the state. For an end state, only executions that ended in the period.
        count: The number of times that executions left the state.
        p50: The median duration of a stay in the state, in seconds, with an error of at most one per cent. None if no
            execution left the state.
        p95: The 95th percentile of this duration.
        maximum: The maximum of this duration.
    """

    now: int
    count: int
    p50: float | None
    p95: float | None
    maximum: float | None


class StepNumbers(msgspec.Struct, frozen=True, kw_only=True):
    """The statistics of one step, wait or group, which is called the part here.

    Attributes:
        samples: The number of times that the part was completed or given up.
        failures: The number of times that the part was given up.
        failure_rate: The share of samples that are failures. None without samples.
        attempts: The number of ended attempts to execute the part.
        doubts: The number of attempts that ended in doubt.
        doubt_rate: The share of attempts that ended in doubt. None without attempts.
        retries: The number of attempts that followed a failed attempt.
        p50: The median duration of the part in seconds, including retries and waits, with an error of at most one per
            cent. None without samples.
        p95: The 95th percentile of this duration.
        maximum: The maximum of this duration.
        now: The number of executions that are in the part now.
        stuck: The number of executions that are stuck in the part now.
    """

    samples: int
    failures: int
    failure_rate: float | None
    attempts: int
    doubts: int
    doubt_rate: float | None
    retries: int
    p50: float | None
    p95: float | None
    maximum: float | None
    now: int
    stuck: int


class FailureGroup(msgspec.Struct, frozen=True):
    """The number of executions that are in a failing state with the same step and the same type of error.

    The failing states are those of `FAILING`: for example failed, stuck or waiting for a retry.

    Attributes:
        step: The path of the step.
        error: The full name of the error's type.
        count: The number of executions.
    """

    step: str
    error: str
    count: int


class SagaNumbers(msgspec.Struct, frozen=True, kw_only=True):
    """The statistics of a saga's executions.

    Attributes:
        saga: The name of the saga.
        version: Only executions of this version are counted. None for all versions.
        since: Only records from this time on are counted, in seconds since the epoch. It is a full hour in UTC. None
            for all.
        ended: The number of executions that ended.
        p50: The median duration from acceptance to end, in seconds, with an error of at most one per cent.
        p95: The 95th percentile of this duration.
        maximum: The maximum of this duration.
        states: The statistics of each state that an execution is in or has left, by state.
        steps: The statistics of each step, wait and group, by its path.
        failures: The failures by step and error type. The largest group comes first.
        age: The age of the counts in the side store: the seconds since they were last complete. 0 if they are complete
            now, or if no side store was used. The age is not part of the JSON, and is ignored in comparisons.
    """

    saga: str
    version: str | None
    since: float | None
    ended: int
    p50: float | None
    p95: float | None
    maximum: float | None
    states: dict[str, StateNumbers]
    steps: dict[str, StepNumbers]
    failures: list[FailureGroup]
    age: float = 0.0

    def to_json(self) -> str:
        """The statistics as JSON, without `age`. Equal statistics have the same text."""
        fields = {name: value for name, value in msgspec.to_builtins(self).items() if name != "age"}
        return json.dumps(fields, sort_keys=True, separators=(",", ":")) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> SagaNumbers:
        """Read statistics that `to_json` has written.

        Raises:
            JournalError: `to_json` cannot have written the text.
        """
        try:
            return msgspec.json.decode(text, type=cls)
        except msgspec.MsgspecError as error:
            raise JournalError(
                f"the text holds no numbers of a saga ({error}); SagaNumbers.to_json writes them"
            ) from error

    def __eq__(self, other: object) -> bool:
        return self.to_json() == other.to_json() if isinstance(other, SagaNumbers) else NotImplemented

    __hash__: ClassVar[None] = None  # type: ignore[assignment]


def is_failing(state: str) -> bool:
    """Whether an execution in this state counts as a failure: see `FAILING`."""
    return phase_of(state) in FAILING


def span_of(at: float) -> int:
    """The number of the time span that contains the time *at*. The span that begins at the epoch has the number 0."""
    return int(min(max(at, -float(FARTHEST)), float(FARTHEST)) // SPAN)


def first_span(since: float | None) -> int | None:
    """The number of the first time span that is counted if *since* is given. None if all spans are counted.

    Raises:
        DefinitionError: *since* is not a time.
    """
    if since is None:
        return None
    check_bounds(since, None)
    return span_of(since)


def numbers_from(
    saga: str,
    version: str | None,
    first: int | None,
    machine: MachineStatistics,
    groups: Iterable[tuple[str, str, int]],
    age: float = 0.0,
) -> SagaNumbers:
    """Compute the statistics of a saga from counts.

    Args:
        saga: The name of the saga.
        version: The version of the counted executions. None for all versions.
        first: The number of the first counted time span. None for all spans.
        machine: The counts.
        groups: The failing executions, as (step, error type, number of executions).
        age: The age of the counts, in seconds.
    """
    nothing = Durations()
    states = {
        state: StateNumbers(now=machine.now.get(state, 0), count=held.samples, **_percentiles(held))
        for state in sorted({*machine.now, *machine.states})
        for held in (machine.states.get(state, nothing),)
    }
    paths = {path for state in states if (path := path_of(state))}
    ordered = sorted((FailureGroup(*group) for group in groups), key=lambda each: (-each.count, each.step, each.error))
    return SagaNumbers(
        saga=saga,
        version=version,
        since=None if first is None else float(first * SPAN),
        ended=machine.runs.samples,
        **_percentiles(machine.runs),
        states=states,
        steps={path: _step(machine, path) for path in sorted(paths)},
        failures=ordered,
        age=age,
    )


def _percentiles(durations: Durations) -> dict[str, float | None]:
    ranks = {"p50": 50, "p95": 95, "maximum": 100}
    return {name: durations.percentile(percent) for name, percent in ranks.items()}


def _step(machine: MachineStatistics, path: str) -> StepNumbers:
    step, took = machine.step(path), machine.parts.get(path, Durations())
    attempts = sum(
        held.samples
        for state, held in machine.states.items()
        if phase_of(state) == EXECUTING and path_of(state) == path
    )
    doubts = machine.doubts.get(path, 0)
    return StepNumbers(
        samples=step.samples,
        failures=step.failures,
        failure_rate=step.failures / step.samples if step.samples else None,
        attempts=attempts,
        doubts=doubts,
        doubt_rate=doubts / attempts if attempts else None,
        retries=step.retries,
        **_percentiles(took),
        now=step.now,
        stuck=step.stuck,
    )


def read_numbers(journal: Journal, saga: str, version: str | None, first: int | None) -> SagaNumbers:
    """The statistics of a saga, computed from all its records. An execution that cannot be read is left out.

    Args:
        journal: The journal.
        saga: The name of the saga.
        version: Only executions of this version are counted. None for all versions.
        first: The number of the first counted time span. None for all spans.
    """
    period = Period(-math.inf if first is None else first * float(SPAN))
    machine = MachineStatistics()
    groups: Counter[tuple[str, str]] = Counter()
    for entry in journal.entries(saga=saga):
        if version not in (None, entry.acceptance.version):
            continue
        try:
            records = journal.records(entry.saga_id)[: entry.seq]
        except JournalError:  # `check` reports this execution
            continue
        machine.place(entry, period)
        machine.add(entry.acceptance.at, records, period)
        error, step = failure_of(entry.state, records)
        if error is not None and is_failing(entry.state) and period.has(entry.changed_at):
            groups[step or "", error] += 1
    return numbers_from(saga, version, first, machine, ((*key, count) for key, count in groups.items()))
