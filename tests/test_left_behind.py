"""Nobody is left behind: not by who took an execution up and left it as it was, by an interrupt, nor by a fork."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fsm_mediator import (
    LeaseLostError,
    Mediator,
    MemoryJournal,
    Parallel,
    RefusedError,
    Retry,
    Saga,
    SagaStuckError,
    Signal,
    SQLiteJournal,
    StillRunningError,
)
from fsm_mediator.journal.liveness import this_driver
from fsm_mediator.journal.protocol import Commit
from fsm_mediator.mediator.active import ActiveExecution
from fsm_mediator.mediator.branches import branches_status, is_branch_quiescent
from fsm_mediator.mediator.pool import ThreadCall
from fsm_mediator.records import BEGIN, CHILD, SIGNAL, Acceptance, InboxItem, Record
from tests.commits import found
from tests.drivers import ONCE, PATIENCE, World, core_of, eventually, finish, in_thread


def this_driver_named(name):
    """This process, as a driver of that name."""
    return msgspec.structs.replace(this_driver(), id=name)


def stuck_and_called(journal):
    """A driver that has taken up an execution which is stuck in a group, for one of its branches has said a word."""
    first, second = map(this_driver_named, ("d-1", "d-2"))
    if isinstance(journal, SQLiteJournal):
        second = msgspec.structs.replace(second, started="1")  # of a process that has ended
    for driver in (first, second):
        journal.enlist(driver)
    records = (
        Record("o-1", "s", 1, "start", "pending", "waiting.g", 1.0),
        Record("o-1", "s", 2, "exhausted", "waiting.g", "stuck.g", 2.0, "g"),
    )
    acceptance = Acceptance("o-1", "s", "1", "f", None, 1.0)
    journal.write(Commit("o-1", records, "d-1", held=False, awaits=True, acceptance=acceptance))
    assert journal.claimable(3.0, 9) == []
    journal.post("o-1", InboxItem(CHILD, "a", "succeeded", at=3.0))
    assert journal.claimable(3.0, 9) == ["o-1"]
    return second


@pytest.mark.parametrize("how", ["released", "dismissed"])
def test_who_is_stuck_is_still_called_when_its_driver_leaves_it_as_it_was(journal, how):
    """A driver that took it up and had to leave it before it wrote: the next one finds it."""
    driver = stuck_and_called(journal)
    entry = journal.claim("o-1", driver.id)
    if how == "released":
        journal.release("o-1", entry.epoch)
    else:
        journal.dismiss(driver.id)
    assert journal.claimable(3.0, 9) == ["o-1"]
    assert journal.find("o-1").called


def test_who_is_stuck_is_still_called_when_its_driver_dies(tmp_path):
    """The process that took it up died before it wrote: another one finds it."""
    journal = SQLiteJournal(tmp_path / "sagas.db")
    driver = stuck_and_called(journal)
    assert journal.claim("o-1", driver.id) is not None
    assert journal.claimable(3.0, 9) == ["o-1"]
    journal.close()


def test_a_driver_that_was_forgotten_enlists_again(drive, tmp_path, caplog):
    """A machine slept for a week, and another that shares the file took its driver for gone: it goes on."""
    world = World()
    journal = SQLiteJournal(tmp_path / "sagas.db", durability="normal", lease=0.15)
    mediator = drive(Saga("s", [world.step("a")]), journal=journal)
    assert mediator.run("s").succeeded
    with contextlib.closing(SQLiteJournal(tmp_path / "sagas.db")) as other:
        other.dismiss(core_of(mediator).driver.id)

    def runs():
        try:
            return mediator.run("s").succeeded
        except LeaseLostError:  # not yet
            return False

    assert eventually(runs)
    assert "enlists again" in caplog.text


def test_who_was_dismissed_by_closing_does_not_enlist_again(drive, journal, caplog):
    """A beat may be under way while the mediator says goodbye."""
    mediator = drive(Saga("s", [World().step("a")]), journal=journal)
    assert mediator.run("s").succeeded
    mediator.close()
    core_of(mediator).heartbeat()
    with pytest.raises(LeaseLostError):
        journal.beat(core_of(mediator).driver.id)
    assert "enlists again" not in caplog.text


def test_who_beats_goes_on_whatever_a_beat_raises(drive, tmp_path, monkeypatch, caplog):
    """A journal of somebody else's may raise anything; a cancel from another process is noticed by a later beat."""
    beats = []
    beat = SQLiteJournal.beat

    def broken_at_first(self, driver_id):
        beats.append(driver_id)
        if len(beats) == 1:
            raise ZeroDivisionError
        return beat(self, driver_id)

    monkeypatch.setattr(SQLiteJournal, "beat", broken_at_first)
    journal = SQLiteJournal(tmp_path / "sagas.db", durability="normal", lease=0.06)
    mediator = drive(Saga("s", [World().step("a")]), journal=journal)
    assert mediator.run("s").succeeded

    assert eventually(lambda: len(beats) > 2)
    assert "ZeroDivisionError" in caplog.text


