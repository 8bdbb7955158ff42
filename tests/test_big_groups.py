"""Groups too large for one commit: their branches are planned in one, and created in several."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import sqlite3
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from fsm_mediator import (
    DeadlineExceededError,
    Failure,
    InboxItem,
    JournalError,
    Mediator,
    MemoryJournal,
    Parallel,
    RefusedError,
    Saga,
    SagaCancelledError,
    SiblingFailedError,
    Signal,
    SQLiteJournal,
    step,
)
from fsm_mediator.cli import console
from fsm_mediator.cli.commands import cli
from fsm_mediator.cli.tables import exported
from fsm_mediator.conformance import conforms
from fsm_mediator.journal import rows
from fsm_mediator.journal.planning import Plan, Planned
from fsm_mediator.journal.protocol import Commit
from fsm_mediator.mediator import commits
from fsm_mediator.testing.processes import in_a_child, kill
from tests.commits import DRIVER, acceptance, found, record, statements
from tests.drivers import ONCE, Clock, Died, World, core_of, eventually, in_thread

BATCH = 3
SIZE = 10
TABLES = ("definitions", "executions", "records", "inbox", "planned")


@pytest.fixture(autouse=True)
def small(monkeypatch) -> None:
    """A group of more than three branches is a large one."""
    monkeypatch.setattr(commits, "CREATED_AT_ONCE", BATCH)


class Watched:
    """A journal that keeps the commits with a plan, and calls *before* and *after* each of them with its number."""

    def __init__(self, inner: Any, before: Callable[[int], object] = id, after: Callable[[int], object] = id) -> None:
        self.inner = inner
        self.plans: list[Plan] = []
        self.others: list[Commit] = []
        self.before = before
        self.after = after

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def write(self, commit: Commit) -> Any:
        """As `Journal.write`."""
        if commit.plan is None:
            self.others.append(commit)
            return self.inner.write(commit)
        self.plans.append(commit.plan)
        number = len(self.plans) - 1
        self.before(number)
        written = self.inner.write(commit)
        self.after(number)
        return written

    def write_all(self, commits: Sequence[Commit]) -> list[Any]:
        """As `Journal.write_all`."""
        results: list[Any] = []
        for commit in commits:
            try:
                results.append(self.write(commit))
            except JournalError as error:
                results.append(error)
        return results


def at(number: int, does: Callable[[], object]) -> Callable[[int], object]:
    """What does something at one commit with a plan: 0 is the plan itself, 1 the first batch."""
    return lambda n: does() if n == number else None


def big(part: Any, **settings: Any) -> Saga:
    """A saga with one group, over as many items as its payload says."""
    return Saga("big", [Parallel.each("g", part, over=range, **settings)])


def names(journal: Any, saga_id: str = "o-1") -> list[str]:
    """The names of the branches that exist, in order."""
    return sorted((entry.saga_id.rpartition(".")[2] for entry in journal.entries(parent=saga_id)), key=int)


@pytest.mark.parametrize("at_most", [None, 1, 2, 5, 20])
def test_large_group_is_created_in_batches_and_joined_in_order(drive, journal, at_most):
    """Ten branches, three in a commit: each runs once, the results are in order, and no plan is left."""
    world = World()
    watched = Watched(journal)
    saga = big(world.step("one", lambda item, context: item * item), at_most=at_most)

    outcome = drive(saga, journal=watched).run("big", SIZE, saga_id="o-1")

    assert outcome.results["g"] == [n * n for n in range(SIZE)]
    assert len(world.calls) == SIZE
    plan, *batches = watched.plans
    assert [branch.saga_id for branch in plan.branches] == [f"o-1/g.{n}" for n in range(SIZE)]
    assert sorted(itertools.chain(*(range(*batch.creates) for batch in batches))) == list(range(SIZE))
    assert all(0 < end - first <= BATCH for first, end in (batch.creates for batch in batches))
    assert not any(commit.children or commit.dormant for commit in watched.others)
    assert journal.planned("o-1") is None
    assert journal.check() == []


def test_group_of_the_most_branches_is_created_in_one_commit(drive, journal):
    """A group that fits one commit has no plan."""
    watched = Watched(journal)
    drive(big(World().step("one")), journal=watched).run("big", BATCH, saga_id="o-1")

    assert watched.plans == []
    assert [len(commit.children) for commit in watched.others if commit.children] == [BATCH]


def test_journal_without_plans_creates_every_group_in_one_commit(drive):
    """A journal of an earlier version of the protocol is never given a plan."""

    class Plain(Watched):
        def __getattr__(self, name: str) -> Any:
            if name == "planned":
                raise AttributeError(name)
            return super().__getattr__(name)

    plain = Plain(MemoryJournal())
    outcome = drive(big(World().step("one")), journal=plain).run("big", SIZE, saga_id="o-1")

    assert outcome.succeeded
    assert plain.plans == []
    assert [len(commit.children) for commit in plain.others if commit.children] == [SIZE]


def test_no_branch_begins_before_the_plan_is_written(drive, journal):
    """Nothing is called, and nothing is there to be claimed, as long as the plan is not durable."""
    world = World()

    def nothing() -> None:
        assert journal.planned("o-1") is None
        assert names(journal) == []
        assert world.calls == []

    watched = Watched(journal, before=at(0, nothing))
    assert drive(big(world.step("one")), journal=watched).run("big", SIZE, saga_id="o-1").succeeded
    assert watched.plans


def test_planned_branch_cannot_be_claimed(drive, journal):
    """A branch that is planned is no execution: no list has it, and nobody finds it to drive it."""
    seen: list[Any] = []

    def look() -> None:
        seen.append((journal.planned("o-1"), names(journal), set(journal.claimable(math.inf, 100))))

    watched = Watched(journal, after=at(1, look))
    drive(big(World().step("one")), journal=watched).run("big", SIZE, saga_id="o-1")

    assert seen[0][:2] == (Planned(BATCH, SIZE, SIZE, None), ["0", "1", "2"])
    assert seen[0][2] <= {"o-1/g.0", "o-1/g.1", "o-1/g.2"}


@pytest.mark.parametrize("where", ["before", "after"])
@pytest.mark.parametrize("at_most", [None, 2])
def test_process_dies_at_every_batch_and_the_first_answer_counts(tmp_path, where, at_most):
    """Each process is killed at its first batch, and ``over`` would answer otherwise: the plan counts, once."""
    calls = tmp_path / "calls"

    def note(*fact: Any) -> None:
        with calls.open("a") as file:
            file.write(json.dumps(fact) + "\n")

    def over(payload: Any) -> list[str]:
        asked = sum(1 for line in calls.read_text().splitlines() if "over" in line) if calls.exists() else 0
        note("over")
        return [f"{asked}-{n}" for n in range(SIZE + 2 * asked)]

    @step
    def one(item: str) -> str:
        note("one", item)
        return item

    saga = Saga("big", [Parallel.each("g", one, over=over, at_most=at_most)])

    def begin(journal: Any) -> None:
        Mediator(saga, journal=journal).run("big", saga_id="o-1")

    def go_on(journal: Any) -> None:
        Mediator(saga, journal=journal).recover()

    def is_killed(work: Callable[[Any], None]) -> bool:
        deadly = {"after": at(0, kill)} if where == "after" else {"before": at(1, kill)}
        return in_a_child(lambda: work(Watched(SQLiteJournal(tmp_path / "sagas.db"), **deadly)))

    assert is_killed(begin)
    created = []
    for _ in range(SIZE):
        with contextlib.closing(SQLiteJournal(tmp_path / "sagas.db")) as journal:
            created.append(len(names(journal)))
        if not is_killed(go_on):
            break

    assert created == ([0, 3, 6, 9, 10] if where == "after" else [0, 3, 6, 9])
    expected = [f"0-{n}" for n in range(SIZE)]
    with (
        contextlib.closing(SQLiteJournal(tmp_path / "sagas.db")) as journal,
        Mediator(saga, journal=journal) as mediator,
    ):
        assert mediator.outcome("o-1").results["g"] == expected
        assert names(journal) == [str(n) for n in range(SIZE)]
        assert journal.check() == []
        assert conforms(journal, saga).ok
    facts = [json.loads(line) for line in calls.read_text().splitlines()]
    assert facts.count(["over"]) == 1
    assert {item for verb, *items in facts if verb == "one" for item in items} == set(expected)


def test_process_dies_before_the_plan_is_written(tmp_path):
    """Nothing has begun; the function is asked again, and that answer is the plan."""
    answers = tmp_path / "answers"

    def over(payload: Any) -> list[int]:
        with answers.open("a") as file:
            file.write("asked\n")
        return list(range(SIZE * len(answers.read_text().split())))

    @step
    def one(item: int) -> int:
        return item

    saga = Saga("big", [Parallel.each("g", one, over=over)])
    path = tmp_path / "sagas.db"
    deadly = Watched(SQLiteJournal(path), before=at(0, kill))
    assert in_a_child(lambda: Mediator(saga, journal=deadly).run("big", saga_id="o-1"))

    with contextlib.closing(SQLiteJournal(path)) as journal, Mediator(saga, journal=journal) as mediator:
        assert names(journal) == []
        assert mediator.run("big", saga_id="o-1").results["g"] == list(range(2 * SIZE))


def test_rows_of_the_longest_transaction(tmp_path):
    """The plan is one row a branch. A batch writes three rows a branch, however large the group is."""
    size, batch = 200, 50
    with contextlib.closing(SQLiteJournal(tmp_path / "sagas.db")) as journal:
        journal.enlist(DRIVER)

        def sizes() -> list[int]:
            with contextlib.closing(sqlite3.connect(tmp_path / "sagas.db")) as file:
                return [file.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in TABLES]  # noqa: S608

        def rows(commit: Commit) -> int:
            """How many rows the commit adds and deletes."""
            before = sizes()
            journal.write(commit)
            return sum(abs(after - size) for size, after in zip(before, sizes(), strict=True))

        branches = tuple(acceptance(f"s/g.{n}", n, parent="s") for n in range(size))
        entered = record("s", 1, "waiting.g", "pending", children=tuple(map(str, range(size))))
        opening = Commit("s", (entered,), "d-1", acceptance=acceptance("s"), wake_at=1.0, plan=Plan(branches))
        assert rows(opening) == size + 4  # its definition, its own row, and two records
        for first in range(0, size, batch):
            plan = Plan(creates=(first, first + batch))
            assert rows(Commit("s", (), "d-1", wake_at=1.0, plan=plan)) == 3 * batch
            assert rows(Commit("s", (), "d-1", wake_at=1.0, plan=plan)) == 0  # the same again creates nothing
        assert names(journal, "s") == [str(n) for n in range(size)]
        created = journal.find("s/g.7")
        assert created is not None
        assert created.acceptance == msgspec.structs.replace(branches[7], payload=msgspec.Raw(b"7"))
        assert journal.records("s") == [entered]


def test_branches_of_two_groups_and_a_new_execution_are_created_in_one_transaction(tmp_path):
    """Each gets a number of its own at the first attempt: nothing is rolled back and done again one by one."""
    with contextlib.closing(SQLiteJournal(tmp_path / "sagas.db")) as journal:
        journal.enlist(DRIVER)
        for parent in ("s", "t"):
            branches = tuple(acceptance(f"{parent}/g.{n}", n, parent=parent) for n in range(3))
            entered = record(parent, 1, "waiting.g", "pending", children=("0", "1", "2"))
            journal.write(Commit(parent, (entered,), "d-1", acceptance=acceptance(parent), plan=Plan(branches)))
        batch = [Commit(parent, (), "d-1", plan=Plan(creates=(1, 3))) for parent in ("s", "t")]
        accepted = Commit("new", (), held=False, acceptance=acceptance("new"), children=(acceptance("new/g.0"),))
        with statements(journal) as executed:
            assert journal.write_all([*batch, accepted]) == [(), (), ()]

        assert not [each for each in executed if each.startswith(("ROLLBACK", "SAVEPOINT"))]
        assert {parent: names(journal, parent) for parent in ("s", "t")} == {"s": ["1", "2"], "t": ["1", "2"]}
        assert journal.planned("s") == Planned(0, 1, 1, None)
        assert [found(journal, each).seq for each in ("new", "new/g.0", "s/g.2")] == [0, 0, 0]
        assert msgspec.json.decode(found(journal, "t/g.2").acceptance.payload) == 2


def test_names_of_a_large_group_are_a_number_in_the_record(tmp_path):
    """The record that enters a group of 2,000 items is short, and is read as it was."""
    children = tuple(map(str, range(2000)))
    with contextlib.closing(SQLiteJournal(tmp_path / "sagas.db")) as journal:
        entered = record("s", 1, "waiting.g", "pending", children=children)
        journal.write(Commit("s", (entered,), None, held=False, acceptance=acceptance("s")))
        with contextlib.closing(sqlite3.connect(tmp_path / "sagas.db")) as file:
            assert file.execute("SELECT max(length(details)) FROM records").fetchone()[0] < 100
        assert journal.records("s")[0].children == children


def test_cancel_ends_planned_branches_without_creating_them(drive, journal):
    """A cancel that comes while branches are created: the rest is never created, and the saga compensates."""
    world = World()
    watched = Watched(journal)
    saga = Saga("big", [world.step("hold"), Parallel.each("g", Signal("word"), over=range)])
    mediator = drive(saga, journal=watched)
    watched.before = at(1, lambda: journal.post("o-1", InboxItem("cancel", reason="enough", at=1.0)))

    outcome = mediator.run("big", SIZE, saga_id="o-1", check=False)

    assert outcome.failed
    assert isinstance(outcome.error, SagaCancelledError)
    assert world.calls == ["hold", "undo hold"]
    assert names(journal) == ["0", "1", "2"]
    assert {entry.state for entry in journal.entries(parent="o-1")} == {"failed"}
    planned = journal.planned("o-1")
    assert (planned.first, planned.end) == (BATCH, SIZE)
    joined = next(record for record in outcome.history if record.source == "waiting.g")
    assert joined.reason == "failed: 0, 1, 2; not begun: 3, 4, 5, 6, 7, 8, 9"
    assert conforms(journal, saga).ok
    assert conforms(list(exported(journal, journal.entries())), saga).ok


def failing_first(world: World, journal: Any, **settings: Any) -> tuple[Saga, Watched]:
    """A large group whose first branches fail before the commit of the second batch."""
    bad = world.step("bad", ValueError("no"), retry=ONCE)
    saga = Saga("big", [world.step("hold"), Parallel.each("g", bad, over=range, **settings)])
    return saga, Watched(journal, before=at(2, lambda: eventually(lambda: journal.inbox("o-1"))))


def test_failed_branch_ends_planned_branches(journal):
    """A branch of the first batch fails: at most one more batch is written, and the branch's error is the error."""
    saga, watched = failing_first(World(), journal)
    with contextlib.closing(Mediator(saga, journal=watched)) as mediator:
        outcome = mediator.run("big", SIZE, saga_id="o-1", check=False)

    assert outcome.failed
    causes = getattr(outcome.error, "exceptions", [outcome.error])
    assert {Failure.of(cause).type for cause in causes} == {"ValueError"}
    assert len(names(journal)) in (BATCH, 2 * BATCH)
    ended = journal.planned("o-1").ended
    assert ended is not None
    assert isinstance(ended.raised(), SiblingFailedError)


