"""What a driver leaves behind, another takes up: recovery, lost leases, and journals that fail for a while."""

from __future__ import annotations

import asyncio
import contextlib
import logging

import pytest

from fsm_mediator import (
    AsyncMediator,
    DefinitionChangedError,
    JournalError,
    LeaseLostError,
    Mediator,
    MediatorClosedError,
    Retry,
    Saga,
    SagaFailedError,
    SagaIdTakenError,
    Sleep,
    step,
)
from fsm_mediator.mediator.setbacks import Setbacks
from fsm_mediator.records import LATE, InboxItem
from tests.drivers import MORTAL, ONCE, Died, Flaky, World, core_of, eventually, in_thread, until


def left(drive, journal, saga, saga_id="o-1"):
    """Have a driver die in the midst of *saga*; it lets go of the execution, and writes nothing more."""
    with pytest.raises(Died):
        drive(saga, journal=journal, **MORTAL).run(saga, saga_id=saga_id)


def test_recover_drives_on_with_the_same_key(drive, journal):
    """What was under way counts as crashed, and is repeated with the same idempotency key."""
    world = World()
    saga = Saga("s", [world.step("a"), world.step("b", Died(), "done")])
    left(drive, journal, saga)

    outcomes = drive(saga, journal=journal).recover()

    assert [outcome.state for outcome in outcomes] == ["succeeded"]
    assert world.keys == ["o-1:a:execute", "o-1:b:execute", "o-1:b:execute"]
    assert drive(saga, journal=journal).recover() == []


def test_an_inbox_is_read_at_a_claim_only_if_it_has_items(drive, journal):
    """An empty inbox costs no read; a cancel that came before the claim is seen before anything is done."""
    world = World()
    saga = Saga("s", [world.step("a", Died(), Died(), "done")])
    for saga_id in ("empty", "cancelled"):
        left(drive, journal, saga, saga_id)
    assert journal.post("cancelled", InboxItem("cancel"))
    reads: list[str] = []

    class Counting(Flaky):
        def inbox(self, saga_id):
            reads.append(saga_id)
            return self.inner.inbox(saga_id)

    outcomes = drive(saga, journal=Counting(journal)).recover()

    assert sorted((outcome.saga_id, outcome.state) for outcome in outcomes) == [
        ("cancelled", "failed"),
        ("empty", "succeeded"),
    ]
    assert reads == ["cancelled"]


def test_a_count_of_recoveries_is_written_when_it_changes(drive, journal):
    """An execution whose driver has let go of it has the count 0, and none of its commits writes that again."""
    world, soon = World(), Retry(attempts=2, wait_initial=0.001, wait_jitter=0.0)
    saga = Saga("s", [Sleep("nap", 0.001), world.step("a", Died(), "done", retry=soon), world.step("b")])
    left(drive, journal, saga)
    counts: list[object] = []

    class Counting(Flaky):
        def write(self, commit):
            counts.append(commit.recoveries)
            return self.inner.write(commit)

        def write_all(self, commits):
            counts.extend(commit.recoveries for commit in commits)
            return self.inner.write_all(commits)

    (outcome,) = drive(saga, journal=Counting(journal)).recover()

    assert [record.event for record in outcome.history[-4:]] == ["errored", "retry_due", "executed", "executed"]
    assert counts == [None] * 4
    assert outcome.succeeded


def test_recover_compensates_what_gave_up_in_doubt(drive, journal):
    """A crash in the only attempt leaves doubt: the step itself is compensated as well."""
    world = World()
    saga = Saga("s", [world.step("a"), world.step("b", Died(), retry=ONCE)])
    left(drive, journal, saga)

    (outcome,) = drive(saga, journal=journal).recover()

    assert outcome.failed
    assert world.calls == ["a", "b", "undo b", "undo a"]


