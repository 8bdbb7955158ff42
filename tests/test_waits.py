"""Signals and sleeps: sagas that wait, on every mediator and every journal."""

from __future__ import annotations

import contextlib
import datetime as dt
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from fsm_mediator import (
    Choose,
    Commit,
    DeadlineExceededError,
    DecisionError,
    DefinitionError,
    InboxItem,
    JournalError,
    Mediator,
    Parallel,
    PayloadError,
    RefusedError,
    Saga,
    SagaStuckError,
    SagaWaitingError,
    Signal,
    SignalTimedOutError,
    Sleep,
    SQLiteJournal,
    UnknownExecutionError,
)
from fsm_mediator.records import SIGNAL
from tests.drivers import ONCE, Clock, World, eventually, in_thread


def approved(world: World, **settings: Any) -> Saga:
    """Reserve, wait for an approval, ship."""
    return Saga("approved", [world.step("reserve"), Signal("approval", **settings), world.step("ship")])


def test_signal_lets_a_parked_saga_go_on(drive, journal):
    """A saga that waits for an approval holds nobody up: run says so, and the signal makes it go on with its value."""
    world = World()
    mediator = drive(approved(world), journal=journal)

    with pytest.raises(SagaWaitingError) as parked:
        mediator.run("approved", "order", saga_id="o-1")
    assert parked.value.outcome.state == "waiting.approval"
    assert journal.find("o-1").driver is None

    mediator.signal("o-1", "approval", {"by": "Ada"})

    outcome = mediator.wait("o-1")
    assert outcome.results == {"reserve": "reserve done", "approval": {"by": "Ada"}, "ship": "ship done"}
    assert [record.event for record in outcome.history] == ["start", "executed", "executed", "executed"]
    assert world.calls == ["reserve", "ship"]


def test_signal_that_comes_early_is_kept(drive, journal):
    """An approval that is there before the saga asks for it counts, and the saga never waits."""
    world = World()
    saga = Saga("early", [world.step("reserve", world.gate()), Signal("approval"), world.step("ship")])
    mediator = drive(saga, journal=journal)
    mediator.start("early", 1, saga_id="o-1")
    world.begun()

    mediator.signal("o-1", "approval", "yes")
    world.go()

    assert mediator.wait("o-1").results["approval"] == "yes"


# An accepted signal counts


class Interposed:
    """A journal that does something, once, just before a commit with a record of this event is written."""

    def __init__(self, inner: Any, event: str, does: Callable[[], object]) -> None:
        self.inner = inner
        self.event = event
        self.does = does

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def write(self, commit: Commit) -> Any:
        """As `Journal.write`."""
        if any(record.event == self.event for record in commit.records):
            self.event = ""
            self.does()
        return self.inner.write(commit)

    def write_all(self, commits: Sequence[Commit]) -> list[Any]:
        """As `Journal.write_all`."""
        results: list[Any] = []
        for commit in commits:
            try:
                results.append(self.write(commit))
            except JournalError as error:
                results.append(error)
        return results


@pytest.mark.parametrize("pivot", [False, True], ids=["to be compensated", "after the pivot"])
def test_accepted_signal_is_not_overruled_by_the_time_out_of_its_wait(drive, journal, pivot):
    """The signal comes in time, between the driver's last look and the commit of the time-out: it counts."""
    world = World()
    clock = Clock()
    first = world.step("a", pivot=pivot, undo=None) if pivot else world.step("a")
    saga = Saga("s", [first, Signal("approval", timeout=5.0), world.step("b", **({"undo": None} if pivot else {}))])
    accepted = InboxItem("signal", "approval", "yes", at=0.0)
    between = Interposed(journal, "exhausted" if pivot else "rejected", lambda: journal.post("o-1", accepted))
    with contextlib.closing(drive(saga, journal=between, clock=clock)) as mediator:
        mediator.run("s", saga_id="o-1", check=False)
    clock.now += 10.0

    outcome = drive(saga, journal=between, clock=clock).recover()[0]

    assert outcome.succeeded
    assert outcome.results["approval"] == "yes"
    assert [record.event for record in outcome.history][-2:] == ["executed", "executed"]


