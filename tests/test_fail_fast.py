"""A group fails fast: when one branch fails before the pivot, the others end as soon as they can."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from fsm_mediator import (
    Choose,
    DefinitionError,
    Failure,
    InboxItem,
    JournalError,
    Mediator,
    OutcomeUnknownError,
    Parallel,
    Record,
    Retry,
    Saga,
    SagaCancelledError,
    SiblingFailedError,
    Signal,
    Sleep,
)
from tests.drivers import ONCE, World, core_of, eventually


def fails(world: World, name: str = "bad", *before: Any, **settings: Any) -> Any:
    """A step that fails by itself."""
    return world.step(name, *before, ValueError(name), **{"retry": ONCE, **settings})


def states(journal: Any) -> Callable[[str], str]:
    """Returns the state of an execution; empty: there is none yet."""

    def state(saga_id: str) -> str:
        entry = journal.find(saga_id)
        return "" if entry is None else entry.state

    return state


def test_branches_that_only_wait_are_cancelled(drive, journal):
    """One branch failed, the others wait for a word, for a moment, for a retry in an hour: all end at once."""
    world = World()
    hourly = Retry(wait_initial=3600.0, wait_max=3600.0)
    waits = [Signal("word"), Sleep("nap", 3600.0), world.step("again", OSError(), retry=hourly)]
    saga = Saga("s", [world.step("hold"), Parallel("g", [*waits, fails(world)])])

    outcome = drive(saga, journal=journal).run("s", 1, saga_id="o-1", check=False)

    assert outcome.failed
    assert "ValueError: bad" in str(Failure.of(outcome.error))
    assert outcome.compensated == ("g", "hold")
    assert journal.find("o-1/g.word").state == journal.find("o-1/g.nap").state == "failed"


def test_branches_not_begun_do_not_begin(drive, journal):
    """One at a time, and the first fails: the other 249 are ended by the parent, and no step of them is called."""
    world = World()
    each = Parallel.each("g", fails(world), over=range, at_most=1)

    outcome = drive(Saga("s", [each]), journal=journal).run("s", 250, saga_id="o-1", check=False)

    assert outcome.failed
    assert world.calls == ["bad"]
    assert "ValueError: bad" in str(Failure.of(outcome.error))
    ended = [entry for entry in journal.entries(parent="o-1") if entry.state == "failed"]
    assert len(ended) == 250
    assert sum(entry.epoch for entry in ended) == 251  # only the first was ever claimed
    record = journal.records("o-1/g.249")[0]
    assert (record.event, record.reason) == ("rejected", "branch 0 failed")


def test_observers_are_told_of_branches_that_never_began(drive, journal):
    """The parent ends them without a driver of theirs. Each has its record, as if it had been driven."""
    world, seen = World(), list[Record]()
    each = Parallel.each("g", fails(world), over=range, at_most=1)

    drive(Saga("s", [each]), journal=journal, observers=[seen.append]).run("s", 4, saga_id="o-1", check=False)

    ended = [record for record in seen if record.reason == "branch 0 failed"]
    assert sorted(record.saga_id for record in ended) == ["o-1/g.1", "o-1/g.2", "o-1/g.3"]
    assert {(record.event, record.target) for record in ended} == {("rejected", "failed")}
    assert not any(journal.inbox(record.saga_id) for record in ended)  # nothing more is asked of them


def test_attempts_under_way_are_waited_for(drive, journal):
    """An attempt that has begun is seen to its end, and what it did is undone."""
    world = World()
    begun = threading.Event()

    def waits_for_the_other(*_: Any) -> None:
        assert begun.wait(30)
        raise ValueError("bad")

    def works(*_: Any) -> str:
        begun.set()
        eventually(lambda: journal.inbox("o-1/g.good"))
        return "done"

    bad = world.step("bad", waits_for_the_other, retry=ONCE)
    good = Saga("good", [world.step("slow", works), world.step("never")])

    outcome = drive(Saga("s", [Parallel("g", [bad, good])]), journal=journal).run("s", 1, saga_id="o-1", check=False)

    assert outcome.failed
    assert sorted(world.calls) == ["bad", "slow", "undo slow"]


def test_branches_cancelled_for_another_are_not_among_the_errors(drive, journal):
    """Two failed by themselves, one was cancelled for that: the error is a group of exactly the two."""
    world = World()
    both = threading.Barrier(2)

    def at_once(*_: Any) -> None:
        both.wait(30)
        raise ValueError("bad")

    steps = [world.step(name, at_once, retry=ONCE) for name in ("a", "b")]
    mediator = drive(Saga("s", [Parallel("g", [*steps, Signal("word")])]), journal=journal)

    outcome = mediator.run("s", 1, saga_id="o-1", check=False)

    assert outcome.failed
    cancelled = mediator.outcome("o-1/g.word").error
    assert isinstance(cancelled, SiblingFailedError)
    assert isinstance(cancelled, SagaCancelledError)
    assert str(cancelled) in ("branch a failed", "branch b failed")
    errors = outcome.error.exceptions if isinstance(outcome.error, BaseExceptionGroup) else [outcome.error]
    assert {type(error).__name__ for error in errors} <= {"ValueError", "RecordedError"}
    assert len(errors) == 2


def test_branch_that_begins_to_compensate_fails_the_group_at_once(drive, journal):
    """Its first record that leaves the way forward tells the parent: its long compensation is not waited for first."""
    world = World()
    inner = Saga("inner", [world.step("a", undo=[world.gate()]), fails(world)])
    saga = Saga("s", [Parallel("g", [inner, Signal("word")])])
    mediator = drive(saga, journal=journal)
    mediator.start("s", 1, saga_id="o-1")
    world.begun()

    eventually(lambda: journal.find("o-1/g.word").state == "failed")
    assert journal.find("o-1/g.inner").state == "compensating.a"
    world.go()

    assert mediator.wait("o-1", check=False).failed


def test_branch_that_is_stuck_does_not_fail_the_group(drive, journal):
    """A stuck branch waits for a person, and so do the others."""
    world = World()
    state = states(journal)
    stuck = world.step("stuck", world.gate(), timeout=0.01, grace=0.01)
    mediator = drive(Saga("s", [Parallel("g", [stuck, Signal("word")])]), journal=journal)
    mediator.start("s", 1, saga_id="o-1")
    eventually(lambda: state("o-1/g.stuck") == "stuck_executing.stuck")
    eventually(lambda: state("o-1/g.word") == "waiting.word")
    eventually(lambda: journal.find("o-1").driver is None and not journal.find("o-1").called)

    assert journal.find("o-1/g.word").state == "waiting.word"
    world.go()


def test_it_goes_through_nested_groups_and_choices(drive, journal):
    """The branch that is cancelled has branches of its own: they end as well, at every depth."""
    world = World()
    deep = Parallel("deep", [Signal("word"), Saga("more", [Choose("c", {"x": Signal("x")}, by=lambda payload: "x")])])
    saga = Saga("s", [Parallel("g", [Saga("inner", [world.step("a"), deep]), fails(world, "bad")])])

    outcome = drive(saga, journal=journal).run("s", 1, saga_id="o-1", check=False)

    assert outcome.failed
    assert "ValueError: bad" in str(Failure.of(outcome.error))
    assert {entry.state for entry in journal.entries()} == {"failed"}


def test_cancel_of_the_whole_keeps_its_own_error(drive, journal):
    """Cancelled by a person while branches wait: that is the error, whatever the branches say."""
    mediator = drive(Saga("s", [Parallel("g", [Signal("a"), Signal("b")])]), journal=journal)
    mediator.start("s", 1, saga_id="o-1")
    eventually(lambda: journal.find("o-1/g.b") is not None and journal.find("o-1/g.b").state == "waiting.b")

    mediator.cancel("o-1", "enough")

    outcome = mediator.wait("o-1", check=False)
    assert repr(outcome.error) == "SagaCancelledError('enough')"


def test_one_branch_that_a_person_cancels_fails_the_group(drive, journal):
    """A cancel of one branch is that branch's own failure."""
    mediator = drive(Saga("s", [Parallel("g", [Signal("a"), Signal("b")])]), journal=journal)
    mediator.start("s", 1, saga_id="o-1")
    eventually(lambda: journal.find("o-1/g.b") is not None and journal.find("o-1/g.b").state == "waiting.b")

    mediator.cancel("o-1/g.a", "not this one")

    eventually(lambda: mediator.outcome("o-1").failed)
    assert repr(mediator.outcome("o-1").error) == "SagaCancelledError('not this one')"


