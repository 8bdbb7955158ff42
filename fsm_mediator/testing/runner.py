"""FaultRunner: runs a saga's real steps under one fault plan, to the end, on a real mediator.

After a simulated crash, another mediator on the same journal resumes the saga. If the saga is stuck, the runner stops
the faults and retries the saga, once in each state. If the saga waits for a signal, the runner sends the signal.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import attrs

from fsm_mediator.definition.saga import Saga
from fsm_mediator.errors import DefinitionError, LeaseLostError, MediatorError, RefusedError
from fsm_mediator.execution.outcome import Outcome
from fsm_mediator.journal.protocol import Journal
from fsm_mediator.journal.sqlite.journal import SQLiteJournal
from fsm_mediator.machine.parts import COMPENSATE, EXECUTE, Kind
from fsm_mediator.mediator.aio import AsyncMediator
from fsm_mediator.mediator.sync import Mediator
from fsm_mediator.states import WAITING, is_in_phase, path_of
from fsm_mediator.testing.clock import VirtualClock
from fsm_mediator.testing.faults import KILLS, FaultPlan
from fsm_mediator.testing.injection import FaultInjector, SimulatedCrash, faulty_mediator
from fsm_mediator.testing.processes import in_a_child
from fsm_mediator.testing.virtual_loop import VirtualLoop

logger: logging.Logger = logging.getLogger("fsm_mediator")

ROUNDS: Final = 200
"""The number of times that a trial is resumed, retried or signalled before it counts as endless."""


class CallRunner:
    """Calls functions and coroutine functions. Coroutines run on an event loop of the runner, in virtual time.

    The event loop is created when the first coroutine function is called.

    Args:
        prepare: A function that gets the event loop after its creation.
    """

    def __init__(self, prepare: Callable[[VirtualLoop], object] | None = None) -> None:
        self._prepare = prepare
        self._runner: asyncio.Runner | None = None
        self._clock: VirtualClock | None = None
        self.loop: VirtualLoop | None = None

    def live_by(self, clock: VirtualClock) -> None:
        """Let the event loop move *clock* from now on, and no other clock."""
        if self.loop is not None:
            self.loop.clock = clock
        self._clock = clock

    def _new_loop(self) -> VirtualLoop:
        self.loop = VirtualLoop(self._clock)
        if self._prepare is not None:
            self._prepare(self.loop)
        return self.loop

    def __call__(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call *function*, await its result if needed, and return the result."""
        if not inspect.iscoroutinefunction(function):
            return function(*args, **kwargs)
        if self._runner is None:
            try:
                asyncio.get_running_loop()
            except RuntimeError:
                self._runner = asyncio.Runner(loop_factory=self._new_loop)
            else:
                raise DefinitionError(
                    "a check of coroutines has its own event loop, but one is running: call the check from plain code"
                )
        return self._runner.run(function(*args, **kwargs))

    def close(self) -> None:
        """Close the event loop if there is one."""
        if self._runner is not None:
            self._runner.close()
            self._runner = self.loop = None


@attrs.frozen(kw_only=True)
class Trial:
    """The result of one run.

    Attributes:
        plan: The faults of the run.
        outcome: The outcome of the run.
        injector: The injector of the run. It has the calls of the run, and the faults that struck.
        deaths: The number of times that another mediator had to resume the saga.
        branches: The outcomes of the branches of the saga's groups, by id.
        problem: The reason why the run did not end. Empty if the run ended.
    """

    plan: FaultPlan
    outcome: Outcome
    injector: FaultInjector
    deaths: int = 0
    branches: Mapping[str, Outcome] = attrs.field(factory=dict)
    problem: str = ""


