"""FaultInjector and FaultyRuntime: inject faults into the real steps of a saga, on the real mediators.

`FaultyRuntime` wraps the runtime of a mediator. When the mediator calls a step or writes a record, a `FaultInjector`
decides which fault strikes. Everything else runs unchanged.
"""

from __future__ import annotations

import copy
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from fsm_mediator.definition.waits import EACH
from fsm_mediator.errors import OutcomeUnknownError, StepRejectedError
from fsm_mediator.execution.judging import leaves_doubt
from fsm_mediator.execution.views import FreshResults
from fsm_mediator.ids import branch_name, group_of, is_branch, root_of
from fsm_mediator.journal.protocol import Commit, Journal, Written
from fsm_mediator.machine.parts import COMPENSATE, EXECUTE, PROBE, Effect, Part
from fsm_mediator.mediator.aio import AsyncMediator
from fsm_mediator.mediator.ownership import notify_local_owner
from fsm_mediator.mediator.runtime import Runtime, StepCall
from fsm_mediator.mediator.sync import Mediator
from fsm_mediator.records import (
    CANCEL,
    Abandoned,
    Answer,
    Happened,
    InboxItem,
    Raised,
    Returned,
    TimedOut,
)
from fsm_mediator.testing import faults
from fsm_mediator.testing.clock import VirtualClock
from fsm_mediator.testing.coroutines import blocking_calls_noted, cut_short
from fsm_mediator.testing.faults import Fault, FaultPlan
from fsm_mediator.testing.processes import kill
from fsm_mediator.testing.virtual_loop import thread_awaited

if TYPE_CHECKING:
    from fsm_mediator.definition.saga import Saga

T = TypeVar("T")

_BLOCKS: Final = "blocks the event loop ({}), and with it every other saga: await it, or use asyncio.to_thread"

OUTAGE: Final = 3
"""The number of attempts that a fault strikes under a policy without limit."""


class SimulatedCrash(BaseException):
    """A simulated crash of the driver. It is a BaseException, so that no handler treats it as the error of a step."""


class InjectedError(Exception):
    """The error that a fault raises instead of calling the step."""


