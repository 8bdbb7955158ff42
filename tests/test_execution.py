"""The execution: every judgement, without threads, clocks or journals; against a model as plain as can be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from msgspec.structs import replace

from fsm_mediator import (
    Acceptance,
    DefinitionChangedError,
    Execution,
    Failure,
    Happened,
    IllegalRecordError,
    InboxItem,
    NotHappened,
    OutcomeUnknownError,
    Parallel,
    Record,
    RefusedError,
    ResultRefusedError,
    Retry,
    RetryAfterError,
    Saga,
    SagaUndoneError,
    Signal,
    Step,
    StepRejectedError,
    step,
)
from fsm_mediator.execution import data
from fsm_mediator.execution.data import ExecutionData
from fsm_mediator.records import (
    CANCEL,
    SIGNAL,
    Abandoned,
    Answer,
    Begin,
    Branches,
    Crashed,
    Due,
    OperatorRetry,
    OperatorSettled,
    OperatorUndo,
    Raised,
    Returned,
    TimedOut,
)
from tests.reference_model import PlainExecution, Shape, ShapedStep, Told, saga_of, shapes

WAIT = Retry(wait_initial=1.0, wait_max=8.0, wait_jitter=2.0)

# What the records alone must give back. The inbox is no part of them: it is read from the journal beside them, and an
# item is only gone from there once a record has taken it.
FOLDED = (
    *("answered", "doubtful", "events", "branch_leftovers", "machine", "places", "plans", "acceptance", "attempt"),
    *(
        "compensated",
        "deadline_at",
        "doubt",
        "due_at",
        "effect",
        "failure",
        "history",
        "saga",
        "saga_id",
        "seq",
        "state",
        "trouble",
    ),
)
OF_THE_INBOX = ("cancel", "signals", "consumed", "forwarded")
# What is only there until the next commit, or is given by who drives.
OF_THE_DRIVER = ("new_branches", "undecided", "poison", "parent_results", "encoding", "around")


def everything(execution: Execution) -> dict[str, Any]:
    """All that an execution is, as plain values that can be compared and do not change with it."""
    values = {name: getattr(execution, name) for name in FOLDED}
    values["history"] = list(execution.history)
    values["answered"] = list(execution.answered.items())
    return values


def opened(saga: Saga, *, deadline_at: float | None = None, saga_id: str = "s") -> Execution:
    """A new execution, accepted at 0."""
    return Execution(saga, Acceptance(saga_id, saga.name, saga.version, saga.fingerprint, "payload", 0.0, deadline_at))


def settle(execution: Execution, at: float = 0.0) -> list[Record]:
    """All moves that need no effect."""
    moved = []
    while (record := execution.advance(at)) is not None:
        moved.append(record)
    return moved


def fed(saga: Saga, *answers: Answer, deadline_at: float | None = None) -> Execution:
    """An execution that has begun and got these answers, its waits over at once."""
    execution = opened(saga, deadline_at=deadline_at)
    execution.feed(Begin(), 0.0)
    for answer in answers:
        execution.feed(answer, 0.0)
        settle(execution, 1e9 if deadline_at is None else deadline_at - 0.5)
    return execution


def path(execution: Execution) -> list[str]:
    """The states that it went through."""
    return [record.target for record in execution.history]


def events(execution: Execution) -> list[str]:
    """The events that it was moved by."""
    return [record.event for record in execution.history]


A = Shape(name="a", compensates=True, attempts=2, compensation_attempts=2)
B = Shape(name="b", attempts=2)
C = Shape(name="c", compensates=True, attempts=1, compensation_attempts=1)


# Folding


def test_every_slot_is_compared_or_known_to_be_of_the_inbox():
    """A new attribute of an execution cannot be forgotten by the tests of folding."""
    assert set(ExecutionData.__slots__) == {*FOLDED, *OF_THE_INBOX, *OF_THE_DRIVER}


FAILURES: dict[str, Callable[[], Exception]] = {
    "plain": lambda: ValueError("it failed"),
    "os": lambda: OSError("it failed"),
    "connection": lambda: ConnectionError("lost"),
    "timeout": lambda: TimeoutError("no answer"),
    "rejected": lambda: StepRejectedError("no"),
    "unknown": lambda: OutcomeUnknownError("who knows"),
    "refused result": lambda: ResultRefusedError("cannot be journaled"),
}


class Life(RuleBasedStateMachine):
    """An execution to which anything happens at any time agrees with a plain model, and with its own fold."""

    @initialize(data=st.data())
    def begin(self, data: st.DataObject) -> None:
        plan = data.draw(shapes(max_size=5), label="steps")
        self.on = data.draw(st.sampled_from([Exception, Exception, OSError]), label="on")
        self.wait = data.draw(st.sampled_from([WAIT, Retry(wait_initial=0.0, wait_jitter=0.0)]), label="waits")
        self.deadline_at = data.draw(st.sampled_from([None, None, 5.0, 20.0, 200.0]), label="deadline")
        self.wait = replace(self.wait, on=self.on)
        self.saga = saga_of(plan, self.wait)
        self.real = opened(self.saga, deadline_at=self.deadline_at)
        self.plain = PlainExecution(plan)
        self.due_at: float | None = None
        self.cancelled = False
        self.items: list[int] = []
        self.taken: list[int] = []
        self.at = 0.0

    # What happens to it, whatever fits: most of what is drawn is this.

    @rule(data=st.data())
    def something_happens(self, data: st.DataObject) -> None:
        self.happens(data)

    @rule(data=st.data())
    def something_else_happens(self, data: st.DataObject) -> None:
        self.happens(data)

    @rule(data=st.data())
    def two_things_happen(self, data: st.DataObject) -> None:
        self.happens(data)
        self.stands_where_the_model_stands()
        self.happens(data)

    def happens(self, data: st.DataObject) -> None:
        phase = self.plain.phase
        if phase == "pending":
            self.agree(self.real.feed(Begin(), self.at), self.plain.begin())
        elif phase in ("executing", "compensating"):
            every = [self.returns, self.returns, self.fails, self.fails, self.is_left_behind, self.drivers_die]
            data.draw(st.sampled_from(every))(data)
        elif phase == "probing":
            data.draw(st.sampled_from([self.probe_answers, self.probe_answers, self.drivers_die]))(data)
        elif phase in ("retrying", "retrying_compensation"):
            self.wait_is_over()
        elif phase in ("stuck", "stuck_executing"):
            data.draw(st.sampled_from([self.person_retries, self.person_settles]))(data)
        elif phase == "succeeded" and self.plain.can_undo():
            self.agree(self.real.feed(OperatorUndo("wrong address"), self.at), self.plain.undone("undone"))
        else:
            self.end()
            self.begin(data)

    def agree(self, record: Record | None, told: Told, *, abandoned: bool = False) -> None:
        """The record says what the model says."""
        assert record is not None
        assert (record.event, record.source, record.target) == (told.event, told.source, told.target)
        assert (record.attempt, record.in_doubt) == (told.attempt, told.in_doubt), record
        assert (record.at, record.seq, record.abandoned) == (self.at, len(self.real.history), abandoned)
        assert (record.saga_id, record.saga, record.step) == ("s", "shaped", record.source.partition(".")[2] or None)
        self.due_at = record.due_at
        if self.cancelled and not self.plain.cancellable:
            self.cancelled = False
        self.taken += self.real.drain_consumed()

    def returns(self, data: st.DataObject) -> None:
        result, late = data.draw(st.none() | st.integers(), label="result"), data.draw(st.booleans(), label="late")
        record = self.real.feed(Returned(result, late), self.at)
        executing = self.plain.phase == "executing"
        self.agree(record, self.plain.returned(result))
        assert record is not None
        assert record.value == (result if executing else None)
        assert record.reason == ("answered late" if late else None)

    def fails(self, data: st.DataObject) -> None:
        kind = data.draw(
            st.sampled_from([*FAILURES, "timed out", "timed out", "crash", "crash", "later"]), label="failure"
        )
        seconds = data.draw(st.sampled_from([0.0, 3.0, 50.0]), label="seconds")
        chance = data.draw(st.floats(0, 1), label="chance")
        error = RetryAfterError(seconds) if kind == "later" else FAILURES[kind]() if kind in FAILURES else None
        answer: Answer = TimedOut(1.0) if kind == "timed out" else Crashed()
        if error is not None:
            answer = Raised(error, data.draw(st.booleans(), label="late"))
        executing, attempt = self.plain.phase == "executing", self.plain.attempt
        # "A step that raised has had none, unless it says otherwise": these say otherwise.
        doubt = executing and kind in ("connection", "timeout", "unknown", "refused result", "timed out", "crash")
        if kind in ("timed out", "crash", "later"):
            again = True
        elif kind == "rejected" or (kind == "refused result" and executing):
            again = False
        else:
            again = self.on is Exception or kind in ("os", "connection", "timeout")
        record = self.real.feed(answer, self.at, chance)
        told = self.plain.failed(kind, doubt=doubt, again=again)
        assert record is not None
        assert record.error is not None
        assert error is None or record.error.raised() is error
        if told.target.startswith(("retrying", "retrying_compensation")):
            backoff = min(self.wait.wait_initial * 2.0 ** (attempt - 1), self.wait.wait_max)
            least = seconds if kind == "later" else 0.0
            assert record.due_at == pytest.approx(self.at + max(least, backoff + self.wait.wait_jitter * chance))
        self.agree(record, told)

    def is_left_behind(self, data: st.DataObject) -> None:
        settled = self.plain.phase == "executing" and not self.plain.shape.outlives and self.plain.at < self.plain.pivot
        if settled and self.real.machine is self.saga.machine:
            self.refused(Abandoned(2.0))
        else:
            self.agree(self.real.feed(Abandoned(2.0), self.at), self.plain.abandoned("left behind"), abandoned=True)

    def drivers_die(self, data: st.DataObject) -> None:
        """Every driver dies: of a probe, that counts as no answer after a while; and once it is enough, anywhere."""
        if self.plain.phase != "probing" or data.draw(st.booleans(), label="enough"):
            record = self.real.feed(Crashed(1, too_often=True), self.at)
            self.agree(record, self.plain.abandoned("crashed"))
            return
        most = self.plain.shape.attempts or 10
        for times in range(most):
            assert self.real.feed(Crashed(times), self.at) is None
        record = self.real.feed(Crashed(most), self.at)
        self.agree(record, self.plain.probed("raises", None))
        assert record is not None
        assert record.reason == f"its probe could not tell: whoever asked it ended before the answer, {most} times"

    def probe_answers(self, data: st.DataObject) -> None:
        said: dict[str, Answer] = {
            "happened": Returned(Happened(7)),
            "not_happened": Returned(NotHappened()),
            "raises": Raised(OSError("unreachable")),
            "nonsense": Returned("yes"),
            "timed out": TimedOut(1.0),
            "left behind": Abandoned(1.0),
        }
        answer, earliest = data.draw(st.sampled_from([*said, "not_happened"]), label="probe"), self.due_at
        record = self.real.feed(said[answer], self.at)
        told = self.plain.probed(answer, 7)
        self.agree(record, told)
        if told.event == "errored":
            assert earliest is not None
            assert record is not None
            assert record.due_at == max(earliest, self.at)

    def wait_is_over(self) -> None:
        assert self.due_at is not None
        early = self.due_at - 0.001
        if not self.must_yield(early):
            assert self.real.advance(early) is None
        self.at = max(self.at, self.due_at)
        if self.must_yield(self.at):
            self.yields()
        else:
            self.agree(self.real.advance(self.at), self.plain.due())

    def person_retries(self, data: st.DataObject) -> None:
        self.agree(self.real.feed(OperatorRetry("mended"), self.at), self.plain.retried())
        self.deadline_at = None

    def person_settles(self, data: st.DataObject) -> None:
        done = data.draw(st.booleans(), label="done")
        answer = OperatorSettled(done, "I looked", 5 if done else None)
        if ("done" if done else "undone") not in self.plain.settles():
            self.refused(answer)
            return
        record = self.real.feed(answer, self.at)
        self.agree(record, self.plain.settled(done=done, result=5))
        assert record is not None
        assert (record.reason, record.value) == ("I looked", 5 if done else None)

    # Cancels, the deadline, time

    @rule(kind=st.sampled_from([CANCEL, SIGNAL]), seldom=st.booleans())
    def something_comes(self, kind: str, seldom: bool) -> None:
        if seldom and kind == CANCEL and self.plain.at != self.plain.pivot:
            return
        number = len(self.items) + 1
        before = everything(self.real)
        self.real.receive(InboxItem(kind, number=number))
        self.items.append(number)
        if kind == CANCEL and self.plain.cancellable and not self.cancelled:
            self.cancelled = True
        else:
            self.taken += self.real.drain_consumed()
            assert number in self.taken
        assert everything(self.real) == before

    @rule(seconds=st.sampled_from([0.0, 0.5, 15.0]))
    def time_passes(self, seconds: float) -> None:
        self.at += seconds

    @rule()
    def driver_looks(self) -> None:
        """Between effects, a driver asks whether anything moves by itself."""
        if self.must_yield(self.at):
            self.yields()
        elif self.plain.phase not in ("retrying", "retrying_compensation"):
            assert self.real.advance(self.at) is None

    def must_yield(self, at: float) -> bool:
        """Whether a cancel or the deadline takes hold now: between attempts, and where there is a way back."""
        late = self.deadline_at is not None and at >= self.deadline_at
        return (self.cancelled or late) and self.plain.phase != "probing" and self.plain.cancellable

    def yields(self) -> None:
        cancelled = self.cancelled
        begun = self.plain.attempt - 1 if self.plain.phase == "executing" else None
        record = self.real.advance(self.at)
        self.agree(record, self.plain.give_up("cancel", begun=begun))
        assert record is not None
        assert record.error is not None
        assert record.error.type.endswith("SagaCancelledError" if cancelled else "DeadlineExceededError")

    # What does not fit

    @rule(data=st.data())
    def something_does_not_fit(self, data: st.DataObject) -> None:
        answers: list[tuple[Answer, tuple[str, ...]]] = [
            (Begin(), ("pending",)),
            (Returned(1), ("executing", "compensating", "probing")),
            (Raised(ValueError()), ("executing", "compensating", "probing")),
            (TimedOut(1.0), ("executing", "compensating", "probing")),
            (Abandoned(1.0), ("executing", "compensating", "probing")),
            (Due(), ("retrying", "retrying_compensation")),
            (OperatorRetry(), ("stuck", "stuck_executing")),
            (OperatorSettled(True, "x"), ("stuck", "stuck_executing")),
            (OperatorSettled(False, "x"), ("stuck", "stuck_executing")),
            (OperatorUndo(), ("succeeded",) if self.plain.can_undo() else ()),
        ]
        self.refused(data.draw(st.sampled_from([each for each, fits in answers if self.plain.phase not in fits])))

    def refused(self, answer: Answer) -> None:
        """The answer is refused, in words, and nothing has changed."""
        before = everything(self.real)
        with pytest.raises(RefusedError) as caught:
            self.real.feed(answer, self.at)
        assert str(caught.value).startswith("saga 's': ")
        assert any(word in str(caught.value) for word in (repr(self.plain.state), "pivot", "no step of this saga"))
        assert everything(self.real) == before

    @rule()
    def crash_of_what_was_not_under_way(self) -> None:
        if self.plain.phase in ("executing", "compensating"):
            return
        before = everything(self.real)
        assert self.real.feed(Crashed(), self.at) is None
        assert everything(self.real) == before

    # What always holds

    @invariant()
    def stands_where_the_model_stands(self) -> None:
        real, plain = self.real, self.plain
        assert (real.state, real.phase, real.doubt) == (plain.state, plain.phase, plain.doubt)
        assert list(real.results.items()) == list(plain.results.items())
        assert (list(real.compensated), list(real.leftovers)) == (plain.compensated, plain.leftovers)
        assert real.cancellable is plain.cancellable
        assert real.ended is (plain.phase in ("succeeded", "failed"))
        assert real.deadline_at == self.deadline_at
        assert (real.failure is None) is (plain.failed_because is None)
        assert (real.trouble is None) is (plain.trouble is None)
        if plain.phase in ("pending", "succeeded", "failed", "stuck", "stuck_executing"):
            assert real.effect is None
        else:
            assert real.attempt == plain.attempt
            assert real.effect is not None
            assert real.effect.part.path == plain.shape.name

    @invariant()
    def wakes_in_time(self) -> None:
        times = []
        if self.plain.phase in ("retrying", "retrying_compensation"):
            times.append(self.due_at)
            if self.plain.phase == "retrying" and not self.plain.after_pivot:
                times.append(self.deadline_at)
        assert self.real.wake_at == min((time for time in times if time is not None), default=None)

    @invariant()
    def fold_is_the_same_execution(self) -> None:
        folded = Execution.fold(self.saga, self.real.acceptance, self.real.history)
        assert everything(folded) == everything(self.real)

    @invariant()
    def every_item_is_taken_once(self) -> None:
        assert len(self.taken) == len(set(self.taken))
        assert len(set(self.items) - set(self.taken)) == (1 if self.cancelled else 0)

    def end(self) -> None:
        """One life is over."""
        every_prefix_folds_alike(self.saga, self.real)

    def teardown(self) -> None:
        if hasattr(self, "real"):
            self.end()


def every_prefix_folds_alike(saga: Saga, execution: Execution) -> None:
    """Folding n records, and then replaying the others one by one, is the same wherever it is cut."""
    history = execution.history
    stages = [everything(Execution.fold(saga, execution.acceptance, history[:n])) for n in range(len(history) + 1)]
    replayed = Execution(saga, execution.acceptance)
    assert everything(replayed) == stages[0]
    for record, stage in zip(history, stages[1:], strict=True):
        replayed.replay(record)
        assert everything(replayed) == stage
    assert everything(replayed) == everything(execution)


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=80, stateful_step_count=50, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda records: [records[0], records[2]], "its next record is number 2"),
        (lambda records: records[1:], "leaves 'executing.a' as number 2, but the execution is in 'pending'"),
        (lambda records: [records[0], records[0]], "as number 1, but the execution is in 'executing.a'"),
        (lambda records: [altered(records[0], event="undo")], "'undo'"),
        (lambda records: [altered(records[0], event="explode")], "there is no event 'explode'"),
        (lambda records: [altered(records[0], target="failed")], "leads from 'pending' to 'executing.a', not to"),
        (lambda records: [records[0], altered(records[1], target="succeeded")], "record 2"),
    ],
)
def test_records_that_no_machine_wrote_are_refused(change, said):
    """A journal that was edited by hand, or lost a row, is found out at the first record that does not fit."""
    execution = fed(saga_of([A, B]), Returned(1), Returned(2))
    records = change(execution.history)

    with pytest.raises(IllegalRecordError, match=r"saga 's', record \d") as caught:
        Execution.fold(execution.saga, execution.acceptance, records)
    assert said in str(caught.value)
    assert f"record {caught.value.seq}" in str(caught.value)


def altered(record: Record, **changes: Any) -> Record:
    """The record with something else in it."""
    values = {name: getattr(record, name) for name in record.__struct_fields__}
    return Record(**{**values, **changes})


def test_records_of_another_definition_are_refused_by_name():
    """A saga that was journaled by a definition with other steps is not guessed at: I am told which one to register."""
    history = fed(saga_of([A, B]), Returned(1)).history
    changed = saga_of([A, attrs.evolve(B, name="other")])

    with pytest.raises(
        DefinitionChangedError, match=r"enters 'executing.b', a state that saga 'shaped' version 1 does"
    ):
        Execution.fold(changed, opened(changed).acceptance, history)


# Settings that change while sagas are under way


@given(shapes(max_size=4), shapes(max_size=4), st.lists(st.integers(0, 9), max_size=30))
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_settings_may_change_under_a_saga_that_is_under_way(before, after, choices):
    """I deploy other attempts and time-outs: what was journaled under the old ones is folded, and comes to an end."""
    size = min(len(before), len(after))
    old = [attrs.evolve(each, pivot=False) for each in before[:size]]
    new = [
        attrs.evolve(
            each,
            attempts=other.attempts,
            compensation_attempts=other.compensation_attempts,
            outlives=other.outlives,
        )
        for each, other in zip(old, after, strict=False)
    ]
    then, now = saga_of(old), saga_of(new)
    assert then.fingerprint == now.fingerprint
    execution = opened(then)
    execution.feed(Begin(), 0.0)
    for choice in choices:
        step_on(execution, choice)

    folded = Execution.fold(now, execution.acceptance, execution.history)

    assert folded.state == execution.state
    assert folded.effect is None or folded.effect.part in now.parts
    for _ in range(len(new) * 20):
        if folded.ended:
            break
        if folded.effect is None and folded.phase != "pending":
            folded.feed(OperatorRetry(), 0.0)
        step_on(folded, 0)
    assert folded.ended
    every_prefix_folds_alike(now, folded)


def step_on(execution: Execution, choice: int) -> None:
    """Give an answer that fits, by number; 0 is always the good one."""
    effect = execution.effect
    if effect is None or settle(execution, 1e9):
        return
    if effect.kind == "probe":
        answers: list[Answer] = [Returned(Happened(1)), Returned(NotHappened()), Raised(OSError())]
    else:
        answers = [Returned(1), Raised(ValueError()), Raised(TimeoutError()), TimedOut(1.0), Crashed()]
        part = effect.part
        if effect.kind == "compensate" or part.can_outlive_its_timeout:
            answers.append(Abandoned(1.0))
    execution.feed(answers[choice % len(answers)], 0.0)


def test_attempts_are_read_live():
    """A step that waits for its third attempt is given up when I deploy a policy of one."""
    patient, strict = saga_of([A, attrs.evolve(B, attempts=3)]), saga_of([A, attrs.evolve(B, attempts=1)])
    execution = opened(patient)
    execution.feed(Begin(), 0.0)
    execution.feed(Returned(1), 0.0)
    execution.feed(Raised(ValueError("x")), 0.0)
    assert execution.state == "retrying.b"
    assert "retrying.b" not in strict.machine.states

    folded = Execution.fold(strict, execution.acceptance, execution.history)

    assert folded.machine is strict.machine_with("retrying.b")
    assert folded.machine is not strict.machine
    assert [record.event for record in settle(folded, 100.0)] == ["rejected"]
    assert folded.state == "compensating.a"
    assert folded.failure == Failure("ValueError", "x")


def test_outcome_names_the_next_move_under_other_settings_too():
    """Stuck with a time-out that today's definition has no longer: I am still told what I can settle."""
    timed, untimed = saga_of([attrs.evolve(C, outlives=True)]), saga_of([C])
    stuck = fed(timed, Abandoned(2.0))
    assert stuck.state not in untimed.machine.states

    folded = Execution.fold(untimed, stuck.acceptance, stuck.history)

    assert folded.outcome().summary().endswith("mediator.resolve('s', reason=..., done=True or False)")


