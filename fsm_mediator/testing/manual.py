"""Stepper: drives one execution of real steps, one move at a time. The caller chooses each move.

The stepper is a third kind of driver, besides the two mediators. It calls steps and writes records only while one of
its methods runs.
"""

from __future__ import annotations

from typing import Any

from fsm_mediator.definition.saga import Saga
from fsm_mediator.errors import DefinitionError, RefusedError
from fsm_mediator.execution.execution import Execution
from fsm_mediator.execution.outcome import Outcome
from fsm_mediator.journal.liveness import this_driver
from fsm_mediator.journal.memory import MemoryJournal
from fsm_mediator.machine.parts import Effect, Kind
from fsm_mediator.mediator.active import ActiveExecution
from fsm_mediator.mediator.commits import CommitBuilder, append_immediate_moves, arguments_of
from fsm_mediator.mediator.ownership import OwnedExecutions
from fsm_mediator.mediator.registry import SagaRegistry
from fsm_mediator.mediator.store import ExecutionStore
from fsm_mediator.records import CANCEL, Answer, InboxItem, OperatorRetry, OperatorUndo, Raised, Record, Returned
from fsm_mediator.testing.clock import VirtualClock
from fsm_mediator.testing.faults import Fault, FaultPlan
from fsm_mediator.testing.injection import FaultInjector, SimulatedCrash
from fsm_mediator.testing.runner import CallRunner


class Stepper:
    """Drives one execution, one move at a time.

    Attributes:
        execution: The execution, as its driver knows it.
        clock: The clock of the execution. Only `pass_time` moves it.
        injector: The injector of the faults. It also records the calls.

    Raises:
        DefinitionError: The saga has groups or choices. Their branches are separate executions.
    """

    def __init__(self, saga: Saga, payload: Any, saga_id: str, call: CallRunner, *, encode: bool = True) -> None:
        if any(part.kind not in (Kind.STEP, Kind.SIGNAL, Kind.SLEEP) for part in saga.parts):
            raise DefinitionError(
                f"saga {saga.name!r} has groups or choices, which cannot be driven step by step; use check_saga"
            )
        self.saga = saga
        self.clock: VirtualClock = VirtualClock()
        self.injector: FaultInjector = FaultInjector(FaultPlan(), self.clock, MemoryJournal(encode=encode))
        self._call = call
        self._enlist()
        self._active = ActiveExecution(saga_id, self._store.new_execution(saga, payload, saga_id, None), 1)
        self._write(self._commits.resume_records(self._active, self.clock()), opens=True)

    @property
    def execution(self) -> Execution:
        """The execution, as its driver knows it."""
        return self._active.execution

    @property
    def effect(self) -> Effect | None:
        """The next effect of the execution. None if the execution is stuck or ended."""
        return self.execution.effect

    @property
    def outcome(self) -> Outcome:
        """The `Outcome` of the execution so far."""
        return self.execution.outcome()

    def folded(self) -> Execution:
        """A second `Execution`, built from the journal, as another driver would recover it."""
        return self._store.load_execution(self._store.entry(self.execution.saga_id))

    def perform(self, kind: str | None = None) -> None:
        """Make the next call of a step. If *kind* is not None, a fault of this kind strikes the call."""
        effect = self.effect
        assert effect is not None
        assert effect.callback is not None
        fault = None if kind is None else Fault(effect.part.path, kind, effect.kind)
        self.injector.calls.append((effect.part.path, effect.kind))
        try:
            answer = self.injector.before_call(fault, self.execution.saga_id, effect)
            if answer is None:
                answer = self.injector.after_call(
                    fault, (effect.part.path, effect.kind), self.execution.saga_id, effect, self._called(effect)
                )
            record = self.execution.feed(answer, self.clock(), self.clock.chance)
            self._write([] if record is None else [record])
        except SimulatedCrash:
            self.die()

    def _called(self, effect: Effect) -> Answer:
        callback = effect.callback
        assert callback is not None
        try:
            value = self._call(callback.function, *arguments_of(self.execution, effect))
        except Exception as error:
            return Raised(error)
        return self._commits.encode_result(effect, Returned(value))

    def pass_time(self) -> None:
        """Advance the clock to the end of the current wait."""
        until = self.execution.wake_at
        if until is not None:
            self.clock.advance(max(0.0, until - self.clock()))
        self._write([])

    def post(self, item: InboxItem) -> None:
        """Put *item* into the execution's inbox, and let the driver read it."""
        self.injector.journal.post(self.execution.saga_id, item)
        self._active.receive(self.injector.journal.inbox(self.execution.saga_id))
        if self.effect is None or self.effect.callback is None:
            self._write([])  # while a call is under way, the item is read after the call

    def cancel(self) -> None:
        """Cancel the execution."""
        self.post(InboxItem(CANCEL, reason="cancelled by the test", at=self.clock()))

    def retry(self) -> None:
        """Retry the execution, as an operator does."""
        self._say(OperatorRetry("mended by the test"))

    def undo(self) -> None:
        """Undo the execution, as an operator does."""
        self._say(OperatorUndo("undone by the test"))

    def _say(self, verb: OperatorRetry | OperatorUndo) -> None:
        self._claim()
        record = self.execution.feed(verb, self.clock())
        assert record is not None
        self._active.recovered = False
        self._write([record])

    def die(self) -> None:
        """Crash the driver, and recover the execution with another driver."""
        self.injector.journal.dismiss(self._commits.driver.id)
        self._enlist()
        self._claim()
        self._write(self._commits.resume_records(self._active, self.clock()))

    def _enlist(self) -> None:
        journal, clock = self.injector.journal, self.clock
        registry = SagaRegistry((self.saga,), codec=journal.codec if journal.encodes else None, coroutines=True)
        self._store = ExecutionStore(registry, journal, clock)
        settings = {"park_after": 1e9, "sleeps": True, "limited": False, "max_recoveries": 50}
        self._commits = CommitBuilder(journal, clock, lambda: clock.chance, **settings)  # type: ignore[arg-type]
        self._commits.driver = this_driver()
        self._owned = OwnedExecutions(self._store, self._commits.driver.id)
        journal.enlist(self._commits.driver)

    def _claim(self) -> None:
        active = ActiveExecution(self.execution.saga_id)
        if not self._owned.claim(active, for_command=True):
            raise RefusedError(f"execution {active.saga_id!r} cannot be driven")
        self._active = active

    def _write(self, records: list[Record], *, opens: bool = False) -> None:
        """Write *records*, and the records of all following moves that need no effect."""
        while True:
            append_immediate_moves(self._active, records, self.clock())
            if not records and not opens:
                return
            saga_id = self.execution.saga_id
            self.injector.before_record(saga_id)
            mail = self.injector.journal.write(self._commits.commit(self._active, records, opens=opens))
            self.injector.after_record(saga_id)
            opens, records = False, []
            self._active.receive(mail)