def test_settling_group_creates_all_although_one_failed(journal):
    """With ``on_failure="settle"`` a failed branch ends no other, planned or not."""
    saga, watched = failing_first(World(), journal, on_failure="settle")
    with contextlib.closing(Mediator(saga, journal=watched)) as mediator:
        assert mediator.run("big", SIZE, saga_id="o-1", check=False).failed
    assert names(journal) == [str(n) for n in range(SIZE)]


def test_next_driver_sees_that_a_branch_failed(journal):
    """The driver dies after the first batch, and a branch fails: the next driver creates no other."""
    saga, _ = failing_first(World(), journal)

    def die() -> None:
        raise Died

    first = Mediator(saga, journal=Watched(journal, after=at(1, die)))
    with pytest.raises(Died):
        first.run("big", SIZE, saga_id="o-1")
    assert "o-1" in journal.claimable(math.inf, 100)

    with contextlib.closing(Mediator(saga, journal=journal)) as mediator:
        assert mediator.wait("o-1/g.1", check=False).failed  # and its driver resumes the parent
        assert mediator.wait("o-1", check=False).failed
    assert names(journal) == ["0", "1", "2"]


@pytest.mark.parametrize("at_most", [None, 2])
def test_deadline_passes_while_branches_are_created(drive, journal, at_most):
    """The planned branches end without being created; where each waits for another, they are, and end by themselves."""
    world = World()
    clock = Clock()
    watched = Watched(journal)
    saga = Saga("big", [world.step("hold"), Parallel.each("g", Signal("word"), over=range, at_most=at_most)])
    watched.after = at(1, lambda: clock.sleep(100.0))

    outcome = drive(saga, journal=watched, clock=clock).run("big", SIZE, saga_id="o-1", deadline=50.0, check=False)

    assert outcome.failed
    assert isinstance(outcome.error, DeadlineExceededError)
    assert world.calls == ["hold", "undo hold"]
    assert len(names(journal)) == BATCH if at_most is None else len(names(journal)) > BATCH
    assert conforms(journal, saga).ok


