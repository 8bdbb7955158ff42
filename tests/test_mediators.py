"""What both mediators promise, on every journal: run, start, wait, look, and the operator's verbs."""

from __future__ import annotations

import logging
import threading
import uuid

import pytest

from fsm_mediator import (
    LeaseLostError,
    MemoryJournal,
    PayloadError,
    RecordedError,
    RecordingObserver,
    RefusedError,
    Retry,
    Saga,
    SagaCancelledError,
    SagaFailedError,
    SagaIdTakenError,
    SagaStuckError,
    StillRunningError,
    UnknownExecutionError,
    UnknownSagaError,
)
from fsm_mediator.mediator.active import ActiveExecution
from fsm_mediator.mediator.store import uuid7_hex
from tests.drivers import ONCE, QUICK, Clock, World, core_of, eventually, finish, in_thread

BACKOFF = Retry(attempts=4, wait_initial=1.0, wait_max=3.0, wait_jitter=0.5)
HOUR = Retry(attempts=2, wait_initial=3600.0, wait_max=3600.0)


def order(world, **settings):
    """Reserve, then charge."""
    return Saga("order", [world.step("reserve"), world.step("charge", **settings)])


def broken(world, *, undo=()):
    """Reserve, then a charge that is refused every time."""
    return Saga("broken", [world.step("reserve", undo=undo), world.step("charge", ValueError("no money"))])


# Running


def test_run_returns_what_every_step_returned(drive, journal):
    """A return of run means succeeded: every step was done once, in order, and its result is there by name."""
    world = World()

    outcome = drive(order(world), journal=journal).run("order", {"sku": 7}, saga_id="o-1")

    assert world.calls == ["reserve", "charge"]
    assert outcome.succeeded
    assert outcome.ended
    assert outcome.results == {"reserve": "reserve done", "charge": "charge done"}
    assert [record.event for record in outcome.history] == ["start", "executed", "executed"]
    assert world.keys == ["o-1:reserve:execute", "o-1:charge:execute"]


def test_a_failed_run_names_step_attempts_and_what_was_compensated(drive, journal):
    """The error carries the outcome, is caused by the step's own exception, and says what happened."""
    world = World()

    with pytest.raises(SagaFailedError) as caught:
        drive(broken(world), journal=journal).run("broken", saga_id="o-1")

    assert world.calls == ["reserve", "charge", "charge", "charge", "undo reserve"]
    assert type(caught.value.__cause__) is ValueError
    assert caught.value.outcome.error is caught.value.__cause__
    assert caught.value.outcome.compensated == ("reserve",)
    message = str(caught.value)
    assert "'charge' gave up after 3 attempts" in message
    assert "no money" in message
    assert "compensated: reserve" in message


def test_unchecked_run_returns_the_outcome_whatever_it_is(drive, journal):
    """check=False: failed and stuck are outcomes, not errors."""
    world = World()
    mediator = drive(broken(world), journal=journal)

    assert mediator.run("broken", check=False).failed
    assert mediator.run(Saga("s", [world.step("a", undo=[OSError()]), world.step("b", OSError())]), check=False).stuck


def test_an_error_that_is_not_alive_is_recorded(drive, journal):
    """Asked by another mediator on an encoding journal, the error is a RecordedError of the same type and text."""
    world = World()
    saga = broken(world)
    drive(saga, journal=journal).run("broken", saga_id="o-1", check=False)

    error = drive(saga, journal=journal).outcome("o-1").error

    if not journal.encodes:
        assert isinstance(error, ValueError)
    else:
        assert isinstance(error, RecordedError)
        assert (error.type, error.message) == ("ValueError", "no money")


def test_unknown_names_and_wrong_payloads_start_nothing(drive, journal):
    """What is refused at the door leaves no trace."""
    world = World()
    mediator = drive(Saga("typed", [world.step("a")], payload=int), journal=journal)

    with pytest.raises(UnknownSagaError, match="typed"):
        mediator.run("typo", saga_id="o-1")
    with pytest.raises(PayloadError):
        mediator.run("typed", "seven", saga_id="o-1")
    with pytest.raises(RefusedError, match="saga_id"):
        mediator.run("typed", 7, saga_id="a/b")
    with pytest.raises(UnknownExecutionError):
        mediator.outcome("o-1")
    assert mediator.executions() == []
    assert world.calls == []


# Waiting between attempts


