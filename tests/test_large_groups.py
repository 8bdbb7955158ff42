"""Groups of many branches: the driver that waits for them counts them, and lists them only to decide something."""

from __future__ import annotations

import contextlib
import itertools
import json
import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from fsm_mediator import Mediator, Parallel, Saga, SagaWaitingError, Signal, SQLiteJournal, conforms, step
from fsm_mediator.mediator import branches, commits
from fsm_mediator.testing.processes import in_a_child, kill
from tests.commits import connections_of, found
from tests.drivers import ONCE, World, eventually


class Listed:
    """A journal that counts how often the branches of an execution are listed; *counts*: whether it counts them."""

    def __init__(self, inner: Any, *, counts: bool = True) -> None:
        self.inner = inner
        self.counts = counts
        self.listings: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:
        if name == "count_branches" and not self.counts:
            raise AttributeError(name)
        return getattr(self.inner, name)

    def entries(self, **chosen: Any) -> Any:
        """As `Journal.entries`."""
        if chosen.get("parent"):
            self.listings[chosen["parent"]] += 1
        return self.inner.entries(**chosen)


def each(part: Any, **settings: Any) -> Saga:
    """A saga with one group, over as many items as its payload says."""
    return Saga("big", [Parallel.each("g", part, over=range, **settings)])


def test_branches_are_listed_when_all_have_settled(drive, journal):
    """Not at each of their messages: a list of thousands takes seconds."""
    size = 120
    watched = Listed(journal)
    drive(each(World().step("one")), journal=watched).start("big", size, saga_id="o-1")
    eventually(lambda: found(journal, "o-1").state == "succeeded")

    assert journal.count_branches("o-1") == {"succeeded": size}
    assert watched.listings["o-1"] <= 2


def test_a_journal_that_does_not_count_lists_them(drive, journal):
    """A journal of an earlier version of the protocol works."""
    watched = Listed(journal, counts=False)
    outcome = drive(each(World().step("one")), journal=watched).run("big", 110, saga_id="o-1")

    assert outcome.succeeded
    assert watched.listings["o-1"] >= 1


@pytest.fixture
def counted(monkeypatch):
    """The branches of a group of two are counted before they are listed."""
    monkeypatch.setattr(branches, "COUNTED", 2)


@pytest.mark.usefixtures("counted")
def test_a_failed_branch_cancels_the_others_at_once(drive, journal):
    """What waits does not end by itself: the failure is noticed although branches go on."""
    world = World()

    def fail_once_a_has_begun(*_: Any) -> None:
        world.begun()
        world.go()
        raise ValueError("no")

    done = world.step("a", world.gate())
    wrong = world.step("wrong", fail_once_a_has_begun, retry=ONCE)
    group = Parallel("g", [Saga("left", [done, Signal("never")]), Saga("right", [world.step("b"), wrong])])

    assert drive(Saga("s", [group]), journal=journal).run("s", saga_id="o-1", check=False).failed
    assert {"undo a", "undo b"} <= set(world.calls)


@pytest.mark.usefixtures("counted")
def test_branches_that_only_wait_leave_their_parent_at_rest(drive, journal):
    """The caller of `run` is told that it waits, and a cancel ends all."""
    group = Parallel("g", [Saga("left", [Signal("yes")]), Saga("right", [World().step("b"), Signal("yes")])])
    mediator = drive(Saga("s", [group]), journal=journal)
    with pytest.raises(SagaWaitingError):
        mediator.run("s", saga_id="o-1")

    mediator.cancel("o-1")

    eventually(lambda: found(journal, "o-1").state == "failed")


@pytest.mark.usefixtures("counted")
@pytest.mark.parametrize("at_most", [1, 2])
def test_branches_one_after_another_end(drive, journal, at_most):
    """A dormant branch is pending, and goes on only after another."""
    world = World()
    assert drive(each(world.step("one"), at_most=at_most), journal=journal).run("big", 6, saga_id="o-1").succeeded
    assert len(world.calls) == 6


