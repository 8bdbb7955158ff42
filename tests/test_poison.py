"""Poison is bounded: an effect in which every driver dies ends in a state where a person, or a rule, decides."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from fsm_mediator import (
    Choose,
    DefinitionError,
    Happened,
    Mediator,
    NotHappened,
    Retry,
    Saga,
    Sleep,
    SQLiteJournal,
    verify,
)
from fsm_mediator.journal.protocol import NO_RECOVERIES, Commit, Recoveries
from fsm_mediator.records import Acceptance
from tests.drivers import MORTAL, Died, World

ENDLESS = Retry(attempts=None, wait_initial=0.0, wait_jitter=0.0)
ROOT = Path(__file__).parent.parent


class Orphaning:
    """A journal for drivers that die in this process: what they release without a record counts as left by the dead."""

    def __init__(self, inner):
        self.inner = inner
        self.orphans = set()

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def release(self, saga_id, epoch):
        self.inner.release(saga_id, epoch)
        self.orphans.add(saga_id)

    def claim(self, saga_id, driver_id):
        entry = self.inner.claim(saga_id, driver_id)
        abandoned = saga_id in self.orphans
        self.orphans.discard(saga_id)
        return entry and msgspec.structs.replace(entry, abandoned=abandoned)

    def claim_all(self, saga_ids, driver_id):
        claimed = [self.claim(saga_id, driver_id) for saga_id in saga_ids]
        return {entry.saga_id: entry for entry in claimed if entry is not None}


class Recovery:
    """Starts a saga, and has one mediator after another recover it, until one of them is left alive."""

    def __init__(self, drive, journal):
        self.drive = drive
        self.journal = Orphaning(journal)

    def __call__(self, saga, **settings):
        """The number of drivers that died, and the outcome."""
        for deaths in range(100):
            mediator = self.drive(saga, journal=self.journal, **MORTAL, **settings)
            with contextlib.suppress(Died):
                return deaths, mediator.run(saga, saga_id="p-1", check=False)
        raise AssertionError("its drivers die for ever")


@pytest.fixture
def recovered(drive, journal):
    """A `Recovery` with each mediator and each journal."""
    return Recovery(drive, journal)


def dies(*_):
    """A callback that ends its process."""
    raise Died


@pytest.mark.parametrize(("attempts", "asked"), [(1, 1), (3, 3), (None, 10)])
def test_a_probe_that_kills_its_driver_cannot_tell(recovered, attempts, asked):
    """After as many crashes as the step has attempts, and 10 where these have no limit, the rules go on from there."""
    world = World()
    unknown = TimeoutError("no answer")
    retry = Retry(attempts=attempts, wait_initial=0.0, wait_jitter=0.0)
    pay = world.step("pay", unknown, retry=retry, repeatable=False, probe=dies)

    deaths, outcome = recovered(Saga("s", [world.step("a"), pay]))

    assert deaths == asked
    assert outcome.failed
    assert world.calls == ["a", "pay", "undo pay", "undo a"]
    [record] = [record for record in outcome.history if record.source == "probing.pay"]
    assert record.event == "in_doubt"
    assert record.reason == f"its probe could not tell: whoever asked it ended before the answer, {asked} times"
    assert recovered.journal.find("p-1").recoveries == NO_RECOVERIES


def test_a_crash_while_probing_makes_no_move_and_waits(drive, journal):
    """The row counts, and has the time at which the probe is asked again; an early claimer waits for the rest of it."""
    now, slept, answers = [100.0], [], [Died(), Died(), Happened("paid")]
    journal = Orphaning(journal)

    def sleep(seconds):
        slept.append(seconds)
        now[0] += seconds

    def probe(*_):
        answer = answers.pop(0)
        if isinstance(answer, Died):
            raise answer
        return answer

    retry = Retry(attempts=3, wait_initial=8.0, wait_jitter=0.0)
    saga = Saga("s", [World().step("pay", TimeoutError("no answer"), retry=retry, probe=probe)])
    settings = {"journal": journal, "clock": lambda: now[0], "sleep": sleep, **MORTAL}
    for seq in (2, 2):
        with pytest.raises(Died):
            drive(saga, **settings).run(saga, saga_id="p-1")
        assert journal.find("p-1").seq == seq

    assert journal.find("p-1").recoveries == Recoveries(1, 1)
    assert slept == [8.0]
    assert drive(saga, **settings).run(saga, saga_id="p-1").results == {"pay": "paid"}
    assert slept == [8.0, 16.0]  # as between attempts
    assert journal.find("p-1").recoveries == NO_RECOVERIES


def test_the_wait_of_a_probe_is_in_the_row(tmp_path):
    """In the background a long one is given up like any wait; then it is nobody's crash, and the rest is waited for."""
    calls = []

    def probe(*_):
        calls.append("probe")
        if len(calls) == 1:
            raise Died
        return NotHappened()

    retry = Retry(attempts=2, wait_initial=600.0, wait_max=600.0, wait_jitter=0.0)
    saga = Saga("s", [World().step("pay", TimeoutError("no answer"), "paid", retry=retry, probe=probe)])
    now = [1000.0]
    journal = Orphaning(SQLiteJournal(tmp_path / "sagas.db"))
    settings = {"journal": journal, "clock": lambda: now[0], "park_after": 60.0, **MORTAL}
    with Mediator(saga, **settings) as mediator, pytest.raises(Died):
        mediator.run(saga, saga_id="p-1")
    with Mediator(saga, **settings) as mediator:
        mediator.recover()
        entry = journal.find("p-1")
        assert (entry.state, entry.driver, entry.recoveries) == ("probing.pay", None, Recoveries(1, 1))
        assert entry.wake_at == 1600.0
        assert journal.claimable(1599.0, 10) == []
        assert journal.claimable(1600.0, 10) == ["p-1"]
    now[0] = 1600.0
    with Mediator(saga, **settings) as mediator:
        [outcome] = mediator.recover()
        assert calls == ["probe", "probe"]
        assert outcome.results == {"pay": "paid"}
    journal.close()


