"""A call to the journal is made, and its answer is lost: the same call again has the same result."""

from __future__ import annotations

import logging

import pytest

from fsm_mediator import JournalError, Parallel, Saga, Signal, Sleep
from fsm_mediator.journal.protocol import Commit, Driver
from fsm_mediator.records import InboxItem
from tests.commits import found, going_on, opening
from tests.drivers import World, eventually, impatient  # noqa: F401 - a fixture

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
            heard = self.heard((name, args), answer)
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