def test_signal_past_its_time_is_refused_though_nobody_drove(drive, journal):
    """The offer was good for five seconds: a word after a weekend is refused, and changes nothing."""
    world = World()
    clock = Clock()
    saga = approved(world, timeout=5.0)
    with contextlib.closing(drive(saga, journal=journal, clock=clock)) as mediator:
        mediator.run("approved", 1, saga_id="o-1", check=False)
    clock.now += 3600.0
    mediator = drive(saga, journal=journal, clock=clock)

    with pytest.raises(RefusedError, match="it came after the time-out of its wait"):
        mediator.signal("o-1", "approval", "yes")

    outcome = mediator.recover()[0]
    assert isinstance(outcome.error, SignalTimedOutError)
    assert [item for item in journal.inbox("o-1") if item.kind == SIGNAL] == []


def test_signal_in_time_counts_however_late_it_is_found(drive, journal):
    """Nobody drove when the word came in time: it counts when somebody looks, hours later."""
    world = World()
    clock = Clock()
    saga = approved(world, timeout=5.0)
    with contextlib.closing(drive(saga, journal=journal, clock=clock)) as mediator:
        mediator.run("approved", 1, saga_id="o-1", check=False)
    clock.now += 4.0
    assert journal.post("o-1", InboxItem("signal", "approval", "yes"), clock=clock)
    clock.now += 3600.0

    assert drive(saga, journal=journal, clock=clock).recover()[0].results["approval"] == "yes"


def test_signal_to_a_saga_stuck_in_its_wait_is_kept_for_the_retry(drive, journal):
    """After the pivot the wait timed out: the word is accepted, and the operator's retry uses it."""
    world = World()
    clock = Clock()
    steps = [world.step("a", pivot=True, undo=None), Signal("approval", timeout=5.0), world.step("b", undo=None)]
    mediator = drive(Saga("s", steps), journal=journal, clock=clock)
    mediator.run("s", saga_id="o-1", check=False)
    clock.now += 10.0
    mediator.recover()
    eventually(lambda: mediator.outcome("o-1").state == "stuck.approval")

    mediator.signal("o-1", "approval", "yes")
    assert mediator.outcome("o-1").state == "stuck.approval"

    assert mediator.retry("o-1").results["approval"] == "yes"


@pytest.mark.parametrize("value", ["yes", 17])
def test_signal_for_a_branch_that_does_not_exist_yet_is_kept(drive, journal, value):
    """The approval of the boss comes before the saga has come to the choice: the branch begins with it."""
    world = World()
    by_hand = Saga("by_hand", [Signal("approval", payload=type(value))])
    choice = Choose("who", {"boss": by_hand, "machine": world.step("machine")}, by=lambda payload: "boss")
    inner = Saga("inner", [Parallel("team", [Signal("lead"), world.step("dev")])])
    groups = [choice, Parallel.each("all", Signal("each"), over=lambda payload: [1, 2]), Parallel("deep", [inner])]
    mediator = drive(Saga("s", [world.step("a", world.gate()), *groups]), journal=journal)
    mediator.start("s", saga_id="o-1")
    world.begun()

    mediator.signal("o-1", "who.boss.approval", value)
    mediator.signal("o-1", "all.1", "second")
    mediator.signal("o-1", "all.0", "first")
    mediator.signal("o-1", "deep.inner.team.lead", "deep")
    mediator.signal("o-1", "who.boss.approval", value)
    with pytest.raises(RefusedError, match="has come with another value"):
        mediator.signal("o-1", "who.boss.approval", value * 2)
    for nobody in ("who.nobody.approval", "all.x", "who.boss", "deep.inner.team.dev", "all.*"):
        with pytest.raises(RefusedError, match=r"has no signal .* GROUP\.BRANCH\.SIGNAL"):
            mediator.signal("o-1", nobody, "x")
    world.go()

    outcome = mediator.wait("o-1")
    assert outcome.results["who"] == {"boss": {"approval": value}}
    assert outcome.results["all"] == ["first", "second"]
    assert outcome.results["deep"] == {"inner": {"team": {"lead": "deep", "dev": "dev done"}}}
    assert [item for item in journal.inbox("o-1") if item.kind == SIGNAL] == []


def test_signal_for_a_branch_that_was_not_chosen_is_shown_as_moot(drive, journal):
    """The choice went another way: the signal is used by nobody, and stays to be seen."""
    world = World()
    choice = Choose("who", {"boss": Signal("approval"), "machine": world.step("machine")}, by=lambda payload: "machine")
    mediator = drive(Saga("s", [world.step("a", world.gate()), choice]), journal=journal)
    mediator.start("s", saga_id="o-1")
    world.begun()
    mediator.signal("o-1", "who.boss", "yes")
    world.go()

    assert mediator.wait("o-1").succeeded
    assert "who.boss" in [item.name for item in journal.inbox("o-1")]