def work_of_a_run(path: Path, size: int, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """The work of SQLite in a run of a group of that size: statements, and instructions in tens."""
    work: Counter[str] = Counter()
    connect = sqlite3.connect

    def counted(*arguments: Any, **settings: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*arguments, **settings)
        connection.set_trace_callback(lambda _: work.update(("statements",)))
        connection.set_progress_handler(lambda: work.update(("instructions",)), 10)
        return connection

    with monkeypatch.context() as patch:
        patch.setattr(sqlite3, "connect", counted)
        with contextlib.closing(Mediator(each(World().step("one")), journal=path)) as mediator:
            assert mediator.run("big", size, saga_id="o-1").succeeded
    return work


def test_sqlites_work_grows_with_the_branches_and_not_with_their_square(tmp_path, monkeypatch):
    """Four times as many branches, created in batches, take about four times the work; a square takes sixteen."""
    monkeypatch.setattr(commits, "CREATED_AT_ONCE", 50)
    small = work_of_a_run(tmp_path / "150.db", 150, monkeypatch)
    large = work_of_a_run(tmp_path / "600.db", 600, monkeypatch)

    for kind in ("statements", "instructions"):
        assert 150 < small[kind] < large[kind] <= 6 * small[kind], kind


def test_the_driver_of_a_large_group_reads_each_message_once(drive, journal):
    """Not the whole inbox at each message; a branch that tells of its end adds one item to it."""
    read: list[int] = []

    class Reading(Listed):
        def inbox_after(self, saga_id: str, number: int) -> Any:
            items = self.inner.inbox_after(saga_id, number)
            read.extend(item.number for item in items if saga_id == "o-1")
            return items

    assert drive(each(World().step("one")), journal=Reading(journal)).run("big", 120, saga_id="o-1").succeeded
    assert len(read) == len(set(read))


def test_a_journal_that_reads_whole_inboxes_alone_is_read_whole(drive, journal):
    """A journal of an earlier version of the protocol works."""

    class Whole(Listed):
        def __getattr__(self, name: str) -> Any:
            if name == "inbox_after":
                raise AttributeError(name)
            return super().__getattr__(name)

    assert drive(each(World().step("one")), journal=Whole(journal)).run("big", 110, saga_id="o-1").succeeded


@pytest.mark.torture
def test_killed_at_every_batch_of_a_group_of_thousands(tmp_path: Path) -> None:
    """With the numbers of a production group: each process dies at its first batch, and ``over`` answers otherwise.

    The longest transaction is the plan, a row a branch; a batch has three rows for each of its thousand branches.
    """
    size, facts, path = 3500, tmp_path / "facts", tmp_path / "sagas.db"
    facts.touch()

    def note(*fact: Any) -> None:
        with facts.open("a") as file:
            file.write(json.dumps(fact) + "\n")

    def over(_: Any) -> list[str]:
        asked = facts.read_text().count('"over"')
        note("over")
        return [f"{asked}-{n}" for n in range(size + 500 * asked)]

    saga = Saga("big", [Parallel.each("g", step(name="one")(lambda item: item), over=over)])

    class Deadly(SQLiteJournal):
        """Kills its process after its first commit with a plan, and notes how many rows each transaction changes."""

        dies = True

        def write(self, commit: Any) -> Any:
            written = super().write(commit)
            if commit.plan is not None and self.dies:
                kill()
            return written

    def opened(*, dies: bool) -> Deadly:
        journal = Deadly(path, durability="normal")
        journal.dies = dies
        connection = connections_of(journal).writer().connection
        began = [0]

        def trace(statement: str) -> None:
            if statement.startswith("BEGIN"):
                began[0] = connection.total_changes
            elif statement == "COMMIT" and connection.total_changes - began[0] > 1000:
                note("rows", connection.total_changes - began[0])

        connection.set_trace_callback(trace)
        return journal

    def begin() -> None:
        Mediator(saga, journal=opened(dies=True)).run("big", saga_id="o-1")

    def go_on() -> None:
        Mediator(saga, journal=opened(dies=True)).recover()

    assert in_a_child(begin)
    deaths = sum(1 for _ in itertools.takewhile(bool, (in_a_child(go_on) for _ in range(6))))

    assert deaths == 4  # four batches of a thousand at the most
    with contextlib.closing(opened(dies=False)) as journal:
        with contextlib.closing(Mediator(saga, journal=journal)) as mediator:
            outcome = mediator.wait("o-1")
        assert outcome.results["g"] == [f"0-{n}" for n in range(size)]
        assert journal.count_branches("o-1") == {"succeeded": size}
        assert journal.planned("o-1") is None
        assert conforms(journal, saga).ok
    said = [json.loads(line) for line in facts.read_text().splitlines()]
    assert said.count(["over"]) == 1
    plan, *batches = [fact[1] for fact in said if fact[0] == "rows"]
    assert size <= plan <= size + 10
    assert max(batches) <= 4 * 1000


def test_results_of_the_parent_are_read_once_for_all_branches(drive, journal, monkeypatch):
    """Each branch sees what came before its group. The records of the parent are not read again for each of them."""
    world, seen, read = World(), list[Any](), list[str]()
    records = journal.records

    def reads(saga_id: str) -> Any:
        read.append(saga_id)
        return records(saga_id)

    monkeypatch.setattr(journal, "records", reads)
    look = world.step("look", lambda _, context: seen.append(context.results["a"]))
    saga = Saga("s", [world.step("a"), Parallel.each("g", look, over=range)])

    assert drive(saga, journal=journal).run("s", 12, saga_id="o-1").succeeded

    assert seen == ["a done"] * 12
    assert read.count("o-1") < 6
