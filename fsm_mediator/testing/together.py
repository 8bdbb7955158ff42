"""check_together: runs several executions of a saga at once, under many interleavings, and compares the worlds.

A run must leave the world in the same state as a serial run of the successful executions only: without the failed
executions, and one execution after the other, in some order.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import attrs
import msgspec

from fsm_mediator.definition.saga import Saga
from fsm_mediator.definition.type_variables import Payload
from fsm_mediator.errors import DefinitionError, MediatorError, RefusedError, UnknownExecutionError
from fsm_mediator.execution.outcome import Outcome
from fsm_mediator.journal.memory import MemoryJournal
from fsm_mediator.journal.protocol import new_token
from fsm_mediator.machine.parts import EXECUTE, Effect
from fsm_mediator.mediator.commands import post_signal
from fsm_mediator.mediator.runtime import Runtime, StepCall
from fsm_mediator.mediator.threads import ThreadRuntime, run_blocking
from fsm_mediator.records import Answer
from fsm_mediator.testing.check import as_signals, check_signals
from fsm_mediator.testing.clock import VirtualClock
from fsm_mediator.testing.faults import CANCELLED, REJECTED, Fault, FaultPlan, faults_of
from fsm_mediator.testing.injection import FaultInjector, faulty_mediator, path_of
from fsm_mediator.testing.interleaving import EndlessRunError, Schedule, Scheduler, schedules
from fsm_mediator.testing.runner import CallRunner, has_coroutines
from fsm_mediator.testing.virtual_loop import VirtualLoop
from fsm_mediator.testing.world import World, Worlds, differences


class InterferenceError(MediatorError, AssertionError):
    """Executions that run at once leave the world in a state that no serial run leaves.

    Attributes:
        report: All runs, including the broken run.
    """

    def __init__(self, report: TogetherReport) -> None:
        super().__init__(str(report))
        self.report = report


@attrs.frozen
class TogetherRun:
    """One run of all executions at once.

    Attributes:
        id: The name of the run. Pass it to `check_together` as *only* to repeat this run.
        outcomes: The outcomes, in the order of the payloads.
        problem: The problem with the world, in words. Empty if there is none.
        switches: The switches between executions, in words.
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
        complete: Whether every schedule with up to two preemptions was tried. False if *most* runs were not enough.
    """

    saga: Saga
    runs: tuple[TogetherRun, ...]
    complete: bool

    @property
    def broken(self) -> tuple[TogetherRun, ...]:
        """The runs with a problem, sorted by the number of switches."""
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
    saga: Saga[Payload] | Callable[[], Any],
    payloads: Sequence[Payload],
    *,
    observe: Callable[[], Any] | None = None,
    reset: Callable[[], Any] | None = None,
    signals: Mapping[str, Any] | None = None,
    most: int = 400,
    only: str | None = None,
) -> TogetherReport:
    """Run one execution of a saga for each payload, all at once, under many interleavings.

    A scheduler runs the steps one at a time. It switches between the executions, their branches and the senders of
    their signals. It can switch before and after each call, and at each line of the steps. While an execution sleeps,
    other executions run. Schedules with few preemptions are tried first. In half of the runs, the first execution is
    rejected at the last step that can reject, so that its compensations run while the other executions run.

    A run must leave the world in the same state as a serial run of the successful executions only: without the failed
    executions, and one execution after the other, in some order.

    Args:
        saga: A function that returns a new ``(saga, observe)`` for each run, or a saga. A saga requires *reset*.
        payloads: One payload for each execution, at least two. Executions compete for the keys or resources that their
            payloads share.
        observe: A function that returns the state of the world, as for `check_saga`. It must not show values that
            are different in each run, such as generated numbers.
        reset: A function that restores the world to its initial state, as for `check_saga`.
        signals: The value of each signal that the saga waits for. Each execution gets all signals in this order. The
            scheduler chooses when.
        most: The maximum number of interleavings.
        only: The name of one run (`TogetherRun.id`). Only this run is made.

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
        raise DefinitionError(
            "check_together needs reset=, or a function that returns new (saga, observe) for each run"
        )
    with contextlib.closing(_Together(saga, payloads, observe, reset, signals)) as checking:
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
        signals: Mapping[str, Any] | None,
    ) -> None:
        self._call = CallRunner()
        self._worlds = Worlds(saga, observe, reset, self._call)
        self._payloads = payloads
        self._signals = as_signals(signals)
        self._called: set[str] = set()
        self._serial: dict[frozenset[int], list[Any]] = {}
        self._points: list[tuple[int, str]] = []

    def close(self) -> None:
        self._call.close()

    def report(self, most: int, only: str | None) -> TogetherReport:
        world = self._worlds.next()
        saga = world.saga
        check_signals(saga, self._signals)
        self._run_serially()
        refusing = [fault.part for fault in faults_of(saga) if fault.kind == CANCELLED and fault.part in self._called]
        plans = [FaultPlan(), *(FaultPlan((Fault(last, REJECTED),)) for last in refusing[-1:])]
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
        """Run every subset of the executions serially, in every order. This finds the worlds that a run may leave.

        If all executions of such a run succeed, its world is stored.

        Raises:
            DefinitionError: No execution succeeds alone.
        """
        numbers = range(len(self._payloads))
        for size in range(len(self._payloads) + 1):
            for order in itertools.permutations(numbers, size):
                world = self._worlds.next()
                outcomes = self._drive(world, FaultPlan(), order, None)
                if all(outcome.succeeded for outcome in outcomes.values()):
                    self._serial.setdefault(frozenset(order), []).append(self._worlds.look(world))
        if not any(len(succeeded) == 1 for succeeded in self._serial):
            raise DefinitionError("no execution succeeds alone, so nothing can be compared")

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
        return TogetherRun(name, ended, problem, tuple(_switches(scheduler)))

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
        """Run the executions *numbers* on one journal, each with its own mediator. Without a *scheduler*, run serially.

        Returns:
            The outcomes, by the number of the execution.
        """
        journal, clock = MemoryJournal(encode=True), VirtualClock()
        driven = [
            _Driven(world.saga, number, FaultInjector(FaultPlan() if number else plan, clock, journal), self._signals)
            for number in numbers
        ]
        if scheduler is None:
            for each in driven:
                each.run(self._payloads[each.number], None)
                self._called.update(path for path, _ in each.injector.calls)
        else:
            functions = [(each.saga_id, partial(each.run, self._payloads[each.number], scheduler)) for each in driven]
            senders = [(f"the signals of {each.saga_id}", partial(each.send, scheduler)) for each in driven]
            scheduler.run([*functions, *(senders if self._signals else ())])
        return {each.number: each.outcome for each in driven if each.outcome is not None}