def test_cancel_before_any_batch_creates_nothing(drive, journal):
    """Not one branch was created: the group is joined from the plan alone."""
    watched = Watched(journal)
    world = World()
    saga = Saga("big", [world.step("hold"), Parallel.each("g", world.step("one"), over=range)])
    watched.before = at(0, lambda: journal.post("o-1", InboxItem("cancel", at=1.0)))

    outcome = drive(saga, journal=watched).run("big", SIZE, saga_id="o-1", check=False)

    assert outcome.failed
    assert names(journal) == []
    assert journal.prune(math.inf, forget_ids=True) == 1
    assert journal.planned("o-1") is None


def test_forward_only_group_is_created_to_its_end(drive, journal):
    """After the pivot neither a cancel nor a deadline ends a planned branch."""
    world = World()
    clock = Clock()
    watched = Watched(journal)
    pivot = world.step("pivot", undo=None, pivot=True)
    saga = Saga("big", [pivot, Parallel.each("g", world.step("one", undo=None), over=range)])

    def disturb() -> None:
        clock.sleep(100.0)
        journal.post("o-1", InboxItem("cancel", at=1.0))

    watched.after = at(1, disturb)
    outcome = drive(saga, journal=watched, clock=clock).run("big", SIZE, saga_id="o-1", deadline=50.0)

    assert outcome.succeeded
    assert len(outcome.results["g"]) == SIZE