def test_waits_grow_with_jitter_by_the_given_clock_sleep_and_chance(drive, journal):
    """The n-th wait is wait_initial * base ** (n - 1), at most wait_max, plus chance * jitter."""
    world, clock = World(), Clock()
    saga = Saga("s", [world.step("a", *[OSError()] * 3, "done", retry=BACKOFF)])

    outcome = drive(saga, journal=journal, clock=clock, sleep=clock.sleep, chance=lambda: 0.5).run("s")

    assert clock.slept == [1.25, 2.25, 3.25]
    assert world.calls == ["a"] * 4
    assert outcome.history[-1].at == outcome.history[0].at + 6.75


def test_a_zero_wait_does_not_sleep(drive, journal):
    """A retry without wait is made at once."""
    world, clock = World(), Clock()
    saga = Saga("s", [world.step("a", OSError(), "done")])

    drive(saga, journal=journal, clock=clock, sleep=clock.sleep).run("s")

    assert clock.slept == []


def test_a_deadline_ends_attempts_and_compensates(drive, journal):
    """A saga that has not succeeded in time fails with DeadlineExceededError, and is compensated."""
    world, clock = World(), Clock()
    saga = Saga("s", [world.step("a"), world.step("b", OSError(), retry=Retry(attempts=None, wait_initial=5.0))])

    mediator = drive(saga, journal=journal, clock=clock, sleep=clock.sleep, chance=lambda: 0.0)
    outcome = mediator.run("s", deadline=8.0, check=False)

    assert type(outcome.error).__name__ == "DeadlineExceededError"
    assert clock.slept == [5.0, 3.0]
    assert world.calls == ["a", "b", "b", "undo a"]


def test_compensation_is_shielded_from_the_deadline(drive, journal):
    """A deadline that passes while it compensates changes nothing."""
    world, clock = World(), Clock()
    saga = Saga(
        "s",
        [
            world.step("a", undo=[OSError(), OSError(), None], compensation_retry=BACKOFF),
            world.step("b", ValueError(), retry=ONCE),
        ],
    )

    outcome = drive(saga, journal=journal, clock=clock, sleep=clock.sleep).run("s", deadline=0.5, check=False)

    assert outcome.failed
    assert type(outcome.error) is ValueError
    assert world.calls == ["a", "b", *["undo a"] * 3]


# Ids


def test_the_same_id_again_joins_and_does_nothing_twice(drive, journal):
    """Starting an id twice is idempotent, whether run or started, by this mediator or another."""
    world = World()
    saga = order(world)
    mediator, other = drive(saga, journal=journal), drive(saga, journal=journal)

    first = mediator.run("order", {"n": 1}, saga_id="o-1")
    again = mediator.run("order", {"n": 1}, saga_id="o-1")
    elsewhere = other.run("order", {"n": 1}, saga_id="o-1")
    assert mediator.start("order", {"n": 1}, saga_id="o-1") == "o-1"

    assert world.calls == ["reserve", "charge"]
    assert first.results == again.results == elsewhere.results
    assert mediator.undo("o-1").failed  # nothing was left holding it


@pytest.mark.parametrize("verb", ["run", "start"])
def test_the_same_id_for_another_operation_is_refused(drive, journal, verb):
    """An id belongs to one saga and one payload."""
    world = World()
    mediator = drive(order(world), Saga("other", [world.step("x")]), journal=journal)
    mediator.run("order", {"n": 1}, saga_id="o-1")

    with pytest.raises(SagaIdTakenError, match="another payload"):
        getattr(mediator, verb)("order", {"n": 2}, saga_id="o-1")
    with pytest.raises(SagaIdTakenError, match="not of 'other'"):
        getattr(mediator, verb)("other", {"n": 1}, saga_id="o-1")
    assert world.calls == ["reserve", "charge"]


def test_a_failed_id_run_again_fails_again_without_new_attempts(drive, journal):
    """A second run of an id that failed tells the same, and tries nothing."""
    world = World()
    mediator = drive(broken(world), journal=journal)
    for _ in range(2):
        with pytest.raises(SagaFailedError):
            mediator.run("broken", saga_id="o-1")
    assert world.calls.count("charge") == 3


