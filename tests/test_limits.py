"""Limits: no more than so many attempts of a step at a time, whoever asks; what was only announced is in no doubt."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from fsm_mediator import DeadlineExceededError, DefinitionError, Limits, Mediator, Parallel, Saga
from fsm_mediator.machine.parts import COMPENSATE, EXECUTE, PROBE, WAIT, Effect, Part
from tests.drivers import ONCE, World, core_of, eventually


class Counting:
    """A participant that counts how many of its attempts are under way, and holds them all until it is told."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.now = self.most = self.total = 0
        self.go = threading.Event()

    def __call__(self, *_: Any) -> str:
        with self.lock:
            self.now += 1
            self.total += 1
            self.most = max(self.most, self.now)
        assert self.go.wait(30)
        with self.lock:
            self.now -= 1
        return "counted"


def test_no_more_than_the_limit_at_a_time(drive, journal):
    """Twelve sagas, a limit of two: never more than two attempts, and all get their turn."""
    world, counting = World(), Counting()
    saga = Saga("s", [world.step("a"), world.step("billing", counting), world.step("z")])
    mediator = drive(saga, journal=journal, limits={"billing": 2}, max_workers=20)
    for number in range(12):
        mediator.start("s", number, saga_id=f"o-{number}")
    eventually(lambda: sum(entry.queued == "billing" for entry in mediator.executions()) == 10)
    assert counting.now == 2

    counting.go.set()

    assert all(mediator.wait(f"o-{number}").succeeded for number in range(12))
    assert counting.most == 2
    assert not any(entry.queued for entry in mediator.executions())


def test_who_comes_first_is_served_first(drive):
    """Turns come in the order in which they were asked for."""
    world = World()
    order: list[int] = []
    gate = world.gate()
    saga = Saga("s", [world.step("billing", lambda payload, context: order.extend([payload][: bool(gate())]))])
    mediator = drive(saga, limits={"billing": 1}, max_workers=20)
    for number in range(6):
        mediator.start("s", number, saga_id=f"o-{number}")
        queued = max(0, number)
        eventually(lambda: sum(bool(entry.queued) for entry in mediator.executions()) == queued)  # noqa: B023
    world.go()
    for number in range(6):
        mediator.wait(f"o-{number}")
    assert order == list(range(6))


def test_who_only_queued_is_in_no_doubt(drive, journal):
    """The driver dies while a saga queues: what was done is known, what was not begun begins, nothing is in doubt."""
    world, counting = World(), Counting()
    saga = Saga("s", [world.step("a", retry=ONCE), world.step("billing", counting, retry=ONCE)])
    first = Mediator(saga, journal=journal, limits={"billing": 1}, close_grace=0.0)
    first.start("s", 1, saga_id="holds")
    eventually(lambda: counting.now == 1)
    first.start("s", 2, saga_id="queues")
    eventually(lambda: journal.find("queues").state == "executing.billing")
    eventually(lambda: journal.find("queues").wake_at is not None)
    journal.dismiss(core_of(first).driver.id)  # as if it had died
    counting.go.set()

    drive(saga, journal=journal).recover()

    outcome = drive(saga, journal=journal).outcome("queues")
    assert outcome.succeeded
    assert not any(record.in_doubt for record in outcome.history)
    assert world.calls.count("a") == 2
    first.close()


def test_what_close_left_between_two_steps_is_in_no_doubt(drive, journal):
    """A mediator that closes between two steps leaves nothing in doubt: a step with one attempt is made anyway."""
    world = World()
    saga = Saga("s", [world.step("a", world.gate(), retry=ONCE), world.step("b", retry=ONCE)])
    first = Mediator(saga, journal=journal, close_grace=0.05)
    first.start("s", 1, saga_id="o-1")
    world.begun()
    first.close()
    world.go()
    eventually(lambda: journal.find("o-1").driver is None)
    assert journal.find("o-1").state == "executing.b"

    mediator = drive(saga, journal=journal)
    mediator.recover()
    assert mediator.wait("o-1").succeeded
    assert world.calls == ["a", "b"]


def test_cancel_reaches_who_queues(drive, journal):
    """Who waits for his turn can be cancelled, and the step he queued for was never begun."""
    world, counting = World(), Counting()
    saga = Saga("s", [world.step("a"), world.step("billing", counting)])
    mediator = drive(saga, journal=journal, limits={"billing": 1})
    mediator.start("s", 1, saga_id="holds")
    eventually(lambda: counting.now == 1)
    mediator.start("s", 2, saga_id="queues")
    eventually(lambda: any(entry.queued for entry in mediator.executions()))

    mediator.cancel("queues", "no more")

    assert mediator.wait("queues", check=False).failed
    counting.go.set()
    assert mediator.wait("holds").succeeded
    assert counting.total == 1
    assert world.calls.count("undo a") == 1


def test_deadline_that_passes_in_the_queue_counts(drive, journal, caplog):
    """The turn comes after the deadline: the step is not begun, and the saga fails."""
    world, counting, now = World(), Counting(), [1000.0]
    saga = Saga("s", [world.step("a"), world.step("billing", counting)])
    mediator = drive(saga, journal=journal, limits={"billing": 1}, clock=lambda: now[0])
    mediator.start("s", 1, saga_id="holds")
    eventually(lambda: counting.now == 1)
    mediator.start("s", 2, saga_id="queues", deadline=10.0)
    eventually(lambda: any(entry.queued for entry in mediator.executions()))

    now[0] += 20.0
    counting.go.set()

    assert isinstance(mediator.wait("queues", check=False).error, DeadlineExceededError)
    assert (counting.total, caplog.messages) == (1, [])