def test_doubt_leaves_the_way_forward_as_well(drive, journal):
    """A branch that gives up in doubt compensates itself, and fails the group."""
    world = World()
    doubtful = world.step("doubtful", OutcomeUnknownError("?"), retry=ONCE)
    saga = Saga("s", [Parallel("g", [doubtful, Signal("word")])])

    assert drive(saga, journal=journal).run("s", 1, saga_id="o-1", check=False).failed
    assert world.calls == ["doubtful", "undo doubtful"]


def test_settle_sees_all_to_their_end(drive, journal):
    """`on_failure="settle"`: the others go on, and a saga that waits for them waits."""
    world = World()
    state = states(journal)
    group = Parallel("g", [fails(world), Signal("word")], on_failure="settle")
    mediator = drive(Saga("s", [group]), journal=journal)
    mediator.start("s", 1, saga_id="o-1")
    eventually(lambda: state("o-1/g.bad") == "failed" and state("o-1/g.word") == "waiting.word")
    eventually(lambda: journal.find("o-1").driver is None and not journal.find("o-1").called)
    assert journal.find("o-1/g.word").state == "waiting.word"

    mediator.signal("o-1", "g.word", 1)

    assert mediator.wait("o-1", check=False).failed


def test_after_the_pivot_all_are_seen_to_their_end(drive, journal):
    """There is no way back: no branch is cancelled for another."""
    world = World()
    group = Parallel("g", [fails(world, "bad", undo=None), world.step("good", undo=None)])
    saga = Saga("s", [world.step("pay", pivot=True, undo=None), group])

    outcome = drive(saga, journal=journal).run("s", 1, saga_id="o-1", check=False)

    assert outcome.state == "stuck.g"
    assert journal.find("o-1/g.good").state == "succeeded"