@pytest.mark.parametrize("verb", ["execute", "compensate", "probe"])
def test_too_many_recoveries_lead_to_a_person(recovered, verb):
    """Whatever the policy allows: past `max_recoveries` it is stuck, and a person's retry counts anew."""
    world = World()
    scripts = {"execute": (dies,), "compensate": ("done",), "probe": (TimeoutError("no answer"),)}
    settings = {"retry": ENDLESS, "compensation_retry": ENDLESS, "undo": (dies,)}
    pay = world.step("pay", *scripts[verb], **settings, probe=dies if verb == "probe" else None)
    fails = world.step("fails", ValueError("no"), retry=Retry(attempts=1), undo=None)

    saga = Saga("s", [pay, fails])
    deaths, outcome = recovered(saga, max_recoveries=4)

    assert deaths == 5
    assert outcome.stuck
    assert outcome.state == ("stuck.pay" if verb == "compensate" else "stuck_executing.pay")
    last = outcome.history[-1]
    assert last.event == ("compensation_exhausted" if verb == "compensate" else "exhausted")
    assert last.in_doubt is (verb != "compensate")
    assert "one driver after another died" in str(last.error)
    assert recovered.journal.find("p-1").recoveries.total == 5
    assert "stuck" in outcome.diagram().to_mermaid()
    with pytest.raises(Died):
        recovered.drive(saga, journal=recovered.journal, **MORTAL).retry("p-1")
    assert recovered.journal.find("p-1").recoveries == NO_RECOVERIES


def test_progress_counts_anew(recovered):
    """Only what gets no further is counted: a step executed, a compensation done, a wait begun."""
    world = World()
    steps = [world.step(name, *[dies] * 3, "done", retry=ENDLESS) for name in "abc"]

    deaths, outcome = recovered(Saga("s", [*steps[:2], Sleep("nap", 0.0), steps[2]]), max_recoveries=3)

    assert outcome.succeeded
    assert deaths == 9
    assert recovered.journal.find("p-1").recoveries == NO_RECOVERIES


def test_an_orderly_handover_is_not_counted(drive, journal):
    """A driver that releases what it drives has not died, however often it does."""
    world = World()
    saga = Saga("s", [world.step("a", *[dies] * 5, "done", retry=ENDLESS)])
    for _ in range(5):
        with pytest.raises(Died):
            drive(saga, journal=journal, max_recoveries=1, **MORTAL).run(saga, saga_id="p-1")

    assert drive(saga, journal=journal, max_recoveries=1).run(saga, saga_id="p-1").succeeded