def test_machine_with_is_the_own_machine_wherever_it_can_be():
    """The wider machine is only made, once, for an execution that stands where today's settings lead nowhere."""
    saga = saga_of([attrs.evolve(A, attempts=1)])

    assert saga.machine_with("executing.a") is saga.machine
    wider = saga.machine_with("retrying.a")
    assert wider is not None
    assert wider is saga.machine_with("stuck_executing.a")
    assert saga.machine_with("retrying.b") is None


# Attempts


@pytest.mark.parametrize("attempts", [1, 2, 5])
def test_attempts_are_as_many_as_the_policy_allows(attempts):
    """`attempts=5` is five calls, not six."""
    saga = saga_of([attrs.evolve(B, attempts=attempts)])
    execution = opened(saga)
    execution.feed(Begin(), 0.0)
    calls = 0
    while execution.effect is not None:
        assert execution.context(execution.effect).attempt == calls + 1
        calls += 1
        execution.feed(Raised(ValueError()), 0.0)
        settle(execution, 1e9)

    assert calls == attempts
    assert execution.state == "failed"
    assert execution.history[-1].attempt == attempts


def test_step_after_the_pivot_is_tried_without_end():
    """Past the point of no return a step is tried as long as it takes, unless it is refused."""
    saga = Saga("s", [ShapedStep(Shape(name="go", pivot=True), Retry()), step(name="ship")(lambda order: None)])
    execution = fed(saga, Returned(1), *[Raised(ValueError())] * 500)
    assert execution.state == "executing.ship"
    assert execution.attempt == 501

    execution.feed(Raised(StepRejectedError("no such address")), 0.0)
    assert execution.state == "stuck.ship"
    assert execution.outcome().error is not None