def test_many_callers_of_one_id_share_one_execution(drive, journal):
    """Twelve threads that run one id at once, half of them by another mediator: one execution, twelve same returns."""
    world = World()
    saga = Saga("s", [world.step("a", world.gate()), world.step("b")])
    mediators = [drive(saga, journal=journal), drive(saga, journal=journal)]

    results = [in_thread(mediators[i % 2].run, "s", {"n": 1}, saga_id="o-1") for i in range(12)]
    world.begun()
    refused = in_thread(mediators[0].run, "s", {"n": 2}, saga_id="o-1")
    with pytest.raises(SagaIdTakenError):
        refused()
    world.go()

    assert {result().state for result in results} == {"succeeded"}
    assert world.calls == ["a", "b"]


def test_callers_with_another_payload_are_refused_in_any_order(drive, journal):
    """Of many concurrent runs of one id with different payloads, those with the first one's payload succeed only."""
    world = World()
    mediator = drive(Saga("s", [world.step("a", lambda payload, context: payload)]), journal=journal)
    for round_ in range(20):
        saga_id = f"o-{round_}"
        results = [in_thread(mediator.run, "s", number % 2, saga_id=saga_id) for number in range(6)]
        told = []
        for number, result in enumerate(results):
            try:
                told.append((number % 2, result().results["a"]))
            except SagaIdTakenError:
                told.append((number % 2, None))
        kept = mediator.outcome(saga_id).results["a"]
        assert told == [(given, kept if given == kept else None) for given, _ in told]
    assert len(world.calls) == 20


def test_who_is_about_to_be_refused_gets_nobody_else_refused(drive, journal):
    """What counts is what the journal has: an id's first payload, and not that of a caller who came too late."""
    world = World()
    saga = Saga("s", [world.step("a")])
    mediator, other = drive(saga, journal=journal), drive(saga, journal=journal)
    mediator.executions()  # it is open
    core = core_of(mediator)
    late = ActiveExecution("o-1", core.store.new_execution("s", {"n": 2}, "o-1", None), 1)
    core.owned.active["o-1"] = late
    result = in_thread(mediator.run, "s", {"n": 1}, saga_id="o-1")
    eventually(lambda: late.wait.done is not None)
    assert other.run("s", {"n": 1}, saga_id="o-1").succeeded

    finish(mediator, late)

    assert result().succeeded
    assert world.calls == ["a"]


# In the background


def test_started_sagas_go_on_by_themselves(drive, journal):
    """Start returns at once, wait joins."""
    world = World()
    mediator = drive(Saga("s", [world.step("a", world.gate())]), journal=journal)

    saga_id = mediator.start("s", {"n": 1})
    world.begun()
    assert mediator.outcome(saga_id).state == "executing.a"
    assert mediator.executions(state="executing")[0].saga_id == saga_id
    world.go()

    assert mediator.wait(saga_id).succeeded
    assert world.calls == ["a"]


def test_a_timeout_only_detaches(drive, journal):
    """run(timeout=) and wait(timeout=) stop waiting; the saga goes on, and can be waited for again."""
    world = World()
    mediator = drive(Saga("s", [world.step("a", world.gate())]), journal=journal)

    with pytest.raises(StillRunningError) as caught:
        mediator.run("s", saga_id="o-1", timeout=0.01)
    assert caught.value.saga_id == "o-1"
    world.begun()
    with pytest.raises(StillRunningError, match=r"executing\.a"):
        mediator.wait("o-1", timeout=0.0)
    world.go()

    assert mediator.wait("o-1").succeeded
    assert mediator.wait("o-1", timeout=0.0).succeeded
    assert world.calls == ["a"]


def test_a_background_saga_retries_by_its_alarm(drive, journal):
    """A retry in the background waits on nobody's thread, and comes."""
    world = World()
    retry = Retry(wait_initial=0.01, wait_jitter=0.0)
    mediator = drive(Saga("s", [world.step("a", OSError(), "done", retry=retry)]), journal=journal, max_workers=1)

    ids = [mediator.start("s") for _ in range(3)]

    assert [mediator.wait(saga_id).state for saga_id in ids] == ["succeeded"] * 3


def test_a_parked_wait_is_held_by_nobody_and_goes_on_when_due(drive, journal):
    """With park_after=0 a background wait is parked, and taken up again by whoever is told that it is due."""
    world = World()
    retry = Retry(wait_initial=0.05, wait_jitter=0.0)
    mediator = drive(Saga("s", [world.step("a", OSError(), "done", retry=retry)]), journal=journal, park_after=0.0)

    mediator.start("s", saga_id="o-1")

    eventually(lambda: mediator.outcome("o-1").succeeded)
    assert mediator.undo("o-1").failed