def test_a_whole_that_compensates_waits_for_a_word_of_its_branches(journal):
    """Parked amid the compensation of a group it is in the midst of nothing: nobody takes it up until a branch ends."""
    journal.enlist(this_driver_named("d-1"))
    records = (Record("o-1", "s", 1, "in_doubt", "waiting.g", "compensating.g", 1.0),)
    acceptance = Acceptance("o-1", "s", "1", "f", None, 1.0)
    journal.write(Commit("o-1", records, "d-1", acceptance=acceptance))
    journal.write(Commit("o-1", (), "d-1", held=False, awaits=True))
    assert journal.claimable(3.0, 9) == []
    journal.post("o-1", InboxItem(CHILD, "a", "failed", at=3.0))
    assert journal.claimable(3.0, 9) == ["o-1"]


def test_a_branch_that_is_not_its_turn_yet_is_taken_up_by_nobody(journal):
    """Of a group with `at_most`, whoever recovers finds only the branches that may go on, until another has settled."""
    journal.enlist(this_driver_named("d-1"))
    records = (Record("o-1", "s", 1, "start", "pending", "waiting.g", 1.0, children=("a", "b")),)
    whole = Acceptance("o-1", "s", "1", "f", None, 1.0)
    a, b = (Acceptance(f"o-1/g.{name}", "s/g", "1", "f", None, 1.0, None, "o-1") for name in "ab")
    journal.write(Commit("o-1", records, "d-1", held=False, awaits=True, acceptance=whole, children=(a,), dormant=(b,)))
    assert journal.claimable(3.0, 9) == ["o-1/g.a"]
    journal.post("o-1/g.b", InboxItem(BEGIN, at=3.0))
    assert journal.claimable(3.0, 9) == ["o-1/g.a", "o-1/g.b"]


def test_a_word_that_came_while_it_got_stuck_is_heard(journal):
    """A branch ended between its driver's last look and the record that it is stuck: it is looked at once more."""
    journal.enlist(this_driver_named("d-1"))
    records = (Record("o-1", "s", 1, "in_doubt", "waiting.g", "compensating.g", 1.0),)
    journal.write(Commit("o-1", records, "d-1", acceptance=Acceptance("o-1", "s", "1", "f", None, 1.0)))
    journal.post("o-1", InboxItem(CHILD, "a", "failed", at=2.0))
    seen = journal.inbox("o-1")[-1].number
    journal.post("o-1", InboxItem(CHILD, "b", "failed", at=3.0))
    stuck = (Record("o-1", "s", 2, "compensation_exhausted", "compensating.g", "stuck.g", 4.0, "g"),)
    journal.write(Commit("o-1", stuck, "d-1", held=False, awaits=True, seen=seen, taken=(seen,)))
    assert journal.claimable(5.0, 9) == ["o-1"]


def test_who_runs_the_whole_takes_up_branches_that_nobody_drives(drive, journal):
    """Its mediator was closed while a branch waited: who runs the id again has the branch driven on, too."""
    world, now = World(), [1000.0]
    hour = Retry(attempts=2, wait_initial=3600.0, wait_max=3600.0, wait_jitter=0.0)
    saga = Saga("s", [Parallel("g", [world.step("a", OSError(), "done", retry=hour)])])
    first = drive(saga, journal=journal, clock=lambda: now[0])
    first.start("s", saga_id="o-1")
    eventually(lambda: (entry := journal.find("o-1/g.a")) is not None and entry.state == "retrying.a")
    first.close()
    now[0] += 3601.0

    second = drive(saga, journal=journal, clock=lambda: now[0])

    assert in_thread(second.run, "s", saga_id="o-1")().results == {"g": {"a": "done"}}


