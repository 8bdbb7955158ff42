"""Stage: where a saga's real steps are played with faults, on the real mediators.

`FaultyMediator` and `FaultyAsyncMediator` are the mediators with two of their moves watched: that they perform an
effect, and that they write a record. What is to go wrong there is said by a `Stage`; everything else is as ever.
"""

from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from fsm_mediator.errors import OutcomeUnknownError, StepRejectedError
from fsm_mediator.journal.protocol import Commit, Journal, Written
from fsm_mediator.machine.parts import COMPENSATE, EXECUTE, PROBE, Effect, Part
from fsm_mediator.mediator.awaiting import AsyncMediator
from fsm_mediator.mediator.blocking import Mediator
from fsm_mediator.mediator.live import Live
from fsm_mediator.records import (
    CANCEL,
    Abandoned,
    Answer,
    Happened,
    InboxItem,
    Raised,
    Record,
    Returned,
    TimedOut,
)
from fsm_mediator.testing import faults
from fsm_mediator.testing.clock import VirtualClock
from fsm_mediator.testing.faults import Fault, FaultPlan
from fsm_mediator.testing.processes import kill

if TYPE_CHECKING:
    from fsm_mediator.definition.saga import Saga

OUTAGE: Final = 3
"""How many attempts a fault lasts where the step's policy has no limit."""


class Died(BaseException):
    """Whoever drives the saga is gone: no `Exception`, so that nobody takes it for an error of a step."""


class InjectedError(Exception):
    """Raised in the place of a step that is made to fail."""