def test_compensations_count_and_paths_can_be_limited(drive, journal):
    """An attempt to compensate is an attempt; a limit can name one step of one place."""
    world, counting = World(), Counting()
    counting.go.set()
    inner = Saga("inner", [world.step("billing", undo=[counting])])
    saga = Saga("s", [inner, Parallel("g", [world.step("bad", ValueError(), retry=ONCE)])])
    mediator = drive(saga, journal=journal, limits={"inner.billing": 1})
    for number in range(4):
        mediator.start("s", number, saga_id=f"o-{number}")
    for number in range(4):
        assert mediator.wait(f"o-{number}", check=False).failed
    assert (counting.most, counting.total) == (1, 4)


def test_limits_are_shared_by_mediators(drive):
    """Two mediators of a process that are given the same limits keep them together."""
    world, counting = World(), Counting()
    saga = Saga("s", [world.step("billing", counting)])
    limits = Limits({"billing": 1})
    mediators = [drive(saga, limits=limits), drive(saga, limits=limits)]
    for number, mediator in enumerate(mediators):
        mediator.start("s", number, saga_id=f"o-{number}")
    eventually(lambda: any(entry.queued for mediator in mediators for entry in mediator.executions()))
    counting.go.set()
    for number, mediator in enumerate(mediators):
        assert mediator.wait(f"o-{number}").succeeded
    assert counting.most == 1


def test_a_turn_that_is_given_back_goes_to_the_next():
    """A place in the queue can be left; giving back twice is harmless."""
    limit = Limits({"s": 1}).of(Effect(EXECUTE, Part(path="s")))
    assert limit is not None
    first, second, third = limit.acquire(), limit.acquire(), limit.acquire()
    assert (first.has_come, second.has_come, third.has_come) == (True, False, False)
    told: list[str] = []
    assert third.on_grant(lambda: told.append("third"))
    second.end()
    first.end()
    first.end()
    assert (third.has_come, told) == (True, ["third"])
    assert not third.on_grant(lambda: told.append("never"))
    third.end()
    assert limit.acquire().has_come


@pytest.mark.parametrize(
    ("path", "kind", "name"),
    [
        ("billing", EXECUTE, "billing"),
        ("inner.billing", EXECUTE, "billing"),
        ("inner.billing", COMPENSATE, "billing"),
        ("inner.ship", EXECUTE, "inner.ship"),
        ("ship", EXECUTE, None),
        ("inner.mail", EXECUTE, "inner.mail"),  # the path counts before the name
        ("mail", EXECUTE, "mail"),
        ("billing", PROBE, None),
        ("billing", WAIT, None),
        ("billing.inner", EXECUTE, None),
    ],
)
def test_a_limit_is_found_by_path_then_by_name(path, kind, name):
    """A name limits a step wherever it is, a path limits it in one place. Probes are not limited."""
    limits = Limits({"billing": 1, "inner.ship": 2, "mail": 3, "inner.mail": 4})

    limit = limits.of(Effect(kind, Part(path=path)))

    assert (None if limit is None else limit.name) == name
    assert dict(limits.most) == {"billing": 1, "inner.ship": 2, "mail": 3, "inner.mail": 4}


def test_the_next_attempt_keeps_the_slot_unless_others_queue():
    """An execution that retries at once keeps its slot. If another one queues, it goes to the end of the queue."""
    limit = Limits({"s": 1}).of(Effect(EXECUTE, Part(path="s")))
    assert limit is not None
    first = limit.acquire()
    second = limit.acquire(first)
    assert (second.has_come, first.ended, second.ended) == (True, True, False)
    other = limit.acquire()
    third = limit.acquire(second)
    assert (other.has_come, third.has_come, second.ended) == (False, False, False)

    second.end()

    assert (other.has_come, third.has_come) == (True, False)
    other.end()
    assert third.has_come
    assert not limit.acquire(second).has_come  # a slot that was given back is not kept


def test_a_turn_in_the_journal_comes_once():
    """An attempt that waits for a slot is called once. An attempt that left the queue is not called."""
    limit = Limits({"s": 1}).of(Effect(EXECUTE, Part(path="s")))
    assert limit is not None
    told: list[str] = []
    place, left, came = limit.wait_for_turn(), limit.wait_for_turn(), limit.wait_for_turn()
    assert place.on_grant(lambda: told.append("place"))
    assert left.on_grant(lambda: told.append("left"))
    left.end()
    came.come()

    for each in (place, left, place):
        each.come()

    assert told == ["place"]
    assert not came.on_grant(lambda: told.append("never"))
    assert limit.acquire().has_come  # a place in the journal takes no slot here


@pytest.mark.parametrize("limits", [{"a": 0}, {"a": -1}, {"a": 1.5}, {"a": True}, ["a"], {5: 1}, {"b": 1, "a": None}])
def test_limits_that_are_none_are_refused(limits):
    """A limit is a whole number of at least 1."""
    with pytest.raises(DefinitionError, match="limits"):
        Mediator(limits=limits)
