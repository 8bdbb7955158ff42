"""Limits in several processes that share a journal: the smallest number counts, in the order of arrival."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from fsm_mediator import Mediator, Saga, SQLiteJournal
from fsm_mediator.journal.liveness import this_driver
from fsm_mediator.journal.optional import OVERTAKEN
from fsm_mediator.journal.protocol import Commit, Driver, Queued
from tests.commits import Clock, found, going_on, opening, statements, taken
from tests.drivers import ONCE, World, core_of, eventually, in_thread
from tests.test_limits import Counting

ONE = (("call", 1),)


class WithoutSlots:
    """A journal that keeps no slots."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        if name == "turns":
            raise AttributeError(name)
        return getattr(self.inner, name)


def two_journals(tmp_path, **settings):
    """Two journals of one file, as two processes have them."""
    return [SQLiteJournal(tmp_path / "sagas.db", durability="normal", **settings) for _ in range(2)]


def called(saga_id: str, driver: str = "d-1", **more: Any) -> Commit:
    """The commit that opens an execution with an attempt under the limit."""
    return opening(saga_id, "executing.call", driver=driver, slot="call", **more)


def begins(saga_id: str, driver: str = "d-1", **more: Any) -> Commit:
    """The commit with which an announced attempt is to begin."""
    return Commit(saga_id, (), driver, slot="call", **more)


def answered(saga_id: str, driver: str = "d-1", **more: Any) -> Commit:
    """The commit of the answer."""
    return going_on(saga_id, 2, "succeeded", driver, held=False, slot="", **more)


def test_two_journals_of_one_file_share_a_limit(drive, tmp_path):
    """Six sagas in two mediators with a journal each: never more than one attempt, and all have their turn."""
    world, counting = World(), Counting()
    saga = Saga("s", [world.step("billing", counting)])
    mediators = [drive(saga, journal=each, limits={"billing": 1}) for each in two_journals(tmp_path)]
    for number in range(6):
        mediators[number % 2].start("s", number, saga_id=f"o-{number}")
    for mediator in mediators:
        eventually(lambda: sum(entry.queued == "billing" for entry in mediator.executions()) == 5)  # noqa: B023
    counting.go.set()

    for number in range(6):
        assert mediators[number % 2].wait(f"o-{number}").succeeded
    assert (counting.most, counting.total) == (1, 6)
    assert not any(entry.queued for entry in mediators[0].executions())


def test_the_smallest_number_counts_until_its_mediator_is_closed(drive, journal):
    """One mediator allows two attempts, another one: one at a time. When the stricter one is closed, two."""
    world, counting = World(), Counting()
    saga = Saga("s", [world.step("billing", counting)])
    strict = Mediator(saga, Saga("other", [world.step("a")]), journal=journal, limits={"billing": 1})
    strict.run("other")
    mediator = drive(saga, journal=journal, limits={"billing": 2})
    for number in range(3):
        mediator.start("s", number, saga_id=f"o-{number}")
    eventually(lambda: sum(entry.queued == "billing" for entry in mediator.executions()) == 2)
    assert counting.now == 1

    strict.close()

    eventually(lambda: counting.now == 2)
    counting.go.set()
    assert all(mediator.wait(f"o-{number}").succeeded for number in range(3))
    assert counting.most == 2


def test_a_retry_by_hand_asks_for_a_slot(drive, journal):
    """An operator retries a compensation that was stuck, while another execution has the slot: it queues."""
    world, holding = World(), Counting()
    billing = world.step("billing", undo=[ValueError("once"), "undone"], compensation_retry=ONCE)
    saga = Saga("s", [billing, world.step("bad", ValueError(), retry=ONCE)])
    mediator = drive(saga, Saga("t", [world.step("billing", holding)]), journal=journal, limits={"billing": 1})
    assert mediator.run("s", 1, saga_id="stuck", check=False).stuck
    mediator.start("t", 2, saga_id="holds")
    eventually(lambda: holding.now == 1)

    retried = in_thread(mediator.retry, "stuck")

    eventually(lambda: found(journal, "stuck").queued == "billing")
    holding.go.set()
    assert retried().failed