class Stage:
    """Says what goes wrong in one run, and remembers what was called.

    Attributes:
        plan: What is to go wrong.
        struck: The faults that did, in order.
        calls: Every call: its step and verb, and whether it came after the first fault struck.
        own: What steps raised of their own accord, by (step, verb), the latest of each.
    """

    def __init__(self, plan: FaultPlan, clock: VirtualClock, journal: Journal, *, idle: bool = False) -> None:
        self.plan = plan
        self.clock = clock
        self.journal = journal
        self.struck: list[Fault] = []
        self.calls: list[tuple[str, str]] = []
        self.since: list[tuple[str, str]] = []
        self.own: dict[tuple[str, str], Exception] = {}
        self._idle = idle
        self._begun: Counter[tuple[str, str]] = Counter()
        self._strikes: Counter[Fault] = Counter()
        self._mended = False
        self._at_record: dict[str, tuple[Fault, bool]] = {}
        self._lock = threading.Lock()

    def mend(self) -> None:
        """From here on nothing goes wrong any more."""
        self._mended = True
        self._at_record.clear()

    def idled(self, effect: Effect) -> Answer | None:
        """What a call answers where none is really made, because only the way through the machine is of interest."""
        if not self._idle:
            return None
        return Returned(Happened() if effect.kind == PROBE else None)

    def begins(self, live: Live, effect: Effect) -> Fault | None:
        """A call is about to begin: the fault that meets it, if one does."""
        place = (path_of(live, effect.part), effect.kind)
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
                    return fault
        return None

    def _strikes_now(self, fault: Fault, part: Part, call: int) -> bool:
        if fault.once:
            return call == 1
        policy = part.compensation_retry if fault.verb == COMPENSATE else part.retry
        return policy.attempts is not None or self._strikes[fault] < OUTAGE

    def instead(self, fault: Fault | None, live: Live, effect: Effect) -> Answer | None:
        """What comes of the call without its being made; None: it is made.

        Raises:
            Died: Its driver is gone before.
        """
        kind = fault.kind if fault is not None else None
        part = effect.part
        if kind == faults.CRASH_BEFORE:
            raise Died
        if kind == faults.KILL_BEFORE:
            kill()
        if kind == faults.RAISES_BEFORE:
            return Raised(InjectedError("made to fail, before it had done anything"))
        if kind == faults.REJECTED:
            return Raised(StepRejectedError("made to be refused"))
        if kind == faults.SLOW_BEFORE:
            return self._out_of_time(part, effect)
        if kind == faults.CANCELLED:
            self.journal.post(root_of(live), InboxItem(CANCEL, reason="cancelled by the test", at=self.clock()))
        if kind == faults.OVERDUE:
            deadline = live.execution.deadline_at
            if deadline is not None:
                self.clock.advance(max(0.0, deadline - self.clock()) + 1.0)
        return None

    def then(self, fault: Fault | None, live: Live, effect: Effect, answer: Answer) -> Answer:
        """What the mediator is told of a call that was made.

        Raises:
            Died: Its driver is gone.
        """
        place = (path_of(live, effect.part), effect.kind)
        self.own.pop(place, None)
        if isinstance(answer, Raised):
            self.own[place] = answer.error
            if fault is None or fault.kind not in faults.DEATHS:
                return answer  # it failed of its own accord: there is no effect after which anything could go wrong
        if fault is None:
            return answer
        kind = fault.kind
        if kind == faults.CRASH_AFTER:
            raise Died
        if kind == faults.KILL_AFTER:
            kill()
        if kind in (faults.CRASH_UNRECORDED, faults.KILL_UNRECORDED):
            self._at_record[live.saga_id] = (fault, False)
        elif kind in (faults.CRASH_RECORDED, faults.KILL_RECORDED):
            self._at_record[live.saga_id] = (fault, True)
        elif kind == faults.RAISES_AFTER:
            return Raised(InjectedError("made to fail, after it had taken effect"))
        elif kind == faults.LOST:
            return Raised(_in_doubt(effect.part, ConnectionError("the answer was made to get lost")))
        elif kind == faults.SLOW_AFTER:
            return self._out_of_time(effect.part, effect)
        return answer

    def before_record(self, saga_id: str) -> None:
        """A record of this execution is about to be written.

        Raises:
            Died: Its driver is gone before.
        """
        self._record(saga_id, written=False)

    def after_record(self, saga_id: str) -> None:
        """A record of this execution was written.

        Raises:
            Died: Its driver is gone after that.
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
        raise Died

    @staticmethod
    def _out_of_time(part: Part, effect: Effect) -> Answer:
        if part.timeout is None:
            return Raised(_in_doubt(part, TimeoutError("made to give no answer in time")))
        outlives = part.can_outlive_its_timeout if effect.kind == EXECUTE else part.compensation_can_outlive_its_timeout
        if outlives and effect.kind != PROBE:
            return Abandoned(part.timeout + (part.grace if part.grace is not None else part.timeout))
        return TimedOut(part.timeout)


def root_of(live: Live) -> str:
    """The id of the outermost execution."""
    return live.saga_id.partition("/")[0]


def path_of(live: Live, part: Part) -> str:
    """The path of *part* as seen from the outermost saga.

    A branch's step is ``group.branch.step``, and one that is a branch by itself ``group.branch``; of a group that has a
    branch for each item, all are ``*``.
    """
    outer = [
        "*" if name.isdigit() else name for place in live.saga_id.split("/")[1:] for name in place.split(".") if name
    ]
    return ".".join(outer if live.execution.saga.single == part.path else [*outer, part.path])


def _in_doubt(part: Part, error: Exception) -> Exception:
    """*error*, if it leaves an attempt of this step in doubt; else what says so itself."""
    return error if isinstance(error, part.in_doubt_on) else OutcomeUnknownError(str(error))


class FaultyMediator(Mediator):
    """A `Mediator` to which the faults of a `Stage` happen. Once it has died, it does nothing any more."""

    def __init__(self, saga: Saga, stage: Stage, **settings: Any) -> None:
        super().__init__(saga, journal=stage.journal, close_grace=0.0, **(stage.clock.settings | settings))
        self._stage = stage
        self._dead = False

    def _perform(self, live: Live, effect: Effect) -> Answer:
        try:
            self._live_on()
            fault = self._stage.begins(live, effect)
            answer = self._stage.instead(fault, live, effect)
            if fault is not None and fault.kind == faults.CANCELLED and root_of(live) != live.saga_id:
                self._call(root_of(live))  # who waits for its branches
            if answer is None:
                made = self._stage.idled(effect) or super()._perform(live, effect)
                answer = self._stage.then(fault, live, effect, made)
            self._live_on()
        except Died:
            self._die(live)
            raise
        return answer

    def _write(self, commit: Commit) -> Written:
        try:
            self._live_on()
            self._stage.before_record(commit.saga_id)
            written = super()._write(commit)
            self._stage.after_record(commit.saga_id)
        except Died:
            self._die(self._live.get(commit.saga_id))
            raise
        return written

    def _live_on(self) -> None:
        if self._dead:
            raise Died

    def _attend(self, live: Live, at: float) -> Record | None:
        self._live_on()
        return super()._attend(live, at)

    def _die(self, live: Live | None) -> None:
        self._dead = True
        if live is not None and root_of(live) != live.saga_id:
            self._call(root_of(live))  # it waits for this branch, and has died with it


class FaultyAsyncMediator(AsyncMediator):
    """An `AsyncMediator` to which the faults of a `Stage` happen. Once it has died, it does nothing any more."""

    def __init__(self, saga: Saga, stage: Stage, **settings: Any) -> None:
        super().__init__(saga, journal=stage.journal, close_grace=0.0, **(stage.clock.async_settings | settings))
        self._stage = stage
        self._dead = False

    async def _perform(self, live: Live, effect: Effect) -> Answer:
        try:
            self._live_on()
            fault = self._stage.begins(live, effect)
            answer = self._stage.instead(fault, live, effect)
            if fault is not None and fault.kind == faults.CANCELLED and root_of(live) != live.saga_id:
                self._call(root_of(live))  # who waits for its branches
            if answer is None:
                made = self._stage.idled(effect) or await super()._perform(live, effect)
                answer = self._stage.then(fault, live, effect, made)
            self._live_on()
        except Died:
            self._die(live)
            raise
        return answer

    async def _write(self, commit: Commit) -> Written:
        try:
            self._live_on()
            self._stage.before_record(commit.saga_id)
            written = await super()._write(commit)
            self._stage.after_record(commit.saga_id)
        except Died:
            self._die(self._live.get(commit.saga_id))
            raise
        return written

    def _live_on(self) -> None:
        if self._dead:
            raise Died

    async def _attend(self, live: Live, at: float) -> Record | None:
        self._live_on()
        return await super()._attend(live, at)

    def _die(self, live: Live | None) -> None:
        self._dead = True
        if live is not None and root_of(live) != live.saga_id:
            self._call(root_of(live))  # it waits for this branch, and has died with it