def test_run_of_a_forgotten_id_drives_it_on(drive, journal):
    """Whoever runs the id again drives it on, on the mediator that let go of it as on any other."""
    world = World()
    saga = Saga("s", [world.step("a", Died(), "done")])
    mediator = drive(saga, journal=journal, **MORTAL)
    with pytest.raises(Died):
        mediator.run("s", saga_id="o-1")

    assert mediator.run("s", saga_id="o-1").succeeded
    assert world.calls == ["a", "a"]


def test_recover_leaves_alone_what_others_drive(drive, journal):
    """Two mediators share a journal: neither takes up what the other drives, and both may recover at once."""
    world = World()
    saga = Saga("s", [world.step("a", world.gate())])
    crashed = Saga("crashed", [world.step("b", *[Died()] * 5, "done")])
    mediator, other = drive(saga, crashed, journal=journal), drive(saga, crashed, journal=journal)
    result = in_thread(mediator.run, "s", saga_id="o-1")
    world.begun()
    for number in range(5):
        left(drive, journal, crashed, f"c-{number}")

    found = [in_thread(each.recover) for each in (mediator, other)]
    states = [outcome.state for each in found for outcome in each()]
    world.go()

    assert states == ["succeeded"] * 5
    assert result().succeeded
    assert world.calls == ["a"] + ["b"] * 10


def test_recover_of_many_takes_all(drive, journal):
    """More than there are workers: all are recovered."""
    world = World()
    saga = Saga("s", [world.step("a", *[Died()] * 20, "done")])
    for number in range(20):
        left(drive, journal, saga, f"o-{number}")

    outcomes = drive(saga, journal=journal, max_workers=2).recover()

    assert {outcome.saga_id for outcome in outcomes} == {f"o-{number}" for number in range(20)}
    assert {outcome.state for outcome in outcomes} == {"succeeded"}


def test_unknown_definitions_are_left_and_logged(drive, journal, caplog):
    """What no registered saga can drive stays as it is, with the reason in the log; the rest is recovered."""
    world = World()
    gone = Saga("gone", [world.step("a", Died(), "done")])
    old = Saga("s", [world.step("a", Died(), "done"), world.step("b")])
    new = Saga("s", [world.step("a", Died(), "done"), world.step("c")], version="2")
    known = Saga("known", [world.step("k", Died(), "done")])
    for saga, saga_id in ((gone, "gone-1"), (old, "old-1"), (known, "known-1")):
        left(drive, journal, saga, saga_id)

    mediator = drive(new, known, journal=journal)
    with caplog.at_level(logging.ERROR, "fsm_mediator"):
        outcomes = mediator.recover()

    assert [outcome.saga_id for outcome in outcomes] == ["known-1"]
    assert [entry.state for entry in mediator.executions(state="executing")] == ["executing.a", "executing.a"]
    text = "\n".join(caplog.messages)
    assert "'gone-1'" in text
    assert "no saga of that name is registered" in text
    assert "'old-1'" in text
    assert "fingerprint" in text
    assert {outcome.saga_id for outcome in drive(gone, old, journal=journal).recover()} == {"gone-1", "old-1"}


def test_a_lost_lease_stops_the_driver(drive, journal, caplog):
    """Another driver took it over: the first writes nothing more, and tells of the other's end."""
    world = World()
    saga = Saga("s", [world.step("a", world.gate(), "again"), world.step("b")])
    mediator, other = drive(saga, journal=journal), drive(saga, journal=journal)
    result = in_thread(mediator.run, "s", saga_id="o-1")
    world.begun()
    journal.release("o-1", journal.find("o-1").epoch)  # as if its lease had run out

    assert other.run("s", saga_id="o-1").succeeded
    with caplog.at_level(logging.WARNING, "fsm_mediator"):
        world.go()
        outcome = result()

    assert outcome.succeeded
    assert outcome.results["a"] == "again"
    assert world.calls == ["a", "a", "b"]
    assert "taken over" in "\n".join(caplog.messages)