def test_retry_after_waits_at_least_as_long_as_the_step_asked():
    """A service that says "in 40 seconds" is not asked before, but the policy may wait longer."""
    execution = opened(saga_of([B], Retry(wait_initial=5, wait_jitter=0)))
    execution.feed(Begin(), 100.0)
    record = execution.feed(Raised(RetryAfterError(40)), 100.0)
    assert record is not None
    assert record.due_at == 140.0
    assert execution.wake_at == 140.0
    assert execution.advance(139.9) is None
    assert execution.advance(140.0) is not None

    execution = opened(saga_of([B], Retry(wait_initial=5, wait_jitter=0)))
    execution.feed(Begin(), 100.0)
    record = execution.feed(Raised(RetryAfterError(1)), 100.0)
    assert record is not None
    assert record.due_at == 105.0


def test_retry_after_counts_as_an_attempt():
    """A service that always says "later" does not keep a saga for ever."""
    execution = fed(saga_of([B]), Raised(RetryAfterError(1)), Raised(RetryAfterError(1)))

    assert execution.state == "failed"
    assert events(execution) == ["start", "errored", "retry_due", "rejected"]


def test_predicate_that_raises_ends_the_attempts_with_the_steps_own_error():
    """A broken `Retry.on` neither breaks the driver nor hides what the step raised."""

    def broken(error: Exception) -> bool:
        raise ZeroDivisionError

    saga = Saga("s", [step(name="a", retry=Retry(attempts=5, on=broken))(lambda order: None)])
    error = ValueError("mine")
    execution = fed(saga, Raised(error))

    assert execution.state == "failed"
    assert execution.outcome().error is error
    assert "ZeroDivisionError" in error.__notes__[0]