class _Driven:
    """One execution with its own mediator, and the signals to send to it."""

    outcome: Outcome | None = None
    mediator: Any = None

    def __init__(self, saga: Saga, number: int, injector: FaultInjector, signals: Mapping[str, Any]) -> None:
        self._saga = saga
        self.number = number
        self.injector = injector
        self.saga_id = f"checked-{number}"
        self._unsent = list(signals.items())

    def run(self, payload: Any, scheduler: Scheduler | None) -> None:
        """Run the execution until it ends or is stuck, or until it waits and no signal or timer is left."""
        runtimes: list[_SwitchingRuntime] = []

        def around(inner: Runtime) -> Any:
            if scheduler is None:
                return inner
            runtimes.append(_SwitchingRuntime(inner, self._saga, scheduler, self.injector.clock))
            return runtimes[0]

        prepare = None if scheduler is None else partial(_share, scheduler)
        self.mediator = faulty_mediator(self._saga, self.injector, coroutines=has_coroutines(self._saga), around=around)
        with contextlib.closing(CallRunner(prepare)) as call:
            call.live_by(self.injector.clock)
            try:
                while True:
                    left = len(self._unsent)
                    self.outcome = outcome = call(
                        self.mediator.run, self._saga, payload, saga_id=self.saga_id, check=False
                    )
                    if outcome.ended or outcome.stuck:
                        return
                    if scheduler is None and left:
                        self._send_next()
                    elif scheduler is not None and left and left == len(self._unsent):
                        scheduler.wait(lambda left=left: len(self._unsent) < left)  # type: ignore[misc]
                    elif not left and not any(runtime.wake_next() for runtime in runtimes):
                        return
            finally:
                call(self.mediator.close)

    def send(self, scheduler: Scheduler) -> None:
        """Send all signals, after the execution was accepted."""
        scheduler.wait(lambda: self.injector.journal.find(self.saga_id) is not None, timed=True)
        while self._unsent:
            scheduler.switch_point(f"the signal {self._unsent[0][0]}")
            self._send_next()

    def _send_next(self) -> None:
        name, value = self._unsent[0]
        core = self.mediator._core
        with contextlib.suppress(RefusedError, UnknownExecutionError):  # it has ended, or the signal is too late
            entry = post_signal(core.store, new_token(), self.saga_id, name, value)
            if entry.saga_id in core.owned.active:
                core.runtime.post(core.notify, entry.saga_id)
        del self._unsent[0]


