"""A call to the journal is made, and its answer is lost: the same call again has the same result."""

from __future__ import annotations

import logging

import pytest

from fsm_mediator import JournalError, Parallel, RefusedError, Retry, Saga, Signal, Sleep
from fsm_mediator.journal.protocol import Commit, Driver
from fsm_mediator.mediator import recovery, setbacks
from fsm_mediator.mediator.claiming import take_up
from fsm_mediator.records import InboxItem
from tests.commits import found, going_on, opening
from tests.drivers import Flaky, World, core_of, eventually, impatient  # noqa: F401 - a fixture
from tests.test_claims import accept
from tests.test_daemon import daemon_of

pytestmark = pytest.mark.usefixtures("impatient")


class Deaf:
    """A journal whose answers are lost: of each call that changes it, so many *times*."""

    patience = 0.0

    def __init__(self, inner, times, *methods):
        self.inner = inner
        self.times = times
        self.methods = methods
        self.lost = {}

    def __getattr__(self, name):
        attribute = getattr(self.inner, name)
        if name not in self.methods:
            return attribute

        def call(*args, **kwargs):
            answer = attribute(*args, **kwargs)
            if name == "write_all":
                return [self.heard(commit, each) for commit, each in zip(args[0], answer, strict=True)]
            about = {"post": lambda: args[1].kind, "claim_some": lambda: "any time"}.get(name, lambda: args[1:])()
            heard = self.heard((name, args[0], about), answer)
            if heard is not answer:
                raise heard
            return answer

        return call

    def heard(self, call, answer):
        """The answer, or the error if it is lost."""
        count = self.lost[repr(call)] = self.lost.get(repr(call), 0) + 1
        return JournalError("the answer was lost") if count <= self.times else answer


@pytest.fixture(params=[1, 2], ids=["once", "twice"])
def times(request):
    """How often each answer is lost."""
    return request.param


def test_a_run_whose_every_answer_is_lost_calls_each_step_once(drive, journal, times):
    """Neither the opening nor any record is taken for somebody else's."""
    world = World()
    saga = Saga("order", [world.step("reserve"), world.step("charge"), world.step("ship")])
    deaf = Deaf(journal, times, "write", "write_all")
    mediator = drive(saga, journal=deaf)

    assert mediator.run("order", {"id": 1}, saga_id="o-1").state == "succeeded"
    assert mediator.start("order", {"id": 2}, saga_id="o-2") == "o-2"
    assert mediator.wait("o-2").state == "succeeded"
    assert world.calls == ["reserve", "charge", "ship"] * 2
    assert deaf.lost
    assert [found(journal, each).epoch for each in ("o-1", "o-2")] == [1, 1]


def test_groups_and_waits_whose_every_answer_is_lost_go_on(drive, journal, times, caplog):
    """Branches, messages between them, parking with and without a record: no lease is taken for lost."""
    world = World()
    group = Parallel("group", [world.step("left"), Saga("right", [world.step("right"), Sleep("nap", 0.02)])])
    saga = Saga("order", [group, Sleep("rest", 0.02), Signal("paid"), world.step("ship")])
    mediator = drive(saga, journal=Deaf(journal, times, "write", "write_all"), park_after=0.0)
    with caplog.at_level(logging.WARNING):
        mediator.start("order", saga_id="o-1")
        eventually(lambda: found(journal, "o-1").state == "waiting.paid" and found(journal, "o-1").driver is None)
        mediator.signal("o-1", "paid")
        eventually(lambda: found(journal, "o-1").state == "succeeded")
    assert sorted(world.calls[:-1]) == ["left", "right"]
    assert world.calls[-1] == "ship"
    assert "taken over" not in caplog.text
    assert "somebody else" not in caplog.text


def test_a_failing_run_whose_every_answer_is_lost_is_compensated_once(drive, journal, times):
    """As without: each compensation is called once."""
    world = World()
    saga = Saga("order", [world.step("reserve"), world.step("charge", ValueError("declined"))])
    mediator = drive(saga, journal=Deaf(journal, times, "write", "write_all"))
    assert mediator.run("order", saga_id="o-1", check=False).state == "failed"
    assert world.calls.count("undo reserve") == 1


def test_a_repeated_commit_without_a_record_posts_nothing_twice(journal):
    """Its token tells it from another one."""
    journal.enlist(Driver("d-1"))
    journal.write(opening("x", "executing.a"))
    journal.write(opening("y", "executing.a"))
    posts = (("y", InboxItem("signal", "paid")),)
    held = Commit("x", (), "d-1", posts=posts, token=7)
    parks = Commit("x", (), "d-1", held=False, wake_at=9.0, posts=posts, token=8)
    for commit in (held, parks):
        for _ in range(3):
            journal.write(commit)
    assert len(journal.inbox("y")) == 2
    with pytest.raises(JournalError, match="taken over"):
        journal.write(Commit("x", (), "d-1", held=False, token=9))