def test_policy_of_execute_is_not_asked_about_a_compensation():
    """`retry=Retry(on=...)` is about `execute`; what `compensate` raised is none of its business."""
    asked: list[Exception] = []

    def asking(error: Exception) -> bool:
        asked.append(error)
        return False

    a = ShapedStep(A, Retry())
    a.retry = Retry(on=asking)
    execution = fed(Saga("s", [a, ShapedStep(C, Retry()).named("c")]), Returned(1), Raised(StepRejectedError("no")))
    assert execution.state == "compensating.a"
    execution.feed(Raised(ValueError("the warehouse is closed")), 0.0)

    assert execution.state == "retrying_compensation.a"
    assert asked == []


def test_rejected_is_not_tried_again():
    """A card that was refused is refused: no second attempt, back at once."""
    execution = fed(saga_of([A, B]), Returned(1), Raised(StepRejectedError("no")))

    assert path(execution) == ["executing.a", "executing.b", "compensating.a"]
    assert execution.history[-1].in_doubt is False


def test_compensation_that_is_refused_is_for_a_person():
    """A refund that is refused for good is not tried ten times."""
    execution = fed(saga_of([A, B]), Returned(1), Raised(StepRejectedError("no")), Raised(StepRejectedError("never")))

    assert execution.state == "stuck.a"


# Doubt


IN_DOUBT: dict[str, Answer] = {
    "time-out": TimedOut(1.0),
    "crash": Crashed(),
    "unknown": Raised(OutcomeUnknownError("?")),
    "connection": Raised(ConnectionResetError()),
    "timeout error": Raised(TimeoutError()),
    "result refused": Raised(ResultRefusedError("too large")),
}
NO_DOUBT: dict[str, Answer] = {
    "raised": Raised(ValueError()),
    "rejected": Raised(StepRejectedError()),
    "later": Raised(RetryAfterError(0)),
}