def test_an_abandoned_attempt_keeps_its_slot_while_its_thread_runs(drive, tmp_path):
    """The attempt is given up, its thread goes on calling: nothing else calls in another process meanwhile."""
    world = World()
    counts = iter((world.gate(), "second"))

    def billing(payload, context):
        does = next(counts)
        return does() if callable(does) else does

    saga = Saga("s", [world.step("billing", billing, timeout=0.01, grace=0.01, retry=ONCE)])
    first, second = (Mediator(saga, journal=each, limits={"billing": 1}) for each in two_journals(tmp_path))
    assert first.run("s", 1, saga_id="abandoned", check=False).stuck
    second.start("s", 2, saga_id="queues")
    eventually(lambda: core_of(second).owned.waiting)
    core_of(second).heartbeat()
    assert core_of(second).owned.waiting
    assert found(core_of(first).journal, "queues").queued == "billing"

    world.go()

    assert second.wait("queues").succeeded
    first.close()
    second.close()


def test_a_slot_costs_no_commit_of_its_own(tmp_path):
    """Where there is room, a run under limits makes as many transactions as one without; that one knows no slots."""
    world = World()
    saga = Saga("s", [world.step("a"), world.step("billing", ValueError(), "done"), world.step("z")])
    counts = []
    for limits in ({"billing": 1}, None):
        own = SQLiteJournal(tmp_path / f"{limits is None}.db")
        with Mediator(saga, journal=own, limits=limits) as mediator:
            mediator.run("s", 0)
            with statements(own) as executed:
                mediator.run("s", 1)
        counts.append(transactions(executed))
    assert not any("slots" in each or "limits" in each for each in executed)
    assert counts[0] == counts[1]


def transactions(executed: list[str]) -> int:
    """How many transactions these statements are."""
    count, within = 0, False
    for statement in executed:
        count += not within
        within = statement.startswith("BEGIN") or (within and statement != "COMMIT")
    return count


def test_a_journal_without_slots_keeps_limits_in_the_process(drive, journal):
    """A journal of an earlier kind works; a limit then holds for the mediators that share it."""
    world, counting = World(), Counting()
    saga = Saga("s", [world.step("billing", counting)])
    mediator = drive(saga, journal=WithoutSlots(journal), limits={"billing": 1})
    for number in range(3):
        mediator.start("s", number, saga_id=f"o-{number}")
    eventually(lambda: sum(entry.queued == "billing" for entry in mediator.executions()) == 2)
    assert found(journal, "o-2").queued is None
    counting.go.set()
    assert all(mediator.wait(f"o-{number}").succeeded for number in range(3))
    assert counting.most == 1


# What a journal decides


@pytest.fixture
def clock() -> Clock:
    """The time of the leases."""
    return Clock()


@pytest.fixture
def two_drivers(tmp_path, clock):
    """A journal, and two drivers that allow one call at a time; only their leases decide whether they are alive."""
    made = SQLiteJournal(tmp_path / "sagas.db", durability="normal", clock=clock)
    made.enlist(Driver("d-1", limits=ONE))
    made.enlist(Driver("d-2", limits=ONE))
    yield made
    made.close()


def test_the_slot_of_a_dead_driver_is_free(two_drivers, clock):
    """A process is killed in an attempt: another process has the slot once the death is known, and no sooner."""
    two_drivers.write(called("o-1"))
    assert type(two_drivers.write(called("o-2", "d-2"))) is Queued
    assert two_drivers.turns("d-2") == []
    clock.now += 20.0
    two_drivers.beat("d-2")
    assert two_drivers.turns("d-2") == []

    clock.now += 20.0

    assert two_drivers.turns("d-2") == ["o-2"]
    assert type(two_drivers.write(begins("o-2", "d-2"))) is tuple
    assert found(two_drivers, "o-2").wake_at is None