def test_a_signal_that_came_with_the_commit_that_parks_is_taken(drive, journal, monkeypatch):
    """Another process said it just before the saga was parked: it goes on, with no daemon to find it."""
    write, write_all = journal.write, journal.write_all
    said: list[bool] = []

    def say(commit):
        if not said and commit.records and commit.records[-1].target == "waiting.ok":
            said.append(journal.post("o-1", InboxItem(SIGNAL, "ok", "yes", at=1.0)))

    def written(commit):
        say(commit)
        return write(commit)

    def all_written(commits):
        for commit in commits:
            say(commit)
        return write_all(commits)

    monkeypatch.setattr(journal, "write", written)
    monkeypatch.setattr(journal, "write_all", all_written)
    mediator = drive(Saga("s", [Signal("ok"), World().step("a")]), journal=journal)
    mediator.start("s", saga_id="o-1")
    eventually(lambda: journal.find("o-1").state == "succeeded")
    assert said == [True]


def test_a_verb_that_was_refused_loses_no_word_of_a_branch(drive, journal):
    """A branch was resolved where the parent is not driven; a refused verb on the parent does not make it deaf."""
    world = World()
    jams = world.step("good", undo=[RuntimeError("jammed")], compensation_retry=ONCE)
    bad = world.step("bad", ValueError("no"), retry=ONCE)
    saga = Saga("s", [Parallel("g", [jams, bad], on_failure="settle")])  # so that there is something to undo
    mediator = drive(saga, journal=journal)
    with pytest.raises(SagaStuckError):
        mediator.run("s", saga_id="o-1")
    eventually(lambda: not core_of(mediator).owned)  # it may look once more at what its branches have said
    journal.post("o-1", InboxItem(CHILD, "good", "failed", at=1e10))  # as the branch does, elsewhere
    assert journal.claimable(2e10, 9) == ["o-1"]

    with pytest.raises(RefusedError):
        mediator.undo("o-1")

    assert journal.claimable(2e10, 9) == ["o-1"]


def test_a_branch_of_a_group_that_was_settled_by_hand_executes_nothing_more(drive, journal):
    """A person made sure that the whole group is done; retrying its branch would do it twice, and is refused."""
    world = World()
    branch = world.step("a", ValueError("no"), undo=None, retry=ONCE)
    saga = Saga("s", [world.step("pay", undo=None, pivot=True), Parallel("g", [branch]), world.step("z", undo=None)])
    mediator = drive(saga, journal=journal)
    with pytest.raises(SagaStuckError):
        mediator.run("s", saga_id="o-1")
    assert mediator.resolve("o-1", reason="done by phone", done=True, result={"a": "done"}).succeeded

    with pytest.raises(RefusedError, match="does not wait for its group"):
        mediator.retry("o-1/g.a")

    assert world.calls == ["pay", "a", "z"]


def test_who_was_interrupted_in_a_wait_is_recovered_when_that_is_over(journal):
    """Ctrl-C while it waits for its next attempt: `recover` finds it once the wait is over, in memory as well."""
    world, now = World(), [1000.0]
    saga = Saga("s", [world.step("a", ValueError(), "done", retry=Retry(wait_initial=5.0, wait_jitter=0.0))])

    def interrupted(_):
        raise KeyboardInterrupt

    mediator = Mediator(saga, journal=journal, clock=lambda: now[0], sleep=interrupted)
    with pytest.raises(KeyboardInterrupt):
        mediator.run("s", saga_id="o-1")
    assert journal.find("o-1").wake_at == 1005.0
    assert mediator.recover() == []
    now[0] = 1006.0
    (outcome,) = mediator.recover()
    assert outcome.succeeded
    mediator.close()


def test_an_interrupt_before_branches_are_there_leaves_none_missing():
    """Ctrl-C between the record that tells of branches and their coming into being: it never was."""
    world = World()
    saga = Saga("s", [world.step("a"), Parallel("g", [world.step("b"), world.step("c")])])
    done = 0
    for line in range(1, 1000):
        journal = MemoryJournal()
        mediator = Mediator(saga, journal=journal)
        left = [line]

        def trace(frame, event, _, left=left):
            if event == "line" and frame.f_globals["__name__"].startswith("fsm_mediator.mediator.driving"):
                left[0] -= frame.f_code.co_name == "drive_in_memory"
                if left[0] == 0:
                    left[0] = -1
                    raise KeyboardInterrupt
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            mediator.run("s", saga_id="o-1")
            done += 1
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(before)
        if journal.find("o-1") is not None:
            assert mediator.wait("o-1", timeout=20).succeeded
        mediator.close()
        if done:
            break
    assert line > 10