@pytest.mark.parametrize("kind", IN_DOUBT)
def test_attempt_in_doubt_is_compensated_itself(kind):
    """An answer that got lost may hide an effect: the step itself is undone as well, with the key of its execute."""
    execution = fed(saga_of([A, C]), Returned(1), IN_DOUBT[kind])

    assert execution.state == "compensating.c"
    assert execution.history[-1].event == "in_doubt"
    assert execution.effect is not None
    context = execution.context(execution.effect)
    assert (context.in_doubt, context.result, context.attempt) == (True, None, 1)
    assert context.execute_key == "s:c:execute"
    assert context.idempotency_key == "s:c:compensate"
    assert context.error == execution.failure != None  # noqa: E711 - a Failure that is there


def test_compensation_in_doubt_has_attempts_of_its_own():
    """The attempts of a compensation are counted from 1, however many attempts of execute went before."""
    execution = fed(saga_of([A]), TimedOut(1.0), TimedOut(1.0))

    assert (execution.state, execution.attempt) == ("compensating.a", 1)
    execution.feed(Raised(ValueError()), 0.0)
    assert execution.state == "retrying_compensation.a"


@pytest.mark.parametrize("kind", NO_DOUBT)
def test_attempt_that_raised_is_not_compensated(kind):
    """A step that raised had no effect, so that its own compensate is not called."""
    execution = fed(saga_of([A, C]), Returned(1), NO_DOUBT[kind])

    assert execution.state == "compensating.a"
    assert execution.leftovers == ()


@pytest.mark.parametrize("kind", IN_DOUBT)
def test_doubt_without_a_way_to_undo_is_listed(kind):
    """What may have happened and cannot be undone is not swept under the carpet: it is among the leftovers."""
    execution = fed(saga_of([A, attrs.evolve(B, attempts=1)]), Returned(1), IN_DOUBT[kind], Returned())

    assert execution.state == "failed"
    assert execution.outcome().leftovers == ("b",)
    assert execution.outcome().compensated == ("a",)


def test_doubt_adds_up_over_attempts():
    """The first attempt was in doubt, the second was refused: the first may have had its effect all the same."""
    execution = fed(saga_of([A]), TimedOut(1.0), Raised(StepRejectedError("no")))

    assert execution.state == "compensating.a"


def test_answer_ends_the_doubt():
    """The second attempt returned: there is nothing in doubt any more."""
    execution = fed(saga_of([A, B]), TimedOut(1.0), Returned(5))

    assert execution.doubt is False
    assert execution.results == {"a": 5}


def test_step_that_is_not_repeatable_is_not_repeated_in_doubt():
    """`repeatable=False`: after a time-out it is not called again, though attempts are left; after a failure it is."""
    saga = saga_of([attrs.evolve(A, repeatable=False, attempts=5)])

    assert fed(saga, Raised(ValueError())).state == "executing.a"
    assert fed(saga, Raised(ValueError()), TimedOut(1.0)).state == "compensating.a"
    assert events(fed(saga, Crashed())) == ["start", "in_doubt"]


def test_in_doubt_on_decides_which_exceptions_leave_doubt():
    """A step whose client raises KeyError for a lost answer says so with `in_doubt_on`."""
    odd, sure = ShapedStep(C, Retry()), ShapedStep(C, Retry())
    odd.in_doubt_on = KeyError
    sure.in_doubt_on = ()

    assert fed(Saga("s", [odd]), Raised(KeyError())).state == "compensating.c"
    assert fed(Saga("s", [odd]), Raised(TimeoutError())).state == "failed"
    assert fed(Saga("s", [sure]), Raised(TimeoutError())).state == "failed"
    assert fed(Saga("s", [sure]), TimedOut(1.0)).state == "compensating.c"


PROBED = Shape(name="p", compensates=True, probes=True, attempts=2, repeatable=False)


def test_probe_that_says_it_happened_completes_the_step():
    """The answer got lost, the probe found the effect: the saga goes on with the probe's result."""
    execution = fed(saga_of([PROBED, B]), TimedOut(1.0), Returned(Happened("receipt")))

    assert execution.state == "executing.b"
    assert execution.results == {"p": "receipt"}
    assert execution.history[-1].reason == "its probe says that it happened"


def test_probe_that_says_it_did_not_happen_clears_the_doubt():
    """No effect: another attempt may follow, even of a step that must not be repeated in doubt."""
    again = fed(saga_of([PROBED]), TimedOut(1.0), Returned(NotHappened()))
    assert (again.state, again.attempt, again.doubt) == ("executing.p", 2, False)

    over = fed(saga_of([PROBED]), Raised(ValueError()), TimedOut(1.0), Returned(NotHappened()))
    assert over.state == "failed"
    assert events(over)[-1] == "rejected"


@pytest.mark.parametrize("answer", [Raised(OSError("down")), Returned(True), Returned(None), TimedOut(1.0)])
def test_probe_that_cannot_tell_leaves_the_doubt(answer):
    """A probe that fails, or answers with something else, tells nothing: the step is compensated in doubt."""
    execution = fed(saga_of([PROBED]), TimedOut(1.0), answer)

    assert execution.state == "compensating.p"
    assert execution.history[-1].reason is not None
    assert execution.history[-1].reason.startswith("its probe ")


def test_crash_while_probing_asks_again():
    """Whoever asked the probe is gone: it is asked again, and no attempt is counted."""
    execution = fed(saga_of([PROBED]), TimedOut(1.0))
    assert execution.state == "probing.p"

    assert execution.feed(Crashed(), 0.0) is None
    assert (execution.state, execution.attempt, len(execution.history)) == ("probing.p", 1, 2)


def test_probe_is_told_the_key_of_execute():
    """A probe asks about the call it probes: its keys are those of execute."""
    execution = fed(saga_of([PROBED]), TimedOut(1.0))
    assert execution.effect is not None
    context = execution.context(execution.effect)

    assert context.idempotency_key == context.execute_key == "s:p:execute"
    assert context.verb == "probe"


def test_probe_does_not_shorten_the_wait_for_the_next_attempt():
    """The wait is counted from the attempt that failed, not from the probe, and never lies in the past."""
    shape = attrs.evolve(PROBED, repeatable=True)
    execution = opened(saga_of([shape], Retry(wait_initial=10, wait_jitter=0)))
    execution.feed(Begin(), 0.0)
    execution.feed(TimedOut(1.0), 0.0)
    early = execution.feed(Returned(NotHappened()), 4.0)
    assert early is not None
    assert early.due_at == 10.0


# The pivot


PIVOT = Shape(name="go", pivot=True, attempts=1)


def test_pivot_that_raised_goes_back():
    """The go/no-go step said no: everything before it is compensated."""
    assert fed(saga_of([A, PIVOT, B]), Returned(1), Raised(ValueError())).state == "compensating.a"


def test_pivot_in_doubt_is_for_a_person():
    """Nobody knows whether the line was crossed: neither forward nor backward would be right."""
    execution = fed(saga_of([A, PIVOT, B]), Returned(1), TimedOut(1.0))
    assert execution.state == "stuck.go"

    back, on, again = (Execution.fold(execution.saga, execution.acceptance, execution.history) for _ in range(3))
    back.feed(OperatorSettled(False, "no entry in their log"), 0.0)
    on.feed(OperatorSettled(True, "it is in their log", 9), 0.0)
    again.feed(OperatorRetry(), 0.0)
    assert (back.state, on.state, again.state) == ("compensating.a", "executing.b", "executing.go")
    assert on.results == {"a": 1, "go": 9}
    assert back.failure is not None
    assert back.failure.type == "fsm_mediator.errors.AttemptTimedOutError"