def test_a_stopped_process_keeps_its_slot_and_not_its_place(tmp_path, clock):
    """The process of a driver exists, but does not run: its attempt counts, and what it queued for goes to others."""
    made = SQLiteJournal(tmp_path / "sagas.db", durability="normal", clock=clock)
    stopped = msgspec.structs.replace(this_driver(), id="d-1", limits=(("call", 2),))
    made.enlist(stopped)
    made.enlist(Driver("d-2", limits=(("call", 2),)))
    for saga_id, driver in (("runs", "d-1"), ("ends", "d-2"), ("queues", "d-1"), ("waits", "d-2")):
        made.write(called(saga_id, driver))
    made.write(answered("ends", "d-2"))
    assert (made.turns("d-1"), made.turns("d-2")) == (["queues"], [])

    clock.now += 40.0
    made.beat("d-2")

    assert made.turns("d-2") == ["waits"]
    assert type(made.write(begins("waits", "d-2"))) is tuple
    assert type(made.write(called("more", "d-2"))) is Queued  # the slot of the attempt that runs is not given away
    made.close()


def test_a_place_is_kept_by_the_next_driver(two_drivers):
    """A queued execution is released and claimed by another driver: it is still before what arrived after it."""
    two_drivers.write(called("runs"))
    for saga_id in ("first", "second"):
        assert type(two_drivers.write(called(saga_id))) is Queued
    two_drivers.release("first", 1)
    claimed = taken(two_drivers, "first", "d-2")
    assert claimed.queued is None
    assert type(two_drivers.write(begins("first", "d-2", epoch=2))) is Queued
    assert found(two_drivers, "first").queued == "call"

    two_drivers.write(answered("runs"))

    assert (two_drivers.turns("d-1"), two_drivers.turns("d-2")) == ([], ["first"])
    assert type(two_drivers.write(begins("second"))) is Queued
    assert type(two_drivers.write(begins("first", "d-2", epoch=2))) is tuple


def test_a_new_record_goes_to_the_end_of_the_queue(journal):
    """An attempt that comes to its limit again, with the record of another step, has lost its place."""
    journal.enlist(Driver("d-1", limits=ONE))
    journal.write(called("runs"))
    for saga_id in ("first", "second"):
        assert type(journal.write(called(saga_id))) is Queued
    assert type(journal.write(going_on("first", 2, "executing.call", slot="call"))) is Queued

    journal.write(answered("runs"))

    assert journal.turns("d-1") == ["second"]
    assert type(journal.write(begins("first"))) is Queued
    assert type(journal.write(begins("second"))) is tuple
    assert journal.turns("d-1") == []
    journal.write(answered("second"))
    assert journal.turns("d-1") == ["first"]


@pytest.mark.parametrize("how", ["release", "claim", "dismiss", "give up"])
def test_place_counts_only_under_the_owner_that_asked_for_it(journal, how):
    """A slot, and a place in the queue, of an execution that was let go of is free for others until it asks again."""
    for driver in ("d-1", "d-2"):
        journal.enlist(Driver(driver, limits=(*ONE, ("other", 1))))
    journal.write(called("runs"))
    for saga_id, driver in (("first", "d-1"), ("second", "d-2"), ("third", "d-2")):
        assert type(journal.write(called(saga_id, driver))) is Queued
    assert (journal.turns("d-1"), journal.turns("d-2"), journal.turns("nobody")) == ([], [], [])
    for saga_id in ("runs", "first"):
        if how == "give up":
            journal.write(Commit(saga_id, (), "d-1", slot="", token=len(saga_id)))
        elif how != "dismiss":
            journal.release(saga_id, 1)
        if how == "claim":
            assert taken(journal, saga_id, "d-1").epoch == 2
    if how == "dismiss":
        journal.dismiss("d-1")

    assert (journal.turns("d-1"), journal.turns("d-2")) == ([], ["second"])
    assert {entry.saga_id for entry in journal.entries() if entry.queued == "call"} == {"second", "third"}
    assert type(journal.write(begins("third", "d-2"))) is Queued
    assert type(journal.write(begins("second", "d-2"))) is tuple
    assert journal.turns("d-2") == []
    if how == "claim":
        assert type(journal.write(begins("runs", epoch=2))) is Queued
        journal.write(answered("second", "d-2"))
        assert (journal.turns("d-1"), journal.turns("d-2")) == ([], ["third"])