def test_setting_is_read_live_and_no_part_of_the_fingerprint():
    """It may change while executions are under way."""
    world = World()
    settles = Saga("s", [Parallel("g", [world.step("a")], on_failure="settle")])
    each = Parallel.each("g", world.step("a"), over=lambda payload: [1], on_failure="settle")

    assert Saga("s", [Parallel("g", [world.step("a")])]).fingerprint == settles.fingerprint
    assert not Saga("s", [each]).parts[0].cancels_on_failure
    with pytest.raises(DefinitionError, match="on_failure must be 'cancel' or 'settle', not 'wait'"):
        Parallel("g", [world.step("a")], on_failure="wait")  # type: ignore[arg-type]


def test_driver_that_dies_before_it_cancels_is_followed(drive, journal):
    """The next driver of the parent sees the failed branch, and cancels the others."""
    world = World()
    settled = Saga("s", [Parallel("g", [fails(world), Signal("word")], on_failure="settle")])
    first = Mediator(settled, journal=journal, close_grace=0.0)
    first.start("s", 1, saga_id="o-1")
    eventually(lambda: journal.find("o-1/g.bad") is not None and journal.find("o-1/g.bad").state == "failed")
    eventually(lambda: journal.find("o-1").driver is None)
    first.close()
    eventually(lambda: not core_of(first).owned.active)  # else it may read what is posted now, and settle
    journal.post("o-1", InboxItem("child", "bad", "failed"))  # as one whose message the first driver had not read

    mediator = drive(Saga("s", [Parallel("g", [fails(world), Signal("word")])]), journal=journal)

    mediator.recover()
    eventually(lambda: mediator.outcome("o-1").failed)


def test_stuck_branch_that_cannot_be_claimed_can_be_retried_again(drive, journal, monkeypatch):
    """The journal fails while the retry of the parent claims its stuck branch. The next retry reaches the branch."""
    world = World()
    c = world.step("c", ValueError("no"), "mended", undo=None, retry=ONCE)
    saga = Saga("s", [world.step("pay", undo=None, pivot=True), Parallel("g", [world.step("b", undo=None), c])])
    mediator, claim, faults = drive(saga, journal=journal), journal.claim, ["the disk is full"]
    assert mediator.run("s", saga_id="o-1", check=False).state == "stuck.g"

    def fails_once(saga_id: str, driver: str) -> Any:
        if saga_id == "o-1/g.c" and faults:
            raise JournalError(faults.pop())
        return claim(saga_id, driver)

    monkeypatch.setattr(journal, "claim", fails_once)
    with pytest.raises(JournalError, match="the disk is full"):
        mediator.retry("o-1")

    assert mediator.retry("o-1").results["g"] == {"b": "b done", "c": "mended"}