# Journals that fail


def test_a_commit_that_fails_is_tried_again(drive, journal, impatient):
    """A journal that fails a few times costs nothing but time: no step is called again."""
    world, flaky = World(), Flaky(journal)
    mediator = drive(Saga("s", [world.step("a"), world.step("b")]), journal=flaky)
    for _ in range(3):
        flaky.failing = 5
        assert mediator.run("s").succeeded
    assert world.calls == ["a", "b"] * 3
    assert flaky.failed == 15


@pytest.mark.parametrize("patience", [None, 60.0])
def test_an_outage_is_not_an_end(drive, journal, impatient, patience):
    """A driver of a patient journal keeps its answer for as long as the outage lasts: nothing counts as crashed."""
    world = World()
    flaky = Flaky(journal)
    flaky.patience = patience

    def breaks(*_):
        flaky.failing = 40

    saga = Saga("s", [world.step("a", breaks), world.step("b")])

    assert drive(saga, journal=flaky).run(saga, saga_id="o-1").succeeded
    assert flaky.failed == 40
    assert world.calls == ["a", "b"]


def test_patience_has_an_end(drive, journal, impatient):
    """Past the journal's patience a driver leaves; and when its mediator is closed, however patient the journal is."""
    world = World()
    flaky = Flaky(journal)

    def breaks(*_):
        flaky.broken = True

    saga = Saga("s", [world.step("a", breaks, "done")])
    flaky.patience = 0.05
    with pytest.raises(JournalError, match="the disk is full"):
        drive(saga, journal=flaky).run(saga, saga_id="o-1")
    flaky.broken, flaky.patience, flaky.failed = False, None, 0
    closing = World()
    saga = Saga("s", [closing.step("a", breaks)])
    mediator = drive(saga, journal=flaky)
    result = in_thread(mediator.run, saga, saga_id="o-2")
    eventually(lambda: flaky.failed > 50)
    mediator.close()
    with pytest.raises((JournalError, MediatorClosedError)):
        result()


def test_an_opening_that_fails_for_good_starts_nothing(drive, journal, impatient):
    """Run and start raise JournalError, no step is called; once mended, the same id works."""
    world, flaky = World(), Flaky(journal)
    mediator = drive(Saga("s", [world.step("a")]), journal=flaky)
    flaky.broken = True
    with pytest.raises(JournalError):
        mediator.run("s", saga_id="o-1")
    with pytest.raises(JournalError):
        mediator.start("s", saga_id="o-1")
    assert world.calls == []
    flaky.broken = False
    assert mediator.run("s", saga_id="o-1").succeeded
    assert world.calls == ["a"]


@pytest.mark.parametrize("release_fails", [False, True], ids=["released", "unreleased"])
@pytest.mark.parametrize("how", ["run", "recover", "wait", "restart"])
def test_a_journal_broken_for_good_stops_it_and_mended_goes_on(drive, journal, impatient, how, release_fails):
    """The execution stays where it was journaled, even if it could not be released; mended, it goes on with its key."""
    world, flaky = World(), Flaky(journal)
    if release_fails:
        flaky.methods |= {"release", "find"}

    def breaks(*_):
        flaky.broken = True

    saga = Saga("s", [world.step("a", breaks, "done"), world.step("b")])
    mediator = drive(saga, journal=flaky)
    with pytest.raises(JournalError):
        mediator.run("s", saga_id="o-1")
    flaky.broken = False
    assert mediator.outcome("o-1").state == "executing.a"

    if how == "restart":
        mediator.start("s", saga_id="o-1")
        mediator.wait("o-1")
    elif how == "recover":
        assert [outcome.state for outcome in mediator.recover()] == ["succeeded"]
    else:
        assert (mediator.run("s", saga_id="o-1") if how == "run" else mediator.wait("o-1")).succeeded
    assert mediator.outcome("o-1").succeeded
    assert world.keys == ["o-1:a:execute"] * 2 + ["o-1:b:execute"]


