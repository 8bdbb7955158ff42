"""The saga daemon takes up what nobody drives, all the time, whatever fails; and other processes reach an execution."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from fsm_mediator import JournalError, Mediator, RefusedError, Retry, Saga, Sleep, SQLiteJournal, step
from fsm_mediator.journal.protocol import Commit
from fsm_mediator.mediator.recovery import RecoveryPoll
from fsm_mediator.records import Acceptance
from tests.drivers import Looping, core_of, eventually

ROOT = Path(__file__).parent.parent
PATIENCE = 60.0


@contextlib.contextmanager
def daemon_of(mediator):
    """The daemon of either mediator, as a plain context manager."""
    if not isinstance(mediator, Looping):
        with mediator.daemon(poll=0.02):
            yield
        return
    daemon = mediator.inner.daemon(poll=0.02)
    run = asyncio.run_coroutine_threadsafe
    run(daemon.__aenter__(), mediator.loop).result(PATIENCE)
    yield
    run(daemon.__aexit__(None, None, None), mediator.loop).result(PATIENCE)


def until(journal, saga_id, state):
    """Wait until an execution is in *state*."""
    limit = time.monotonic() + PATIENCE
    while (entry := journal.find(saga_id)) is None or not entry.state.startswith(state):
        assert time.monotonic() < limit, entry
        time.sleep(0.01)


def saga_of(done, *, waits=False):
    """One step, which may ask to be tried again soon; compensated by nothing."""

    # A wait that a test must see: a busy machine may look at it late.
    @step(retry=Retry(attempts=None, wait_initial=0.5 if waits else 0.05, wait_jitter=0.0))
    def work(order):
        done.append(order)
        if waits and len(done) == 1:
            raise ValueError("not yet")

    return Saga("work", [work])


def of_another_saga(path):
    """A saga that is not the execution's."""
    return Saga("other", [step(name="a")(lambda order: None)])


def with_an_illegal_record(path):
    """The execution's saga, after its record was changed: the machine never writes such a record."""
    with contextlib.closing(sqlite3.connect(path)) as file, file:
        file.execute("UPDATE records SET source = 'waiting.nap' WHERE seq = 1")
    return Saga("sleeps", [Sleep("nap", 0.05)])


@pytest.mark.parametrize("undrivable", [of_another_saga, with_an_illegal_record])
def test_a_daemon_is_not_busy_with_what_it_cannot_drive(tmp_path, undrivable):
    """An execution that is due, but cannot be driven, is handed over once; then the daemon waits as for any other."""
    path = tmp_path / "sagas.db"
    journal = SQLiteJournal(path, durability="normal")
    sleeps = Saga("sleeps", [Sleep("nap", 0.05)])
    with Mediator(sleeps, journal=journal, park_after=0.0) as mediator:
        mediator.start("sleeps", saga_id="o-1")
        until(journal, "o-1", "waiting.nap")
    time.sleep(0.06)
    with Mediator(undrivable(path), journal=journal) as mediator:
        rounds = RecoveryPoll(core_of(mediator), poll=5.0)
        assert rounds.claim(8) == (0.01, False)
        eventually(lambda: not core_of(mediator).owned.active)

        assert rounds.claim(8) == (5.0, False)
        assert journal.claimable(time.time(), 9) == ["o-1"]
        assert (journal.next_wake() or 0.0) < time.time()
    journal.close()


@pytest.mark.parametrize("unknown_first", [True, False])
def test_a_saga_is_driven_beside_an_unknown_one_of_the_same_shape(drive, journal, unknown_first):
    """Two sagas of one shape have one fingerprint. Where only one of them is registered, its executions are driven."""
    shape = [step(name="a")(lambda order: None)]
    known, unknown = Saga("known", shape), Saga("unknown", shape)
    other = drive(known, unknown, journal=journal)
    for name in ("unknown", "known") if unknown_first else ("known", "unknown"):
        saga = core_of(other).registry.saga(name)
        opened = Acceptance(name, name, "1", saga.fingerprint, None, time.time())
        journal.write(Commit(name, (), held=False, acceptance=opened))

    mediator = drive(known, journal=journal)
    with daemon_of(mediator):
        eventually(lambda: core_of(mediator).setbacks.is_waiting("unknown"))
        until(journal, "known", "succeeded")
        opened = Acceptance("later", "known", "1", known.fingerprint, None, time.time())
        journal.write(Commit("later", (), held=False, acceptance=opened))
        until(journal, "later", "succeeded")


class Leave(BaseException):
    """Ends a run where it stands."""


def leave(journal, saga_id):
    """Have an execution begun, and left in its first step."""

    @step
    def work(order):
        raise Leave

    with pytest.raises(Leave):
        Mediator(Saga("work", [work]), journal=journal).run("work", saga_id, saga_id=saga_id)


def test_the_daemon_takes_up_what_was_left(drive, journal):
    """Whatever is left while it runs is driven on to its end, without anybody asking."""
    done: list[str] = []
    leave(journal, "before")
    with daemon_of(drive(saga_of(done), journal=journal)):
        until(journal, "before", "succeeded")
        leave(journal, "meanwhile")
        until(journal, "meanwhile", "succeeded")
    assert sorted(done) == ["before", "meanwhile"]