def test_executions_lists_newest_first_by_state_and_saga(drive, journal):
    """The list can be narrowed to a phase, a state and a saga."""
    world = World()
    mediator = drive(order(world), broken(world, undo=[OSError()]), journal=journal)
    mediator.run("order", saga_id="o-1")
    mediator.run("broken", saga_id="o-2", check=False)
    mediator.run("order", saga_id="o-3")

    assert [entry.saga_id for entry in mediator.executions()] == ["o-3", "o-2", "o-1"]
    assert [entry.saga_id for entry in mediator.executions(state="stuck")] == ["o-2"]
    assert [entry.saga_id for entry in mediator.executions(state="stuck.reserve")] == ["o-2"]
    assert [entry.saga_id for entry in mediator.executions(saga="order", limit=1)] == ["o-3"]


# The operator's verbs


def test_a_stuck_saga_names_the_next_move_and_retry_ends_it(drive, journal):
    """Stuck says which verb to use; once the cause is mended, retry compensates the rest."""
    world = World()
    mediator = drive(broken(world, undo=[OSError("closed")] * 3 + [None]), journal=journal)

    with pytest.raises(SagaStuckError, match=r"mediator\.retry\('o-1'\)") as caught:
        mediator.run("broken", saga_id="o-1")
    assert type(caught.value.__cause__) is OSError
    outcome = mediator.retry("o-1", "opened it")

    assert outcome.failed
    assert outcome.compensated == ("reserve",)
    assert [record.reason for record in outcome.history if record.event == "retry"] == ["opened it"]


def test_resolve_settles_by_hand(drive, journal):
    """A person says that the step has no effect, and why; nothing is called any more."""
    world = World()
    mediator = drive(broken(world, undo=[OSError()]), journal=journal)
    mediator.run("broken", saga_id="o-1", check=False)
    called = len(world.calls)

    with pytest.raises(RefusedError, match="reason"):
        mediator.resolve("o-1", reason=" ")
    with pytest.raises(RefusedError):
        mediator.resolve("o-1", reason="it is done", done=True)
    outcome = mediator.resolve("o-1", reason="put it back myself")

    assert outcome.failed
    assert outcome.history[-1].reason == "put it back myself"
    assert len(world.calls) == called


def test_resolve_of_a_pivot_says_its_result(drive, journal):
    """A pivot in doubt can be settled as done, with the result that later steps see."""
    world = World()
    saga = Saga(
        "s",
        [
            world.step("pay", TimeoutError(), pivot=True, undo=None, retry=ONCE),
            world.step("ship", lambda payload, context: context.results["pay"], undo=None),
        ],
    )
    mediator = drive(saga, journal=journal)
    assert mediator.run("s", saga_id="o-1", check=False).stuck

    with pytest.raises(RefusedError, match="done=True"):
        mediator.resolve("o-1", reason="looked")
    outcome = mediator.resolve("o-1", reason="looked", done=True, result={"receipt": 7})

    assert outcome.succeeded
    assert outcome.results["ship"] == {"receipt": 7}


def test_undo_compensates_a_finished_saga_once(drive, journal):
    """Undo of a succeeded saga compensates newest first, and a second undo is refused."""
    world = World()
    mediator = drive(order(world), journal=journal)
    mediator.run("order", saga_id="o-1")

    outcome = mediator.undo("o-1", "returned goods")

    assert outcome.failed
    assert type(outcome.error).__name__ in ("SagaUndoneError", "RecordedError")
    assert world.calls[2:] == ["undo charge", "undo reserve"]
    with pytest.raises(RefusedError):
        mediator.undo("o-1")


def test_verbs_that_do_not_fit_change_nothing(drive, journal):
    """Each verb is refused where it does not fit, and can be followed by one that does."""
    world = World()
    mediator = drive(order(world), journal=journal)
    mediator.run("order", saga_id="o-1")

    for verb in (mediator.retry, mediator.cancel):
        with pytest.raises(RefusedError):
            verb("o-1")
        with pytest.raises(UnknownExecutionError):
            verb("o-2")
    with pytest.raises(RefusedError):
        mediator.resolve("o-1", reason="why not")
    assert mediator.undo("o-1").failed