def test_a_background_saga_whose_journal_breaks_is_left_and_logged(drive, journal, impatient, caplog):
    """Nobody waits for it: the log says that it was left, and recover goes on with it."""
    world, flaky = World(), Flaky(journal)

    def breaks(*_):
        flaky.broken = True

    mediator = drive(Saga("s", [world.step("a", breaks, "done")]), journal=flaky)
    with caplog.at_level(logging.ERROR, "fsm_mediator"):
        mediator.start("s", saga_id="o-1")
        eventually(lambda: any("left in its current state" in message for message in caplog.messages))
    flaky.broken = False

    eventually(lambda: mediator.recover() or mediator.outcome("o-1").succeeded)
    assert mediator.outcome("o-1").succeeded


@pytest.mark.parametrize("method", ["write", "claim", "find", "records", "inbox"])
def test_a_background_saga_goes_on_once_its_journal_does(drive, journal, impatient, monkeypatch, method):
    """In the midst of a step, or as it is taken up after a wait: nobody has to look for it, and no daemon does."""
    monkeypatch.setattr(Setbacks, "timer_max", 0.1)
    world, flaky = World(), Flaky(journal)
    flaky.methods = {method, "write_all"} if method == "write" else {method}

    def breaks(*_):
        if method == "inbox":
            assert journal.post("o-1", InboxItem(LATE, "a", reason="an answer that came too late"))
        flaky.failing = 6 if method == "write" else 1
        if method != "write":
            raise OSError

    soon = Retry(attempts=2, wait_initial=0.05, wait_jitter=0.0)
    mediator = drive(Saga("s", [world.step("a", breaks, "done", retry=soon)]), journal=flaky, park_after=0.0)
    mediator.start("s", saga_id="o-1")

    eventually(lambda: journal.find("o-1").state == "succeeded")
    assert flaky.failed == (6 if method == "write" else 1)
    assert world.keys == ["o-1:a:execute"] * 2


def test_a_saga_whose_caller_has_gone_goes_on_once_its_journal_does(journal, impatient, monkeypatch):
    """Who awaited run was cancelled: from then on it is in the background, like one that was started there."""
    monkeypatch.setattr(Setbacks, "timer_max", 0.05)
    flaky, keys = Flaky(journal), []

    async def main():
        begun, may_go = asyncio.Event(), asyncio.Event()

        @step
        async def a(payload, context):
            keys.append(context.idempotency_key)
            begun.set()
            await may_go.wait()

        async with AsyncMediator(Saga("s", [a]), journal=flaky) as mediator:
            caller = asyncio.create_task(mediator.run("s", saga_id="o-1"))
            await begun.wait()
            caller.cancel()
            await asyncio.gather(caller, return_exceptions=True)
            assert caller.cancelled()
            flaky.failing = 6
            may_go.set()
            await until(lambda: journal.find("o-1").state == "succeeded")

    asyncio.run(main())
    assert flaky.failed == 6
    assert keys == ["o-1:a:execute"] * 2


def test_only_what_is_the_journals_fault_is_tried_again(monkeypatch, caplog):
    """What is not the journal's fault does not pass by waiting."""
    monkeypatch.setattr(Setbacks, "timer_max", 0.01)
    setbacks, unknown = core_of(Mediator()).setbacks, DefinitionChangedError("it has changed")
    assert setbacks.log("o-1", unknown) is None
    assert setbacks.log("o-1", LeaseLostError("another has it")) is None
    assert setbacks.log("o-1", JournalError("the disk is full")) == 0.01
    assert "taken up again in 0.01 s: the disk is full" in caplog.text