def test_nothing_leads_back_after_the_pivot():
    """Past the pivot there is no compensation: not by failing, cancelling, a deadline, or an operator."""
    saga = saga_of([A, PIVOT, attrs.evolve(B, attempts=1)])
    execution = fed(saga, Returned(1), Returned(2), deadline_at=5.0)
    execution.receive(InboxItem(CANCEL, number=3))
    assert execution.drain_consumed() == (3,)
    assert settle(execution, 100.0) == []
    execution.feed(Raised(ValueError("x")), 100.0)
    assert execution.state == "stuck.b"
    with pytest.raises(RefusedError, match=r"'settled_undone'.*not after the pivot"):
        execution.feed(OperatorSettled(False, "x"), 100.0)
    execution.feed(OperatorSettled(True, "done by hand"), 100.0)
    assert execution.state == "succeeded"
    with pytest.raises(RefusedError, match="'go' is the saga's pivot"):
        execution.feed(OperatorUndo(), 100.0)


# Cancel and deadline


def cancelled(execution: Execution, reason: str | None = None) -> Execution:
    """The execution with a cancel in its inbox."""
    execution.receive(InboxItem(CANCEL, reason=reason, number=1))
    return execution


def test_cancel_before_it_began_ends_it_at_once():
    """Nothing has been done, so there is nothing to undo."""
    execution = cancelled(opened(saga_of([A])), "changed my mind")
    settle(execution)

    assert (execution.state, events(execution)) == ("failed", ["rejected"])
    assert str(execution.outcome().error) == "changed my mind"
    assert execution.drain_consumed() == (1,)


def test_cancel_does_not_interrupt_an_attempt():
    """The attempt under way is waited for: its effect is known, and undone."""
    execution = cancelled(fed(saga_of([A, B])))
    assert execution.drain_consumed() == ()
    execution.feed(Returned(5), 0.0)
    settle(execution)

    assert path(execution) == ["executing.a", "executing.b", "compensating.a"]
    assert execution.history[-1].attempt == 0  # b was announced, and never called
    assert type(execution.outcome().error).__name__ == "SagaCancelledError"
    assert execution.drain_consumed() == (1,)


def test_cancel_ends_the_attempts_of_a_step():
    """While it waits to try again, a cancel takes hold at once."""
    execution = opened(saga_of([A, attrs.evolve(B, attempts=9)]))
    execution.feed(Begin(), 0.0)
    execution.feed(Returned(1), 0.0)
    execution.feed(Raised(ValueError()), 0.0)
    assert execution.state == "retrying.b"
    settle(cancelled(execution), 0.0)

    assert execution.state == "compensating.a"


def test_success_of_the_last_step_wins_over_a_cancel():
    """A cancel that comes while the last step is at it comes too late if that succeeds."""
    execution = cancelled(fed(saga_of([A, B]), Returned(1)))
    execution.feed(Returned(2), 0.0)

    assert settle(execution) == []
    assert execution.state == "succeeded"
    assert execution.drain_consumed() == (1,)


def test_success_of_the_pivot_wins_over_a_cancel():
    """A cancel that comes while the pivot is at it is moot once the pivot is done."""
    execution = cancelled(fed(saga_of([A, PIVOT, B]), Returned(1)))
    execution.feed(Returned(2), 0.0)

    assert settle(execution) == []
    assert execution.state == "executing.b"
    assert execution.drain_consumed() == (1,)


def test_compensation_is_shielded_from_cancel_and_deadline():
    """Once it goes back, it goes back to the end, however long that takes."""
    execution = fed(saga_of([A, B]), Returned(1), Raised(StepRejectedError()), deadline_at=5.0)
    execution.feed(Raised(ValueError()), 6.0)
    settle(cancelled(execution), 6.0)
    assert execution.state == "retrying_compensation.a"
    assert execution.wake_at is not None
    assert execution.wake_at > 6.0
    settle(execution, 100.0)
    execution.feed(Returned(), 100.0)

    assert execution.state == "failed"
    assert isinstance(execution.outcome().error, StepRejectedError)


def test_deadline_ends_a_saga_that_is_late():
    """A saga that has not succeeded by its deadline compensates, and says that this was the cause."""
    execution = opened(saga_of([A, B]), deadline_at=5.0)
    execution.feed(Begin(), 0.0)
    execution.feed(Returned(1), 4.9)
    assert settle(execution, 4.9) == []
    execution.feed(Raised(ValueError()), 4.95)
    assert execution.wake_at == 5.0
    settle(execution, 5.0)

    assert execution.state == "compensating.a"
    execution.feed(Returned(), 6.0)
    assert str(execution.outcome().error) == "its deadline, 5 seconds after it was accepted, passed"


def test_operators_retry_lifts_the_deadline():
    """A person who tries again after the deadline is not stopped by it at once."""
    execution = fed(saga_of([attrs.evolve(A, outlives=True)]), Abandoned(2.0), deadline_at=1e12)
    late = Execution.fold(execution.saga, execution.acceptance, execution.history)
    late.feed(OperatorRetry(), 2e12)

    assert settle(late, 2e12) == []
    assert late.state == "executing.a"
    assert late.deadline_at is None


# A thread that was left behind


def test_abandoned_attempt_is_for_a_person():
    """A thread that cannot be ended is never overtaken: the saga waits for a person, and the record says why."""
    saga = saga_of([A, attrs.evolve(C, outlives=True)])
    execution = fed(saga, Returned(1), Abandoned(2.0))

    record = execution.history[-1]
    assert (record.event, record.target, record.abandoned, record.in_doubt) == (
        "exhausted",
        "stuck_executing.c",
        True,
        True,
    )
    outcome = execution.outcome()
    assert outcome.stuck
    assert "its thread may be running still" in outcome.summary()
    assert "done=True or False" in outcome.summary()


def test_abandoned_attempt_settled_either_way():
    """I looked: it happened, or it did not; the saga goes on, or back, accordingly."""
    execution = fed(saga_of([A, attrs.evolve(C, outlives=True)]), Returned(1), Abandoned(2.0))
    on, back = (Execution.fold(execution.saga, execution.acceptance, execution.history) for _ in range(2))
    on.feed(OperatorSettled(True, "it is there", "r"), 0.0)
    back.feed(OperatorSettled(False, "it is not there"), 0.0)

    assert (on.state, on.results) == ("succeeded", {"a": 1, "c": "r"})
    assert (back.state, back.leftovers) == ("compensating.a", ())


def test_abandoned_compensation_is_stuck_as_well():
    """A compensate that outlives time-out and grace waits for a person, whatever attempts it had left."""
    execution = fed(saga_of([A, B]), Returned(1), Raised(StepRejectedError("no")))
    execution.feed(Abandoned(2.0), 0.0)

    assert execution.state == "stuck.a"
    assert execution.history[-1].abandoned
    assert "its thread may be running still" in execution.outcome().summary()


def test_late_answer_settles_the_doubt():
    """An answer within the grace is the answer: it happened, and nothing is in doubt."""
    execution = fed(saga_of([attrs.evolve(A, outlives=True), B]), Returned(3, late=True))

    assert execution.state == "executing.b"
    assert execution.history[-1].reason == "answered late"
    assert fed(saga_of([attrs.evolve(C, outlives=True)]), Raised(ValueError(), late=True)).state == "failed"