def test_verbs_to_what_is_driven_are_judged_by_its_driver(drive, journal):
    """An operator asks any mediator to retry, resolve or undo what is under way; its driver refuses."""
    world = World()
    saga = Saga("s", [world.step("a", world.gate()), world.step("b")])
    mediator, other = drive(saga, journal=journal), drive(saga, journal=journal)
    result = in_thread(mediator.run, "s", saga_id="o-1")
    world.begun()

    answers = []
    for asked in (mediator, other):
        answers.append(in_thread(asked.retry, "o-1"))
        answers.append(in_thread(asked.undo, "o-1"))
        answers.append(in_thread(asked.resolve, "o-1", reason="why not"))
    eventually(lambda: len(journal.inbox("o-1")) == len(answers))
    world.go()

    for answer in answers:
        with pytest.raises(RefusedError, match=r"executing\.b"):
            answer()
    assert result().succeeded
    assert journal.inbox("o-1") == ()


# Observers


def test_observers_see_each_record_once_and_harm_nothing(drive, journal, caplog):
    """Observers are told in order; one that raises is logged once for each execution, and the saga goes on."""
    world, seen = World(), RecordingObserver()

    def raises(record):
        raise RuntimeError("observer")

    with caplog.at_level(logging.ERROR, "fsm_mediator"):
        outcome = drive(broken(world), journal=journal, observers=[raises, seen]).run("broken", check=False)

    assert seen.events == [(record.event, record.step) for record in outcome.history]
    assert [record.seq for record in seen.records] == list(range(1, len(seen.records) + 1))
    assert len([line for line in caplog.messages if "raised at record" in line]) == 1


# Cancelling


def test_cancel_during_an_attempt_waits_for_it_then_compensates(drive, journal):
    """The attempt under way is waited for; what it did is compensated with the rest."""
    world = World()
    saga = Saga("s", [world.step("a"), world.step("b", world.gate()), world.step("c")])
    mediator = drive(saga, journal=journal)
    result = in_thread(mediator.run, "s", saga_id="o-1", check=False)
    world.begun()

    mediator.cancel("o-1", "changed my mind")
    world.go()

    outcome = result()
    assert outcome.failed
    assert isinstance(outcome.error, SagaCancelledError)
    assert "changed my mind" in str(outcome.error)
    assert world.calls == ["a", "b", "undo b", "undo a"]


@pytest.mark.parametrize("background", [False, True], ids=["foreground", "background"])
@pytest.mark.parametrize("park_after", [0.0, 1e9], ids=["parked", "held"])
def test_cancel_ends_a_wait_at_once(drive, journal, background, park_after):
    """A retry that is an hour away does not keep a cancel waiting."""
    world, waiting = World(), threading.Event()

    def tell(record):
        if record.target == "retrying.b":
            waiting.set()

    saga = Saga("s", [world.step("a"), world.step("b", OSError(), retry=HOUR)])
    mediator = drive(saga, journal=journal, observers=[tell], park_after=park_after)
    if background:
        mediator.start("s", saga_id="o-1")
    else:
        result = in_thread(mediator.run, "s", saga_id="o-1", check=False)
    assert waiting.wait(30)

    mediator.cancel("o-1")

    if not background:
        assert result().failed
    eventually(lambda: mediator.outcome("o-1").failed)
    assert world.calls == ["a", "b", "undo a"]


def test_cancel_of_what_has_not_begun_calls_nothing(drive, journal):
    """A saga that waits for a worker, or for nobody yet, fails without a step."""
    world = World()
    saga = Saga("s", [world.step("a", world.gate())])
    mediator = drive(saga, journal=journal, max_workers=1)
    mediator.start("s", saga_id="o-1")
    world.begun()
    if drive.is_async:
        return  # tasks begin at once: there is no queue

    mediator.start("s", saga_id="o-2")
    mediator.cancel("o-2")
    world.go()

    assert mediator.wait("o-2", check=False).failed
    assert mediator.wait("o-1").succeeded
    assert world.calls == ["a"]


def test_cancel_never_interrupts_a_compensation(drive, journal):
    """While it compensates a cancel is refused, in an attempt and between two."""
    world, waiting = World(), threading.Event()

    def tell(record):
        if record.target == "retrying_compensation.a":
            waiting.set()

    undo = [OSError(), world.gate()]
    retry = Retry(wait_initial=0.3, wait_jitter=0.0)
    saga = Saga("s", [world.step("a", undo=undo, compensation_retry=retry), world.step("b", OSError(), retry=ONCE)])
    mediator = drive(saga, journal=journal, observers=[tell])
    result = in_thread(mediator.run, "s", saga_id="o-1", check=False)

    assert waiting.wait(30)
    with pytest.raises(RefusedError, match="compensating"):
        mediator.cancel("o-1")
    world.begun()
    with pytest.raises(RefusedError, match="compensating"):
        mediator.cancel("o-1")
    world.go()

    outcome = result()
    assert outcome.compensated == ("a",)
    assert type(outcome.error) is OSError