def test_signal_for_a_planned_branch_is_kept_and_delivered(drive, journal):
    """A signal comes for the last branch while only the first three exist; and for one that was just created."""
    watched = Watched(journal)
    saga = big(Signal("word"))
    mediator = drive(saga, journal=watched)

    def say(*numbers: int) -> None:
        teller = Mediator(saga, journal=journal)
        for number in numbers:
            teller.signal("o-1", f"g.{number}", f"word {number}")
        with pytest.raises(RefusedError, match="with another value"):
            teller.signal("o-1", f"g.{numbers[-1]}", "another word")
        teller.close()

    watched.after = at(1, lambda: say(1, 9, 8))
    mediator.start("big", SIZE, saga_id="o-1")
    eventually(lambda: len(names(journal)) == SIZE)
    for number in range(SIZE - 2):
        if number != 1:
            mediator.signal("o-1", f"g.{number}", f"word {number}")

    assert mediator.wait("o-1").results["g"] == [f"word {number}" for number in range(SIZE)]


def test_signal_for_a_branch_that_was_never_created_is_refused(drive, journal):
    """Its branch ended before it was created: the signal is not awaited."""
    watched = Watched(journal)
    world = World()
    saga = big(Saga("inner", [world.step("one", world.gate()), Signal("word")]))
    mediator = drive(saga, journal=watched)
    watched.before = at(1, lambda: journal.post("o-1", InboxItem("cancel", at=1.0)))
    mediator.start("big", SIZE, saga_id="o-1")
    eventually(lambda: journal.planned("o-1") is not None and journal.planned("o-1").ended is not None)

    with pytest.raises(RefusedError, match="is not awaited"):
        mediator.signal("o-1", "g.9.word", "late")
    world.go()
    assert mediator.wait("o-1", check=False).failed


