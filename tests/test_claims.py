"""A daemon claims work in batches, only as much as it has free workers for, and what has begun first."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time

import pytest

from fsm_mediator import (
    AsyncMediator,
    LeaseLostError,
    MemoryJournal,
    Retry,
    Saga,
    SQLiteJournal,
    UnknownExecutionError,
    step,
)
from fsm_mediator.journal import optional
from fsm_mediator.journal.protocol import Commit, Driver, is_journal
from fsm_mediator.mediator import tasks
from fsm_mediator.mediator.active import ActiveExecution
from fsm_mediator.mediator.claiming import take_up
from fsm_mediator.mediator.recovery import RecoveryPoll
from fsm_mediator.records import Acceptance
from tests.commits import (
    DRIVER,
    OTHER,
    Clock,
    all_at_once,
    connections_of,
    found,
    opening,
    statements,
    two_drivers,
)
from tests.drivers import World, core_of, eventually, until
from tests.test_daemon import daemon_of

HOURLY = Retry(attempts=None, wait_initial=3600.0, wait_max=3600.0, wait_jitter=0.0)


def accept(journal, saga, *names, **more):
    """Have executions accepted, and begun by nobody."""
    for name in names:
        opened = Acceptance(name, saga.name, saga.version, saga.fingerprint, None, time.time())
        journal.write(Commit(name, (), held=False, acceptance=opened, **more))


def held(journal):
    """The executions that a driver owns."""
    return [entry.saga_id for entry in journal.entries() if entry.driver is not None]


def test_a_daemon_claims_only_for_free_workers(drive, journal):
    """Work without a free worker in this process is left to other processes."""
    world = World()
    saga = Saga("slow", [world.step("work", world.gate())])
    accept(journal, saga, "a", "b", "c", "d", "e")
    one, two = (drive(saga, journal=journal, max_workers=2) for _ in range(2))

    with daemon_of(one):
        eventually(lambda: len(world.calls) == 2)
        assert sorted(held(journal)) == ["a", "b"]
        with daemon_of(two):
            eventually(lambda: len(world.calls) == 4)
            assert sorted(held(journal)) == ["a", "b", "c", "d"]
            world.go()
            eventually(lambda: not held(journal) and journal.next_wake() is None and len(world.calls) == 5)


def test_an_event_loop_claims_no_more_than_it_has_tasks_for(monkeypatch):
    """Coroutines share one thread, and need no worker; but a daemon does not claim without limit for them."""
    monkeypatch.setattr(tasks, "MOST_AT_WORK", 3)

    async def main():
        go = asyncio.Event()
        begun = []

        @step
        async def work(order):
            begun.append(1)
            await go.wait()

        saga, journal = Saga("slow", [work]), MemoryJournal()
        accept(journal, saga, "a", "b", "c", "d", "e")
        async with AsyncMediator(saga, journal=journal, max_workers=1) as mediator, mediator.daemon(poll=0.02):
            await until(lambda: len(begun) == 3)
            assert sorted(held(journal)) == ["a", "b", "c"]
            go.set()
            await until(lambda: len(begun) == 5)

    asyncio.run(main())


def test_a_task_that_waits_leaves_its_worker_to_others(drive, journal):
    """An execution that only waits, between two attempts say, keeps none from being claimed."""
    world = World()
    saga = Saga("waits", [world.step("work", ValueError("not yet"), retry=HOURLY)])
    accept(journal, saga, "a", "b", "c")
    with daemon_of(drive(saga, journal=journal, max_workers=1)):
        eventually(lambda: sorted(held(journal)) == ["a", "b", "c"] and len(world.calls) == 3)


def test_what_has_begun_is_driven_before_what_is_pending(drive, journal):
    """A backlog of new executions does not keep an old one from its end."""
    world = World()
    order = []
    saga = Saga("two", [world.step("work", lambda payload, context: order.append(context.saga_id))])
    accept(journal, saga, "new-1", "new-2")
    starter = drive(saga, journal=journal)
    execution = core_of(starter).store.new_execution("two", None, "old", None)
    record = execution.begin(time.time())
    journal.write(Commit("old", (record,), held=False, acceptance=execution.acceptance))
    with daemon_of(drive(saga, journal=journal, max_workers=1)):
        eventually(lambda: len(order) == 3)
    assert order == ["old", "new-1", "new-2"]


def test_two_daemons_claim_each_execution_once(drive, journal):
    """No claim is made in vain, however many processes look at one backlog."""
    saga = Saga("quick", [step(name="work")(lambda order: None)])
    names = [f"o-{number}" for number in range(60)]
    accept(journal, saga, *names)
    with contextlib.ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(daemon_of(drive(saga, journal=journal)))
        eventually(lambda: all(found(journal, name).state == "succeeded" for name in names))
    assert {found(journal, name).epoch for name in names} == {2}


def test_a_batch_is_claimed_in_one_transaction(tmp_path):
    """A hundred executions take as few statements as one."""
    journal = SQLiteJournal(tmp_path / "sagas.db", durability="normal")
    journal.enlist(Driver("d-1"))
    counts = []
    for size in (1, 100):
        journal.write_all([opening(f"{size}-{each}", driver=None, held=False) for each in range(size)])
        with statements(journal) as executed:
            assert len(journal.claim_some("d-1", 0.0, 500)) == size
        assert executed.count("COMMIT") == 1
        counts.append(len(executed))
    assert max(counts) < 12

    with statements(journal) as executed:
        assert journal.claim_some("d-1", 0.0, 500) == []
    assert executed == []  # nothing is locked where nothing can be claimed
    journal.close()


def test_claims_at_the_same_time_share_their_statements(tmp_path):
    """A hundred threads of a recovery that claim one execution each take as few statements as two; none is lost."""
    journal = SQLiteJournal(tmp_path / "sagas.db", durability="normal")
    journal.enlist(Driver("d-1"))
    counts = []
    for size in (2, 100):
        ids = [f"{size}-{each}" for each in range(size)]
        journal.write_all([opening(saga_id, driver=None, held=False) for saga_id in ids])
        with statements(journal) as executed:
            claimed = all_at_once(journal, *(lambda each=each: journal.claim(each, "d-1") for each in ids))
        assert [entry.saga_id for entry in claimed] == ids
        assert {(entry.driver.id, entry.driver_alive, entry.epoch, entry.abandoned) for entry in claimed} == {
            ("d-1", True, 2, False)
        }
        assert [found(journal, saga_id) for saga_id in ids] == claimed
        counts.append(len(executed))
    assert counts == [6, 6]  # begin, the owners, the driver, the claim, the entries, commit
    journal.close()


def test_claims_at_the_same_time_do_not_affect_one_another(tmp_path):
    """One is of a living driver, one of an unknown execution, one by an unknown driver, two are of the same one."""
    clock = Clock()
    with two_drivers(tmp_path / "sagas.db", clock) as journal:
        dead = Driver("dead")
        journal.enlist(dead)
        journal.write(opening("orphan", "executing.a", driver="dead"))
        clock.now += 31.0
        journal.enlist(DRIVER)
        journal.enlist(OTHER)
        journal.write(opening("held", "executing.a", driver=OTHER.id))
        journal.write_all([opening(each, driver=None, held=False) for each in ("free", "twice", "again")])

        calls = [("free", "d-1"), ("held", "d-1"), ("orphan", "d-1"), ("lost", "d-1"), ("free", "nobody")]
        calls += [("twice", "d-1"), ("twice", "d-2"), ("again", "d-1"), ("again", "d-1"), ("half a \ud800", "d-1")]
        claims = (functools.partial(journal.claim, *call) for call in calls)
        answers = all_at_once(journal, *claims)

    seen = [each if each is None else getattr(each, "abandoned", type(each)) for each in answers]
    assert seen[:4] == [False, None, True, UnknownExecutionError]
    assert seen[4] is LeaseLostError
    assert sorted(map(str, seen[5:7])) == ["False", "None"]  # one of the two drivers
    assert seen[7:] == [False, False, UnknownExecutionError]
    assert answers[7] == answers[8]


def test_a_daemon_with_much_to_claim_looks_once(tmp_path):
    """After a full batch the next claim does not first look whether there is anything to claim."""
    journal = SQLiteJournal(tmp_path / "sagas.db", durability="normal")
    journal.enlist(Driver("d-1"))
    journal.write_all([opening(f"{each}", driver=None, held=False) for each in range(25)])
    reads: list[str] = []
    with connections_of(journal).reader() as connection:
        connection.set_trace_callback(reads.append)
    looked = []
    for expected in (10, 10, 5, 0):
        reads.clear()
        assert len(journal.claim_some("d-1", 0.0, 10)) == expected
        looked.append(bool(reads))
    assert looked == [True, False, False, True]
    journal.close()


def test_what_is_driven_here_all_the_same_is_released_and_left(drive, journal):
    """An execution that this mediator still drives, while the journal knows no owner of it, is claimed in vain once."""
    saga = Saga("quick", [step(name="work")(lambda order: None)])
    mediator = drive(saga, journal=journal)
    mediator.executions()
    core = core_of(mediator)
    accept(journal, saga, "o-1")
    active = core.owned.active["o-1"] = ActiveExecution("o-1")

    rounds = RecoveryPoll(core, poll=5.0)
    assert rounds.claim(8) == (0.01, False)
    assert found(journal, "o-1").driver is not None  # what drives it here may have found that it is owned here
    assert rounds.claim(8) == (5.0, False)

    core.owned.finish(active)
    assert found(journal, "o-1").driver is None
    assert found(journal, "o-1").epoch == 2
    assert rounds.claim(1) == (5.0, True)
    eventually(lambda: found(journal, "o-1").state == "succeeded")


def test_what_is_claimed_by_a_closed_mediator_is_released(drive, journal):
    """A daemon's claim that comes after `close` leaves nothing owned."""
    saga = Saga("quick", [step(name="work")(lambda order: None)])
    mediator = drive(saga, journal=journal)
    journal.enlist(Driver("d-1"))
    accept(journal, saga, "o-1")
    mediator.close()
    (claimed,) = journal.claim_some("d-1", time.time(), 1)

    assert take_up(core_of(mediator), [claimed]) == [None]
    assert found(journal, "o-1").driver is None