def test_waiting_for_a_while_for_branches_asks_the_journal_for_little(drive, journal, monkeypatch):
    """`run(timeout=...)` of a group in the background waits for it; it does not take it up again and again."""
    world, claims = World(), []
    claim = journal.claim

    def counted(*args):
        claims.append(args)
        return claim(*args)

    monkeypatch.setattr(journal, "claim", counted)
    mediator = drive(Saga("s", [Parallel("g", [world.step("a", world.gate())])]), journal=journal)
    with pytest.raises(StillRunningError):
        mediator.run("s", saga_id="o-1", timeout=0.3)
    assert len(claims) < 20
    world.go()
    assert mediator.wait("o-1", timeout=20).succeeded


def test_an_attempt_that_queued_first_is_in_doubt_once_it_has_begun(drive, journal):
    """Killed in the midst of an attempt that had waited for its turn: that counts as one, and is not done over."""
    world = World()
    gates = iter([world.gate("first"), world.gate("second"), "again"])

    def billing(payload, context):
        gate = next(gates)
        return gate() if callable(gate) else gate

    saga = Saga("s", [world.step("billing", billing, retry=ONCE)])
    mediator = drive(saga, journal=journal, limits={"billing": 1})
    mediator.start("s", saga_id="o-1")
    world.begun("first")
    mediator.start("s", saga_id="o-2")
    eventually(lambda: journal.find("o-2").wake_at is not None)
    world.go("first")
    world.begun("second")

    assert journal.find("o-2").state == "executing.billing"
    assert journal.find("o-2").wake_at is None  # by which the next driver tells it from one that only queued

    world.go("second")
    assert mediator.wait("o-2").succeeded


def test_a_thread_that_ctrl_c_left_behind_keeps_its_slot(monkeypatch):
    """No more than the limit at a time, counted is also a thread that outlives the interrupt of who waited for it."""
    world = World()
    saga = Saga("s", [world.step("a", world.gate(), timeout=20.0)])
    mediator = Mediator(saga, limits={"a": 1}, close_grace=0.0)
    wait = ThreadCall.wait

    def interrupted(attempt, seconds):
        world.begun()
        monkeypatch.setattr(ThreadCall, "wait", wait)
        raise KeyboardInterrupt

    monkeypatch.setattr(ThreadCall, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        mediator.run("s", saga_id="o-1")

    mediator.start("s", saga_id="o-2")

    queued = {"o-1": None, "o-2": "a"}
    eventually(lambda: {entry.saga_id: entry.queued for entry in mediator.executions()} == queued)
    world.go()
    assert mediator.wait("o-2", timeout=20).succeeded
    mediator.close()


FORKS = """
    import asyncio, os, signal, sys, threading
    from fsm_mediator import AsyncMediator, JournalError, Mediator, Saga, step

    signal.alarm(30)
    pids = []

    def fork():
        pids.append(os.fork())
        if pids[-1]:
            os.waitpid(pids[-1], 0)

    def tell():
        print("b was done", flush=True)

    class Plain:
        saga = Saga("s", [step(name="a")(lambda payload: fork()), step(name="b")(lambda payload: tell())])
        def run(self):
            return Mediator(self.saga).run("s", saga_id="o-1")

    class Awaited:
        @step
        async def a(payload):
            fork()
        @step
        async def b(payload):
            tell()
        saga = Saga("s", [a, b])
        def run(self):
            async def main():
                return await AsyncMediator(self.saga).run("s", saga_id="o-1")
            return asyncio.run(main())

    try:
        assert {kind}().run().succeeded
    except JournalError as error:
        print("in the child:", str(error)[:27], flush=True)
    if not pids[-1]:
        os._exit(0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("kind", ["Plain", "Awaited"])
def test_a_step_that_forks_is_driven_on_in_one_of_the_two(kind):
    """The child of a fork in the midst of a step does not do the steps after it as well."""
    told = _told(FORKS.format(kind=kind))
    assert told == "in the child: the journal knows no execut\nb was done\n"


SLOTS = """
    import os, signal, threading
    from fsm_mediator import Mediator, Saga, step

    signal.alarm(30)
    begun, go = threading.Event(), threading.Event()

    def a(payload):
        if payload == "slow":
            begun.set()
            go.wait(30)

    mediator = Mediator(Saga("s", [step(a)]), limits={"a": 1})
    mediator.start("s", "slow", saga_id="slow")
    begun.wait(30)
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        print(mediator.run("s", "quick").state, flush=True)
        os._exit(0)
    os.waitpid(child, 0)
    go.set()
    print(mediator.wait("slow").state)
    mediator.close()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_has_all_slots_of_a_limit():
    """Whoever had a slot when the process forked has it in the parent: nobody in the child waits for it for ever."""
    assert _told(SLOTS) == "succeeded\nsucceeded\n"


def _told(script):
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(script)]
    root = Path(__file__).parents[1]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=60, check=False).stdout


