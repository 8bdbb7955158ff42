"""check_together: runs several executions of a saga at once, under searched interleavings, and compares the worlds.

The law: the world is as if the executions that failed had never run, and those that succeeded had run one after the
other, in some order.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import attrs

from fsm_mediator.definition.saga import Saga
from fsm_mediator.errors import DefinitionError, MediatorError
from fsm_mediator.execution.outcome import Outcome
from fsm_mediator.journal.memory import MemoryJournal
from fsm_mediator.machine.parts import EXECUTE, Kind
from fsm_mediator.mediator.runtime import Runtime, StepCall
from fsm_mediator.records import Answer
from fsm_mediator.testing.clock import VirtualClock
from fsm_mediator.testing.faults import REJECTED, Fault, FaultPlan
from fsm_mediator.testing.injection import FaultInjector, faulty_mediator, path_of
from fsm_mediator.testing.interleaving import EndlessRunError, Schedule, Scheduler, schedules
from fsm_mediator.testing.runner import CallRunner, has_coroutines
from fsm_mediator.testing.world import World, Worlds, differences


class InterferenceError(MediatorError, AssertionError):
    """Executions at once leave the world in a state that they never leave one after the other.

    Attributes:
        report: What was tried, the broken run included.
    """

    def __init__(self, report: TogetherReport) -> None:
        super().__init__(str(report))
        self.report = report


@attrs.frozen
class TogetherRun:
    """One run of all executions at once.

    Attributes:
        id: Its name, by which `check_together` runs it alone.
        outcomes: The outcomes, in the order of the payloads.
        problem: What is wrong with the world; empty: nothing.
        switches: Where the turn passed from one execution to another, in words.
    """

    id: str
    outcomes: tuple[Outcome, ...]
    problem: str
    switches: tuple[str, ...]


@attrs.frozen
class TogetherReport:
    """The result of `check_together`.

    Attributes:
        saga: The saga.
        runs: Every run.
        complete: Whether every schedule with few preemptions was tried; False: *most* came first.
    """

    saga: Saga
    runs: tuple[TogetherRun, ...]
    complete: bool

    @property
    def broken(self) -> tuple[TogetherRun, ...]:
        """The runs with a problem, those with few switches first."""
        return tuple(sorted((run for run in self.runs if run.problem), key=lambda run: len(run.switches)))

    def __str__(self) -> str:
        name = f"saga {self.saga.name!r}"
        if not self.broken:
            rest = "every schedule with at most two preemptions" if self.complete else "there are more; see most="
            return f"executions of {name} do not interfere in {len(self.runs)} interleavings ({rest})"
        first = self.broken[0]
        ended = ", ".join(f"{outcome.saga_id} {outcome.state}" for outcome in first.outcomes)
        lines = [
            f"executions of {name} interfere in {len(self.broken)} of {len(self.runs)} interleavings",
            f"ended      {ended}",
            f"but        {first.problem}",
            *(f"switch     {each}" for each in first.switches),
            f'reproduce  check_together(..., only="{first.id}")',
        ]
        return "\n".join(lines)


def check_together(
    saga: Saga | Callable[[], Any],
    payloads: Sequence[Any],
    *,
    observe: Callable[[], Any] | None = None,
    reset: Callable[[], Any] | None = None,
    most: int = 400,
    only: str | None = None,
) -> TogetherReport:
    """Run one execution of a saga for each payload, all at once, under searched interleavings.

    A scheduler runs the steps one at a time, and switches between the executions before and after each call and at each
    line of the steps. It tries every schedule with few preemptions first. In half of the runs the last step of the
    first execution that can refuse does so: its compensations meet the other executions.

    The world must be as if the failed executions had never run, and the others one after the other, in some order.

    Args:
        saga: As for `check_saga`; with a saga, *reset* is needed.
        payloads: One payload for each execution, at least two. They share keys or resources if the payloads do.
        observe: As for `check_saga`. It must not show numbers that a service draws for each call.
        reset: As for `check_saga`.
        most: At most so many interleavings.
        only: The name of one run.

    Returns:
        The report.

    Raises:
        InterferenceError: An `AssertionError` with the interleaving.
        DefinitionError: The check itself is wrong.
    """
    __tracebackhide__ = True
    if len(payloads) < 2:
        raise DefinitionError("check_together needs at least two payloads, one for each execution")
    if isinstance(saga, Saga) and reset is None:
        raise DefinitionError("check_together needs reset=, or a function that makes (saga, observe) anew for each run")
    with contextlib.closing(_Together(saga, payloads, observe, reset)) as checking:
        report = checking.report(most, only)
    if report.broken:
        raise InterferenceError(report)
    return report


class _Together:
    def __init__(
        self,
        saga: Saga | Callable[[], Any],
        payloads: Sequence[Any],
        observe: Callable[[], Any] | None,
        reset: Callable[[], Any] | None,
    ) -> None:
        self._call = CallRunner()
        self._worlds = Worlds(saga, observe, reset, self._call)
        self._payloads = payloads
        self._serial: dict[frozenset[int], list[Any]] = {}
        self._points: list[tuple[int, str]] = []

    def close(self) -> None:
        self._call.close()

    def report(self, most: int, only: str | None) -> TogetherReport:
        world = self._worlds.next()
        saga = world.saga
        if saga.branches or any(part.kind is not Kind.STEP for part in saga.parts):
            raise DefinitionError(f"check_together runs sagas of steps; {saga.name!r} has groups, signals or sleeps")
        self._run_serially()
        refusing = next((part.path for part in reversed(saga.parts) if not part.forward_only), None)
        plans = [FaultPlan()] + ([] if refusing is None else [FaultPlan((Fault(refusing, REJECTED),))])
        if only is not None:
            kind, _, schedule = only.partition("-")
            run = self._run(plans[kind == "refused"], Schedule.parse(schedule))
            return TogetherReport(saga, (run,), complete=False)
        runs: list[TogetherRun] = []
        complete = True
        for plan in plans:
            share = most // len(plans)
            tried = [self._run(plan, each) for each in schedules(lambda _: self._points, len(self._payloads), share)]
            complete = complete and len(tried) < share
            runs += tried
        return TogetherReport(saga, tuple(runs), complete)

    def _run_serially(self) -> None:
        """Find the world after every set of executions that can succeed one after the other."""
        numbers = range(len(self._payloads))
        for size in range(len(self._payloads) + 1):
            for order in itertools.permutations(numbers, size):
                world = self._worlds.next()
                outcomes = self._drive(world, FaultPlan(), order, None)
                if all(outcome.succeeded for outcome in outcomes.values()):
                    self._serial.setdefault(frozenset(order), []).append(self._worlds.look(world))
        if not any(len(succeeded) == 1 for succeeded in self._serial):
            raise DefinitionError("no execution succeeds alone, so that nothing can be compared")

    def _run(self, plan: FaultPlan, schedule: Schedule) -> TogetherRun:
        world, scheduler = self._worlds.next(), Scheduler(schedule)
        numbers = range(len(self._payloads))
        name = f"{'refused' if plan.all else 'plain'}-{schedule}"
        problem = ""
        outcomes: dict[int, Outcome] = {}
        try:
            outcomes = self._drive(world, plan, numbers, scheduler)
        except EndlessRunError:
            problem = "the run does not end: an execution waits for what another one is to do"
        self._points = scheduler.points
        problem = problem or self._problem(outcomes, self._worlds.look(world))
        ended = tuple(outcomes[number] for number in numbers if number in outcomes)
        return TogetherRun(name, ended, problem, tuple(_switches(scheduler.points)))

    def _problem(self, outcomes: dict[int, Outcome], found: Any) -> str:
        unended = [outcome for outcome in outcomes.values() if not outcome.ended]
        if unended:
            return f"{unended[0].saga_id} has not ended: {unended[0].summary()}"
        succeeded = frozenset(number for number, outcome in outcomes.items() if outcome.succeeded)
        possible = self._serial.get(succeeded, [])
        names = ", ".join(outcomes[number].saga_id for number in sorted(succeeded)) or "none"
        if not possible:
            return f"{names} succeeded, and one after the other they never do"
        if any(found == each for each in possible):
            return ""
        diff = "\n".join(f"             {line}" for line in differences(possible[0], found).splitlines())
        return f"the world is not as when only {names} ran, one after the other (- expected, + found):\n{diff}"

    def _drive(
        self, world: World, plan: FaultPlan, numbers: Sequence[int], scheduler: Scheduler | None
    ) -> dict[int, Outcome]:
        """Run executions on one journal, each by a mediator of its own; without a scheduler one after the other."""
        journal, clock = MemoryJournal(encode=True), VirtualClock()
        outcomes: dict[int, Outcome] = {}

        def run(number: int) -> None:
            injector = FaultInjector(plan if number == 0 else FaultPlan(), clock, journal)

            def around(inner: Runtime) -> Any:
                return inner if scheduler is None else _SwitchingRuntime(inner, world.saga, scheduler, number)

            mediator = faulty_mediator(world.saga, injector, coroutines=has_coroutines(world.saga), around=around)
            with contextlib.closing(CallRunner()) as call:
                try:
                    outcomes[number] = call(
                        mediator.run, world.saga, self._payloads[number], saga_id=f"checked-{number}", check=False
                    )
                finally:
                    call(mediator.close)

        functions = [partial(run, number) for number in numbers]
        if scheduler is None:
            for function in functions:
                function()
        else:
            scheduler.run(functions)
        return outcomes


def _switches(points: Sequence[tuple[int, str]]) -> Iterator[str]:
    """Where the turn passed from one execution to another."""
    for (number, place), (following, there) in itertools.pairwise(points):
        if number != following:
            yield f"checked-{number} stops at {place}, checked-{following} comes to {there}"


class _SwitchingRuntime:
    """A runtime with a switch point before and after each call."""

    direct = False

    def __init__(self, inner: Runtime, saga: Saga, scheduler: Scheduler, number: int) -> None:
        self._inner = inner
        self._saga = saga
        self._scheduler = scheduler
        self._number = number

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def call(self, call: StepCall) -> Answer:
        """As `Runtime.call`, with switch points."""
        effect = call.effect
        path = path_of(self._saga, call.saga_id, effect.part)
        place = path if effect.kind == EXECUTE else f"{effect.kind} {path}"
        self._scheduler.switch_point(self._number, f"the call of {place}")
        with self._scheduler.at_each_line(self._number):
            answer = await self._inner.call(call)
        self._scheduler.switch_point(self._number, f"the answer of {place}")
        return answer