def _switches(scheduler: Scheduler) -> Iterator[str]:
    """A text for each switch of the run from one function to another."""
    for (number, place), (following, there) in itertools.pairwise(scheduler.points):
        if number != following:
            yield f"{scheduler.names[number]} stops at {place}, {scheduler.names[following]} comes to {there}"


def _share(scheduler: Scheduler, loop: VirtualLoop) -> None:
    """Set the callbacks of *loop*, so that *scheduler* can run other functions when the loop is idle.

    The scheduler can also switch to another function before the time of the loop jumps.
    """

    def idle(select: Callable[[float | None], list[Any]], timeout: float | None) -> list[Any]:
        if loop.in_threads:  # a step runs in a thread: its execution keeps the turn
            return select(timeout)
        return scheduler.leave(lambda: select(timeout), lambda: loop.is_woken)

    loop.idle = idle
    loop.jumps = lambda: scheduler.switch_point("a wait", yields=True)


class _SwitchingRuntime:
    """A runtime with a switch point before and after each call, and in each wait."""

    direct = False

    def __init__(self, inner: Runtime, saga: Saga, scheduler: Scheduler, clock: VirtualClock) -> None:
        self._inner = inner
        self._saga = saga
        self._scheduler = scheduler
        self._clock = clock
        self._blocks = isinstance(inner, ThreadRuntime)
        self._timers: list[tuple[float, Callable[[], object]]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def call(self, call: StepCall) -> Answer:
        """Make a call as `Runtime.call` does, with a switch point before and after the call."""
        effect = call.effect
        path = path_of(self._saga, call.saga_id, effect.part)
        place = path if effect.kind == EXECUTE else f"{effect.kind} {path}"
        self._scheduler.switch_point(f"the call of {place}")
        here, callback = self._scheduler.here, effect.callback
        if not (self._blocks or here is None or callback is None or callback.is_coroutine or effect.part.timeout):
            function = self._scheduler.traced(here, callback.function)  # the call runs in a thread of its own
            call.effect = Effect(effect.kind, effect.part, msgspec.structs.replace(callback, function=function))
        with self._scheduler.at_each_line():
            answer = await self._inner.call(call)
        self._scheduler.switch_point(f"the answer of {place}")
        return answer

    async def sleep(self, seconds: float) -> None:
        """Sleep as `Runtime.sleep` does. The scheduler runs other functions during the sleep."""
        if self._blocks:
            until = self._clock() + seconds
            self._scheduler.switch_point("a wait", yields=True)
            seconds = max(0.0, until - self._clock())
        await self._inner.sleep(seconds)

    async def wait(self, event: Any, seconds: float | None) -> bool:
        """Wait as `Runtime.wait` does. The scheduler runs other functions during the wait."""
        if not self._blocks or self._scheduler.here is None:
            return await self._inner.wait(event, seconds)
        return bool(event.is_set()) or self._scheduler.wait(event.is_set, timed=seconds is not None)

    async def pause(self, seconds: float) -> None:
        """Pause as `Runtime.pause` does. The scheduler runs other functions during the pause."""
        if not self._blocks:
            await self._inner.pause(seconds)
        self._scheduler.switch_point("a look", yields=True)

    def submit(self, work: Any, context: Any, never_ran: Callable[[], object]) -> None:
        """Run *work* as `Runtime.submit` does. If it runs in a thread, the scheduler decides when it runs."""
        if not self._blocks:
            self._inner.submit(work, context, never_ran)
            return
        scheduler, number = self._scheduler, self._scheduler.add(work.args[0].saga_id)

        async def scheduled() -> None:
            scheduler.run_one(number, partial(run_blocking, work))

        def never() -> None:
            scheduler.end(number)
            never_ran()

        self._inner.submit(scheduled, context, never)

    def at(self, time: float, call: Callable[[], object]) -> None:
        """Store *call* and its *time* for `wake_next`. No timer is started, so that each run is repeatable."""
        self._timers.append((time, call))

    def wake_next(self) -> bool:
        """Advance the clock to the earliest stored call, and make that call. Returns False if no call is stored."""
        if not self._timers:
            return False
        first = min(self._timers, key=lambda timer: timer[0])
        self._timers.remove(first)
        self._clock.advance(max(0.0, first[0] - self._clock()))
        first[1]()
        return True