def test_the_daemon_wakes_what_is_parked(drive, journal):
    """A saga that waits longer than `park_after` is held by nobody; the daemon wakes it when it is due."""
    done: list[str] = []
    starter = drive(saga_of(done, waits=True), journal=journal, park_after=0.0)
    starter.start("work", "x", saga_id="parked")
    until(journal, "parked", "retrying")
    with daemon_of(drive(saga_of(done), journal=journal)):
        until(journal, "parked", "succeeded")
    assert done == ["x", "x"]


class Failing:
    """A journal that cannot be looked through for a while."""

    def __init__(self, inner, fails):
        self.inner = inner
        self.fails = fails
        self.failed = threading.Event()

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def claim_some(self, *args):
        if self.fails:
            self.fails -= 1
            self.failed.set()
            raise JournalError("the disk is gone")
        return self.inner.claim_some(*args)


def test_the_daemon_outlives_a_failing_journal(drive, journal, caplog, monkeypatch):
    """A database that fails for a while is a warning, and the daemon goes on when it is back."""
    from fsm_mediator.mediator import recovery

    monkeypatch.setattr(recovery, "BACKOFF", Retry(attempts=None, wait_initial=0.01, wait_jitter=0.0))
    done: list[str] = []
    leave(journal, "x")
    failing = Failing(journal, fails=3)
    with daemon_of(drive(saga_of(done), journal=failing)):
        assert failing.failed.wait(PATIENCE)
        until(journal, "x", "succeeded")
    assert "the disk is gone" in caplog.text


OTHER = """
import sys
from fsm_mediator import Mediator, Retry, Saga, step

@step(retry=Retry(attempts=None, wait_initial=3600.0, wait_max=3600.0, wait_jitter=0.0))
def work(order):
    print("attempted", flush=True)
    raise ValueError("not yet")

@step
def prepare(order):
    pass

@prepare.compensation
def clean(order):
    print("cleaned", flush=True)

outcome = Mediator(Saga("work", [prepare, work]), journal=sys.argv[1]).run("work", saga_id="far", check=False)
print(outcome.summary(), flush=True)
"""


def far_saga():
    """The definition that the other process drives."""
    prepare, work = step(name="prepare")(lambda order: None), step(name="work")(lambda order: None)
    prepare.compensation(lambda order: None)
    return Saga("work", [prepare, work])


@pytest.fixture
def other(tmp_path):
    """Another process, which drives an execution that waits for an hour."""
    path = tmp_path / "sagas.db"
    process = subprocess.Popen(
        [sys.executable, "-c", OTHER, str(path)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "attempted\n"
    yield process, path
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_cancel_reaches_another_process(drive, other):
    """A cancel from any process is durable, and ends a wait of an hour in the one that drives."""
    process, path = other
    journal = SQLiteJournal(path)
    until(journal, "far", "retrying")

    drive(far_saga(), journal=journal).cancel("far", "it was a mistake")

    told, _ = process.communicate(timeout=PATIENCE)
    assert "cleaned" in told
    assert "it was a mistake" in told
    journal.close()


def test_verbs_are_judged_by_the_process_that_drives(drive, other):
    """What another process drives is retried, resolved or undone there, or refused with its words."""
    process, path = other
    mediator = drive(far_saga(), journal=SQLiteJournal(path))
    for verb in (
        lambda: mediator.retry("far"),
        lambda: mediator.resolve("far", reason="because"),
        lambda: mediator.undo("far"),
    ):
        with pytest.raises(RefusedError, match=r"retrying\.work"):
            verb()
    assert process.poll() is None


def test_a_paused_process_is_not_robbed(drive, other):
    """A process that is stopped still lives: what it drives is left to it, however long it sleeps."""
    process, path = other
    journal = SQLiteJournal(path, lease=0.01)
    until(journal, "far", "retrying")
    process.send_signal(signal.SIGSTOP)

    assert drive(far_saga(), journal=journal).recover() == []

    process.send_signal(signal.SIGCONT)
    journal.close()


def test_a_dead_process_is_noticed_at_once(drive, other):
    """The moment its process is gone an execution can be taken up; no lease is waited for."""
    process, path = other
    journal = SQLiteJournal(path)
    until(journal, "far", "retrying")
    process.kill()
    process.wait()
    entry = journal.find("far")
    assert entry is not None
    assert not entry.driver_alive

    drive(far_saga(), journal=journal).cancel("far")

    until(journal, "far", "failed")
    journal.close()


TWIN = """
import sys
from fsm_mediator import Mediator, Saga, step

@step
def work(order):
    with open(sys.argv[2], "a") as ledger:
        ledger.write(order + "\\n")
    return order

mediator = Mediator(Saga("work", [work]), journal=sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
for number in range(20):
    assert mediator.run("work", f"o-{number}", saga_id=f"o-{number}").results["work"] == f"o-{number}"
mediator.close()
"""


def test_the_same_id_started_by_several_processes_at_once_is_one_execution(tmp_path):
    """Whoever comes second joins the first: each saga runs once, and every process gets its result."""
    path, ledger = tmp_path / "sagas.db", tmp_path / "ledger"
    SQLiteJournal(path, durability="normal").close()
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", TWIN, str(path), str(ledger)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        process.communicate(timeout=4 * PATIENCE)

    assert [process.returncode for process in processes] == [0, 0, 0]
    assert sorted(ledger.read_text().split()) == sorted(f"o-{number}" for number in range(20))
    journal = SQLiteJournal(path)
    assert {entry.state for entry in journal.entries()} == {"succeeded"}
    journal.close()