def test_signal_made_moot_by_a_failure_stays_to_be_seen(drive, journal):
    """The saga failed before it came to the wait: the accepted signal is not deleted."""
    world = World()
    saga = Saga("s", [world.step("a", world.gate(), ValueError("no"), retry=ONCE), Signal("approval")])
    mediator = drive(saga, journal=journal)
    mediator.start("s", saga_id="o-1")
    world.begun()
    mediator.signal("o-1", "approval", "yes")
    mediator.cancel("o-1")
    world.go()

    assert mediator.wait("o-1", check=False).failed
    assert [item.name for item in journal.inbox("o-1")] == ["approval"]
    assert journal.claimable(1e12, 10) == []


def test_early_signal_does_not_wake_who_sleeps(drive, journal):
    """A signal for later leaves a saga parked where it is, and is there when it gets there."""
    world = World()
    clock = Clock()
    saga = Saga("later", [Sleep("night", 8 * 3600), Signal("approval"), world.step("ship")])
    mediator = drive(saga, journal=journal, clock=clock, park_after=1.0)
    mediator.start("later", 1, saga_id="o-1")
    eventually(lambda: journal.find("o-1").driver is None)

    mediator.signal("o-1", "approval", "yes")

    eventually(lambda: journal.find("o-1").driver is None and not journal.find("o-1").called)
    assert journal.find("o-1").state == "waiting.night"
    assert journal.claimable(clock(), 10) == []
    clock.now += 8 * 3600
    mediator.recover()
    assert mediator.wait("o-1").succeeded


def test_first_value_of_a_signal_counts(drive, journal):
    """The same word again is harmless, another is refused, before and after it was heard."""
    world = World()
    saga = Saga("twice", [world.step("reserve", world.gate()), Signal("approval"), world.step("ship")])
    mediator = drive(saga, journal=journal)
    mediator.start("twice", 1, saga_id="o-1")
    world.begun()
    mediator.signal("o-1", "approval", "yes")

    mediator.signal("o-1", "approval", "yes")
    with pytest.raises(RefusedError, match=r"another value, and the first one counts: 'yes'"):
        mediator.signal("o-1", "approval", "no")
    world.go()
    assert mediator.wait("o-1").results["approval"] == "yes"
    mediator.signal("o-1", "approval", "yes")
    with pytest.raises(RefusedError, match=r"another value"):
        mediator.signal("o-1", "approval", "no")


def test_wrong_signals_leave_the_saga_untouched(drive, journal):
    """A name or a value that does not fit is refused with what would fit, and nothing has happened."""
    mediator = drive(approved(World(), payload=int), journal=journal)
    mediator.run("approved", 1, saga_id="o-1", check=False)
    before = journal.records("o-1")

    with pytest.raises(RefusedError, match=r"has no signal 'approve'; it has approval"):
        mediator.signal("o-1", "approve", 1)
    with pytest.raises(PayloadError, match=r"approval"):
        mediator.signal("o-1", "approval", "one")
    with pytest.raises(UnknownExecutionError):
        mediator.signal("o-2", "approval", 1)

    assert journal.records("o-1") == before
    assert [item for item in journal.inbox("o-1") if item.kind == SIGNAL] == []


def test_signals_to_what_has_ended_or_compensates_are_refused(drive, journal):
    """Who has given up waiting says so to whoever comes too late."""
    world = World()
    saga = Saga(
        "refusing", [world.step("a", undo=[world.gate()]), world.step("b", ValueError(), retry=ONCE), Signal("s")]
    )
    mediator = drive(saga, journal=journal)
    mediator.start("refusing", 1, saga_id="o-1")
    world.begun()
    with pytest.raises(RefusedError, match=r"not awaited: the execution is in 'compensating.a'"):
        mediator.signal("o-1", "s", 1)
    world.go()
    assert mediator.wait("o-1", check=False).failed
    with pytest.raises(RefusedError, match=r"not awaited"):
        mediator.signal("o-1", "s", 1)


def test_signal_that_does_not_come_in_time_compensates(drive, journal):
    """Nobody approves in time: what was reserved is released, and the error says what was missing."""
    world, clock = World(), Clock()
    mediator = drive(approved(world, timeout=3600), journal=journal, clock=clock)
    mediator.run("approved", 1, saga_id="o-1", check=False)
    clock.now += 3601

    mediator.recover()

    outcome = mediator.wait("o-1", check=False)
    assert outcome.failed
    assert "did not come within 3600 seconds" in str(outcome.error)
    assert world.calls == ["reserve", "undo reserve"]
    assert outcome.history[-2].error.type.endswith(SignalTimedOutError.__name__)