def test_closed_mediator_leaves_planned_branches_to_the_next(journal):
    """A driver that is closed between two batches parks the parent, so that the next one finds it."""
    world = World()
    saga = big(world.step("one"))
    closing: list[Any] = []

    def close() -> None:
        active = core_of(first).owned.active["o-1"]
        closing.append(in_thread(first.close))
        eventually(lambda: active.stopping)

    first = Mediator(saga, journal=Watched(journal, after=at(1, close)), close_grace=0.0)
    first.start("big", SIZE, saga_id="o-1")
    eventually(lambda: closing)
    closing[0]()
    eventually(lambda: "o-1" in journal.claimable(math.inf, 100))
    assert journal.planned("o-1") == Planned(BATCH, SIZE, SIZE, None)

    with contextlib.closing(Mediator(saga, journal=journal)) as mediator:
        assert next(each for each in mediator.recover() if each.saga_id == "o-1").succeeded
    assert len(set(world.keys)) == SIZE


def test_large_group_inside_a_branch_of_a_large_group(drive, journal):
    """Plans nest: each parent has its own."""
    inner = Saga("inner", [Parallel.each("h", World().step("one", lambda item, context: item), over=range)])
    outcome = drive(big(inner), journal=journal).run("big", 5, saga_id="o-1")

    assert outcome.results["g"] == [{"h": list(range(n))} for n in range(5)]


