"""SagaNumbers: how the executions of one saga fared, as numbers that can be written down and compared."""

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
"""Seconds of the spans of time in which samples are counted: whole hours, UTC."""

FARTHEST: Final = 2**52
"""Seconds since the epoch; a later time counts as this one."""


FAILING: Final = (FAILED, STUCK, STUCK_EXECUTING, RETRYING, COMPENSATING, RETRYING_COMPENSATION)
"""The phases of failures."""


class StateNumbers(msgspec.Struct, frozen=True, kw_only=True):
    """The numbers of one state.

    Attributes:
        now: How many executions are in it; of an end: how many ended in it in the period, and stayed.
        count: How often it was left.
        p50: Half of these times it was held at most so many seconds, within one per cent; None: it was never left.
        p95: The same of 95 per cent.
        maximum: The same of all.
    """

    now: int
    count: int
    p50: float | None
    p95: float | None
    maximum: float | None


class StepNumbers(msgspec.Struct, frozen=True, kw_only=True):
    """The numbers of one step, wait or group.

    Attributes:
        samples: How often it ended: was done, or given up.
        failures: How often it was given up.
        failure_rate: The share of samples that are failures; None: there are no samples.
        attempts: How many attempts to execute it ended.
        doubts: How many of these ended in doubt.
        doubt_rate: The share of attempts that ended in doubt; None: there are no attempts.
        retries: How many attempts followed another one.
        p50: Half of the samples took at most so many seconds, retries and waits included, within one per cent.
        p95: The same of 95 per cent.
        maximum: The same of all.
        now: How many executions are in it now.
        stuck: How many of these wait for a person.
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
    """Executions that failed, are stuck or are retried, at one step with one type of error.

    Attributes:
        step: The path of the step.
        error: The full name of the type of the error.
        count: How many there are.
    """

    step: str
    error: str
    count: int


class SagaNumbers(msgspec.Struct, frozen=True, kw_only=True):
    """The numbers of a saga's executions.

    Attributes:
        saga: The name of the saga.
        version: Only executions of this version count; None: of all.
        since: Records from this time on count, in seconds since the epoch: a full hour, UTC; None: from the first.
        ended: How many executions ended.
        p50: Half of these took at most so many seconds from acceptance to end, within one per cent.
        p95: The same of 95 per cent.
        maximum: The same of all.
        states: The numbers of each state that an execution is in, or left.
        steps: The numbers of each step, wait and group, by its path.
        failures: The failures by step and type of error, the largest group first.
        age: The seconds since the side store was filled, if newer records are missing; 0: none is missing. It is no
            part of the JSON, nor of a comparison.
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
        """The numbers as JSON, always in the same order, without `age`."""
        fields = {name: value for name, value in msgspec.to_builtins(self).items() if name != "age"}
        return json.dumps(fields, sort_keys=True, separators=(",", ":")) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> SagaNumbers:
        """Read the text of `to_json`.

        Raises:
            JournalError: The text holds no such numbers.
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
    """Whether an execution in this state counts among the failures."""
    return phase_of(state) in FAILING


def span_of(at: float) -> int:
    """The number of the span of time that *at* is in."""
    return int(min(max(at, -float(FARTHEST)), float(FARTHEST)) // SPAN)


def first_span(since: float | None) -> int | None:
    """The first span of time that counts.

    Raises:
        DefinitionError: *since* is no time.
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
    """The numbers that counts come to.

    Args:
        saga: The name of the saga.
        version: The version; None: all.
        first: The first span of time that counted; None: all did.
        machine: The counts.
        groups: The failures: step, error and how many.
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
    """The numbers of a saga, computed from all its records. An execution that cannot be read is left out.

    Args:
        journal: The journal.
        saga: The name of the saga.
        version: Only executions of this version; None: of all.
        first: The first span of time that counts; None: all do.
    """
    period = Period(-math.inf if first is None else first * float(SPAN))
    machine = MachineStatistics()
    groups: Counter[tuple[str, str]] = Counter()
    for entry in journal.entries(saga=saga):
        if version not in (None, entry.acceptance.version):
            continue
        try:
            records = journal.records(entry.saga_id)[: entry.seq]
        except JournalError:  # `check` names it
            continue
        machine.place(entry, period)
        machine.add(entry.acceptance.at, records, period)
        error, step = failure_of(entry.state, records)
        if error is not None and is_failing(entry.state) and period.has(entry.changed_at):
            groups[step or "", error] += 1
    return numbers_from(saga, version, first, machine, ((*key, count) for key, count in groups.items()))