# Operators


def test_operators_retry_counts_attempts_anew():
    """After the cause is mended the step has all its attempts again."""
    execution = fed(
        saga_of([A, B]),
        *(Returned(1), Raised(StepRejectedError("no"))),
        *(Raised(ValueError("1")), Raised(ValueError("2")), OperatorRetry("mended")),
    )
    assert (execution.state, execution.attempt) == ("compensating.a", 1)
    execution.feed(Raised(ValueError("3")), 0.0)
    assert execution.state == "retrying_compensation.a"


def test_settled_compensation_is_not_listed_as_compensated_but_is_no_leftover():
    """What a person undid by hand is neither claimed as ours nor left over."""
    execution = fed(saga_of([A, C]), Returned(1), Raised(StepRejectedError("no")), *[Raised(ValueError())] * 2)
    assert execution.state == "stuck.a"
    execution.feed(OperatorSettled(False, "sent it back by mail"), 0.0)

    outcome = execution.outcome()
    assert (outcome.state, outcome.compensated, outcome.leftovers) == ("failed", (), ())
    assert "settled by hand: a" in outcome.summary()


def test_undo_compensates_newest_first_and_says_so():
    """A saga that succeeded is undone: newest first, and its error says that a person did it."""
    execution = fed(saga_of([A, B, C]), Returned(1), Returned(2), Returned(3), OperatorUndo("wrong customer"))
    assert execution.state == "compensating.c"
    execution.feed(Returned(), 0.0)
    assert execution.state == "compensating.a"
    execution.feed(Returned(), 0.0)

    outcome = execution.outcome()
    assert outcome.state == "failed"
    assert isinstance(outcome.error, SagaUndoneError)
    assert str(outcome.error) == "it was undone: wrong customer"
    assert outcome.leftovers == ("b",)
    assert outcome.compensated == ("c", "a")


# What steps see


def test_nested_steps_see_the_results_of_their_own_saga():
    """A saga that I nest works as it does alone: its steps see each other by their own names, and nothing outside."""
    inner = Saga("inner", [ShapedStep(A, Retry()), ShapedStep(B, Retry())])
    deep = Saga("deep", [inner, ShapedStep(C, Retry())])
    saga = Saga("outer", [ShapedStep(A, Retry()), inner, deep, ShapedStep(C, Retry())])
    assert [part.path for part in saga.parts] == [
        "a",
        "inner.a",
        "inner.b",
        "deep.inner.a",
        "deep.inner.b",
        "deep.c",
        "c",
    ]
    execution = opened(saga)
    execution.feed(Begin(), 0.0)
    seen = {}
    while execution.effect is not None:
        context = execution.context(execution.effect)
        seen[context.step] = dict(context.results)
        assert context.idempotency_key == f"s:{context.step}:execute"
        execution.feed(Returned(context.step.upper()), 0.0)

    assert seen == {
        "a": {},
        "inner.a": {},
        "inner.b": {"a": "INNER.A"},
        "deep.inner.a": {},
        "deep.inner.b": {"a": "DEEP.INNER.A"},
        "deep.c": {"inner": {"a": "DEEP.INNER.A", "b": "DEEP.INNER.B"}},
        "c": {
            "a": "A",
            "inner": {"a": "INNER.A", "b": "INNER.B"},
            "deep": {"inner": {"a": "DEEP.INNER.A", "b": "DEEP.INNER.B"}, "c": "DEEP.C"},
        },
    }
    assert execution.outcome().results["deep"] == {"inner": {"a": "DEEP.INNER.A", "b": "DEEP.INNER.B"}, "c": "DEEP.C"}


def test_nested_saga_is_compensated_as_part_of_the_outer_one():
    """Inlined: what a nested saga did is undone newest first, across its border."""
    inner = Saga("inner", [ShapedStep(A, Retry()), ShapedStep(C, Retry())])
    saga = Saga("outer", [ShapedStep(A, Retry()), inner, ShapedStep(attrs.evolve(B, attempts=1), Retry())])
    execution = fed(saga, Returned(1), Returned(2), Returned(3), Raised(ValueError()), *[Returned()] * 3)

    assert execution.outcome().compensated == ("inner.c", "inner.a", "a")
    assert execution.state == "failed"


def test_compensate_sees_its_own_result_and_why():
    """A compensation knows what execute returned, and what set it off."""
    execution = fed(saga_of([A, B]), Returned("receipt"), Raised(StepRejectedError("sold out")))
    assert execution.effect is not None
    context = execution.context(execution.effect)

    assert (context.result, context.in_doubt, context.verb) == ("receipt", False, "compensate")
    assert context.error is not None
    assert context.error.message == "sold out"
    assert dict(context.results) == {"a": "receipt"}


def test_results_cannot_be_changed_by_a_step():
    """What one step sees of another's result, no third step can alter."""
    execution = fed(saga_of([A, B]), Returned(1))
    assert execution.effect is not None
    results: Any = execution.context(execution.effect).results

    with pytest.raises(TypeError):
        results["a"] = 2


def test_outcome_does_not_change_with_what_happens_later():
    """An outcome is a picture of a moment."""
    execution = fed(saga_of([A, B]), Returned(1))
    outcome = execution.outcome()
    execution.feed(Returned(2), 0.0)

    assert (outcome.state, dict(outcome.results), len(outcome.history)) == ("executing.b", {"a": 1}, 2)


# In words


def test_failed_saga_in_words():
    """The message names the step, the attempts, the last error, and what was compensated."""
    execution = fed(saga_of([A, B]), Returned(1), Raised(ValueError("x")), Raised(ValueError("y")), Returned())

    assert execution.outcome().summary() == (
        "saga 's' (shaped) failed: step 'b' gave up after 2 attempts, last with ValueError: y; compensated: a"
    )


def test_stuck_saga_in_words():
    """The message says what to type next, with the saga's id."""
    execution = fed(saga_of([A, B]), Returned(1), Raised(StepRejectedError("no")), *[Raised(ValueError("shut"))] * 2)

    assert execution.outcome().summary() == (
        "saga 's' (shaped) is stuck: compensating 'a' failed after 2 attempts, last with ValueError: shut (it was "
        "compensating because: fsm_mediator.errors.StepRejectedError: no). Fix the cause, then: mediator.retry('s'); "
        "or settle it by hand, then: mediator.resolve('s', reason=...)"
    )


