"""check_promises: tests that a step's compensation undoes its effect, and that repeated calls have no further effect.

A saga can only be correct if its compensations are correct. Each promise is tested on one real step at a time, in a new
or reset world. The steps before the tested step are executed first.
"""

from __future__ import annotations

import contextlib
import enum
import itertools
from collections.abc import Callable, Collection, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

import attrs

from fsm_mediator.definition.saga import Saga
from fsm_mediator.definition.steps import Context, Step
from fsm_mediator.definition.type_variables import Payload
from fsm_mediator.errors import DefinitionError, MediatorError, SagaUndoneError
from fsm_mediator.execution.data import nested_results
from fsm_mediator.machine.parts import COMPENSATE, EXECUTE, Callback, Kind, Part
from fsm_mediator.records import Failure
from fsm_mediator.testing.memory import ProcessMemory
from fsm_mediator.testing.runner import CallRunner
from fsm_mediator.testing.world import World, Worlds, differences


class Promise(enum.StrEnum):
    """A law that a step can promise to keep.

    Attributes:
        UNDOES: `execute` followed by `compensate` leaves the world as it was.
        UNDOES_ONCE: Compensating twice has the same effect as compensating once.
        UNDOES_NOTHING: Compensating a step that was never executed changes nothing.
        EXECUTES_ONCE: Executing twice under one idempotency key has the same effect as executing once.
    """

    UNDOES = "undoes"
    UNDOES_ONCE = "undoes_once"
    UNDOES_NOTHING = "undoes_nothing"
    EXECUTES_ONCE = "executes_once"


LAWS: Final = {
    Promise.UNDOES: "execute, then compensate: the world is as it was before",
    Promise.UNDOES_ONCE: "compensate twice: as compensated once",
    Promise.UNDOES_NOTHING: "compensate without execute: nothing changes",
    Promise.EXECUTES_ONCE: "execute twice with one key: as executed once",
}
"""The text of each promise, for messages."""

_KEPT: Final = "kept"
_UNSEEN: Final = "unseen"
_BROKEN: Final = "broken"
_FREE: Final = "-"


class PromiseBrokenError(MediatorError, AssertionError):
    """A step breaks a promise of its contract.

    Attributes:
        report: All verdicts, including those of the broken promises.
    """

    def __init__(self, report: PromiseReport) -> None:
        super().__init__(str(report))
        self.report = report


@attrs.frozen
class Verdict:
    """The result of one promise, tested on one step.

    Attributes:
        step: The step's path.
        promise: The promise.
        verdict: ``kept``, ``broken``, ``unseen`` (the step changes nothing that `observe` shows) or ``-`` (the step
            does not make this promise).
        problem: The problem as text. Empty if there is none.
    """

    step: str
    promise: Promise
    verdict: str
    problem: str = ""

    @property
    def id(self) -> str:
        """The name of this test. To run only this test: ``check_promises(..., only="charge-undoes_nothing")``."""
        return f"{self.step}-{self.promise}"


@attrs.frozen
class PromiseReport:
    """The result of `check_promises`.

    Attributes:
        saga: The saga.
        verdicts: One `Verdict` for each step and each `Promise`, in the order of the steps.
    """

    saga: Saga
    verdicts: tuple[Verdict, ...]

    @property
    def broken(self) -> tuple[Verdict, ...]:
        """The broken promises."""
        return tuple(verdict for verdict in self.verdicts if verdict.verdict == _BROKEN)

    def raise_for_problems(self) -> None:
        """Raise if a promise is broken.

        Raises:
            PromiseBrokenError: A promise is broken. The error has all broken promises.
        """
        __tracebackhide__ = True
        if self.broken:
            raise PromiseBrokenError(self)

    def __str__(self) -> str:
        steps = list(dict.fromkeys(verdict.step for verdict in self.verdicts))
        width = max(map(len, [*steps, "step"]))
        found = {(verdict.step, verdict.promise): verdict.verdict for verdict in self.verdicts}
        lines = [" ".join(["step".ljust(width), *(f"{promise:14}" for promise in Promise)]).rstrip()]
        for step in steps:
            cells = (f"{found.get((step, promise), _FREE):14}" for promise in Promise)
            lines.append(" ".join([step.ljust(width), *cells]).rstrip())
        for verdict in self.broken:
            lines += [
                "",
                f"{verdict.step} breaks its promise: {LAWS[verdict.promise]}",
                f"  but        {verdict.problem}",
                f'  reproduce  check_promises(..., only="{verdict.id}")',
            ]
        return "\n".join(lines)


