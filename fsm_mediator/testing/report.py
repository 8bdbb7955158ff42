"""The report of `check_saga`: the faults and the result of every run, for people and for programs."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping

import attrs

from fsm_mediator.definition.saga import Saga
from fsm_mediator.errors import MediatorError
from fsm_mediator.execution.outcome import Outcome
from fsm_mediator.narration import timeline
from fsm_mediator.testing.faults import Fault, FaultPlan


class SagaBrokenError(MediatorError, AssertionError):
    """A fault leaves the world in a wrong state. The message has the fault, the timeline, and a call to reproduce it.

    Attributes:
        report: All checked cases, including the broken cases.
    """

    def __init__(self, report: CheckReport) -> None:
        super().__init__(str(report))
        self.report = report


@attrs.frozen(repr=False)
class Case:
    """One run under one plan of faults.

    Attributes:
        plan: The faults of the run.
        outcome: The outcome of the run.
        struck: Whether all faults of the plan struck. False if the run did not reach the call of a fault.
        problem: The problem with the result. Empty if there is none.
        branches: The outcomes of the branches of the saga's groups, by id.
        deaths: The number of times that a driver crashed and another driver recovered the saga.
        strikes: The faults that struck, in order, and the number of attempts that each fault struck.
    """

    plan: FaultPlan
    outcome: Outcome
    struck: bool
    problem: str = ""
    branches: Mapping[str, Outcome] = attrs.field(factory=dict)
    deaths: int = 0
    strikes: Mapping[Fault, int] = attrs.field(factory=dict)

    @property
    def id(self) -> str:
        """The name of the plan. It identifies the case in its report."""
        return self.plan.id

    @property
    def path(self) -> tuple[str, ...]:
        """The path through the machine: each event with its target state. Then the events of the branches follow."""
        way = [f"{record.event} {record.target}" for record in self.outcome.history]
        for saga_id, branch in sorted(self.branches.items()):
            way += [f"{saga_id} {record.event} {record.target}" for record in branch.history]
        return tuple(way)

    def __repr__(self) -> str:
        return f"<Case {self.id}: {self.outcome.state}{', broken' if self.problem else ''}>"

    def _faults_that_struck(self) -> Iterator[str]:
        """A text for each fault of the plan. Faults that struck come first, with the number of attempts they struck."""
        for fault, times in self.strikes.items():
            yield f"{fault}{f' ({times} attempts)' if times > 1 else ''}"
        for fault in self.plan.all:
            if fault not in self.strikes:
                yield f"none: the run never came to this: {fault}"
        if self.plan.undone:
            yield "when it has succeeded, a person undoes it"
        elif not self.plan.all:
            yield "nothing goes wrong"

    @property
    def _ended(self) -> str:
        return self.outcome.summary().replace(f"saga {self.outcome.saga_id!r} ({self.outcome.saga.name}) ", "", 1)

    def __str__(self) -> str:
        lines = [
            *(_wrapped(f"fault      {each}") for each in self._faults_that_struck()),
            _wrapped(f"ended      {self._ended}"),
            f"but        {self.problem}",
        ]
        lines.append(f"timeline\n{timeline(self.outcome.history)}")
        lines += [f"timeline of {saga_id}\n{timeline(each.history)}" for saga_id, each in self.branches.items()]
        lines += [f'reproduce  check_saga(..., only="{self.id}")']
        return "\n".join(lines)


@attrs.frozen
class CheckReport:
    """The result of `check_saga`.

    Attributes:
        saga: The saga.
        cases: Every run. The first is the fault-free run.
    """

    saga: Saga
    cases: tuple[Case, ...]

    @property
    def broken(self) -> tuple[Case, ...]:
        """The cases with a problem, simplest first: by the number of faults, then by the number of records."""
        return tuple(sorted((case for case in self.cases if case.problem), key=_complexity))

    @property
    def paths(self) -> frozenset[tuple[str, ...]]:
        """The failure paths that were taken: the paths of all cases that have a fault."""
        return frozenset(case.path for case in self.cases if case.plan.all or case.plan.undone)

    @property
    def transitions(self) -> frozenset[tuple[str, str]]:
        """The transitions of the machine that were taken, as (event, source)."""
        return frozenset((record.event, record.source) for case in self.cases for record in case.outcome.history)

    @property
    def missed(self) -> tuple[Case, ...]:
        """The cases in which a fault did not strike, because the run did not reach the fault's call."""
        return tuple(case for case in self.cases if not case.struck)

    def raise_for_problems(self) -> None:
        """Raise if a case has a problem.

        Raises:
            SagaBrokenError: A case has a problem. The error shows the simplest case in full.
        """
        __tracebackhide__ = True
        if self.broken:
            raise SagaBrokenError(self)

    def __str__(self) -> str:
        faulty = sum(bool(case.plan.all) or case.plan.undone for case in self.cases)
        name = f"saga {self.saga.name!r}"
        known = sum(1 for _ in self.saga.machine.moves())
        covered = (
            f"{len(self.paths)} failure paths, {len(self.transitions)} of {known} transitions of its machine; "
            f"{sum(case.outcome.failed for case in self.cases)} runs failed and were compensated"
        )
        broken = self.broken
        if not broken:
            return f"{name} survives all {faulty} faults\n{covered}"
        lines = [f"{name} does not survive {len(broken)} of {faulty} faults", str(broken[0])]
        if len(broken) > 1:
            lines += ["", "it also does not survive", *(f"    {case.id}" for case in broken[1:])]
        return "\n".join(lines)


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 110, subsequent_indent=" " * 11, break_long_words=False, break_on_hyphens=False)


def _complexity(case: Case) -> tuple[int, int]:
    return len(case.plan.all) + case.plan.undone, len(case.outcome.history)
