"""check_saga: runs the real steps of a saga under every fault, and reports each run with a wrong result.

A failed run must leave the world as it was before the run. A successful run must leave the world in the same state as a
run without faults. Every run must end. The leftovers of an outcome are the steps whose effect cannot be undone. The
comparison of two worlds omits the data of these steps.
"""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

from fsm_mediator.definition.saga import Saga
from fsm_mediator.definition.type_variables import Payload
from fsm_mediator.definition.waits import EACH
from fsm_mediator.errors import DefinitionError, MediatorError, RefusedError
from fsm_mediator.execution.outcome import Outcome
from fsm_mediator.journal.memory import MemoryJournal
from fsm_mediator.machine.parts import Kind
from fsm_mediator.narration import timeline
from fsm_mediator.testing import faults
from fsm_mediator.testing.faults import FaultPlan, Strict, checked_plan, faults_of, pairs_of, why_it_must_succeed
from fsm_mediator.testing.memory import ProcessMemory
from fsm_mediator.testing.report import Case, CheckReport
from fsm_mediator.testing.runner import CallRunner, FaultRunner, Trial
from fsm_mediator.testing.world import World, Worlds, differences, without

SAGA_ID = "checked"


listeners: list[Callable[[CheckReport], None]] = []
"""Functions that `check_saga` calls with each report. The pytest plugin adds such a function to count the coverage."""


def check_saga(
    saga: Saga[Payload] | Callable[[], Any],
    payload: Payload | None = None,
    *,
    observe: Callable[[], Any] | None = None,
    reset: Callable[[], Any] | None = None,
    signals: Mapping[str, Any] | None = None,
    strict: Strict = False,
    pairs: bool = False,
    kill: bool = False,
    encode: bool = True,
    only: str | FaultPlan | Collection[str | FaultPlan] | None = None,
) -> CheckReport:
    """Run a saga's real steps under every fault at every point, and check the world afterwards.

    A failed run must leave the world as it was before the run. A successful run must leave the world in the same state
    as a run without faults. If *observe* returns a dictionary with a key for each step, the comparison
    omits the keys of the outcome's leftovers: the steps whose effect cannot be undone.

    Args:
        saga: A function without arguments that returns a new ``(saga, observe)`` for each run. Or a saga: then all runs
            share one world, and *reset* restores that world. Without *reset*, each successful run is undone.
        payload: The saga's payload. The saga must succeed with this payload if no fault strikes.
        observe: A function that returns the state of the world, as plain data. Pass it only if *saga* is a saga.
        reset: A function that restores the world to its initial state. Pass it only if *saga* is a saga.
        signals: The value of each signal that the saga waits for.
        strict: Let steps also raise *after* their effect. This finds the steps that must report doubt, with
            `OutcomeUnknownError` or with ``in_doubt_on``. If True, each step without its own errors in ``in_doubt_on``
            raises an error that no setting names. If you pass a list of exceptions or exception classes, each step
            raises each of these errors. A mapping has such a list for each step that it names.
        pairs: Also run each fault together with each later fault. This makes about a hundred times as many runs.
        kill: Also kill the driving process (SIGKILL) wherever a driver can die. The killed process is a forked child
            with a SQLite journal. The parent process recovers the saga from that journal. The world must outlive a
            process (files, a database). Do not keep its files or connections open across the fork.
        encode: Encode payloads and results, as a durable journal does. If False, the steps share the objects.
        only: The name of a fault or a `FaultPlan`, or several of them. Only these faults are run.

    Returns:
        The report.

    Raises:
        SagaBrokenError: An `AssertionError` with the simplest fault that the saga does not survive.
        DefinitionError: The check itself is wrong: the saga does not succeed even without faults, or *observe* shows no
            effect of the saga.
    """
    __tracebackhide__ = True
    with contextlib.closing(Checking(saga, payload, observe, reset, signals, encode=encode)) as checking:
        report = CheckReport(checking.saga, tuple(checking.cases(only, strict=strict, pairs=pairs, kill=kill)))
    for listener in listeners:
        listener(report)
    report.raise_for_problems()
    return report


def as_signals(signals: Mapping[str, Any] | None) -> dict[str, Any]:
    """Check the argument *signals*, and return it as a dict: the value of each signal, by the signal's name.

    Raises:
        DefinitionError: *signals* is not a dict.
    """
    if signals is not None and not isinstance(signals, Mapping):
        raise DefinitionError(f"signals is a dict, of names and values, not {signals!r}")
    return dict(signals or {})


def check_signals(saga: Saga, values: Mapping[str, Any]) -> None:
    """Check that the saga, or one of its branches, waits for each signal in *values*.

    Raises:
        DefinitionError: No part of the saga waits for one of these signals. The message names the signal.
    """
    known = list(_signals_of(saga))
    for name in values:
        # A branch of a group over items has a number as its name.
        if re.sub(r"(?<=\.)\d+(?=\.|$)", EACH, str(name)) not in known:
            raise DefinitionError(
                f"signals: saga {saga.name!r} waits for no signal {name!r}; it waits for {', '.join(known) or 'none'}"
            )