def test_signal_in_time_beats_its_timeout(drive, journal):
    """An approval that was given counts, even if nobody was there to hear it before the time was over."""
    world, clock = World(), Clock()
    saga = approved(world, timeout=3600)
    with Mediator(saga, journal=journal, clock=clock) as first:
        first.run("approved", 1, saga_id="o-1", check=False)
        first.close()
    journal.post("o-1", __import__("fsm_mediator").InboxItem("signal", "approval", "yes", at=clock()))
    clock.now += 7200

    (outcome,) = drive(saga, journal=journal, clock=clock).recover()

    assert outcome.succeeded


def test_signal_after_the_pivot_gets_stuck_and_can_be_waited_for_again(drive, journal):
    """After the point of no return a missing signal needs a person, who may wait once more or say what it was."""
    world, clock = World(), Clock()
    saga = Saga(
        "pivoted",
        [world.step("pay", undo=None, pivot=True), Signal("receipt", timeout=60), world.step("file", undo=None)],
    )
    mediator = drive(saga, journal=journal, clock=clock)
    mediator.run("pivoted", 1, saga_id="o-1", check=False)
    clock.now += 61
    mediator.recover()
    eventually(lambda: journal.find("o-1").state == "stuck.receipt" and journal.find("o-1").driver is None)
    with pytest.raises(SagaStuckError, match=r"did not come within 60 seconds"):
        mediator.wait("o-1")

    assert mediator.retry("o-1").state == "waiting.receipt"
    clock.now += 61
    mediator.recover()
    eventually(lambda: journal.find("o-1").state == "stuck.receipt")
    outcome = mediator.resolve("o-1", reason="found it in the mail", done=True, result="r-7")

    assert outcome.succeeded
    assert outcome.results["receipt"] == "r-7"


def test_cancel_and_deadline_reach_who_waits_for_a_signal(drive, journal):
    """A parked saga can be cancelled, and its deadline does not wait either."""
    world, clock = World(), Clock()
    mediator = drive(approved(world), journal=journal, clock=clock)
    mediator.run("approved", 1, saga_id="cancelled", check=False)
    mediator.run("approved", 1, saga_id="late", deadline=10.0, check=False)

    mediator.cancel("cancelled", "changed my mind")
    outcome = mediator.wait("cancelled", check=False)
    assert (outcome.state, str(outcome.error)) == ("failed", "changed my mind")

    clock.now += 11
    mediator.recover()
    outcome = mediator.wait("late", check=False)
    assert outcome.failed
    assert isinstance(outcome.error, DeadlineExceededError)


def test_sleep_waits_what_it_says(drive, journal):
    """A sleep takes its seconds, whether they are fixed or told by the payload."""
    world, clock = World(), Clock()
    saga = Saga("sleepy", [Sleep("nap", 30), world.step("a"), Sleep("more", lambda payload, context: payload * 2)])
    mediator = drive(saga, journal=journal, clock=clock, sleep=clock.sleep)

    outcome = mediator.run("sleepy", 60)

    assert outcome.succeeded
    assert clock.slept == [30.0, 120.0]
    assert outcome.results["nap"] is None


def test_sleep_until_a_moment(drive, journal):
    """A moment can be a datetime or seconds since the epoch; one that is past is no wait."""
    clock = Clock()
    clock.now = 2_000_000_000.0
    noon = dt.datetime.fromtimestamp(clock.now + 90, dt.UTC)
    saga = Saga(
        "moments", [Sleep("noon", until=noon), Sleep("past", until=1_500_000_000), Sleep("told", until=lambda p: p)]
    )
    mediator = drive(saga, journal=journal, clock=clock, sleep=clock.sleep)

    assert mediator.run("moments", clock.now + 100).succeeded
    assert clock.slept == [90.0, 10.0]


def test_restart_sleeps_what_is_left(drive, journal):
    """A process that ends in the middle of the night does not make it longer."""
    world, clock = World(), Clock()
    saga = Saga("night", [Sleep("night", 3600), world.step("wake")])
    with Mediator(saga, journal=journal, clock=clock, park_after=0.0) as first:
        first.start("night", 1, saga_id="o-1")
        eventually(lambda: journal.find("o-1").driver is None)
    clock.now += 1800
    assert journal.find("o-1").wake_at == clock.now + 1800

    mediator = drive(saga, journal=journal, clock=clock, sleep=clock.sleep)
    assert mediator.run("night", 1, saga_id="o-1").succeeded
    assert clock.slept == [1800.0]