def parked_in_a_group(mediator):
    """An execution all of whose branches wait; as it is listed, and its outcome."""
    outcome = mediator.run("asks", 1, saga_id="o-1", check=False)
    assert outcome.state == "waiting.g"
    # Who saw it rest may be just leaving, and who drove its branch calls it once more.
    return eventually(lambda: resting(mediator)), outcome


def resting(mediator):
    """The execution as it is listed, if nothing goes on in it."""
    listed = mediator.journal.find("o-1")
    return listed if is_branch_quiescent(core_of(mediator).store, listed) else None


def asking(world):
    """A group of nothing but a signal, and a step after it."""
    return Saga("asks", [Parallel("g", [Signal("yes")]), world.step("a")])


def test_who_has_gone_on_since_it_was_listed_is_not_taken_to_rest(drive, journal):
    """Branches are listed, and looked into afterwards: in between one may have left the group it waited in."""
    world = World()
    mediator = drive(asking(world), journal=journal)
    listed, _ = parked_in_a_group(mediator)
    assert is_branch_quiescent(core_of(mediator).store, listed)

    mediator.signal("o-1", "g.yes", "aye")
    assert mediator.wait("o-1").succeeded

    assert not is_branch_quiescent(core_of(mediator).store, listed)


def test_who_waits_is_not_told_of_a_look_from_before(drive, journal):
    """Its driver saw that all branches rest, and is just leaving; the signal has come since: the wait goes on."""
    world = World()
    mediator = drive(asking(world), journal=journal)
    _, outcome = parked_in_a_group(mediator)
    active = ActiveExecution("o-1", background=True)
    core_of(mediator).owned.active["o-1"] = active
    result = in_thread(mediator.wait, "o-1")
    eventually(lambda: active.wait.done is not None)
    assert journal.post("o-1/g.yes", InboxItem(SIGNAL, "yes", "aye", at=1.0))

    active.rests = True
    finish(mediator, active, outcome)

    assert result().results["g"] == {"yes": "aye"}


def test_a_wait_with_a_timeout_sees_that_all_branches_rest(drive, journal):
    """However often it looks, and though nobody drives the execution at that moment."""
    mediator = drive(asking(World()), journal=journal)
    parked_in_a_group(mediator)
    for _ in range(20):
        assert mediator.wait("o-1", timeout=30.0, check=False).state == "waiting.g"


def test_a_retry_reaches_the_branch_whose_driver_is_just_leaving(drive, journal):
    """The whole is stuck as soon as the branch says that it is; whoever drove the branch may not have gone by then."""
    world = World()
    once = world.step("b", ValueError("no"), "b done", retry=ONCE, undo=None)
    saga = Saga("s", [world.step("a", pivot=True, undo=None), Parallel("g", [once])])
    mediator = drive(saga, journal=journal)
    assert mediator.run("s", 1, saga_id="o-1", check=False).state == "stuck.g"
    core = core_of(mediator)
    leaving = ActiveExecution("o-1/g.b", core.store.load_execution(mediator.journal.find("o-1/g.b")), 1)
    core.owned.active["o-1/g.b"] = leaving
    result = in_thread(mediator.retry, "o-1")
    eventually(lambda: leaving.wait.done is not None)

    finish(mediator, leaving)

    assert result().succeeded


def test_after_the_pivot_a_stuck_branch_that_is_retried_has_the_whole_go_on(drive, journal):
    """Nobody need wait for the whole: once its last branch is mended it goes on by itself."""
    world = World()
    stubborn = world.step("c", ValueError("no"), "mended", undo=None, retry=ONCE)
    saga = Saga(
        "alone", [world.step("pay", undo=None, pivot=True), Parallel("g", [world.step("b", undo=None), stubborn])]
    )
    mediator = drive(saga, journal=journal)
    mediator.start("alone", 1, saga_id="o-1")
    eventually(lambda: mediator.outcome("o-1").state == "stuck.g")

    mediator.retry("o-1/g.c")

    eventually(lambda: mediator.outcome("o-1").succeeded)