class WithoutBatches:
    """A journal of somebody else's, from before `claim_some`."""

    def __init__(self, inner):
        self.inner = inner

    def __getattr__(self, name):
        if name == "claim_some":
            raise AttributeError(name)
        return getattr(self.inner, name)


def test_a_journal_without_batches_is_claimed_from_one_by_one(drive, journal):
    """It is a journal all the same, and its daemon drives what others would."""
    saga = Saga("quick", [step(name="work")(lambda order: None)])
    older = WithoutBatches(journal)
    assert is_journal(older)
    accept(journal, saga, "a", "b", "c")
    journal.enlist(Driver("d-1"))
    assert [entry.saga_id for entry in optional.claim_some(older, "d-1", 1e12, 1, (), ("a",))] == ["b"]
    with daemon_of(drive(saga, journal=older)):
        eventually(lambda: {found(journal, each).state for each in "ac"} == {"succeeded"})


@pytest.mark.parametrize("most", [1, 3])
def test_a_pool_knows_its_free_workers(most):
    """A worker with a job is not free, unless it waits for others; each job in the queue takes a worker."""
    from fsm_mediator.mediator.pool import ThreadPool

    world = World()
    wait = world.gate()

    def job():
        wait()

    pool = ThreadPool(most, "test")
    assert pool.free == most
    for number in range(most):
        pool.submit(job)
        assert pool.free == most - number - 1
    world.begun()
    pool.submit(job)
    assert pool.free == 0
    pool.freed.clear()
    world.go()
    assert pool.freed.wait(30)
    eventually(lambda: pool.free == most)
    pool.stop()