@pytest.mark.parametrize("nonsense", [-1, float("nan"), "soon", None])
def test_sleep_that_is_told_nonsense_compensates(drive, journal, nonsense):
    """What cannot be waited for is a failure of its part, with the function's name, and never a hang."""
    world = World()
    saga = Saga("odd", [world.step("a"), Sleep("nap", lambda payload: nonsense)])

    outcome = drive(saga, journal=journal).run("odd", 1, check=False)

    assert outcome.failed
    assert outcome.history[-2].error.type.endswith(DecisionError.__name__)
    assert world.calls == ["a", "undo a"]


def test_sleep_whose_function_raises_after_the_pivot_is_stuck(drive, journal):
    """After the pivot there is no way back: a person mends the function, then tries again."""
    world, answers = World(), [ValueError("not yet")]

    def seconds(_: Any) -> float:
        if answers:
            raise answers.pop()
        return 0.0

    saga = Saga("pivoted", [world.step("pay", undo=None, pivot=True), Sleep("nap", seconds)])
    mediator = drive(saga, journal=journal)
    assert mediator.run("pivoted", 1, saga_id="o-1", check=False).state == "stuck.nap"

    assert mediator.retry("o-1").succeeded


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Signal("9lives"), "cannot be the name of a signal"),
        (lambda: Signal("s", timeout=0), "timeout (seconds) must be a finite number greater than 0"),
        (lambda: Signal("s", payload=3), "payload must be a type"),
        (lambda: Sleep("s"), "takes either seconds, how long to wait, or until="),
        (lambda: Sleep("s", 1, until=2e9), "takes either seconds"),
        (lambda: Sleep("s", -1), "seconds must be a finite number of at least 0"),
        (lambda: Sleep("s", until=5), "is too early for seconds since the epoch"),
        (lambda: Sleep("s", until=1e12), "it is after the year 9999"),
        (lambda: Sleep("s", until=dt.datetime(2030, 1, 1)), "has no time zone"),  # noqa: DTZ001 - what is refused
        (lambda: Sleep("s", lambda: 3), "must take (payload) or (payload, context)"),
    ],
)
def test_mistakes_are_said_when_defined(make, said):
    """Whatever is wrong with a wait, I am told when I define it."""
    with pytest.raises(DefinitionError) as caught:
        make()
    assert said in str(caught.value)


def test_waits_are_immutable_and_can_be_renamed():
    """The same signal can be waited for twice, under two names."""
    signal = Signal("approval", timeout=5)
    second = signal.named("second")
    assert (second.name, second.timeout, signal.name) == ("second", 5, "approval")
    with pytest.raises(AttributeError, match=r"immutable"):
        signal.timeout = 7
    assert Saga("both", [signal, second]).machine.states.keys() >= {"waiting.approval", "waiting.second"}


def test_a_signal_of_an_execution_that_begins_meanwhile_is_accepted(tmp_path):
    """It was pending when the signal was put into its inbox; its driver has begun it and used the signal at once."""
    saga, path = Saga("s", [Signal("go", payload=int)]), tmp_path / "sagas.db"

    class Delayed(SQLiteJournal):
        def inbox(self, saga_id):
            if threading.current_thread() is threading.main_thread() and super().inbox(saga_id):
                with Mediator(saga, journal=path) as other:
                    in_thread(other.recover)()
            return super().inbox(saga_id)

    mediator = Mediator(saga, journal=Delayed(path))
    mediator.enqueue("s", saga_id="o-1")
    mediator.signal("o-1", "go", 1)
    assert mediator.wait("o-1").succeeded
    mediator.close()


def test_a_signal_that_is_used_while_its_acceptance_is_looked_up_is_accepted(tmp_path):
    """Its driver takes it from the inbox at once; the caller finds it in the records then, and nothing is refused."""

    class Delayed(SQLiteJournal):
        def inbox(self, saga_id):
            if threading.current_thread() is threading.main_thread() and super().inbox(saga_id):
                eventually(lambda: self.records(saga_id)[-1].target == "succeeded")
            return super().inbox(saga_id)

    journal = Delayed(tmp_path / "sagas.db")
    with Mediator(Saga("s", [Signal("go", payload=int)]), journal=journal) as mediator, mediator.daemon(poll=0.01):
        mediator.start("s", saga_id="o-1")
        eventually(lambda: mediator.outcome("o-1").state == "waiting.go")
        mediator.signal("o-1", "go", 1)
        assert mediator.wait("o-1").succeeded
