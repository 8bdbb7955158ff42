"""MemoryJournal: what it keeps, where it is not to keep all."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from typing import Any

import pytest

from fsm_mediator import (
    AsyncMediator,
    Entry,
    JournalError,
    Mediator,
    MemoryJournal,
    Parallel,
    Saga,
    SagaFailedError,
    SagaIdTakenError,
    SagaStuckError,
    Signal,
    StepRejectedError,
    UnknownExecutionError,
    step,
)
from fsm_mediator.journal import forgetting
from fsm_mediator.mediator.active import Group, SucceededBranch
from fsm_mediator.mediator.branches import branches_status
from fsm_mediator.records import Branch, InboxItem, Record
from tests.commits import DRIVER, found, going_on, opening
from tests.drivers import ONCE, World, core_of


@pytest.fixture(params=[False, True], ids=["as they are", "encoded"])
def encode(request) -> bool:
    """Without encoding, runs and their journal share a list of records; with it, all is written by commits."""
    return bool(request.param)


def test_the_newest_are_kept(drive, encode):
    """Whatever has ended goes in its turn, succeeded or failed; an id that has gone is unknown."""
    world = World()
    refused = world.step("refused", *[StepRejectedError("no")] * 10)
    journal = MemoryJournal(encode=encode, keep=3)
    mediator = drive(Saga("good", [world.step("a")]), Saga("bad", [refused]), journal=journal)
    for number in range(10):
        if number % 2:
            mediator.run("good", saga_id=f"o-{number}")
        else:
            with pytest.raises(SagaFailedError):
                mediator.run("bad", saga_id=f"o-{number}")

    assert [entry.saga_id for entry in journal.entries()] == ["o-9", "o-8", "o-7"]
    assert mediator.outcome("o-8").failed
    with pytest.raises(UnknownExecutionError, match="'o-6'"):
        mediator.outcome("o-6")


def test_unfinished_executions_are_never_evicted(drive, encode):
    """Nor does it keep others from having their turn, however many there are."""
    world = World()
    waiting = Saga("waiting", [Signal("go"), world.step("after")])
    journal = MemoryJournal(encode=encode, keep=4)
    mediator = drive(waiting, Saga("good", [world.step("a")]), journal=journal)
    parked = [mediator.start("waiting", saga_id=f"w-{number}") for number in range(6)]
    for saga_id in parked:
        mediator.wait(saga_id, check=False)
    for number in range(30):
        mediator.run("good", saga_id=f"o-{number}")

    kept = [entry.saga_id for entry in journal.entries()]
    assert set(parked) < set(kept)
    assert "o-29" in kept
    assert len(kept) <= 2 * len(parked)
    for saga_id in parked:
        mediator.signal(saga_id, "go", 1)
        assert mediator.wait(saga_id).succeeded
    for number in range(30, 45):
        mediator.run("good", saga_id=f"o-{number}")
    assert len(list(journal.entries())) == 4


def test_branches_are_evicted_with_the_whole(drive, encode):
    """Branches count with the execution that they belong to, and are forgotten with it."""
    world = World()
    inner = Parallel("inner", [world.step("a"), world.step("b")])
    journal = MemoryJournal(encode=encode, keep=2)
    mediator = drive(Saga("s", [Parallel("g", [Saga("branch", [inner]), world.step("c")])]), journal=journal)
    for number in range(5):
        assert mediator.run("s", saga_id=f"o-{number}").succeeded

    assert {entry.saga_id.partition("/")[0] for entry in journal.entries()} == {"o-3", "o-4"}
    assert len(list(journal.entries())) == 2 * 5
    assert len(journal._table.branches) == 2 * 2


def test_ten_thousand_are_kept_by_default(drive):
    """A service that never restarts does not fill its memory; what ended last is known, the rest is refused."""
    world = World()
    mediator = drive(Saga("s", [world.step("a")]))
    for number in range(10_002):
        mediator.run("s", saga_id=f"o-{number}")

    assert len(mediator.executions()) == 10_000
    assert mediator.outcome("o-2").succeeded
    with pytest.raises(SagaIdTakenError, match="execution 'o-1' has ended, and its history is forgotten"):
        mediator.run("s", saga_id="o-1")
    assert len(world.calls) == 10_002


def test_all_are_kept_without_a_number(drive, encode):
    """`MemoryJournal(keep=None)` keeps every execution, and every id joins its own."""
    mediator = drive(Saga("s", [World().step("a")]), journal=MemoryJournal(encode=encode, keep=None))
    for number in range(20):
        mediator.run("s", saga_id=f"o-{number}")
    assert len(mediator.executions()) == 20
    assert mediator.run("s", saga_id="o-0").succeeded


def test_those_that_ended_last_are_kept(drive, encode):
    """The end counts, not the start: what waited for long, or was undone, ends last and is kept."""
    world = World()
    waiting = Saga("waiting", [Signal("go"), world.step("after")])
    journal = MemoryJournal(encode=encode, keep=2)
    mediator = drive(waiting, Saga("good", [world.step("a")]), journal=journal)
    mediator.start("waiting", saga_id="w")
    mediator.wait("w", check=False)
    for number in range(3):
        mediator.run("good", saga_id=f"o-{number}")
    assert [entry.saga_id for entry in journal.entries()] == ["o-2", "o-1", "w"]
    mediator.signal("w", "go", 1)
    assert mediator.wait("w").succeeded
    assert [entry.saga_id for entry in journal.entries()] == ["o-2", "w"]
    assert mediator.undo("o-2").failed
    mediator.run("good", saga_id="o-3")
    assert [entry.saga_id for entry in journal.entries()] == ["o-3", "o-2"]


@pytest.mark.parametrize("verb", ["run", "start"])
def test_a_forgotten_id_is_not_run_again(drive, verb, encode):
    """Nor started, nor confused with an execution that never was; the error says what became of it."""
    world = World()
    journal = MemoryJournal(encode=encode, keep=1)
    mediator = drive(Saga("s", [world.step("a")]), journal=journal)
    for saga_id in ("o-1", "o-2"):
        mediator.run("s", saga_id=saga_id)

    with pytest.raises(SagaIdTakenError, match=r"'o-1' has ended, and its history is forgotten\. To start"):
        getattr(mediator, verb)("s", saga_id="o-1")
    with pytest.raises(UnknownExecutionError, match="'o-1' has ended, and its history is forgotten"):
        mediator.outcome("o-1")
    with pytest.raises(UnknownExecutionError, match="the journal knows no execution 'o-9'"):
        mediator.outcome("o-9")
    assert len(world.calls) == 2
    assert journal.prune(math.inf, forget_ids=True) == 1
    assert mediator.run("s", saga_id="o-2").succeeded


def test_the_ids_forgotten_last_are_known(drive, monkeypatch):
    """A bounded number of ids is kept; before that an id is as unknown as one that never was."""
    monkeypatch.setattr(forgetting, "MOST_FORGOTTEN", 3)
    mediator = drive(Saga("s", [World().step("a")]), journal=MemoryJournal(keep=1))
    for number in range(6):
        mediator.run("s", saga_id=f"o-{number}")

    assert mediator.run("s", saga_id="o-0").succeeded
    for number in (3, 4, 5):
        with pytest.raises(SagaIdTakenError, match="is forgotten"):
            mediator.run("s", saga_id=f"o-{number}")


@pytest.mark.parametrize("keep", [0, -1, True, 1.5, "10"])
def test_nonsense_is_refused(keep):
    """At the edge, with what it may be."""
    with pytest.raises(JournalError, match="keep must be a whole number of at least 1, or None to keep all, not"):
        MemoryJournal(keep=keep)
    assert repr(MemoryJournal(keep=5)) == "MemoryJournal(encode=False, keep=5)"


def test_execution_evicted_between_two_reads_is_unknown(drive, monkeypatch):
    """Never `pending`, as if it had not begun: one is listed, then forgotten, then its records are asked for."""
    journal = MemoryJournal(keep=2)
    mediator = drive(Saga("s", [World().step("a")]), journal=journal)
    mediator.run("s", saga_id="o-1")
    find = journal.find

    def forgotten_since(saga_id):
        entry = find(saga_id)
        journal.prune(math.inf)
        return entry

    monkeypatch.setattr(journal, "find", forgotten_since)
    with pytest.raises(UnknownExecutionError, match="'o-1'"):
        mediator.outcome("o-1")


def test_recover_survives_an_evicted_whole(drive):
    """It has ended, thanks to its branches, before it was waited for: that is no error of the recovery."""
    world = World()
    saga = Saga("s", [Parallel("g", [world.step("a"), world.step("b")])])
    journal = MemoryJournal(keep=1)
    mediator = drive(saga, journal=journal)
    mediator.run("s", saga_id="o-1")
    outcome = mediator.outcome("o-1/g.a")
    assert journal.prune(math.inf) == 3

    assert core_of(mediator).store.roots_of([outcome], "nobody") == []


class Listed(MemoryJournal):
    """Counts the listings of branches, and the executions whose records were read."""

    listings = 0
    read = 0

    def records(self, saga_id: str) -> list[Record]:
        """The records of an execution."""
        self.read += 1
        return super().records(saga_id)

    def entries(self, **filters: Any) -> Iterator[Entry]:
        """List the executions."""
        self.listings += filters.get("parent") is not None
        return super().entries(**filters)


def test_branches_that_end_together_are_listed_once_and_not_read():
    """A driver lists its branches when they have settled. It knows the results of branches that it drove itself."""

    @step
    async def nothing(payload: Any) -> None:
        pass

    async def main() -> tuple[int, int]:
        journal = Listed()
        group = Parallel("g", [nothing.named(f"b{number}") for number in range(5)])
        async with AsyncMediator(Saga("s", [group]), journal=journal) as mediator:
            assert (await mediator.run("s")).succeeded
        return journal.listings, journal.read

    assert asyncio.run(main()) == (1, 1)  # the parent, whose results the branches can read


def test_the_known_result_of_a_branch_counts_only_in_its_epoch():
    """If another driver has claimed a succeeded branch since, its result is read from the journal again."""
    world = World()
    stuck = world.step("b", ValueError("no"), undo=None, retry=ONCE)
    saga = Saga("s", [world.step("pay", undo=None, pivot=True), Parallel("g", [world.step("a", undo=None), stuck])])
    with Mediator(saga) as mediator:
        with pytest.raises(SagaStuckError):
            mediator.run("s", saga_id="o-1")
        store, group = core_of(mediator).store, Group()
        execution, entry = store.load_execution(store.entry("o-1")), store.entry("o-1/g.a")

        def result(epoch: int) -> object:
            group.succeeded[entry.saga_id] = SucceededBranch(epoch, Branch("a", "succeeded", "known"))
            return branches_status(store, execution, group).branches.branches[0].result

        assert (result(entry.epoch), result(entry.epoch - 1)) == ("known", "a done")


def test_a_branch_in_memory_is_committed_once(monkeypatch):
    """Only the last record of a branch needs a commit, which also posts a message to the parent."""
    world, journal, commits = World(), MemoryJournal(), []
    write = journal.write

    def written(commit):
        commits.append(commit)
        return write(commit)

    monkeypatch.setattr(journal, "write", written)
    saga = Saga("s", [Parallel("g", [Saga("b", [world.step(name) for name in "cde"])])])

    with Mediator(saga, journal=journal) as mediator:
        assert mediator.run("s", saga_id="o-1").succeeded

    committed = [record.target for commit in commits if commit.saga_id == "o-1/g.b" for record in commit.records]
    assert committed == ["succeeded"]
    states = [record.target for record in journal.records("o-1/g.b")]
    assert states == ["executing.c", "executing.d", "executing.e", "succeeded"]


def test_only_the_owner_of_a_row_shares_it():
    """A driver that has lost an execution, or has claimed it again since, cannot append records to its row."""
    journal = MemoryJournal()
    journal.enlist(DRIVER)
    journal.write(opening("o-1"))
    entry = journal.claim("o-1", DRIVER.id)
    assert entry is not None

    assert journal.share("o-2", DRIVER.id, entry.epoch) is None
    assert journal.share("o-1", "d-2", entry.epoch) is None
    assert journal.share("o-1", DRIVER.id, entry.epoch + 1) is None
    assert journal.share("o-1", DRIVER.id, entry.epoch) is not None


def test_a_branch_that_awaits_in_memory_leaves_a_worker_free():
    """The branches of a group await at the same time on one worker, and the daemon can claim further executions."""

    async def main() -> list[int]:
        begun, end, free = asyncio.Event(), asyncio.Event(), []

        @step
        async def waits(payload: Any) -> None:
            begun.set()
            await end.wait()

        group = Parallel("g", [waits.named(f"b{number}") for number in range(3)])
        async with AsyncMediator(Saga("s", [group]), max_workers=1) as mediator:
            running = asyncio.create_task(mediator.run("s"))
            await begun.wait()
            await asyncio.sleep(0)
            free.append(core_of(mediator).runtime.free_workers())
            end.set()
            assert (await running).succeeded
        return free

    assert asyncio.run(main()) == [1]


def test_item_that_was_seen_calls_no_driver_when_another_comes():
    """A stuck execution is called by its branches; one that the driver has seen does not count again."""
    journal = MemoryJournal()
    journal.enlist(DRIVER)
    journal.write(opening("x", "executing.a"))
    journal.post("x", InboxItem("child", "g.a"))
    (item,) = journal.inbox("x")
    journal.write(going_on("x", 2, "stuck.a", held=False, seen=item.number))
    assert journal.post("x", InboxItem("signal", "paid"))
    assert (found(journal, "x").called, journal.claimable(1e12, 9)) == (False, [])
    assert journal.post("x", InboxItem("child", "g.b"))
    assert (found(journal, "x").called, journal.claimable(0.0, 9)) == (True, ["x"])