TIMED_OUT = "fsm_mediator.errors.AttemptTimedOutError: attempt 1 of {!r} gave no answer within 2 seconds"
MAY = "which may have had its effect"
NEXT = (
    "Fix the cause, then: mediator.retry('s'); or settle it by hand, then: "
    "mediator.resolve('s', reason=..., done=True or False)"
)
REFUSED = "fsm_mediator.errors.StepRejectedError: no"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: opened(saga_of([A])), "is pending: it has not begun"),
        (lambda: fed(saga_of([A]), Returned(1)), "succeeded"),
        (
            lambda: fed(saga_of([B]), Raised(StepRejectedError("no"))),
            f"failed: step 'b' gave up after 1 attempt, last with {REFUSED}; there was nothing to undo",
        ),
        (
            lambda: fed(saga_of([B, C]), Returned(1), Raised(StepRejectedError("no"))),
            f"failed: step 'c' gave up after 1 attempt, last with {REFUSED}; left over: b",
        ),
        (
            lambda: fed(saga_of([A, C]), Returned(1), TimedOut(2.0), Returned(), Returned()),
            f"failed: step 'c' gave up after 1 attempt, last with {TIMED_OUT.format('c')}, {MAY}; compensated: c, a",
        ),
        (
            lambda: fed(saga_of([A]), Returned(1), OperatorUndo("a mistake"), Returned()),
            "failed: it was undone: a mistake; compensated: a",
        ),
        (
            lambda: fed(saga_of([PIVOT, B]), TimedOut(2.0)),
            f"is stuck: executing 'go' failed after 1 attempt, last with {TIMED_OUT.format('go')}. {NEXT}",
        ),
    ],
    ids=["pending", "succeeded", "nothing to undo", "left over", "in doubt", "undone", "stuck"],
)
def test_outcome_in_words(make: Callable[[], Execution], said: str) -> None:
    """Wherever a saga stands, one sentence says what happened and one what comes next."""
    assert make().outcome().summary() == f"saga 's' (shaped) {said}"


def test_time_out_of_a_compensation_says_that_it_was_one():
    """The error tells an attempt to compensate from an attempt to execute."""
    execution = fed(saga_of([A, B]), Returned(1), Raised(StepRejectedError("no")))
    record = execution.feed(TimedOut(2.0), 0.0)

    assert record is not None
    assert record.error is not None
    assert record.error.message == "attempt 1 to compensate 'a' gave no answer within 2 seconds"
    execution = fed(saga_of([A, B]), Returned(1), Raised(StepRejectedError("no")))
    record = execution.feed(Crashed(), 0.0)
    assert record is not None
    assert record.error is not None
    assert record.error.message.startswith("attempt 1 to compensate 'a': ")


def test_execution_shows_itself():
    """In a debugger an execution says where it stands."""
    assert repr(fed(saga_of([A]))) == "<Execution 's' of 'shaped': executing.a>"
    assert isinstance(ShapedStep(A, Retry()), Step)


@pytest.mark.parametrize("following", ["a step", "a signal", "a group", "nothing"])
def test_the_short_ways_are_the_long_ones(following):
    """What nearly always happens is made in one piece, and teaches what its records, folded, teach."""
    parts: dict[str, list[Any]] = {
        "a step": [step(name="b")(len)],
        "a signal": [Signal("s", timeout=5)],
        "a group": [Parallel("g", [step(name="b")(len)])],
        "nothing": [],
    }
    first = step(name="a")(len)
    first.compensation(len)
    saga = Saga("short", [first, *parts[following]])
    short, fed = opened(saga), opened(saga)
    state = {"a step": "executing.b", "a signal": "waiting.s", "a group": "waiting.g", "nothing": "succeeded"}[
        following
    ]
    due_at, children = (7.0 if following == "a signal" else None), (("b",) if following == "a group" else None)

    expected = [
        Record("s", "short", 1, "start", "pending", "executing.a", 1.0),
        Record(
            *("s", "short", 2, "executed", "executing.a", state, 2.0, "a", 1, "done"), due_at=due_at, children=children
        ),
    ]
    assert [short.begin(1.0), short.succeed("done", 2.0)] == expected
    assert [fed.feed(Begin(), 1.0), fed.feed(Returned("done"), 2.0)] == expected
    assert everything(short) == everything(fed) == everything(folded(short))
    assert [born.saga_id for born in short.pop_new_branches()] == (["s/g.b"] if children else [])

    if short.state == "succeeded":
        short.feed(OperatorUndo(), 3.0)
    elif following == "a group":
        short.replay(ABANDON_GROUP)
        short.feed(Branches(()), 3.5)
    else:
        short.feed(Raised(StepRejectedError("no")) if following == "a step" else Due(), 8.0)
    assert short.state == "compensating.a"
    assert everything(short) == everything(folded(short))
    record = short.succeed(None, 9.0)
    assert (record.event, record.step, record.target, record.attempt) == ("compensated", "a", "failed", 1)
    assert everything(short) == everything(folded(short))


def test_the_short_way_of_a_retry_is_the_long_one():
    """So is what happens between two attempts, at a step as at its compensation, with doubt and without."""
    patient = Retry(attempts=3, wait_initial=4.0, wait_jitter=0.0)
    first = step(name="a", retry=patient, compensation_retry=patient, repeatable=True)(len)
    first.compensation(len)
    short = opened(Saga("short", [first, step(name="b")(len)]))
    short.begin(1.0)
    lost = ConnectionError("lost")
    told = Failure.of(lost)

    assert short.feed(Raised(lost), 2.0) == Record(
        *("s", "short", 2, "errored", "executing.a", "retrying.a", 2.0, "a", 1, None, told, True, 6.0)
    )
    assert (short.trouble, short.doubt, short.due_at, short.attempt) == (told, True, 6.0, 1)
    assert everything(short) == everything(folded(short))
    assert short.advance(5.9) is None
    assert short.advance(6.0) == Record(
        *("s", "short", 3, "retry_due", "retrying.a", "executing.a", 6.0, "a", 1, None, None, True)
    )
    assert (short.trouble, short.doubt, short.due_at, short.attempt) == (told, True, None, 2)
    assert everything(short) == everything(folded(short))

    short.succeed(None, 7.0)
    short.feed(Raised(StepRejectedError("no")), 8.0)
    assert short.feed(Raised(lost), 9.0) == Record(
        *("s", "short", 6, "compensation_errored", "compensating.a", "retrying_compensation.a", 9.0, "a", 1),
        error=told,
        due_at=13.0,
    )
    assert everything(short) == everything(folded(short))
    assert short.advance(13.0) == Record(
        *("s", "short", 7, "compensation_due", "retrying_compensation.a", "compensating.a", 13.0, "a", 1)
    )
    assert (short.trouble, short.due_at, short.attempt) == (told, None, 2)
    assert everything(short) == everything(folded(short))


def folded(execution: Execution) -> Execution:
    """The execution that the records of this one give back."""
    return Execution.fold(execution.saga, execution.acceptance, execution.history)


ABANDON_GROUP = Record("s", "short", 3, "in_doubt", "waiting.g", "compensating.g", 3.0, "g", in_doubt=True)


def test_results_of_nested_sagas_are_complete_however_few_paths_are_remembered(monkeypatch):
    """A process that defines sagas without end does not fill its memory with their paths, and loses no result."""
    monkeypatch.setattr(data, "PLACES_KEPT", 2)
    monkeypatch.setattr(data, "known_places", {})
    answered = {"a.x": 1, "a.y": 2, "b.c.x": 3, "a.z": 4, "d": 5}

    for _ in range(2):
        assert data.nested_results(answered, "") == {"a": {"x": 1, "y": 2, "z": 4}, "b": {"c": {"x": 3}}, "d": 5}
        assert data.nested_results(answered, "b.") == {"c": {"x": 3}}
        assert data.nested_results(answered, "b.c.") == {"x": 3}
        assert len(data.known_places) <= 2