class FaultInjector:
    """Injects the faults of a plan into one run, and records the calls.

    Attributes:
        plan: The faults of the run.
        struck: The faults that struck, in order.
        calls: Every call, in order, as (step, verb).
        since: The calls after the first fault struck, as (step, verb).
        own: For each call as (step, verb), the exception that its latest attempt raised without a fault.
        changed: A message for each step that changed its payload in place. With a journal that encodes payloads, no
            other attempt sees such a change.
        loop_problems: A message for each coroutine that blocks its event loop or swallows its cancellation.
    """

    def __init__(
        self,
        plan: FaultPlan,
        clock: VirtualClock,
        journal: Journal,
        *,
        idle: bool = False,
        strike_log: Path | None = None,
    ) -> None:
        self.plan = plan
        self.clock = clock
        self.journal = journal
        self.struck: list[Fault] = []
        self.calls: list[tuple[str, str]] = []
        self.since: list[tuple[str, str]] = []
        self.own: dict[tuple[str, str], BaseException] = {}
        self.changed: list[str] = []
        self.loop_problems: list[str] = []
        self._idle = idle
        self._begun: Counter[tuple[str, str]] = Counter()
        self._strikes: Counter[Fault] = Counter()
        self._mended = False
        self._at_record: dict[str, tuple[Fault, bool]] = {}
        self._lock = threading.Lock()
        self._strike_log = strike_log

    def heal(self) -> None:
        """Inject no more faults in this run."""
        self._mended = True
        self._at_record.clear()

    def idled(self, effect: Effect) -> Answer | None:
        """The answer to use instead of a call, in a run that calls no steps. None if the call is to be made."""
        if not self._idle:
            return None
        return Returned(Happened() if effect.kind == PROBE else None)

    def begins(self, place: tuple[str, str], effect: Effect) -> Fault | None:
        """Count a call that is about to begin. Returns the fault that strikes the call, or None."""
        with self._lock:
            self._begun[place] += 1
            self.calls.append(place)
            if self.struck:
                self.since.append(place)
            if self._mended:
                return None
            for fault in self.plan.all:
                if (fault.part, fault.verb) == place and self._strikes_now(fault, effect.part, self._begun[place]):
                    self._strikes[fault] += 1
                    self.struck.append(fault)
                    if self._strike_log is not None:  # the process may be killed next
                        with self._strike_log.open("a") as log:
                            log.write(f"{fault.id}\n")
                    return fault
        return None

    def _strikes_now(self, fault: Fault, part: Part, call: int) -> bool:
        if fault.once:
            return call == 1
        policy = part.compensation_retry if fault.verb == COMPENSATE else part.retry
        return policy.attempts is not None or self._strikes[fault] < OUTAGE

    def before_call(self, fault: Fault | None, saga_id: str, effect: Effect) -> Answer | None:
        """The answer that replaces the call. None if the call is to be made.

        Raises:
            SimulatedCrash: The fault is a crash of the driver before the call.
        """
        kind = fault.kind if fault is not None else None
        part = effect.part
        if kind == faults.CRASH_BEFORE:
            raise SimulatedCrash
        if kind == faults.KILL_BEFORE:
            kill()
        if kind == faults.RAISES_BEFORE:
            return Raised(InjectedError("made to fail, before it had done anything"))
        if kind == faults.REJECTED:
            return Raised(StepRejectedError("made to be refused"))
        if kind == faults.SLOW_BEFORE:
            return self._out_of_time(part, effect)
        if kind == faults.CANCELLED:
            self.journal.post(root_of(saga_id), InboxItem(CANCEL, reason="cancelled by the test", at=self.clock()))
        if kind == faults.OVERDUE:
            entry = self.journal.find(saga_id)
            deadline = None if entry is None else entry.acceptance.deadline_at
            if deadline is not None:
                self.clock.advance(max(0.0, deadline - self.clock()) + 1.0)
        return None

    def after_call(
        self, fault: Fault | None, place: tuple[str, str], saga_id: str, effect: Effect, answer: Answer
    ) -> Answer:
        """The answer that the mediator gets after the call returned *answer*.

        Raises:
            SimulatedCrash: The fault is a crash of the driver after the call.
        """
        self.own.pop(place, None)
        if isinstance(answer, Raised):
            self.own[place] = answer.error
            if fault is None or fault.kind not in faults.DEATHS:
                return answer  # the step failed by itself, so there is no effect for a fault to follow
        if fault is None:
            return answer
        kind = fault.kind
        if kind == faults.CRASH_AFTER:
            raise SimulatedCrash
        if kind == faults.KILL_AFTER:
            kill()
        if kind in (faults.CRASH_UNRECORDED, faults.KILL_UNRECORDED):
            self._at_record[saga_id] = (fault, False)
        elif kind in (faults.CRASH_RECORDED, faults.KILL_RECORDED):
            self._at_record[saga_id] = (fault, True)
        elif kind == faults.RAISES_AFTER:
            return Raised(_named_error(fault))
        elif kind == faults.LOST:
            return Raised(_in_doubt(effect.part, ConnectionError("the answer was made to get lost")))
        elif kind == faults.SLOW_AFTER:
            return self._out_of_time(effect.part, effect)
        return answer

    def payload_before(self, call: StepCall) -> bytes | None:
        """The payload of a call as JSON, to compare it after the call. None if the journal encodes nothing."""
        return self.journal.codec.json(call.arguments[0], "a payload") if self.journal.encodes else None

    def look_for_changes(self, place: tuple[str, str], call: StepCall, payload: bytes | None) -> None:
        """Add a message to `changed` if the call changed its payload or a result in place."""
        if payload is None:
            return
        try:
            changed = ["its payload"] if self.payload_before(call) != payload else []
        except Exception:  # the payload now has a value that cannot be encoded
            changed = ["its payload"]
        results = call.arguments[1].results if len(call.arguments) > 1 else None
        if isinstance(results, FreshResults):
            changed += [f"the result of {name!r}" for name in results.changed()]
        if changed:
            self.changed.append(
                f"{place[1]} of {place[0]!r} changes {' and '.join(changed)} in place, which no other attempt sees: "
                f"return the value as the step's result, or change a copy"
            )

    def note_loop_problem(self, problem: str) -> None:
        """Add a problem of a coroutine with its event loop to `loop_problems`."""
        if problem not in self.loop_problems:
            self.loop_problems.append(problem)

    def before_record(self, saga_id: str) -> None:
        """Simulate a crash if a fault of the plan strikes just before a record of this execution is written.

        Raises:
            SimulatedCrash: The fault is a crash of the driver before the record.
        """
        self._record(saga_id, written=False)

    def after_record(self, saga_id: str) -> None:
        """Simulate a crash if a fault of the plan strikes just after a record of this execution was written.

        Raises:
            SimulatedCrash: The fault is a crash of the driver after the record.
        """
        self._record(saga_id, written=True)

    def _record(self, saga_id: str, *, written: bool) -> None:
        with self._lock:
            fault, after = self._at_record.get(saga_id, (None, False))
            if fault is None or after is not written:
                return
            del self._at_record[saga_id]
        if fault.kind in faults.KILLS:
            kill()
        raise SimulatedCrash

    @staticmethod
    def _out_of_time(part: Part, effect: Effect) -> Answer:
        if part.timeout is None:
            return Raised(_in_doubt(part, TimeoutError("made to give no answer in time")))
        outlives = part.can_outlive_its_timeout if effect.kind == EXECUTE else part.compensation_can_outlive_its_timeout
        if outlives and effect.kind != PROBE:
            return Abandoned(part.timeout + (part.grace if part.grace is not None else part.timeout))
        return TimedOut(part.timeout)