def test_another_drivers_commit_is_not_taken_for_a_repeated_one(journal):
    """A driver that was replaced is fenced, although its record is there, written by another under a later epoch."""
    journal.enlist(Driver("d-1"))
    journal.enlist(Driver("d-2"))
    journal.write(opening("x", "executing.a"))
    journal.release("x", 1)
    claimed = journal.claim("x", "d-2")
    journal.write(going_on("x", 2, driver="d-2", epoch=claimed.epoch))
    for stale in (going_on("x", 2), going_on("x", 2, held=False)):
        with pytest.raises(JournalError):
            journal.write(stale)


def test_a_claim_whose_answer_was_lost_is_driven_all_the_same(drive, journal, times, monkeypatch):
    """The driver finds out what it holds, and drives it."""
    monkeypatch.setattr(recovery, "BACKOFF", Retry(attempts=None, wait_initial=0.01, wait_jitter=0.0))
    world = World()
    saga = Saga("order", [world.step("ship")])
    accept(journal, saga, "a", "b", "c")
    mediator = drive(saga, journal=Deaf(journal, times, "claim_some"), max_workers=1)
    with daemon_of(mediator):
        eventually(lambda: [found(journal, each).state for each in "abc"] == ["succeeded"] * 3)
    assert world.calls == ["ship"] * 3
    assert {found(journal, each).driver for each in "abc"} == {None}


def test_repetitions_of_other_calls_change_nothing(journal):
    """Enlisting, beating, releasing and dismissing may each be repeated."""
    driver = Driver("d-1")
    for _ in range(3):
        journal.enlist(driver)
    journal.write(opening("x", "executing.a"))
    assert [journal.beat("d-1") for _ in range(3)] == [()] * 3
    for _ in range(3):
        journal.release("x", 1)
        assert found(journal, "x").driver is None
    journal.enlist(Driver("d-2"))
    claimed = journal.claim("x", "d-2")
    journal.release("x", 1)  # of the driver before, late
    assert found(journal, "x").epoch == claimed.epoch
    assert found(journal, "x").driver == Driver("d-2")
    for _ in range(3):
        journal.dismiss("d-2")
    assert found(journal, "x").driver is None


def test_a_signal_whose_answer_was_lost_is_not_doubled(drive, journal, times):
    """It is accepted once, and its sender is told so."""
    saga = Saga("order", [Signal("paid"), Signal("sent")])
    mediator = drive(saga, journal=Deaf(journal, times, "post"), park_after=0.0)
    mediator.start("order", saga_id="o-1")
    eventually(lambda: found(journal, "o-1").state == "waiting.paid" and found(journal, "o-1").driver is None)
    mediator.signal("o-1", "sent", 7)
    assert len(journal.inbox("o-1")) == 1
    mediator.signal("o-1", "paid", 8)
    eventually(lambda: found(journal, "o-1").state == "succeeded")
    assert journal.inbox("o-1") == ()


def test_a_cancel_whose_answer_was_lost_is_no_refusal(drive, journal, times):
    """An execution that has been cancelled by then is not too late to cancel."""
    world = World()
    saga = Saga("order", [world.step("reserve"), Signal("paid")])
    mediator = drive(saga, journal=journal, park_after=0.0)
    mediator.start("order", saga_id="o-1")
    eventually(lambda: found(journal, "o-1").state == "waiting.paid" and found(journal, "o-1").driver is None)

    class Elsewhere(Deaf):
        """The cancel takes effect before its sender tries again."""

        def heard(self, call, answer):
            mediator.recover()
            return super().heard(call, answer)

    drive(saga, journal=Elsewhere(journal, times, "post")).cancel("o-1")
    assert found(journal, "o-1").state == "failed"
    assert world.calls == ["reserve", "undo reserve"]


def test_a_repeated_claim_gives_what_was_claimed(journal, times):
    """The same execution under the same epoch, to its owner alone; another driver gets nothing."""
    for each in ("d-1", "d-2", "d-3"):
        journal.enlist(Driver(each))
    journal.write(opening("x", "executing.a"))
    journal.release("x", 1)
    first = journal.claim("x", "d-2")
    assert first.epoch == 2
    assert [journal.claim("x", "d-2") for _ in range(times)] == [first] * times
    assert journal.claim("x", "d-3") is None
    journal.write(going_on("x", 2, driver="d-2", epoch=2, held=False, wake_at=1e12))
    assert journal.claim("x", "d-3").epoch == 3


def test_an_execution_whose_claims_are_not_answered_is_driven_all_the_same(drive, journal, times, monkeypatch):
    """It is claimed anew, by the driver that owns it already."""
    monkeypatch.setattr(setbacks, "BACKOFF", Retry(attempts=None, wait_initial=0.01, wait_jitter=0.0))
    world = World()
    saga = Saga("order", [world.step("ship")])
    accept(journal, saga, "a")
    mediator = drive(saga, journal=Deaf(journal, times, "claim"))
    mediator.recover()
    eventually(lambda: found(journal, "a").state == "succeeded")
    assert world.calls == ["ship"]
    assert found(journal, "a").driver is None