def test_undo_of_a_large_group(drive, journal):
    """A saga with a large group that has succeeded is undone as any other."""
    world = World()
    mediator = drive(big(world.step("one")), journal=journal)
    mediator.run("big", SIZE, saga_id="o-1")

    assert mediator.undo("o-1").failed
    assert world.calls.count("undo one") == SIZE


@pytest.mark.parametrize("most_names", [3, 4])
def test_damaged_plans_are_found(tmp_path, monkeypatch, most_names):
    """`check` names planned branches that cannot be decoded, are lost, or exist as well."""
    monkeypatch.setattr(rows, "MOST_NAMES", most_names)
    path = tmp_path / "sagas.db"
    with contextlib.closing(SQLiteJournal(path)) as journal:
        branches = tuple(acceptance(f"s/g.{n}", n, parent="s") for n in range(4))
        entered = record("s", 1, "waiting.g", "pending", children=("0", "1", "2", "3"))
        opening = Commit("s", (entered,), None, held=False, wake_at=1.0, acceptance=acceptance("s"))
        journal.write(msgspec.structs.replace(opening, plan=Plan(branches)))
        assert journal.check() == []
        with contextlib.closing(sqlite3.connect(path)) as file, file:
            file.execute("UPDATE planned SET details = '{' WHERE number = 0")
            file.execute("DELETE FROM planned WHERE number = 1")
        faults = [fault.partition(": ")[2] for fault in journal.check()]
        lost = "branches of 'g' are lost" if most_names == 3 else "its branch 's/g.1' is lost"
        assert sorted(faults) == sorted([lost, "its planned branch 0 cannot be decoded"])
        journal.write(Commit("s/g.3", (), None, held=False, acceptance=branches[3]))
        assert any("its branch 's/g.3' is planned, and exists" in fault for fault in journal.check())


