"""The system's clock may jump: a living process waits by a monotonic clock, and the earlier end counts."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import pytest

from fsm_mediator import Retry, Saga, Sleep
from fsm_mediator.mediator.pool import TimerThread
from tests.drivers import World, eventually

HALF = Retry(attempts=2, wait_initial=0.4, wait_jitter=0.0)


class Jumping:
    """The system's clock, which can be set."""

    def __init__(self) -> None:
        self.shift = 0.0

    def __call__(self) -> float:
        return time.time() + self.shift


@pytest.mark.parametrize("background", [True, False], ids=["in the background", "in the foreground"])
@pytest.mark.parametrize("shift", [-3600.0, 3600.0], ids=["back", "forward"])
def test_retry_is_not_late_by_what_the_clock_was_set(drive, journal, background, shift):
    """The clock is set by an hour in the midst of a wait of 0.4 seconds: it takes 0.4 seconds, or less."""
    clock, world = Jumping(), World()

    def sees(record: Any) -> None:
        if record.target.startswith("retrying"):
            clock.shift = shift

    saga = Saga("s", [world.step("a", ValueError("once"), "done", retry=HALF)])
    mediator = drive(saga, journal=journal, clock=clock, observers=[sees])
    began = time.monotonic()
    if background:
        mediator.start("s", saga_id="o-1")
        eventually(lambda: mediator.outcome("o-1").succeeded)
    else:
        assert mediator.run("s", saga_id="o-1").succeeded
    assert time.monotonic() - began < 30
    assert world.calls == ["a", "a"]


def test_parked_sleep_wakes_though_the_clock_was_set_back(drive, journal):
    """Released while it sleeps, and the clock is set back: the mediator that parked it wakes it in time."""
    clock, world = Jumping(), World()
    saga = Saga("s", [Sleep("nap", 0.4), world.step("a")])
    mediator = drive(saga, journal=journal, clock=clock, park_after=0.05)
    mediator.start("s", saga_id="o-1")
    eventually(lambda: journal.find("o-1").state == "waiting.nap" and journal.find("o-1").driver is None)
    clock.shift = -3600.0

    eventually(lambda: mediator.outcome("o-1").succeeded)


def test_new_driver_waits_no_longer_than_was_left(drive, journal):
    """A driver that takes a retry up under a clock that was set back waits at most the 0.4 seconds of the retry."""
    clock, world = Jumping(), World()
    saga = Saga("s", [world.step("a", ValueError("once"), "done", retry=HALF)])
    with contextlib.closing(drive(saga, journal=journal, clock=clock, close_grace=0.0)) as first:
        first.start("s", saga_id="o-1")
        eventually(lambda: journal.find("o-1").state == "retrying.a")
    clock.shift = -3600.0

    mediator = drive(saga, journal=journal, clock=clock)
    began = time.monotonic()

    assert mediator.run("s", saga_id="o-1").succeeded
    assert time.monotonic() - began < 30


def test_timer_fires_by_whichever_clock_is_first():
    """Set back, a timer fires by the monotonic clock; set forward, by the clock."""
    clock = Jumping()
    timers = TimerThread(clock, "timers")
    fired: list[str] = []
    timers.at(clock() + 0.2, lambda: fired.append("back"))
    timers.at(clock() + 7000.0, lambda: fired.append("never"))
    clock.shift = -3600.0
    eventually(lambda: fired == ["back"])
    clock.shift = 1800.0
    timers.at(clock() + 3600.0, lambda: fired.append("forward"))
    clock.shift = 6000.0
    timers.at(clock() + 0.01, lambda: fired.append("soon"))

    eventually(lambda: sorted(fired) == ["back", "forward", "soon"])
    timers.stop()