@pytest.mark.parametrize("settings", [{}, {"max_recoveries": 3}])
def test_a_decision_that_kills_its_driver_is_no_decision(drive, journal, settings):
    """Before the first step: after 10 drivers, or as many as may recover it, the function is not called any more."""
    called = []

    def choose(*_):
        called.append(1)
        raise Died

    saga = Saga("s", [Choose("way", {"b": World().step("b")}, by=choose)])
    journal = Orphaning(journal)
    mediator = drive(saga, journal=journal, **settings, **MORTAL)
    opening = Acceptance("p-1", saga.name, saga.version, saga.fingerprint, None, 0.0)
    journal.write(Commit("p-1", (), held=False, acceptance=opening))

    for _ in range(20):
        mediator.recover()
        if journal.find("p-1").state == "failed":
            break

    outcome = mediator.outcome("p-1")
    assert outcome.failed
    times = settings.get("max_recoveries", 10)
    assert f"its driver ended {times} times while the function was called" in str(outcome.error)
    assert len(called) == times + 1  # the first death is the only one that nothing had announced


def test_a_decision_after_a_wait_is_counted_and_a_wait_is_not(drive, journal):
    """Drivers that die while it only waits are no crashes of a decision, whatever comes next."""
    called, naps = [], [True] * 12

    def choose(*_):
        called.append(1)
        raise Died

    def sleep(seconds):
        if naps:
            naps.pop()
            raise Died
        now[0] += seconds

    now = [0.0]
    choice = Choose("way", {"b": World().step("b")}, by=choose)
    saga = Saga("s", [World().step("a"), Sleep("nap", 5.0), choice])
    journal = Orphaning(journal)
    mediator = drive(saga, journal=journal, clock=lambda: now[0], sleep=sleep, **MORTAL)
    for _ in range(12):
        with pytest.raises(Died):
            mediator.run(saga, saga_id="p-1", check=False)
    assert (called, journal.find("p-1").recoveries) == ([], NO_RECOVERIES)

    for _ in range(12):
        with contextlib.suppress(Died):
            mediator.run(saga, saga_id="p-1", check=False)
    outcome = mediator.outcome("p-1")

    assert outcome.failed
    assert len(called) == 11
    assert outcome.compensated == ("a",)


def test_settings_are_refused_by_name():
    """A limit that is no number of recoveries would only come to light when it is needed."""
    for wrong in (0, -1, 1.5, True, None, "50"):
        with pytest.raises(DefinitionError, match="max_recoveries must be a whole number"):
            Mediator(max_recoveries=wrong)  # type: ignore[arg-type]
    assert Mediator(max_recoveries=7).settings["max_recoveries"] == 7


def test_pictures_do_not_grow_and_verify_walks_it():
    """The states past the limit are in the widest machine alone, where `verify` goes."""
    saga = Saga("s", [World().step("a"), World().step("b", undo=None)])

    assert "stuck_executing.a" not in saga.machine.states
    report = verify(saga)
    assert report.ok
    assert {"stuck_executing.a", "stuck.b"} <= set(report.states)


WORKER = """
import os, signal, sys
from fsm_mediator import Choose, Mediator, Retry, Saga, Sleep, step
retry = Retry(attempts=None, wait_initial=0.0, wait_jitter=0.0)
def dies(*_): os.kill(os.getpid(), signal.SIGKILL)
pay = step(name="pay", retry=retry)(dies)
b = step(name="b")(lambda order: "b")
sagas = (Saga("chooses", [Sleep("nap", 0.1), Choose("way", {"b": b}, by=dies)]), Saga("pays", [pay]))
with Mediator(*sagas, journal=sys.argv[1], max_recoveries=3) as mediator:
    if not mediator.executions():
        for saga in sagas:
            mediator.start(saga, saga_id=saga.name)
    for outcome in mediator.recover():
        print(outcome.saga_id, outcome.state)
"""


def test_processes_that_are_killed_in_it(tmp_path):
    """With real processes: each of them dies in a step or a decision, until nothing is left to die in."""
    path, killed = str(tmp_path / "sagas.db"), 0
    while killed < 20:
        command = [sys.executable, "-c", WORKER, path]
        done = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True)
        if done.returncode == 0:
            break
        assert done.returncode == -9, done.stderr
        killed += 1

    with contextlib.closing(SQLiteJournal(path)) as journal:
        states = {entry.saga_id: entry.state for entry in journal.entries()}
    assert states == {"pays": "stuck.pay", "chooses": "failed"}
    assert killed <= 10
    command = [sys.executable, "-m", "fsm_mediator", "show", "pays", "--journal", path]
    shown = subprocess.run(command, check=True, cwd=ROOT, capture_output=True, text=True).stdout
    assert "died     4 of its drivers since it last got further (see max_recoveries)" in shown