@pytest.mark.parametrize("order", ["the daemon first", "the daemon last", "the daemon alone"])
def test_what_one_driver_claims_twice_at_once_is_driven_once(drive, journal, order, monkeypatch):
    """The daemon claims what another part of its mediator is about to claim: neither takes it from the other."""
    monkeypatch.setattr(setbacks, "BACKOFF", Retry(attempts=None, wait_initial=0.01, wait_jitter=0.0))
    world = World()
    saga = Saga("order", [world.step("ship")])
    accept(journal, saga, "a")

    class Overtaken(Deaf):
        """Just before the first claim, the daemon claims; it finds out before or after it that it came too late."""

        def claim(self, saga_id, driver_id):
            if self.lost:
                return journal.claim(saga_id, driver_id)
            self.lost["claim"] = 1
            (claimed,) = journal.claim_some(driver_id, 1e10, 1)
            if order == "the daemon first":
                take_up(core_of(mediator), [claimed])
            claimed_here = journal.claim(saga_id, driver_id)
            if order != "the daemon first":
                take_up(core_of(mediator), [claimed])
            if order == "the daemon alone":
                raise JournalError("the answer was lost")
            return claimed_here

    mediator = drive(saga, journal=Overtaken(journal, 0))
    mediator.recover()
    eventually(lambda: found(journal, "a").state == "succeeded")
    assert world.calls == ["ship"]
    assert found(journal, "a").driver is None
    assert core_of(mediator).owned.to_release == {}


@pytest.mark.parametrize("kind", ["signal", "cancel"])
def test_a_post_with_a_token_is_made_once(journal, times, kind):
    """Whatever became of the item meanwhile; another token is another item."""
    journal.enlist(Driver("d-1"))
    journal.write(opening("x", "executing.a"))
    item = InboxItem(kind, "paid", 7 if kind == "signal" else None)
    deaf = Deaf(journal, times, "post")
    for _ in range(times):
        with pytest.raises(JournalError):
            deaf.post("x", item, clock=lambda: 5.0, token=1)
    assert deaf.post("x", item, token=1)
    assert journal.post("x", item, token=2)
    first, second = journal.inbox("x")
    journal.write(going_on("x", 2, taken=(first.number,)))
    assert journal.post("x", item, token=1)
    assert journal.inbox("x") == (second,)
    journal.write(going_on("x", 3, "failed", held=False, taken=(second.number,)))
    assert [journal.post("x", item, token=each) for each in (1, 2, 3)] == [True, True, False]


def test_a_signal_for_another_driver_is_not_doubled(drive, journal, times):
    """The mediator that does not know the definition posts it once too, though it cannot look whether it has come."""
    saga = Saga("order", [Signal("paid"), Signal("sent")])
    theirs = drive(saga, journal=journal, park_after=0.0)
    theirs.start("order", saga_id="o-1")
    eventually(lambda: found(journal, "o-1").state == "waiting.paid" and found(journal, "o-1").driver is None)
    drive(Saga("other", [Signal("x")]), journal=Deaf(journal, times, "post")).signal("o-1", "sent", 7)
    assert len(journal.inbox("o-1")) == 1


@pytest.mark.parametrize("forget_ids", [False, True], ids=["remembers ids", "forgets ids"])
def test_a_repeated_prune_says_how_many_it_has_deleted(journal, times, forget_ids):
    """Under its token it goes on where it stopped, and tells the whole number."""
    for each in "abcde":
        journal.write(opening(each, "succeeded", driver=None, held=False))
    chosen = {"limit": 3, "forget_ids": forget_ids, "token": 7}
    deaf = Deaf(journal, times, "prune")
    for _ in range(times):
        with pytest.raises(JournalError):
            deaf.prune(1e9, **chosen)
    assert deaf.prune(1e9, **chosen) == 3
    assert [entry.saga_id for entry in journal.entries()] == ["e", "d"]
    assert journal.prune(1e9, limit=3, token=8) == 2
    assert journal.prune(1e9, **chosen) == 3


def test_a_prune_that_stopped_on_its_way_tells_both_parts(journal):
    """What was deleted before it failed counts."""
    for each in "abcde":
        journal.write(opening(each, "succeeded", driver=None, held=False))
    assert journal.prune(1e9, limit=2, token=7) == 2
    assert journal.prune(1e9, limit=4, token=7) == 4
    assert [entry.saga_id for entry in journal.entries()] == ["e"]


def test_release_that_failed_is_made_up_for(drive, journal, caplog):
    """A refused verb gives the execution back. If the journal fails then, the mediator gives it back later."""
    flaky = Flaky(journal)
    mediator = drive(Saga("order", [World().step("ship")]), journal=flaky)
    mediator.run("order", saga_id="o-1")
    flaky.methods, flaky.failing = {"release"}, 1
    with pytest.raises(RefusedError):
        mediator.retry("o-1")
    assert found(journal, "o-1").driver is not None
    assert "execution 'o-1' could not be released yet: the disk is full" in caplog.text

    mediator.recover()

    assert found(journal, "o-1").driver is None
