"""Recovery claims, loads and journals many executions together; each of them is driven as if it were alone."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from msgspec.structs import replace

from fsm_mediator import AsyncMediator, JournalError, Mediator, NotHappened, Retry, Saga, Sleep, SQLiteJournal
from fsm_mediator.journal.optional import many_of, owned_by
from fsm_mediator.journal.protocol import Commit, Recoveries
from fsm_mediator.mediator import recovering
from fsm_mediator.mediator.active import ActiveExecution
from fsm_mediator.mediator.claiming import claim_all
from fsm_mediator.mediator.ownership import AbandonedCall
from fsm_mediator.mediator.recovering import Recovery, journal_crashes
from fsm_mediator.mediator.threads import run_blocking
from fsm_mediator.records import Acceptance, InboxItem, Record
from tests.commits import OTHER, Clock, connections_of, found, going_on, opening, statements, two_drivers
from tests.drivers import ONCE, Flaky, MortalRuntime, World, core_of, eventually, in_thread
from tests.postgres_server import server
from tests.test_claims import accept, held
from tests.test_daemon import daemon_of
from tests.test_verbs import dead_driver

SOON = Retry(attempts=3, wait_initial=0.001, wait_max=0.001, wait_jitter=0.0)
AT_ONCE = Retry(attempts=3, wait_initial=0.0, wait_max=0.0, wait_jitter=0.0)
LATER = Retry(attempts=3, wait_initial=1000.0, wait_max=1000.0, wait_jitter=0.0)
FOREVER = 1e9


@pytest.fixture
def sqlite(tmp_path) -> Iterator[SQLiteJournal]:
    """A journal that claims many executions together."""
    with closing(SQLiteJournal(tmp_path / "sagas.db", durability="normal")) as journal:
        yield journal


def interrupt(journal: Any, saga: Saga, *names: str, deadline_at: float | None = None) -> None:
    """Leave executions as a process leaves them that dies while their first step runs."""
    gone, at, first = dead_driver(), time.time(), f"executing.{saga.parts[0].path}"
    journal.enlist(gone)
    for name in names:
        opened = Acceptance(name, saga.name, saga.version, saga.fingerprint, 1, at, deadline_at)
        began = Record(name, saga.name, 1, "start", "pending", first, at)
        journal.write(Commit(name, (began,), gone.id, acceptance=opened))


class Watched(Flaky):
    """A journal that notes which methods are called, and the size of each batch."""

    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self.claims: list[int] = []
        self.crashes: list[int] = []
        self.batches = 0
        self.counts: list[Recoveries | None] = []
        self.later_counts: list[Recoveries | None] = []
        self.alone: list[str] = []

    def __getattr__(self, name: str) -> Any:
        attribute = super().__getattr__(name)
        if name not in ("find", "claim", "records"):
            return attribute

        def call(saga_id: str, *arguments: Any) -> Any:
            self.alone.append(name)
            return attribute(saga_id, *arguments)

        return call

    def claim_all(self, saga_ids: Any, driver_id: str) -> Any:
        """Claim them, and note how many."""
        self.claims.append(len(saga_ids))
        return self.inner.claim_all(saga_ids, driver_id)

    def write(self, commit: Commit) -> Any:
        """Write it, and note the count of recoveries that it changes."""
        if any(record.event == "retry_due" for record in commit.records):
            self.later_counts.append(commit.recoveries)
        return self.inner.write(commit)

    def write_all(self, commits: Any) -> Any:
        """Write them, and note how many of them are crashes."""
        self.batches += 1
        retries = [each for each in commits if any(record.event == "retry_due" for record in each.records)]
        self.later_counts += [each.recoveries for each in retries]
        crashes = [each for each in commits if any(record.event == "errored" for record in each.records)]
        if crashes:
            self.crashes.append(len(crashes))
            self.counts += [each.recoveries for each in crashes]
        return self.inner.write_all(commits)


def test_many_executions_are_claimed_and_their_crashes_journaled_in_few_commits(drive, sqlite, monkeypatch):
    """Each batch is twice as large as the one before. None of its executions is claimed or read alone."""
    monkeypatch.setattr(recovering, "QUICK", FOREVER)
    names = [f"o-{number:03}" for number in range(300)]
    world = World()
    saga = Saga("s", [world.step("a", retry=SOON), world.step("b")])
    interrupt(sqlite, saga, *names)
    seen: list[Record] = []
    watched = Watched(sqlite)

    outcomes = drive(saga, journal=watched, max_workers=8, observers=[seen.append]).recover()

    assert [(outcome.saga_id, outcome.state) for outcome in outcomes] == [(name, "succeeded") for name in names]
    assert watched.claims == [8, 16, 32, 64, 128, 52]
    assert watched.crashes == watched.claims
    assert watched.counts == [Recoveries(1, 0)] * 300
    assert watched.later_counts == [None] * 300
    assert watched.alone == []
    assert sorted(world.calls) == ["a"] * 300 + ["b"] * 300
    assert [each.event for each in seen if each.saga_id == "o-123"] == ["errored", "retry_due", "executed", "executed"]
    assert [record.event for record in sqlite.records("o-123")][1:3] == ["errored", "retry_due"]


@pytest.mark.postgres
def test_recovery_on_a_server_claims_and_journals_crashes_together(drive, monkeypatch):
    """As on SQLite: no execution of a batch is found, claimed or read alone, and each crash is counted."""
    monkeypatch.setattr(recovering, "QUICK", FOREVER)
    names = [f"o-{number:02}" for number in range(40)]
    world = World()
    saga = Saga("s", [world.step("a", retry=SOON)])
    with closing(server().journal()) as journal:
        interrupt(journal, saga, *names)
        watched = Watched(journal)
        mediator = drive(saga, journal=watched, max_workers=8)

        outcomes = mediator.recover()

        assert [(outcome.saga_id, outcome.state) for outcome in outcomes] == [(name, "succeeded") for name in names]
        assert watched.claims == watched.crashes == [8, 16, 16]
        assert (watched.counts, watched.alone) == ([Recoveries(1, 0)] * 40, [])
        mediator.close()


def test_claims_and_crashes_of_a_batch_take_few_statements(sqlite):
    """A hundred executions take hardly more statements than two, and two commits."""
    saga = Saga("s", [World().step("a", retry=LATER)])
    counts = []
    with closing(Mediator(saga, journal=sqlite, park_after=FOREVER, close_grace=0.0)) as mediator:
        core = core_of(mediator)
        run_blocking(core.open)
        for size in (2, 100):
            reserved = [ActiveExecution(f"{size}-{number}", background=True) for number in range(size)]
            interrupt(sqlite, saga, *(active.saga_id for active in reserved))
            assert all(map(core.try_reserve, reserved))

            with statements(sqlite) as executed:
                claim_all(core.owned, reserved)
                assert run_blocking(journal_crashes, core, reserved) == []

            assert executed.count("COMMIT") == 2
            counts.append(len(executed))

    assert counts[0] <= 14
    assert counts[1] <= 24


def test_attempt_is_announced_only_when_it_begins(sqlite, monkeypatch):
    """An announced attempt is in doubt if the process dies. So no attempt is announced that waits for a worker."""
    monkeypatch.setattr(recovering, "QUICK", FOREVER)
    world = World()
    saga = Saga("s", [world.step("a", world.gate(), retry=AT_ONCE)])
    interrupt(sqlite, saga, *"wxyz")
    with closing(Mediator(saga, journal=sqlite, max_workers=2)) as mediator:
        result = in_thread(mediator.recover)
        world.begun()
        eventually(lambda: len(world.calls) == 2 and held(sqlite) == list("zyxw"))
        records = {name: len(sqlite.records(name)) for name in "wxyz"}
        world.go()
        assert [outcome.state for outcome in result()] == ["succeeded"] * 4

    assert records == {"w": 3, "x": 3, "y": 1, "z": 1}


def test_recovery_with_busy_workers_leaves_the_rest_to_other_processes(sqlite, monkeypatch):
    """While its only worker is busy, another process recovers the other executions."""
    monkeypatch.setattr(recovering, "QUICK", 0.0)
    world = World()
    saga = Saga("s", [world.step("a", world.gate(), "done")])
    accept(sqlite, saga, *"xyz")
    with (
        closing(Mediator(saga, journal=sqlite, max_workers=1)) as busy,
        closing(Mediator(saga, journal=sqlite)) as free,
    ):
        result = in_thread(busy.recover)
        world.begun()

        def rest_is_recovered() -> bool:
            free.recover()
            return {found(sqlite, name).state for name in "yz"} == {"succeeded"}

        eventually(rest_is_recovered)
        world.go()
        mine = result()

    assert [outcome.saga_id for outcome in mine] == ["x"]
    assert world.calls == ["a"] * 3


def test_busy_recovery_does_not_release_executions_that_wait_for_a_timer(sqlite):
    """They have been driven already, and need no worker until their time comes."""
    saga = Saga("s", [Sleep("nap", 1000.0), World().step("a")])
    with closing(Mediator(saga, journal=sqlite, park_after=FOREVER, close_grace=0.0)) as mediator:
        mediator.start("s", 1, saga_id="x")
        core = core_of(mediator)
        active = core.owned.active["x"]
        eventually(lambda: active.wait.timer is not None)
        before = found(sqlite, "x")

        run_blocking(Recovery(core).give_back, [active])

        assert found(sqlite, "x") == before
        assert active.wait.timer is not None


def test_outcome_of_an_execution_that_ends_while_recovery_counts_is_returned(sqlite):
    """It ends just after the recovery has seen that it still runs: its outcome is in a later count."""
    saga = Saga("s", [World().step("a")])

    class Ending(ActiveExecution):
        def __getattribute__(self, name: str) -> Any:
            value = super().__getattribute__(name)
            if name == "finished" and not value:
                core.owned.finish(self, ended)
            return value

    with closing(Mediator(saga, journal=sqlite)) as mediator:
        ended, core = mediator.run("s", 1, saga_id="x"), core_of(mediator)
        recovery = Recovery(core)
        recovery.running = [Ending("x")]

        run_blocking(recovery.wait_until_left, 1)
        run_blocking(recovery.wait_until_left, 0)

        assert recovery.outcomes == {"x": ended}


def test_end_of_an_execution_is_announced_after_its_outcome_and_its_error(sqlite):
    """A thread that sees that an execution is finished can read how."""
    seen: list[tuple[Any, Any]] = []
    fault = JournalError("the disk is full")

    class Watching(ActiveExecution):
        def __setattr__(self, name: str, value: Any) -> None:
            super().__setattr__(name, value)
            if name == "finished":
                seen.append((self.outcome, self.error))

    with closing(Mediator(Saga("s", [World().step("a")]), journal=sqlite)) as mediator:
        ended = mediator.run("s", 1)
        core_of(mediator).owned.finish(Watching("x"), ended, fault)

    assert seen == [(ended, fault)]


def test_crash_is_counted_although_the_execution_waited_for_a_worker(sqlite, monkeypatch):
    """An execution of a dead driver is not released while it waits: its next owner would not see the crash."""
    monkeypatch.setattr(recovering, "QUICK", 0.0)
    world = World()
    saga = Saga("s", [world.step("a", world.gate(), "done", retry=AT_ONCE)])
    interrupt(sqlite, saga, *"xy")
    counts: dict[str, Any] = {}

    class Counting(Flaky):
        def write(self, commit: Commit) -> Any:
            if commit.recoveries is not None:
                counts.setdefault(commit.saga_id, commit.recoveries)
            return self.inner.write(commit)

    with closing(Mediator(saga, journal=Counting(sqlite), max_workers=1)) as mediator:
        result = in_thread(mediator.recover)
        world.begun()
        eventually(lambda: len(held(sqlite)) == 2)
        world.go()
        assert [outcome.state for outcome in result()] == ["succeeded"] * 2

    assert counts == {"x": Recoveries(1, 0), "y": Recoveries(1, 0)}


@pytest.mark.parametrize("lost", [False, True], ids=["refused", "lost"])
@pytest.mark.parametrize("method", ["find_all", "claim_all", "records_of_all", "write_all"])
def test_failure_of_a_batch_harms_no_execution(sqlite, method, lost):
    """The journal fails once, before or after it did its work: all executions are recovered, and no item is lost."""
    world = World()
    saga = Saga("s", [world.step("a", retry=SOON)])
    interrupt(sqlite, saga, *"xyz")
    assert sqlite.post("z", InboxItem("cancel"))

    class Failing(Flaky):
        def __getattr__(self, name: str) -> Any:
            attribute = getattr(self.inner, name)

            def fail(*arguments: Any) -> Any:
                if self.failed:
                    return attribute(*arguments)
                if lost:
                    attribute(*arguments)
                self.failed += 1
                raise JournalError("the disk is full")

            return fail if name == method else attribute

    journal = Failing(sqlite)
    with closing(Mediator(saga, journal=journal)) as mediator:
        outcomes = mediator.recover()

    assert journal.failed == 1
    assert [outcome.state for outcome in outcomes] == ["succeeded", "succeeded", "failed"]
    assert sorted(world.calls) == ["a", "a", "undo a"]


@pytest.mark.parametrize("method", ["find_all", "claim_all", "records_of_all", "write_all"])
def test_interrupted_recovery_leaves_nothing_that_the_next_one_does_not_find(sqlite, method):
    """Ctrl-C comes just after the journal did its work: other processes can claim the executions at once."""
    world = World()
    saga = Saga("s", [world.step("a", retry=SOON)])
    interrupt(sqlite, saga, *"xyz")

    class Interrupting(Flaky):
        def __getattr__(self, name: str) -> Any:
            attribute = getattr(self.inner, name)

            def stop(*arguments: Any) -> Any:
                result = attribute(*arguments)
                self.failed += 1
                if self.failed == 1:
                    raise KeyboardInterrupt
                return result

            return stop if name == method else attribute

    with closing(Mediator(saga, journal=Interrupting(sqlite))) as mediator:
        with pytest.raises(KeyboardInterrupt):
            mediator.recover()
        assert owned_by(sqlite, core_of(mediator).driver.id) == ()
        eventually(lambda: mediator.recover() or all(found(sqlite, name).state == "succeeded" for name in "xyz"))

    assert world.calls == ["a"] * 3


def test_damaged_and_unknown_executions_do_not_harm_their_batch(drive, sqlite, caplog):
    """The others are recovered. One that no saga can drive is not claimed, so that its next driver sees its crash."""
    world = World()
    saga, gone = Saga("s", [world.step("a", retry=SOON)], payload=int), Saga("gone", [World().step("a")])
    interrupt(sqlite, saga, "one", "bad", "worse", "two")
    interrupt(sqlite, gone, "other")
    cursor = connections_of(sqlite).writer()
    cursor.execute("UPDATE records SET details = '{' WHERE seq = 1 AND execution = 2")
    cursor.execute("""UPDATE records SET details = '{"value":"no number"}' WHERE seq = 0 AND execution = 3""")
    before = found(sqlite, "other")

    with caplog.at_level(logging.ERROR, "fsm_mediator"):
        outcomes = drive(saga, journal=sqlite).recover()

    assert [(outcome.saga_id, outcome.state) for outcome in outcomes] == [("one", "succeeded"), ("two", "succeeded")]
    assert found(sqlite, "other") == before
    assert world.calls == ["a"] * 2
    text = "\n".join(caplog.messages)
    assert "'bad' is left in its current state" in text
    assert "'worse' is left in its current state" in text
    assert "'other' is left in its current state" in text


class Cancelling(Flaky):
    """A journal in which an execution is cancelled just before the first call of a method."""

    heartbeat = None  # no heartbeat finds the item

    def __init__(self, inner: Any, method: str) -> None:
        super().__init__(inner)
        self.method = method

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self.inner, name)
        if name != self.method or self.failed:
            return attribute

        def call(*arguments: Any) -> Any:
            self.failed += 1
            assert self.inner.post("x", InboxItem("cancel"))
            return attribute(*arguments)

        return call


@pytest.mark.parametrize("method", ["claimable", "find_all", "claim_all", "records_of_all", "write_all"])
def test_item_that_comes_during_recovery_is_seen_at_once(drive, sqlite, method):
    """A cancelled execution does not first wait for its next attempt."""
    world = World()
    saga = Saga("s", [world.step("a", retry=LATER)])
    interrupt(sqlite, saga, "x")
    mediator = drive(saga, journal=Cancelling(sqlite, method))

    (outcome,) = mediator.recover()

    assert outcome.failed
    assert world.calls == ["undo a"]


def test_item_that_comes_during_recovery_is_seen_although_the_first_read_of_the_inbox_fails(drive, sqlite):
    """My cancel of a sleeping execution comes while the recovery loads it, and the journal then fails once."""
    gone, at = dead_driver(), time.time()
    saga = Saga("s", [Sleep("nap", 1000.0), World().step("a")])
    sqlite.enlist(gone)
    opened = Acceptance("x", "s", saga.version, saga.fingerprint, 1, at)
    slept = Record("x", "s", 1, "start", "pending", "waiting.nap", at, due_at=at + 1000.0)
    sqlite.write(Commit("x", (slept,), gone.id, acceptance=opened))

    class Failing(Cancelling):
        def records_of_all(self, saga_ids: Any) -> Any:
            """Read the records. Meanwhile, another thread of this process cancels the execution."""
            assert self.inner.post("x", InboxItem("cancel"))
            core_of(mediator).notify("x")
            return self.inner.records_of_all(saga_ids)

        def inbox(self, saga_id: str) -> Any:
            """Fail once."""
            self.failed += 1
            if self.failed == 1:
                raise JournalError("the disk is busy")
            return self.inner.inbox(saga_id)

    mediator = drive(saga, journal=Failing(sqlite, ""), park_after=FOREVER)

    result = in_thread(mediator.recover)

    eventually(lambda: sqlite.records("x")[-1].target == "failed")
    assert [outcome.state for outcome in result()] == ["failed"]


@pytest.mark.parametrize("most", [2, 1000])
def test_undrivable_executions_are_not_all_tried_and_logged(drive, sqlite, monkeypatch, caplog, most):
    """As soon as one has failed, the others of the same definition are skipped."""
    for name in ("LISTED", "UNDER_WAY"):
        monkeypatch.setattr(recovering, name, most)
    gone = Saga("gone", [World().step("other")])
    interrupt(sqlite, gone, *(f"g-{number}" for number in range(12)))

    with caplog.at_level(logging.ERROR, "fsm_mediator"):
        assert drive(Saga("s", [World().step("a")]), journal=sqlite).recover() == []

    assert len(caplog.messages) == min(most, 12)


def test_long_backlog_is_recovered_in_the_order_of_its_executions(drive, sqlite, monkeypatch):
    """Only a few are driven at a time, and executions that cannot be driven do not hide those after them."""
    for name in ("LISTED", "UNDER_WAY", "AT_ONCE"):
        monkeypatch.setattr(recovering, name, 4)
    world = World()
    saga, gone = Saga("s", [world.step("a", retry=SOON)]), Saga("gone", [World().step("a")])
    names = [f"o-{number:02}" for number in range(20)]
    interrupt(sqlite, gone, *(f"g-{number}" for number in range(6)))
    interrupt(sqlite, saga, *names)

    outcomes = drive(saga, journal=sqlite).recover()

    assert [outcome.saga_id for outcome in outcomes] == names
    assert world.calls == ["a"] * 20


def test_hooked_mediator_reports_each_recovery_before_its_records(drive, sqlite):
    """A listener that gets notices learns that an execution is recovered before it gets the record of the crash."""
    heard: list[str] = []

    class Listener:
        def __call__(self, record: Record) -> None:
            heard.append(record.event)

        def notice(self, notice: Any) -> None:
            heard.append(notice.kind)

    saga = Saga("s", [World().step("a", retry=SOON)])
    interrupt(sqlite, saga, "x")

    drive(saga, journal=sqlite, observers=[Listener()]).recover()

    assert heard == ["recovered", "errored", "retry_due", "executed", "settled"]


class OneByOne(Flaky):
    """A journal that cannot claim many executions together."""

    def __getattr__(self, name: str) -> Any:
        if name == "claim_all":
            raise AttributeError(name)
        return getattr(self.inner, name)


class IndirectRuntime(MortalRuntime):
    """A runtime that must write every commit itself, as a test that simulates crashes does."""

    direct = False


@pytest.mark.parametrize(
    ("of_step", "of_mediator"),
    [
        ({}, {"limits": {"a": 1}}),
        ({}, {"sleep": lambda seconds: None}),
        ({}, {"_runtime": IndirectRuntime}),
        ({"probe": lambda *_: NotHappened()}, {}),
        ({"repeatable": False}, {}),
        ({"retry": ONCE}, {}),
    ],
    ids=["limit", "sleep", "another runtime", "probe", "not repeatable", "last attempt"],
)
def test_crash_that_a_batch_cannot_journal_is_journaled_as_if_alone(tmp_path, drive, of_step, of_mediator):
    """The execution has the same records, and its steps are called as often."""
    results: list[Any] = []
    for kind in (Watched, OneByOne):
        world = World()
        saga = Saga("s", [world.step("a", **{"retry": SOON, **of_step})])
        with closing(SQLiteJournal(tmp_path / f"{kind.__name__}.db", durability="normal")) as inner:
            interrupt(inner, saga, "x", "y")
            journal: Any = kind(inner)
            mediator = drive(saga, journal=journal, **of_mediator)
            outcomes = mediator.recover()
            mediator.close()
            history = [[(each.event, each.attempt) for each in outcome.history] for outcome in outcomes]
            if kind is Watched:
                assert drive.is_async or not journal.batches  # an event loop writes all its commits in batches
                assert journal.alone == []
            results.append((history, sorted(world.calls), found(inner, "x").recoveries))

    assert results[0] == results[1]


def test_deadline_that_has_passed_ends_a_crashed_execution_at_once(drive, sqlite):
    """It does not first wait for an attempt that will never begin."""
    world = World()
    saga = Saga("s", [world.step("a", retry=LATER)])
    interrupt(sqlite, saga, "x", deadline_at=time.time() - 1.0)

    (outcome,) = drive(saga, journal=sqlite).recover()

    assert outcome.failed
    assert world.calls == ["undo a"]


def test_crashed_execution_with_a_long_wait_is_parked(drive, sqlite):
    """Recovery does not wait for its next attempt, and no driver owns it meanwhile."""
    saga = Saga("s", [World().step("a", retry=LATER)])
    interrupt(sqlite, saga, "x")

    (outcome,) = drive(saga, journal=sqlite, park_after=60.0).recover()

    assert outcome.state == "retrying.a"
    assert found(sqlite, "x").driver is None


def test_closing_during_recovery_releases_every_execution(drive, sqlite):
    """Those that wait for their next attempt have no owner afterwards. Recovery returns their states so far."""
    saga = Saga("s", [World().step("a", retry=LATER)])
    interrupt(sqlite, saga, *"xyz")
    mediator = drive(saga, journal=sqlite)
    result = in_thread(mediator.recover)
    eventually(lambda: {found(sqlite, name).state for name in "xyz"} == {"retrying.a"})

    mediator.close()

    assert {outcome.state for outcome in result()} <= {"retrying.a"}
    eventually(lambda: held(sqlite) == [])


def test_end_of_the_event_loop_releases_the_executions_of_a_recovery(sqlite):
    """My program ends its loop without closing the mediator: other processes need not wait for the lease to end."""
    saga = Saga("s", [World().step("a", retry=LATER)])
    interrupt(sqlite, saga, *"xyz")
    mediator = AsyncMediator(saga, journal=sqlite, park_after=FOREVER)

    async def program() -> None:
        recovery = asyncio.create_task(mediator.recover())
        await asyncio.to_thread(eventually, lambda: {found(sqlite, name).state for name in "xyz"} == {"retrying.a"})
        recovery.cancel()

    asyncio.run(program())

    assert held(sqlite) == []


def test_closing_while_a_batch_is_claimed_ends_the_recovery_without_an_error(drive, sqlite):
    """The recovery returns no outcomes, and leaves the executions to the next driver."""
    saga = Saga("s", [World().step("a", retry=SOON)])
    interrupt(sqlite, saga, *"xyz")

    class Closing(Flaky):
        def claim_all(self, saga_ids: Any, driver_id: str) -> Any:
            """Claim them after another thread has closed the mediator."""
            in_thread(mediator.close, 0.0)
            eventually(lambda: core.closed and not (core.runtime.detaches and core.owned.active))
            return self.inner.claim_all(saga_ids, driver_id)

    mediator = drive(saga, journal=Closing(sqlite))
    core = core_of(mediator)

    assert mediator.recover() == []

    with closing(Mediator(saga, journal=sqlite)) as other:
        eventually(lambda: other.recover() or all(found(sqlite, name).state == "succeeded" for name in "xyz"))


def test_executions_that_must_be_claimed_alone_are_left_out_of_a_batch(sqlite):
    """One has ended, one belongs to this driver already, and the abandoned attempt of one still runs."""
    saga = Saga("s", [World().step("a", retry=SOON)])
    interrupt(sqlite, saga, "owned", "abandoned")
    with closing(Mediator(saga, journal=sqlite)) as mediator:
        core = core_of(mediator)
        run_blocking(core.open)
        mediator.run("s", 1, saga_id="ended")
        assert sqlite.claim("owned", core.driver.id) is not None
        unused: Any = None
        core.owned.abandoned["abandoned"] = AbandonedCall(unused, unused)
        before = list(sqlite.entries())
        reserved = [ActiveExecution(name, background=True) for name in ("ended", "owned", "abandoned")]
        assert all(map(core.try_reserve, reserved))

        claim_all(core.owned, reserved)
        core.owned.abandoned.clear()
        for active in reserved:
            core.owned.finish(active)

        assert [(active.epoch, active.claimed) for active in reserved] == [(0, None)] * 3
        assert list(sqlite.entries()) == before


def test_execution_that_ended_meanwhile_is_released(sqlite):
    """Another driver ended it between the look at it and the claim. The claim is in vain, and leaves no owner."""
    saga = Saga("s", [World().step("a", retry=SOON)])

    class Late(Flaky):
        def find_all(self, saga_ids: Any) -> Any:
            return {name: replace(entry, state="executing.a") for name, entry in self.inner.find_all(saga_ids).items()}

    with closing(Mediator(saga, journal=Late(sqlite))) as mediator:
        mediator.run("s", 1, saga_id="x")
        active = ActiveExecution("x", background=True)
        assert core_of(mediator).try_reserve(active)

        claim_all(core_of(mediator).owned, [active])

        assert (active.epoch, active.claimed) == (0, None)
        assert found(sqlite, "x").driver is None
        core_of(mediator).owned.finish(active)


def test_daemon_reads_the_records_of_its_claims_together(drive, sqlite):
    """No execution that it claims is found, claimed or read alone."""
    world = World()
    saga = Saga("s", [world.step("a")])
    names = [f"o-{number}" for number in range(20)]
    interrupt(sqlite, saga, *names)
    watched = Watched(sqlite)

    with daemon_of(drive(saga, journal=watched)):
        eventually(lambda: all(found(sqlite, name).state == "succeeded" for name in names))

    assert watched.alone == []


def test_many_executions_are_found_claimed_and_read_as_each_alone(tmp_path):
    """Unknown executions, and executions of another living driver, are left out."""
    clock = Clock()
    with two_drivers(tmp_path / "sagas.db", clock) as journal:
        journal.write_all([opening(name, "executing.a", driver=None, held=False) for name in ("x", "y")])
        journal.write(opening("theirs", "executing.a", driver=OTHER.id))
        journal.write(going_on("theirs", 2, driver=OTHER.id))
        names = ["y", "unknown", "theirs", "x", "half a \ud800"]

        assert many_of(journal) is journal
        assert journal.find_all(names) == {name: found(journal, name) for name in ("x", "y", "theirs")}
        assert journal.records_of_all(names) == {name: journal.records(name) for name in ("x", "y", "theirs")}
        with statements(journal) as executed:
            claimed = journal.claim_all(names, "d-1")
        assert executed.count("COMMIT") == 1
        assert claimed == {name: found(journal, name) for name in ("x", "y")}
        assert {entry.driver.id for entry in claimed.values() if entry.driver is not None} == {"d-1"}
        assert (journal.claim_all([], "d-1"), journal.find_all([]), journal.records_of_all([])) == ({}, {}, {})