class FaultRunner:
    """Runs sagas under fault plans, each from its start to its end.

    Args:
        call: The runner that calls functions and coroutine functions.
        journal: A function that makes the journal of a run. It is called once for each run.
        signals: The value of each signal.
        coroutines: Whether to use `AsyncMediator`. If None, it is used for sagas with coroutine functions.
    """

    def __init__(
        self,
        call: CallRunner,
        journal: Callable[[], Journal],
        signals: Mapping[str, Any] | None = None,
        *,
        coroutines: bool | None = None,
    ) -> None:
        self._call = call
        self._journal = journal
        self.signals: dict[str, Any] = dict(signals or {})
        self._coroutines = coroutines
        self._opened: list[SQLiteJournal] = []
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def run(
        self,
        saga: Saga,
        payload: Any,
        plan: FaultPlan,
        saga_id: str,
        *,
        idle: bool = False,
        died: Callable[[], None] = lambda: None,
    ) -> Trial:
        """Run *saga* under *plan*, to its end. With *idle*, no step is called: the mediator gets a success instead.

        After each crash of a driver, *died* is called before another driver recovers.
        """
        injector = FaultInjector(plan, VirtualClock(), self._journal(), idle=idle)
        return _Run(self, saga, payload, injector, saga_id, died).finish()

    def run_in_subprocess(self, saga: Saga, payload: Any, plan: FaultPlan, saga_id: str) -> Trial:
        """Run *saga* under *plan* in a child process, which may be killed. Then run it to its end in this process.

        Both processes use the same SQLite journal. Faults that kill the process strike only in the child. All other
        faults strike in both processes.
        """
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="fsm-mediator-")
        path = Path(self._folder.name) / f"{len(self._opened)}.db"
        strikes = path.with_suffix(".struck")
        strikes.touch()

        def in_the_child() -> None:
            runner = FaultRunner(CallRunner(), self._journal, self.signals, coroutines=self._coroutines)
            injector = FaultInjector(plan, VirtualClock(), SQLiteJournal(path, durability="normal"), strike_log=strikes)
            _Run(runner, saga, payload, injector, saga_id).finish()

        killed = in_a_child(in_the_child)
        rest = attrs.evolve(plan, faults=tuple(fault for fault in plan.faults if fault.kind not in KILLS))
        journal = SQLiteJournal(path, durability="normal")
        self._opened.append(journal)
        injector = FaultInjector(rest, VirtualClock(), journal)
        by_id = {fault.id: fault for fault in plan.all}
        injector.struck += [by_id[name] for name in strikes.read_text().split()]
        trial = _Run(self, saga, payload, injector, saga_id).finish()
        return attrs.evolve(trial, plan=plan, deaths=trial.deaths + killed)

    def close(self) -> None:
        """Remove the journals of the killed child processes."""
        for journal in self._opened:
            journal.close()
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def undo(self, saga: Saga, trial: Trial) -> Outcome:
        """Undo the successful *trial*, without faults.

        Raises:
            RefusedError: The saga cannot be undone.
        """
        trial.injector.heal()
        mediator = self.driver(saga, trial.injector)
        try:
            outcome: Outcome = self.command(mediator, "undo", trial.outcome.saga_id, "so that the next run can begin")
        finally:
            self.command(mediator, "close")
        return outcome

    def live_by(self, clock: VirtualClock) -> None:
        """Let the event loop of the runner move *clock* from now on, and no other clock."""
        self._call.live_by(clock)

    def driver(self, saga: Saga, injector: FaultInjector) -> Mediator | AsyncMediator:
        """A new mediator with the faults of *injector*. An `AsyncMediator` if *saga* has coroutine functions."""
        coroutines = has_coroutines(saga) if self._coroutines is None else self._coroutines
        return faulty_mediator(saga, injector, coroutines=coroutines)

    def command(self, mediator: Any, verb: str, *args: Any, **kwargs: Any) -> Any:
        """Call the method *verb* of *mediator*, and await its result if needed."""
        return self._call(getattr(mediator, verb), *args, **kwargs)


