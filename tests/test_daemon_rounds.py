"""The rounds of a daemon: how many executions it claims, and how long it waits for what before the next round."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from fsm_mediator import JournalError, Mediator, MemoryJournal, Saga, Signal
from fsm_mediator.mediator.recovery import SOON, RecoveryPoll, recover_until, relay_until
from fsm_mediator.mediator.threads import run_blocking
from tests.drivers import World, core_of


def rounds_of(mediator: Mediator, poll: float = 5.0) -> RecoveryPoll:
    """The rounds of a daemon of *mediator*, which is open."""
    run_blocking(core_of(mediator).open)
    return RecoveryPoll(core_of(mediator), poll)


@pytest.fixture
def world() -> Iterator[World]:
    """Participants. At the end, every step that still waits at the gate continues."""
    made = World()
    made.gate()
    yield made
    made.go()


@pytest.fixture
def mediator(world) -> Iterator[Mediator]:
    """A mediator of a saga whose only step waits at the gate."""
    with contextlib.closing(Mediator(Saga("s", [world.step("a", world.gate())]), journal=MemoryJournal())) as made:
        yield made
        world.go()


@pytest.mark.parametrize("free", [0, -1])
def test_daemon_without_a_free_worker_waits_for_one(mediator, free):
    """It claims nothing, and its next round begins as soon as a worker is free."""
    mediator.enqueue("s", saga_id="x")

    assert rounds_of(mediator).claim(free) == (5.0, True)
    assert mediator.executions()[0].driver is None


def test_daemon_that_finds_nothing_waits_for_its_time(mediator):
    """No free worker shortens that wait."""
    assert rounds_of(mediator).claim(3) == (5.0, False)


def test_daemon_that_filled_its_workers_waits_for_a_free_one(mediator):
    """If it claimed less than it could, it looks again soon."""
    for number in range(4):
        mediator.enqueue("s", saga_id=f"x-{number}")
    rounds = rounds_of(mediator)

    assert rounds.claim(1) == (5.0, True)
    assert rounds.claim(2) == (5.0, True)
    assert rounds.claim(2) == (SOON, False)
    assert rounds.claim(1) == (5.0, False)
    assert all(entry.driver is not None for entry in mediator.executions())


@pytest.mark.parametrize(
    ("poll", "left", "wait"), [(5.0, 2.0, 2.0), (1.0, 2.0, 1.0), (5.0, 1e-9, 0.001), (5.0, 5.5, 5.0)]
)
def test_daemon_is_there_when_a_parked_execution_is_due(poll, left, wait):
    """It waits for the next time that the journal names, and never longer than its own time."""
    now, journal, saga = [1000.0], MemoryJournal(), Saga("s", [Signal("ok", timeout=100.0)])
    with contextlib.closing(Mediator(saga, journal=journal, clock=lambda: now[0])) as parks:
        parks.run("s", saga_id="x", check=False)
    now[0] = 1100.0 - left

    with contextlib.closing(Mediator(saga, journal=journal, clock=lambda: now[0])) as mediator:
        wakes, full = rounds_of(mediator, poll).claim(1)

    assert (pytest.approx(wakes), full) == (wait, False)


def test_daemon_waits_longer_each_time_that_the_journal_fails(mediator, monkeypatch, caplog):
    """After a round that went well it begins with the short wait again. A claim without an answer is looked up."""
    core = core_of(mediator)
    rounds = rounds_of(mediator)

    def fails(*_: object) -> None:
        raise JournalError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(core.journal, "claim_some", fails)
        failed = [rounds.claim(1) for _ in range(3)]
    assert core.owned.claims_in_doubt
    assert rounds.claim(1) == (5.0, False)
    assert not core.owned.claims_in_doubt
    with monkeypatch.context() as patched:
        patched.setattr(core.journal, "claim_some", fails)
        failed.append(rounds.claim(1))

    assert failed == [(0.75, False), (1.25, False), (2.25, False), (0.75, False)]
    assert "the daemon cannot use the journal, and tries again in 1.2 s: the disk is full" in caplog.text


class Watched:
    """A runtime that notes for which events its callers wait, and lets no time pass."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.waits: list[tuple[Any, float | None]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def wait(self, event: Any, seconds: float | None) -> bool:
        """Note the wait."""
        self.waits.append((event, seconds))
        return True


@pytest.fixture
def watched(world) -> Iterator[Mediator]:
    """A mediator whose waits are noted."""
    settings: dict[str, Any] = {"_runtime": Watched}
    with contextlib.closing(Mediator(Saga("s", [world.step("a")]), **settings)) as made:
        yield made


class Rounds:
    """Rounds that answer as they are told, and stop the daemon after the last one."""

    def __init__(self, stopped: threading.Event, *answers: Any) -> None:
        self.stopped = stopped
        self.answers = list(answers)

    def claim(self, _free: int) -> Any:
        """The next answer."""
        answer = self.answers.pop(0)
        if not self.answers:
            self.stopped.set()
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def pass_on(self) -> int:
        """Pass on nothing, or fail."""
        self.claim(0)
        return 0


def test_daemon_waits_for_a_free_worker_or_for_its_end(watched, caplog):
    """For a free worker only if all are busy. After an error that nobody expects it waits for half a minute."""
    core, stopped = core_of(watched), threading.Event()
    rounds: Any = Rounds(stopped, (3.0, False), (4.0, True), ValueError("odd"), (5.0, False))
    core.runtime.freed.set()

    run_blocking(recover_until, core, rounds, stopped)

    freed = core.runtime.freed
    waits = vars(core.runtime)["waits"]
    assert waits == [(stopped, 3.0), (freed, 4.0), (stopped, 30.0), (stopped, 5.0)]
    assert not freed.is_set()  # it was cleared first, so that a worker that becomes free later ends the wait
    assert "a round of the daemon ended with an error; the next one is in 30 s" in caplog.text


def test_relay_waits_longer_each_time_that_it_fails(watched, caplog):
    """After it went well it waits for its own time, and begins with the short wait again."""
    core, stopped, odd = core_of(watched), threading.Event(), ValueError("odd")
    relay = Rounds(stopped, 0, odd, odd, 0, odd)

    run_blocking(relay_until, core, relay.pass_on, 2.0, stopped)

    waits = vars(core.runtime)["waits"]
    assert waits == [(stopped, seconds) for seconds in (2.0, 0.75, 1.25, 2.0, 0.75)]
    assert "a relay could not pass on its rows, and tries again in 0.8 s" in caplog.text


def test_daemon_that_cannot_ask_for_the_next_time_tries_again_soon(mediator, monkeypatch):
    """It has claimed what there was, so the failure is the first of its kind."""

    def fails() -> None:
        raise JournalError("the disk is full")

    monkeypatch.setattr(core_of(mediator).journal, "next_wake", fails)
    rounds = rounds_of(mediator)

    assert [rounds.claim(1), rounds.claim(1)] == [(0.75, False)] * 2


def test_closed_mediator_has_no_more_rounds(watched):
    """Neither a daemon nor a relay asks the journal again."""
    core, stopped = core_of(watched), threading.Event()
    rounds: Any = Rounds(stopped, (3.0, False))
    watched.close()

    run_blocking(recover_until, core, rounds, stopped)
    run_blocking(relay_until, core, rounds.pass_on, 2.0, stopped)

    assert rounds.answers == [(3.0, False)]