def promised_by(part: Part) -> frozenset[Promise]:
    """The promises of a step: its attribute ``promises``. Without this attribute, the promises that its settings imply.

    A step with a compensation makes the three promises of compensations. A repeatable step promises ``executes_once``.

    Raises:
        DefinitionError: The attribute ``promises`` is not a set of promises.
    """
    declared = getattr(part.subject, "promises", None)
    if declared is not None:
        return _as_promises(f"step {part.path!r}: promises", declared)
    promises: set[Promise] = set()
    if part.compensate is not None:
        promises |= {Promise.UNDOES, Promise.UNDOES_ONCE, Promise.UNDOES_NOTHING}
    if part.repeatable:
        promises.add(Promise.EXECUTES_ONCE)
    return frozenset(promises)


def _as_promises(what: str, declared: Any) -> frozenset[Promise]:
    try:
        return frozenset(Promise(each) for each in declared)
    except (TypeError, ValueError) as error:
        raise DefinitionError(f"{what} must be a set of {', '.join(Promise)}, not {declared!r}") from error


def check_promises(
    saga: Saga[Payload] | Step | Callable[[], Any],
    payload: Payload | None = None,
    *,
    observe: Callable[[], Any] | None = None,
    reset: Callable[[], Any] | None = None,
    promises: Mapping[str, Collection[Promise | str]] | None = None,
    only: str | None = None,
) -> PromiseReport:
    """Test the promises of each step. `Promise` lists the possible promises.

    By default, a step with a `compensate` promises ``undoes``, ``undoes_once`` and ``undoes_nothing``. A ``repeatable``
    step promises ``executes_once``. To change this, set the step's attribute ``promises`` to a set of `Promise`.

    Args:
        saga: A saga, a single step, or a function that returns a new ``(saga, observe)``, as for `check_saga`.
        payload: The payload of the steps.
        observe: A function that returns the state of the world, as for `check_saga`.
        reset: A function that restores the world to its initial state, as for `check_saga`.
        promises: Promises by the path of the step. They replace the step's own promises.
        only: The name of one promise of one step, such as ``charge-undoes_nothing``. Only this promise is tested.

    Returns:
        The verdicts.

    Raises:
        PromiseBrokenError: An `AssertionError` with each broken promise, its step, and the difference.
        DefinitionError: The check itself is wrong.
    """
    __tracebackhide__ = True
    source: Saga | Callable[[], Any] = Saga(saga.name, [saga]) if isinstance(saga, Step) else saga
    with contextlib.closing(_Trying(source, payload, observe, reset, promises or {})) as trying:
        report = PromiseReport(trying.saga, tuple(trying.verdicts(only)))
    report.raise_for_problems()
    return report


class _Trying:
    def __init__(
        self,
        saga: Saga | Callable[[], Any],
        payload: Any,
        observe: Callable[[], Any] | None,
        reset: Callable[[], Any] | None,
        promises: Mapping[str, Collection[Promise | str]],
    ) -> None:
        self._call = CallRunner()
        self._worlds = Worlds(saga, observe, reset, self._call)
        self._payload = payload
        self._first: World | None = self._worlds.next()
        self.saga = self._first.saga
        paths = [part.path for part in self.saga.parts if part.kind is Kind.STEP]
        if not isinstance(promises, Mapping):
            raise DefinitionError(f"promises is a dict, from steps to what they promise, not {promises!r}")
        for path in promises:
            if path not in paths:
                raise DefinitionError(f"saga {self.saga.name!r} has no step {path!r}; it has {', '.join(paths)}")
        self._promises = {path: _as_promises(f"promises[{path!r}]", each) for path, each in promises.items()}
        self._tried = 0

    def close(self) -> None:
        self._call.close()

    def verdicts(self, only: str | None) -> Iterator[Verdict]:
        known = []
        for part in self.saga.parts:
            if part.kind is not Kind.STEP:
                continue
            promised = self._promises.get(part.path, None)
            promised = promised_by(part) if promised is None else promised
            for promise in Promise:
                name = f"{part.path}-{promise}"
                known.append(name)
                if only is not None and only != name:
                    continue
                yield self._tried_one(part, promise) if promise in promised else Verdict(part.path, promise, _FREE)
        if only is not None and only not in known:
            raise DefinitionError(f"there is no promise {only!r}; there are {', '.join(known)}")

    def _tried_one(self, part: Part, promise: Promise) -> Verdict:
        if promise is not Promise.EXECUTES_ONCE and part.compensate is None:
            raise DefinitionError(f"step {part.path!r} promises {str(promise)!r}, and has no compensate")
        world, self._first = self._first or self._worlds.next(), None
        self._tried += 1
        trial_run = _ContractTrial(
            self, world, part.path, f"tried-{self._tried}" if not self._worlds.is_fresh_per_run else "tried"
        )
        start = self._worlds.look(world)
        trial_run.execute_those_before()
        verdict = getattr(trial_run, f"_{promise}")(promise)
        if not self._worlds.is_fresh_per_run and verdict.verdict != _BROKEN:
            trial_run.put_back(start)
        assert isinstance(verdict, Verdict)
        return verdict

    def called(self, callback: Callback, context: Context) -> Any:
        arguments = (self._payload, context) if callback.takes_context else (self._payload,)
        return self._call(callback.function, *arguments)

    def look(self, world: World) -> Any:
        return self._worlds.look(world)