def _named_error(fault: Fault) -> Exception:
    """A new copy of the error of *fault*. A reused error would keep the traceback of its earlier raise."""
    message = "made to fail, after it had taken effect"
    if fault.error is None:
        return InjectedError(message)
    return fault.error(message) if isinstance(fault.error, type) else copy.copy(fault.error)


def path_of(saga: Saga, saga_id: str, part: Part) -> str:
    """The path of *part* from the outermost saga.

    The path of a branch's step is ``group.branch.step``. If the branch is a single step, its path is ``group.branch``.
    In a group with a branch for each item, ``*`` takes the place of the branch's name.
    """
    outer = []
    for place in saga_id.split("/")[1:]:
        group, name = group_of(place), branch_name(place)
        branches = saga.branches[group]
        saga = branches[name] if name in branches else branches[EACH]
        outer += [*group.split("."), "*" if name.isdigit() else name]
    return ".".join(outer if saga.single == part.path else [*outer, part.path])


def _in_doubt(part: Part, error: Exception) -> Exception:
    """*error*, if it leaves an attempt of *part* in doubt. Otherwise an `OutcomeUnknownError` with the same message."""
    return error if leaves_doubt(part, error) else OutcomeUnknownError(str(error))


class FaultyRuntime:
    """A runtime with the faults of a `FaultInjector`. After a simulated crash it calls no step and writes no record.

    Args:
        inner: The real runtime.
        saga: The outermost saga that is driven.
        injector: Decides which fault strikes.
    """

    direct = False

    def __init__(self, inner: Runtime, saga: Saga, injector: FaultInjector) -> None:
        self._inner = inner
        self._saga = saga
        self._injector = injector
        self._dead = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def call(self, call: StepCall) -> Answer:
        """Make a call as `Runtime.call` does. If a fault of the plan strikes the call, inject the fault."""
        saga_id, effect, injector = call.saga_id, call.effect, self._injector
        place = (path_of(self._saga, saga_id, effect.part), effect.kind)
        try:
            self._check_alive()
            fault = injector.begins(place, effect)
            answer = injector.before_call(fault, saga_id, effect)
            if fault is not None and fault.kind == faults.CANCELLED:
                self._notify_root(saga_id)  # the root waits for its branches
            if answer is None:
                made = injector.idled(effect)
                if made is None:
                    payload = injector.payload_before(call)
                    made = await self._call_really(call, place, fault)
                    injector.look_for_changes(place, call, payload)
                answer = injector.after_call(fault, place, saga_id, effect, made)
            self._check_alive()
        except SimulatedCrash:
            self._die(saga_id)
            raise
        return answer

    async def _call_really(self, call: StepCall, place: tuple[str, str], fault: Fault | None) -> Answer:
        callback, injector = call.effect.callback, self._injector
        if callback is None or not callback.is_coroutine:
            with thread_awaited():
                return await self._inner.call(call)
        who = f"{place[1]} of {place[0]!r}"
        if fault is not None and fault.kind == faults.CUT_SHORT:
            return await cut_short(call, lambda problem: injector.note_loop_problem(f"{who} {problem}"))
        with blocking_calls_noted(lambda what: injector.note_loop_problem(f"{who} {_BLOCKS.format(what)}")):
            return await self._inner.call(call)

    async def write(self, commit: Commit) -> Written:
        """Write a commit as `Runtime.write` does, and crash before or after it if a fault of the plan strikes there."""
        try:
            self._check_alive()
            self._injector.before_record(commit.saga_id)
            written = await self._inner.write(commit)
            self._injector.after_record(commit.saga_id)
        except SimulatedCrash:
            self._die(commit.saga_id)
            raise
        return written

    async def in_thread(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call *function* in a thread, as `Runtime.in_thread` does.

        Raises:
            SimulatedCrash: This runtime has crashed before.
        """
        self._check_alive()
        return await self._inner.in_thread(function, *arguments)

    def _check_alive(self) -> None:
        if self._dead:
            raise SimulatedCrash

    def _die(self, saga_id: str) -> None:
        self._dead = True
        self._notify_root(saga_id)  # the root waits for this branch, and its driver died too

    def _notify_root(self, saga_id: str) -> None:
        root = self._injector.journal.find(root_of(saga_id)) if is_branch(saga_id) else None
        if root is not None and root.driver is not None:
            notify_local_owner(root.driver.id, root.saga_id)


def faulty_mediator(
    saga: Saga, injector: FaultInjector, *, coroutines: bool, around: Callable[[Any], Any] = lambda inner: inner
) -> Mediator | AsyncMediator:
    """A mediator with the faults of *injector*. *around* wraps the real runtime, inside the `FaultyRuntime`."""

    def faulty(inner: Runtime) -> Any:
        return FaultyRuntime(around(inner), saga, injector)

    settings: dict[str, Any] = {
        "journal": injector.journal,
        "close_grace": 0.0,
        "max_workers": 1000,
        "_runtime": faulty,
    }
    if coroutines:
        return AsyncMediator(saga, **settings, **injector.clock.async_settings)
    return Mediator(saga, **settings, **injector.clock.settings)