def test_show_counts_branches_that_have_not_begun(tmp_path, monkeypatch):
    """While branches are created, and after they ended without being created, `show` and `export` say how many."""
    monkeypatch.setattr(console.out, "_width", 200)
    path = tmp_path / "sagas.db"
    saga = big(World().step("one"))

    def said(*words: str) -> str:
        result = CliRunner().invoke(cli, [*words, "--journal", str(path)])
        assert result.exit_code == 0, result.output
        return result.output

    def die() -> None:
        raise Died

    with contextlib.closing(SQLiteJournal(path)) as journal:
        with pytest.raises(Died):
            Mediator(saga, journal=Watched(journal, after=at(1, die))).run("big", SIZE, saga_id="o-1")
        assert "waiting.g (7 not begun, 3 pending)" in said("show", "o-1")
        planned = {"first": 3, "end": 10, "dormant": 10, "ended": None}
        assert json.loads(said("export").splitlines()[-1])["planned"] == planned

        journal.post("o-1", InboxItem("cancel", at=1.0))
        with contextlib.closing(Mediator(saga, journal=journal)) as mediator:
            assert mediator.wait("o-1", check=False).failed
        assert "branches 3 (7 not begun): fsm-mediator list --parent o-1" in said("show", "o-1")


def test_join_of_a_group_before_all_branches_exist_is_no_legal_history(journal):
    """`conforms` names a parent that goes on although branches of it are only planned."""
    saga = big(World().step("one"))
    with contextlib.closing(Mediator(saga, journal=journal)) as mediator:
        mediator.run("big", 2, saga_id="o-1")
    entries = [json.loads(line) for line in exported(journal, journal.entries())]
    assert conforms(entries, saga).ok

    parent = next(entry for entry in entries if entry["saga_id"] == "o-1")
    parent["planned"] = {"first": 1, "end": 2, "dormant": 2, "ended": None}
    entries = [entry for entry in entries if entry["saga_id"] != "o-1/g.1"]

    (violation,) = conforms(entries, saga).violations
    assert violation.why == "its branch 'o-1/g.1' never succeeded, and is in 'planned'"


def test_lost_answers_create_nothing_twice(drive, journal, impatient):
    """The answer to every commit with a plan is lost once, and the commit is written again: each branch exists once."""
    world = World()
    asked: list[int] = []

    def over(size: int) -> range:
        asked.append(size)
        return range(size)

    lost: list[Commit] = []

    class Forgetful(Watched):
        def write(self, commit: Commit) -> Any:
            written = super().write(commit)
            if commit.plan is not None and not any(each is commit for each in lost):
                lost.append(commit)
                raise JournalError("the answer was lost")
            return written

    forgetful = Forgetful(journal)
    saga = Saga("big", [world.step("hold"), Parallel.each("g", world.step("one"), over=over)])
    assert len(drive(saga, journal=forgetful).run("big", SIZE, saga_id="o-1").results["g"]) == SIZE

    assert asked == [SIZE]
    assert len(lost) == 1 + math.ceil(SIZE / BATCH)
    assert names(journal) == [str(n) for n in range(SIZE)]
    assert len(set(world.keys)) == len(world.keys)