def test_a_waiter_of_a_broken_driver_takes_over(drive, journal, impatient):
    """Who waits for an execution whose driver gave up drives it on."""
    world, flaky = World(), Flaky(journal)
    gate = world.gate()

    def breaks(*_):
        gate()
        flaky.failing = 6

    mediator = drive(Saga("s", [world.step("a", breaks, "done")]), journal=flaky)
    first = in_thread(mediator.run, "s", saga_id="o-1")
    world.begun()
    second = in_thread(mediator.wait, "o-1")
    world.go()

    with pytest.raises(JournalError):
        first()
    assert second().succeeded
    assert world.calls == ["a", "a"]


def test_a_failing_enlist_is_tried_again(drive, journal):
    """A mediator whose first use failed, because the journal did, works once it is mended."""
    world, flaky = World(), Flaky(journal)
    flaky.methods = {"enlist"}
    flaky.broken = True
    saga = Saga("s", [world.step("a", Died(), "done")])
    mediator = drive(saga, journal=flaky, **MORTAL)
    with pytest.raises(JournalError):
        mediator.run("s", saga_id="o-1")
    flaky.broken = False
    with pytest.raises(Died):
        mediator.run("s", saga_id="o-1")
    assert world.calls == ["a"]
    assert mediator.recover()[0].succeeded


def test_a_failing_step_and_a_failing_journal_together(drive, journal, impatient):
    """Attempts are counted by the journal, not by how often it failed."""
    world, flaky = World(), Flaky(journal)

    def fails(*_):
        flaky.failing = 3
        raise ValueError("no money")

    with pytest.raises(SagaFailedError, match="3 attempts"):
        drive(Saga("s", [world.step("a"), world.step("b", fails)]), journal=flaky).run("s")
    assert world.calls == ["a", "b", "b", "b", "undo a"]


def test_an_opening_that_fails_does_not_take_the_id_from_another(drive, journal, impatient):
    """A run whose opening fails must not let go of the execution of the same id that another mediator drives."""
    world, flaky = World(), Flaky(journal)
    saga = Saga("s", [world.step("a", world.gate(), "again"), world.step("b")])
    mediator, failing = drive(saga, journal=journal), drive(saga, journal=flaky)
    result = in_thread(mediator.run, "s", saga_id="o-1")
    world.begun()
    flaky.broken = True
    with pytest.raises(JournalError):
        failing.run("s", saga_id="o-1")
    flaky.broken = False

    assert drive(saga, journal=journal).recover() == []
    world.go()
    assert result().succeeded
    assert world.calls == ["a", "b"]


def test_callers_of_an_opening_that_fails_open_it_themselves_or_are_told(drive, journal, impatient):
    """Who joined a start that failed is never told of an id that nobody has accepted."""
    world, flaky = World(), Flaky(journal)
    mediator = drive(Saga("s", [world.step("a")]), journal=flaky)
    for number in range(10):
        flaky.failing = 6
        saga_id = f"o-{number}"
        told = []
        for result in [in_thread(mediator.start, "s", saga_id=saga_id) for _ in range(4)]:
            with contextlib.suppress(JournalError):
                told.append(result())
        flaky.failing = 0
        if told:
            assert mediator.wait(saga_id).succeeded
        else:
            assert mediator.run("s", saga_id=saga_id).succeeded
    assert world.calls == ["a"] * 10


def test_payloads_whose_comparison_is_no_truth_are_refused_in_words(drive):
    """An array compares to an array: joining such an id is refused or joined, never a TypeError of theirs."""

    class Array:
        __hash__ = None  # type: ignore[assignment]

        def __eq__(self, other):
            return self

        def __bool__(self):
            raise ValueError("ambiguous")

    world, payload = World(), Array()
    mediator = drive(Saga("s", [world.step("a")]))
    assert mediator.run("s", payload, saga_id="o-1").succeeded
    assert mediator.run("s", payload, saga_id="o-1").succeeded
    with pytest.raises(SagaIdTakenError):
        mediator.run("s", Array(), saga_id="o-1")
    assert world.calls == ["a"]