@pytest.mark.parametrize(("targets", "since"), [((), 1.0), (("executing.a", "executing.call"), 2.0)])
def test_queued_attempt_is_due_since_its_execution_came_to_its_state(journal, targets, since):
    """The next owner drives it immediately: its time is the time of its last record, or of its acceptance."""
    journal.enlist(Driver("d-1", limits=ONE))
    journal.write(called("runs"))

    assert type(journal.write(opening("queues", *targets, slot="call"))) is Queued

    entry = found(journal, "queues")
    assert (entry.wake_at, entry.queued, entry.changed_at) == (since, "call", since)


@pytest.mark.parametrize("how", ["answer", "release", "dismiss", "claim"])
def test_a_slot_is_free_once_its_execution_has_no_such_owner(two_drivers, clock, how):
    """However a driver leaves an execution, its slot goes to the next attempt."""
    two_drivers.write(called("runs"))
    two_drivers.write(called("queues", "d-2"))
    if how == "answer":
        two_drivers.write(answered("runs"))
    elif how == "release":
        two_drivers.release("runs", 1)
    elif how == "dismiss":
        two_drivers.dismiss("d-1")
    else:
        clock.now += 40.0
        two_drivers.beat("d-2")
        taken(two_drivers, "runs", "d-2")
    assert two_drivers.turns("d-2") == ["queues"]


def test_no_attempt_is_passed_over_more_than_twice_for_each_slot(tmp_path, clock):
    """While a driver does not notice that a slot is free, some later attempts go first; then they wait for it."""
    made = SQLiteJournal(tmp_path / "sagas.db", durability="normal", clock=clock)
    for driver in ("d-1", "d-2"):
        made.enlist(Driver(driver, limits=(("call", 2),)))
    for saga_id in ("a", "b"):
        made.write(called(saga_id, "d-2"))
    made.write(called("late"))
    made.write(answered("a", "d-2"))
    made.write(answered("b", "d-2"))
    for number in range(2 * OVERTAKEN):
        assert type(made.write(called(f"o-{number}", "d-2"))) is tuple
        made.write(answered(f"o-{number}", "d-2"))

    assert type(made.write(called("more", "d-2"))) is Queued
    assert made.turns("d-2") == []
    assert made.turns("d-1") == ["late"]

    clock.now += 31.0  # its driver lives, and does not ask: it has no room for it
    made.beat("d-1")
    made.beat("d-2")
    assert made.turns("d-2") == ["more"]
    made.close()


def test_what_is_announced_with_a_time_only_queues(two_drivers):
    """An attempt that cannot begin yet takes its place in the queue, and no slot."""
    assert type(two_drivers.write(called("later", wake_at=5.0))) is Queued
    assert found(two_drivers, "later").wake_at == 5.0
    assert two_drivers.turns("d-1") == ["later"]
    assert type(two_drivers.write(begins("later"))) is tuple


def test_many_that_ask_in_one_commit_have_no_more_slots_than_there_are(two_drivers):
    """Threads that share a transaction are judged one after the other."""
    written = two_drivers.write_all([called(f"o-{number}") for number in range(5)])
    assert [type(each) is Queued for each in written] == [False, True, True, True, True]
    again = two_drivers.write_all([answered("o-0"), *(begins(f"o-{number}") for number in range(1, 5))])
    assert sum(type(each) is Queued for each in again) == 3