def _signals_of(saga: Saga) -> Iterator[str]:
    for part in saga.parts:
        if part.kind is Kind.SIGNAL:
            yield part.path
        for name, branch in saga.branches.get(part.path, {}).items():
            for inside in _signals_of(branch):
                if inside == branch.single:
                    yield f"{part.path}.{name}"
                yield f"{part.path}.{name}.{inside}"


class Checking:
    """A check of one saga: compares each run with the fault-free run."""

    def __init__(
        self,
        saga: Saga | Callable[[], Any],
        payload: Any,
        observe: Callable[[], Any] | None,
        reset: Callable[[], Any] | None,
        signals: Mapping[str, Any] | None,
        *,
        encode: bool,
    ) -> None:
        self.call: CallRunner = CallRunner()
        self._payload = payload
        self._worlds = Worlds(saga, observe, reset, self.call)
        values = as_signals(signals)
        self._runner = FaultRunner(self.call, lambda: MemoryJournal(encode=encode), values)
        self._first: World | None = self._worlds.next()
        self.saga: Saga = self._first.saga
        check_signals(self.saga, values)
        self._runs = 0
        self._good: Any = None
        self._fault_free: Case | None = None
        self._outlives = False
        self._of_world: set[str] = set()
        self._memory: ProcessMemory | None = None

    def close(self) -> None:
        """Close the event loop and the files."""
        self._runner.close()
        self.call.close()

    def cases(
        self,
        only: str | FaultPlan | Collection[str | FaultPlan] | None,
        *,
        strict: Strict,
        pairs: bool,
        kill: bool,
    ) -> Iterator[Case]:
        """Run every plan, and yield the `Case` of each run. The first run is fault-free."""
        yield self.case(FaultPlan())
        for plan in self.plans(only, strict=strict, pairs=pairs, kill=kill):
            case = self.case(plan)
            yield case
            if case.problem and not self._worlds.is_fresh_per_run:
                return  # the run changed the world, and it cannot be reset

    def plans(
        self,
        only: str | FaultPlan | Collection[str | FaultPlan] | None,
        *,
        strict: Strict,
        pairs: bool,
        kill: bool,
    ) -> Iterator[FaultPlan]:
        """The plans to run, except the fault-free plan. This calls no step."""
        if only is not None:
            wanted = only if isinstance(only, Iterable) and not isinstance(only, str) else [only]
            plans = [checked_plan(self.saga, plan, strict) for plan in wanted]
            yield from (plan for plan in plans if plan.all or plan.undone)
            return
        singles = faults.plans(self.saga, strict=strict, kill=kill)
        yield from singles
        if pairs:
            singles = faults.plans(self.saga, strict=strict)
            more = list(faults_of(self.saga, strict=strict))
            for plan in singles:
                yield from pairs_of(plan, self.reached(plan), more)

    def case(self, plan: FaultPlan) -> Case:
        """Run *plan*, and compare it with the fault-free run. The first call also runs the fault-free run.

        Raises:
            DefinitionError: The fault-free run does not succeed, or *observe* shows no effect of it.
        """
        if self._fault_free is None:
            self._fault_free = self._run_fault_free()
        if not plan.all and not plan.undone:
            return self._fault_free
        if any(fault.kind in faults.KILLS for fault in plan.all) and not self._outlives:
            self._see_that_it_outlives()
        before, trial, after, left = self._run(plan)
        problem = "; ".join(trial.injector.loop_problems)
        problem = (
            problem or trial.problem or self._not_absorbed(trial) or self.judged(trial.outcome, before, after) or left
        )
        if problem and self._memory is not None and self._memory.lost:
            problem += (
                f"\n           {self._memory} was lost with the process that died, as in a restart."
                f"\n           Keep it in the step's result, or in the service. What is of the world, observe must show"
            )
        struck = set(trial.injector.struck) >= set(plan.all)
        strikes = Counter(trial.injector.struck)
        return Case(plan, trial.outcome, struck, problem, trial.branches, trial.deaths, strikes)

    def _not_absorbed(self, trial: Trial) -> str:
        struck = bool(trial.injector.struck) and not trial.outcome.succeeded
        return why_it_must_succeed(self.saga, trial.plan) if struck else ""

    def _run_fault_free(self) -> Case:
        before, trial, after, left = self._run(FaultPlan())
        if not trial.outcome.succeeded:
            raise DefinitionError(
                f"the saga does not succeed with this payload even without faults, so nothing can be checked: "
                f"{trial.problem or trial.outcome.summary()}\n{timeline(trial.outcome.history)}"
            ) from trial.outcome.error
        if before == after:
            raise DefinitionError(
                f"observe returns the same value before and after saga {self.saga.name!r} has succeeded: {after!r}. "
                f"It must show the effects of the saga, or every run would pass"
            )
        self._good = after
        problem = left or "; ".join((*trial.injector.changed, *trial.injector.loop_problems))
        return Case(trial.plan, trial.outcome, True, problem, trial.branches, trial.deaths)

    def _see_that_it_outlives(self) -> None:
        """Check that this process sees what a child process does to the world.

        Raises:
            DefinitionError: This process sees no effect of the run in the child process.
        """
        before, trial, after, _ = self._run(FaultPlan(), outside=True)
        if not trial.outcome.succeeded or before == after:
            raise DefinitionError(
                f"saga {self.saga.name!r} ran in a child of this process, and its effects are not visible here: "
                f"{after!r}. A test with kills needs a world that outlives a process: files, a database, a server"
            )
        self._outlives = True

    def reached(self, plan: FaultPlan) -> list[tuple[str, str]]:
        """The calls that follow the first fault of *plan* in a run, as (step, verb).

        The run is simulated: no step is called.
        """
        trial = self._runner.run(self.saga, self._payload, plan, SAGA_ID, idle=True)
        return trial.injector.since

    def world(self) -> World:
        """The world of the next run."""
        world, self._first = self._first or self._worlds.next(), None
        return world

    def look(self, world: World) -> Any:
        """The state of the world now."""
        return self._worlds.look(world)

    def next_id(self) -> str:
        """The id of the next run. If each run has its own world, all runs have the same id."""
        self._runs += 1
        return SAGA_ID if self._worlds.is_fresh_per_run else f"{SAGA_ID}-{self._runs}"

    def _run(self, plan: FaultPlan, *, outside: bool = False) -> tuple[Any, Trial, Any, str]:
        """Run *plan*. If the run succeeds and the next run uses the same world, also undo the run.

        Returns:
            The state of the world before the run, the `Trial`, the state of the world after the run, and a problem as
            text. The problem is empty, unless the world is in a wrong state after the undo.
        """
        world, saga_id = self.world(), self.next_id()
        before = self._worlds.look(world)
        self._memory = memory = ProcessMemory(world.saga, lambda: self._worlds.look(world), self._of_world)
        try:
            if outside or any(fault.kind in faults.KILLS for fault in plan.all):
                trial = self._runner.run_in_subprocess(world.saga, self._payload, plan, saga_id)
            else:
                trial = self._runner.run(world.saga, self._payload, plan, saga_id, died=memory.lose)
        except MediatorError as error:
            error.add_note("if the saga only ever runs without a durable journal: check_saga(..., encode=False)")
            raise
        after = self._worlds.look(world)
        if not plan.all:
            memory.learn()
        left = ""
        if trial.outcome.succeeded:
            left = self.put_back(world, before, lambda: self._runner.undo(world.saga, trial))
        return before, trial, after, left

    def put_back(self, world: World, before: Any, undo: Callable[[], Outcome]) -> str:
        """Undo a successful run, because the next run uses the same world. Do nothing if each run has its own.

        Args:
            world: The world of the run.
            before: The state of the world before the run.
            undo: A function that undoes the run.

        Returns:
            The problem, if the world differs from *before* after the undo. Otherwise an empty text.

        Raises:
            DefinitionError: The run cannot be undone.
        """
        if self._worlds.is_fresh_per_run:
            return ""
        more = (
            "The next run needs the world as it was: pass reset=, a function that puts it back; or, instead of the "
            "saga, a function that returns new (saga, observe)"
        )
        try:
            outcome = undo()
        except RefusedError as error:
            raise DefinitionError(f"what saga {world.saga.name!r} has done cannot be undone. {more}") from error
        left = self._worlds.look(world)
        if outcome.failed and left == before:
            return ""
        if outcome.leftovers:
            kept = ", ".join(outcome.leftovers)
            raise DefinitionError(f"what {kept} of saga {world.saga.name!r} did cannot be undone. {more}")
        return f"when it had succeeded it was undone, and the world is {_not_like(before, left, 'as it was before')}"

    def judged(self, outcome: Outcome, before: Any, after: Any) -> str:
        """The problem with the world after a run, as text. Empty if there is none.

        *outcome*: the outcome of the run. *before* and *after*: the state of the world before and after the run.
        """
        expected = self._good if outcome.succeeded else before
        excused = outcome.leftovers
        if without(expected, excused) == without(after, excused):
            return ""
        like = "as it is when nothing goes wrong" if outcome.succeeded else "as it was before"
        hint = ""
        if excused:
            hint = (
                f"\n           what {', '.join(excused)} did cannot be undone: leave it out of what observe returns, "
                f"or have that be a dictionary by step"
            )
        return f"the world is {_not_like(without(expected, excused), without(after, excused), like)}{hint}"


def _not_like(expected: Any, found: Any, like: str) -> str:
    diff = "\n".join(f"             {line}" for line in differences(expected, found).splitlines())
    return f"not {like} (- expected, + found):\n{diff}"