class _ContractTrial:
    """The test of one promise in one world."""

    def __init__(self, trying: _Trying, world: World, path: str, saga_id: str) -> None:
        self._trying = trying
        self._world = world
        self._saga_id = saga_id
        self._part = world.saga.part(path)
        self._results: dict[str, Any] = {}
        self._executed: list[Part] = []
        self._seq = itertools.count(1)
        self._memory = ProcessMemory(world.saga, self._look, set())

    def execute_those_before(self) -> None:
        for part in self._world.saga.parts:
            if part.path == self._part.path:
                return
            if part.kind is Kind.STEP:
                try:
                    self._execute(part)
                except Exception as error:
                    raise DefinitionError(
                        f"step {self._part.path!r} cannot be tried: {part.path!r}, which comes before it, raised "
                        f"{error!r}"
                    ) from error

    def put_back(self, start: Any) -> None:
        for part in reversed(self._executed):
            if part.compensate is not None:
                self._compensate(part)
        left = self._look()
        if left != start:
            raise DefinitionError(
                f"the steps up to {self._part.path!r} were compensated, and the world is not as it was before:"
                f"\n{differences(start, left)}\nPass reset=, a function that restores it. Or pass, instead of the "
                f"saga, a function that returns new (saga, observe)"
            )

    def _undoes(self, promise: Promise) -> Verdict:
        before = self._look()
        problem = self._problem("execute", self._execute)
        seen = self._look()
        problem = problem or self._problem("compensate", self._compensate)
        problem = problem or self._changed(before, "it is not as it was before")
        return self._verdict(promise, problem, seen=seen != before)

    def _undoes_once(self, promise: Promise) -> Verdict:
        problem = self._problem("execute", self._execute)
        executed = self._look()
        problem = problem or self._problem("compensate", self._compensate)
        once = self._look()
        problem = problem or self._problem("compensate, the second time,", self._compensate)
        problem = problem or self._changed(once, "the second time changed it")
        return self._verdict(promise, problem, seen=once != executed)

    def _undoes_nothing(self, promise: Promise) -> Verdict:
        before = self._look()
        problem = self._problem("compensate, without execute,", self._compensate)
        return self._verdict(promise, problem or self._changed(before, "it changed"))

    def _executes_once(self, promise: Promise) -> Verdict:
        before = self._look()
        problem = self._problem("execute", self._execute)
        once = self._look()
        problem = problem or self._problem("execute, the second time,", self._execute_again)
        problem = problem or self._changed(once, "the second time changed it")
        return self._verdict(promise, problem, seen=once != before)

    def _verdict(self, promise: Promise, problem: str, *, seen: bool = True) -> Verdict:
        verdict = _BROKEN if problem else _KEPT if seen else _UNSEEN
        return Verdict(self._part.path, promise, verdict, problem)

    def _look(self) -> Any:
        return self._trying.look(self._world)

    def _changed(self, expected: Any, what: str) -> str:
        found = self._look()
        if found == expected:
            return ""
        diff = "\n".join(f"               {line}" for line in differences(expected, found).splitlines())
        return f"{what} (- expected, + found):\n{diff}"

    def _problem(self, what: str, call: Callable[[Part], object]) -> str:
        try:
            call(self._part)
        except Exception as error:
            return f"{what} raised {error!r}"
        return ""

    def _execute(self, part: Part, attempt: int = 1) -> None:
        assert part.execute is not None
        context = self._context(part, EXECUTE, attempt=attempt, in_doubt=attempt > 1)
        self._results[part.path] = self._trying.called(part.execute, context)
        self._memory.learn()
        if part not in self._executed:
            self._executed.append(part)

    def _execute_again(self, part: Part) -> None:
        self._memory.lose()
        self._execute(part, 2)

    def _compensate(self, part: Part) -> None:
        assert part.compensate is not None
        self._memory.lose()
        known = part.path in self._results
        error = Failure.of(SagaUndoneError("undone by the test"))
        result = self._results.get(part.path)
        context = self._context(part, COMPENSATE, result=result, in_doubt=not known, error=error)
        self._trying.called(part.compensate, context)

    def _context(self, part: Part, verb: str, *, attempt: int = 1, **facts: Any) -> Context:
        results = {path: result for path, result in self._results.items() if path != part.path}
        seen = MappingProxyType(nested_results(results, part.scope))
        return Context(self._saga_id, part.path, attempt, verb, seen, seq=next(self._seq), **facts)