def test_cancel_after_the_pivot_is_refused_and_the_pivot_wins(drive, journal):
    """A cancel during the pivot loses to its success; after it, it is refused."""
    world = World()
    saga = Saga(
        "s",
        [
            world.step("a"),
            world.step("go", world.gate("pivot"), pivot=True, undo=None),
            world.step("after", world.gate("after"), undo=None),
        ],
    )
    mediator = drive(saga, journal=journal)
    result = in_thread(mediator.run, "s", saga_id="o-1")
    world.begun("pivot")
    mediator.cancel("o-1")
    world.go("pivot")
    world.begun("after")
    with pytest.raises(RefusedError, match="pivot"):
        mediator.cancel("o-1")
    world.go("after")

    assert result().succeeded
    assert world.calls == ["a", "go", "after"]


def test_cancel_by_another_mediator_is_seen_after_the_attempt(drive, journal):
    """Mediators that share a journal share the inbox: the driver takes the cancel in with its next record."""
    world = World()
    saga = Saga("s", [world.step("a", world.gate()), world.step("b")])
    mediator, other = drive(saga, journal=journal), drive(saga, journal=journal)
    result = in_thread(mediator.run, "s", saga_id="o-1", check=False)
    world.begun()
    other.cancel("o-1")
    world.go()

    assert result().failed
    assert world.calls == ["a", "undo a"]


@pytest.mark.parametrize("kept", [False, True], ids=["objects", "encoded"])
def test_cancel_by_another_mediator_of_the_process_ends_a_wait_at_once(drive, kept):
    """Two mediators share a MemoryJournal: the one that waits is told of the other's cancel."""
    world, waiting = World(), threading.Event()

    def tell(record):
        if record.target == "retrying.b":
            waiting.set()

    journal = MemoryJournal(encode=kept)
    saga = Saga("s", [world.step("a"), world.step("b", OSError(), retry=HOUR)])
    mediator, other = drive(saga, journal=journal, observers=[tell]), drive(saga, journal=journal)
    result = in_thread(mediator.run, "s", saga_id="o-1", check=False)
    assert waiting.wait(30)

    other.cancel("o-1", "from afar")

    assert "from afar" in str(result().error)


def test_the_sagas_own_retry_is_used_where_a_step_has_none(drive, journal):
    """A retry policy of the saga itself is used where a step has none."""
    world = World()
    saga = Saga("s", [world.step("a", OSError(), retry=None)], retry=QUICK)
    drive(saga, journal=journal).run("s", check=False)
    assert world.calls == ["a"] * 3


def test_an_id_that_nobody_gave_begins_with_the_time(drive, journal):
    """It is a UUID of version 7: executions sort by when they were opened, and lie together in a journal's index."""
    clock = Clock()
    mediator = drive(order(World()), journal=journal, clock=clock)
    found = []
    for moment in (1_800_000_000.25, 1_800_000_000.251, 1_800_000_000.251):
        clock.now = moment
        found.append(uuid.UUID(mediator.run("order").saga_id))
    assert [(each.version, each.variant) for each in found] == [(7, uuid.RFC_4122)] * 3
    assert [each.int >> 80 for each in found] == [1_800_000_000_250, 1_800_000_000_251, 1_800_000_000_251]
    assert len(set(found)) == 3


@pytest.mark.parametrize("moment", [0.0, -5.0, 1e12])
def test_an_id_is_made_up_whatever_the_clock_says(moment):
    """A clock before 1970, or far beyond what 48 bits of milliseconds hold, makes ids as good as any."""
    ids = {uuid7_hex(moment) for _ in range(100)}
    assert len(ids) == 100
    assert {len(each) for each in ids} == {32}


def test_a_driver_that_the_journal_does_not_know_cannot_open(drive):
    """Whoever was dismissed is told so, and nothing was begun."""
    world, journal = World(), MemoryJournal()
    mediator = drive(order(world), journal=journal)
    mediator.run("order")
    journal.dismiss(core_of(mediator).driver.id)
    world.calls.clear()
    with pytest.raises(LeaseLostError, match="never enlisted, or was dismissed"):
        mediator.run("order", saga_id="o-2")
    assert world.calls == []
    assert journal.find("o-2") is None
