"""Stepper: drives one execution of real steps one move at a time, so that whoever holds it says what happens next.

A third driver beside the mediators, on the same desk: it asks, performs, feeds and journals, but only when it is told.
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
from fsm_mediator.mediator.desk import Desk
from fsm_mediator.mediator.holdings import Holdings
from fsm_mediator.mediator.live import Live
from fsm_mediator.records import CANCEL, Answer, InboxItem, OperatorRetry, OperatorUndo, Raised, Record
from fsm_mediator.testing.clock import VirtualClock
from fsm_mediator.testing.faults import Fault, FaultPlan
from fsm_mediator.testing.injection import Died, Stage
from fsm_mediator.testing.runner import Calling


class Stepper:
    """Drives one execution, a move at a time.

    Attributes:
        execution: It, as its driver knows it.
        clock: The time, which nothing but `pass_time` moves.
        stage: What was called.

    Raises:
        DefinitionError: The saga has groups or choices, whose branches are executions of their own.
    """

    def __init__(self, saga: Saga, payload: Any, saga_id: str, call: Calling, *, encode: bool = True) -> None:
        if any(part.kind not in (Kind.STEP, Kind.SIGNAL, Kind.SLEEP) for part in saga.parts):
            raise DefinitionError(
                f"saga {saga.name!r} has groups or choices, which cannot be driven a move at a time; check_saga can"
            )
        self.saga = saga
        self.clock = VirtualClock()
        self.stage = Stage(FaultPlan(), self.clock, MemoryJournal(encode=encode))
        self._call = call
        self._take_office()
        self._live = Live(saga_id, self._desk.opened(saga, payload, saga_id, None))
        self._write(self._desk.first_records(self._live, self.clock()), opens=True)

    @property
    def execution(self) -> Execution:
        """The execution, as its driver knows it."""
        return self._live.execution

    @property
    def effect(self) -> Effect | None:
        """What is to be done next."""
        return self.execution.effect

    @property
    def outcome(self) -> Outcome:
        """Where it stands."""
        return self.execution.outcome()

    def folded(self) -> Execution:
        """The execution as another driver would find it in the journal."""
        return self._desk.folded(self._desk.entry(self.execution.saga_id))

    def perform(self, kind: str | None = None) -> None:
        """Make the call that is next; *kind*: the fault that meets it."""
        effect = self.effect
        assert effect is not None
        assert effect.callback is not None
        fault = None if kind is None else Fault(effect.part.path, kind, effect.kind)
        self.stage.calls.append((effect.part.path, effect.kind))
        try:
            answer = self.stage.instead(fault, self._live, effect)
            if answer is None:
                answer = self.stage.then(fault, self._live, effect, self._called(effect))
            record = self.execution.feed(answer, self.clock(), self.clock.chance)
            self._write([] if record is None else [record])
        except Died:
            self.die()

    def _called(self, effect: Effect) -> Answer:
        callback = effect.callback
        assert callback is not None
        try:
            value = self._call(callback.function, *self._desk.arguments(self._live, effect))
        except Exception as error:
            return Raised(error)
        return self._desk.returned(effect, value)

    def pass_time(self) -> None:
        """Let the wait that it is in be over."""
        until = self.execution.wake_at
        if until is not None:
            self.clock.advance(max(0.0, until - self.clock()))
        self._write([])

    def post(self, item: InboxItem) -> None:
        """Put something into its inbox, and have its driver look."""
        self.stage.journal.post(self.execution.saga_id, item)
        self._live.note(self.stage.journal.inbox(self.execution.saga_id))
        if self.effect is None or self.effect.callback is None:
            self._write([])  # while a call is under way, it is taken up after it

    def cancel(self) -> None:
        """Cancel it."""
        self.post(InboxItem(CANCEL, reason="cancelled by the test", at=self.clock()))

    def retry(self) -> None:
        """Say as a person that the cause is mended."""
        self._say(OperatorRetry("mended by the test"))

    def undo(self) -> None:
        """Say as a person that it is to be undone."""
        self._say(OperatorUndo("undone by the test"))

    def _say(self, verb: OperatorRetry | OperatorUndo) -> None:
        self._take_up()
        record = self.execution.feed(verb, self.clock())
        assert record is not None
        self._live.recovered = False
        self._write([record])

    def die(self) -> None:
        """Have its driver die, and another one take it up."""
        self.stage.journal.dismiss(self._desk.driver.id)
        self._take_office()
        self._take_up()
        self._write(self._desk.first_records(self._live, self.clock()))

    def _take_office(self) -> None:
        self._desk = Desk(
            (self.saga,),
            self.stage.journal,
            (),
            driver=this_driver,
            clock=self.clock,
            chance=lambda: self.clock.chance,
            park_after=1e9,
            sleeps=True,
            coroutines=True,
        )
        self._holdings = Holdings(self._desk)
        self.stage.journal.enlist(self._desk.driver)

    def _take_up(self) -> None:
        live = Live(self.execution.saga_id)
        if not self._holdings.take_up(live, for_a_verb=True):
            raise RefusedError(f"execution {live.saga_id!r} cannot be taken up")
        self._live = live

    def _write(self, records: list[Record], *, opens: bool = False) -> None:
        """Make the records, and those that follow with no effect in between, durable."""
        while True:
            self._desk.advanced(self._live, records, self.clock())
            if not records and not opens:
                return
            saga_id = self.execution.saga_id
            self.stage.before_record(saga_id)
            mail = self.stage.journal.write(self._desk.commit(self._live, records, opens=opens))
            self.stage.after_record(saga_id)
            opens, records = False, []
            self._live.note(mail)