class _Run:
    def __init__(
        self,
        runner: FaultRunner,
        saga: Saga,
        payload: Any,
        injector: FaultInjector,
        saga_id: str,
        died: Callable[[], None] = lambda: None,
    ) -> None:
        self.runner = runner
        self.died = died
        self.saga = saga
        self.payload = payload
        self.injector = injector
        self.saga_id = saga_id
        self.deaths = 0
        self.asked: list[str] = []
        self.signalled: set[str] = set()
        runner.live_by(injector.clock)
        self.mediator = runner.driver(saga, injector)

    def finish(self) -> Trial:
        logger.addFilter(_is_news)
        try:
            outcome, problem = self._played()
            branches = self._branches(self.saga_id) if self.saga.branches else {}
        finally:
            self._leave()
            logger.removeFilter(_is_news)
        return Trial(
            plan=self.injector.plan,
            outcome=outcome,
            injector=self.injector,
            deaths=self.deaths,
            branches=branches,
            problem=problem,
        )

    def _branches(self, parent: str) -> dict[str, Outcome]:
        found = {}
        for entry in reversed(list(self.injector.journal.entries(parent=parent))):
            found[entry.saga_id] = self.runner.command(self.mediator, "outcome", entry.saga_id)
            found |= self._branches(entry.saga_id)
        return found

    def _played(self) -> tuple[Outcome, str]:
        outcome = self._run_command("run", self.saga, self.payload, saga_id=self.saga_id, check=False)
        undone = not self.injector.plan.undone
        for _ in range(ROUNDS):
            if outcome.succeeded and not undone:
                undone = True
                outcome = self._run_command("undo", self.saga_id, "undone by the test")
            elif outcome.ended:
                return outcome, ""
            elif outcome.stuck:
                beyond = why_beyond_repair(outcome, self.injector, self.asked)
                if beyond:
                    return outcome, beyond
                self.asked.append(outcome.state)
                self.injector.heal()
                outcome = self._run_command("retry", self.saga_id, "mended by the test")
            else:
                awaited = self._signals(outcome.step or "")
                if not awaited:
                    return outcome, (
                        f"it waits in {outcome.state!r} for what is not given: pass signals=, a value for each signal"
                    )
                for name, value in awaited.items():
                    self.signalled.add(name)
                    with contextlib.suppress(RefusedError):  # the saga was cancelled meanwhile
                        self._run_command("signal", self.saga_id, name, value)
                outcome = self._run_command("run", self.saga, self.payload, saga_id=self.saga_id, check=False)
        return outcome, f"it does not end: after {ROUNDS} times of being taken up, it is in {outcome.state!r}"

    def _signals(self, path: str) -> dict[str, Any]:
        """The signals to send to the part at *path*: the values by name, without signals that were already sent.

        If the part is a group or a choice, these are the signals of its branches.
        """
        return {
            name: value
            for name, value in self.runner.signals.items()
            if (name == path or name.startswith(f"{path}.")) and name not in self.signalled
        }

    def _run_command(self, verb: str, *args: Any, **kwargs: Any) -> Outcome:
        """Call the mediator's method *verb*, and return the outcome. After a simulated crash, resume the saga."""
        again: tuple[Any, ...] = ("run", (self.saga, self.payload), {"saga_id": self.saga_id, "check": False})
        to_say: list[tuple[Any, ...]] = [(verb, args, kwargs)]
        for _ in range(ROUNDS):
            verb, args, kwargs = to_say[0]
            try:
                outcome: Outcome = self.runner.command(self.mediator, verb, *args, **kwargs)
            except SimulatedCrash:
                self.deaths += 1
                self._leave()
                self.died()
                self._sleep_on()
                self.mediator = self.runner.driver(self.saga, self.injector)
                # A branch is recovered separately from its parent.
                to_say = [("recover", (), {}), again] if self.saga.branches else [again]
            else:
                del to_say[0]
                if not to_say:
                    return outcome
        raise MediatorError(f"saga {self.saga.name!r} was recovered {ROUNDS} times, and its driver died every time")

    def _sleep_on(self) -> None:
        """Advance the clock until every sleep of a branch without a driver is over.

        This is needed because a parent that waits for its branches does not advance the clock.
        """
        sleeps = {
            (saga.name, part.path)
            for saga in _branch_sagas(self.saga)
            for part in saga.parts
            if part.kind is Kind.SLEEP
        }
        due = [
            entry.wake_at
            for entry in self.injector.journal.entries()
            if (entry.acceptance.saga, path_of(entry.state)) in sleeps
            and is_in_phase(entry.state, WAITING)
            and entry.driver is None
            and entry.wake_at is not None
        ]
        self.injector.clock.advance(max(0.0, max(due, default=0.0) - self.injector.clock()))

    def _leave(self) -> None:
        self.runner.command(self.mediator, "close")


def _branch_sagas(saga: Saga) -> Iterator[Saga]:
    """The branches of a saga, and the branches of these branches."""
    for branches in saga.branches.values():
        for branch in branches.values():
            yield branch
            yield from _branch_sagas(branch)


def why_beyond_repair(outcome: Outcome, injector: FaultInjector, asked: Collection[str]) -> str:
    """The reason why a further retry cannot help a stuck saga, as text. Empty if a retry without faults may help.

    Args:
        outcome: The outcome of the stuck saga.
        injector: The injector of the run, with the exceptions that steps raised by themselves.
        asked: The states in which an operator has already retried the saga.
    """
    path = outcome.step or ""
    if path in outcome.saga.branches:
        for (place, what), error in injector.own.items():
            if place.startswith(f"{path}.") and what == COMPENSATE:
                return f"it is stuck: the compensation of step {place!r} raised of its own accord {error!r}"
    verb = COMPENSATE if outcome.history[-1].event == "compensation_exhausted" else EXECUTE
    own = injector.own.get((path, verb))
    if own is not None:
        doing = "compensation of " if verb == COMPENSATE else ""
        return f"it is stuck: the {doing}step {path!r} raised of its own accord {own!r}"
    if outcome.state in asked:
        return f"it is stuck in {outcome.state!r} again, though nothing goes wrong any more: {outcome.error!r}"
    return ""


def has_coroutines(saga: Saga) -> bool:
    """Whether *saga* or a branch of it has a coroutine function. Then only `AsyncMediator` can run it."""
    return any(
        callback is not None and callback.is_coroutine
        for part in saga.parts
        for callback in (part.execute, part.compensate, part.probe)
    ) or any(has_coroutines(branch) for branches in saga.branches.values() for branch in branches.values())


def _is_news(record: logging.LogRecord) -> bool:
    """Whether to show a log record. Log records about a simulated crash and its consequences are not shown."""
    arguments = record.args if isinstance(record.args, tuple) else ()
    if any(isinstance(each, LeaseLostError) for each in arguments) or str(record.msg).startswith(
        "closed while attempts"
    ):
        return False
    return record.exc_info is None or not isinstance(record.exc_info[1], SimulatedCrash)