def test_who_gets_stuck_while_its_branch_is_settled_hears_of_it(drive, journal, monkeypatch):
    """The word of the branch comes with the very commit that says that the whole is stuck, and is acted on."""
    world = World()
    held = world.step("a", undo=(ValueError("closed"),), compensation_retry=ONCE)
    refused = world.step("b", ValueError("no"), retry=ONCE, undo=None)
    saga = Saga("s", [world.step("first"), Parallel("g", [Saga("a", [held, refused])])])
    mediator = drive(saga, journal=journal)
    settled: list[Any] = []

    def settle_before(commit):
        if commit.saga_id == "o-1" and commit.records and commit.records[-1].target == "stuck.g" and not settled:
            settled.append(in_thread(person.resolve, "o-1/g.a", reason="looked", done=False))
            settled[0]()

    person = Mediator(saga, journal=journal, park_after=1e9)
    in_turn(journal, monkeypatch, settle_before)

    mediator.run("s", 1, saga_id="o-1", check=False)

    eventually(lambda: mediator.outcome("o-1").failed)
    assert settled
    assert world.calls[-1] == "undo first"
    person.close(0.0)


def in_turn(journal, monkeypatch, before):
    """Have *before* called with each commit that is about to be written."""
    for name in ("write", "write_all"):
        whole = getattr(journal, name)

        def write(given, whole=whole):
            for commit in given if isinstance(given, list) else [given]:
                before(commit)
            return whole(given)

        monkeypatch.setattr(journal, name, write)


def test_a_branch_that_nobody_drives_is_taken_up_when_its_time_has_come():
    """A branch waits for its next attempt and has no driver. The parent's driver leaves it until it is due."""
    now, world, journal = [1000.0], World(), MemoryJournal()
    hourly = Retry(wait_initial=3600.0, wait_max=3600.0, wait_jitter=0.0)
    saga = Saga("s", [Parallel("g", [world.step("a", OSError(), retry=hourly), world.step("b")])])
    settings: dict[str, Any] = {"clock": lambda: now[0], "park_after": 0.0, "close_grace": 0.0}
    with contextlib.closing(Mediator(saga, journal=journal, **settings)) as parks:
        parks.start("s", saga_id="x")
        eventually(lambda: {each.state for each in journal.entries(parent="x")} == {"retrying.a", "succeeded"})
        eventually(lambda: found(journal, "x/g.a").driver is None)
    store = core_of(Mediator(saga, journal=journal, **settings)).store

    def unowned() -> tuple[str, ...]:
        return branches_status(store, store.load_execution(store.entry("x"))).unowned

    now[0] = 4599.9
    assert unowned() == ()
    now[0] = 4600.0
    assert unowned() == ("x/g.a",)


def test_only_the_unowned_branch_of_a_branch_is_taken_up():
    """A branch waits for a branch of its own, which nobody drives. Only the latter is claimed."""
    now, world, journal = [1000.0], World(), MemoryJournal()
    hourly = Retry(wait_initial=3600.0, wait_max=3600.0, wait_jitter=0.0)
    inner = Saga("a", [Parallel("h", [world.step("c", OSError(), retry=hourly), world.step("d")])])
    saga = Saga("s", [Parallel("g", [inner, world.step("b")])])
    settings: dict[str, Any] = {"clock": lambda: now[0], "park_after": 0.0, "close_grace": 0.0}
    with contextlib.closing(Mediator(saga, journal=journal, **settings)) as parks:
        parks.start("s", saga_id="x")
        states = ["retrying.c", "succeeded", "succeeded", "waiting.g", "waiting.h"]
        eventually(lambda: sorted(each.state for each in journal.entries()) == states)
        eventually(lambda: all(each.driver is None and not each.called for each in journal.entries()))
    now[0] = 4600.0
    store = core_of(Mediator(saga, journal=journal, **settings)).store

    assert branches_status(store, store.load_execution(store.entry("x"))).unowned == ("x/g.a/h.c",)


def test_a_branch_that_another_mediator_drives_is_left_to_it():
    """A waiting parent takes up no branch whose driver is alive."""
    answered, world, journal = threading.Event(), World(), MemoryJournal()
    waits = world.step("a", lambda *_: answered.wait(PATIENCE))
    saga = Saga("s", [Parallel("g", [waits, world.step("b")])])
    with contextlib.closing(Mediator(saga, journal=journal)) as drives:
        drives.start("s", saga_id="x")
        eventually(lambda: {each.state for each in journal.entries(parent="x")} == {"executing.a", "succeeded"})
        store = core_of(Mediator(saga, journal=journal)).store
        unowned = branches_status(store, store.load_execution(store.entry("x"))).unowned
        answered.set()

    assert unowned == ()
