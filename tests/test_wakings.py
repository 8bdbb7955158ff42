"""WakeTimers: whoever is parked is woken when its time has come, with one alarm for all."""

from __future__ import annotations

import time
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from fsm_mediator import Retry, Saga, Signal
from fsm_mediator.mediator.active import ActiveExecution
from fsm_mediator.mediator.timers import WakeTimers
from fsm_mediator.records import CANCEL, InboxItem
from tests.commits import found
from tests.drivers import World, core_of, eventually


class Bell:
    """An alarm clock that is wound by hand."""

    def __init__(self) -> None:
        self.now = 0.0
        self.set: list[tuple[float, Callable[[], object]]] = []

    def at(self, time: float, call: Callable[[], object]) -> None:
        """Set an alarm."""
        self.set.append((time, call))

    def wind(self, now: float) -> None:
        """Let the time come, and ring what is due."""
        self.now = now
        while due := [alarm for alarm in self.set if alarm[0] <= now]:
            self.set.remove(due[0])
            due[0][1]()


@given(st.lists(st.tuples(st.integers(0, 20), st.booleans()), max_size=30))
def test_all_are_woken_in_time_and_once(times):
    """Set in whatever order, also while others ring: each is woken once, when it is due and not before."""
    bell = Bell()
    woken: list[tuple[str, float]] = []
    wakings = WakeTimers(bell.at, lambda: bell.now, lambda saga_id, _: woken.append((saga_id, bell.now)))
    due: dict[str, float] = {}
    for number, (moment, passes) in enumerate(times):
        due[f"s{number}"] = max(bell.now, float(moment))
        wakings.add(float(moment), f"s{number}")
        if passes:
            bell.wind(bell.now + 1)
    for now in range(int(bell.now), 60):
        bell.wind(float(now))

    assert sorted(saga_id for saga_id, _ in woken) == sorted(due)
    assert all(due[saga_id] <= at <= due[saga_id] + 1 for saga_id, at in woken)
    assert bell.set == []


def test_a_clock_that_was_lost_is_rearm():
    """A new event loop has none of the alarms of the one before."""
    bell = Bell()
    woken: list[str] = []
    wakings = WakeTimers(bell.at, lambda: bell.now, lambda saga_id, _: woken.append(saga_id))
    wakings.add(5.0, "s")
    bell.set.clear()

    wakings.rearm()
    bell.wind(5.0)

    assert woken == ["s"]


def test_one_timer_is_set_for_the_earliest_time():
    """Later times need no timer of their own. A timer that an earlier one has replaced does nothing when it fires."""
    bell = Bell()
    woken: list[str] = []
    wakings = WakeTimers(bell.at, lambda: bell.now, lambda saga_id, _: woken.append(saga_id))
    wakings.rearm()
    assert bell.set == []
    for at, saga_id in ((10.0, "b"), (10.0, "c"), (20.0, "d"), (5.0, "a"), (7.0, "e")):
        wakings.add(at, saga_id)
    assert [at for at, _ in bell.set] == [10.0, 5.0]

    bell.wind(7.0)
    assert woken == ["a", "e"]
    bell.wind(12.0)
    assert woken == ["a", "e", "b", "c"]
    assert [at for at, _ in bell.set] == [20.0]


def test_time_that_has_passed_by_one_clock_has_passed():
    """A timer fires by another clock: the time that it was set for counts, and what is due by the clock as well."""
    bell = Bell()
    woken: list[tuple[str, float]] = []
    wakings = WakeTimers(bell.at, lambda: bell.now, lambda saga_id, at: woken.append((saga_id, at)))
    for at, saga_id, until in ((5.0, "a", 9.0), (5.0, "b", 1.0), (6.0, "c", 6.0), (7.0, "d", 7.0)):
        wakings.add(at, saga_id, until)
    wakings.add(8.0, "e")

    bell.now = 2.0  # the clock was set back
    bell.set.pop(0)[1]()
    assert woken == [("a", 9.0), ("b", 5.0)]
    bell.wind(7.5)
    assert woken[2:] == [("c", 6.0), ("d", 7.0)]
    bell.wind(8.0)
    assert woken[4:] == [("e", 8.0)]


def test_a_timer_that_meets_a_caller_wakes_again(drive, journal):
    """A caller that looks at a parked execution at the moment it is due, and leaves it, does not cost it its timer."""
    mediator = drive(Saga("s", [Signal("ok", timeout=1000.0)]), journal=journal)
    mediator.run("s", None, saga_id="x", check=False)
    eventually(lambda: found(journal, "x").driver is None)
    core, looks = core_of(mediator), ActiveExecution("x")
    assert core.try_reserve(looks)
    core.wake("x")
    core.runtime.post(core.owned.finish, looks, None)

    eventually(lambda: found(journal, "x").epoch == 2)


def test_what_is_overdue_is_driven_by_who_waits_for_it(drive, journal):
    """Parked by a process that is gone, and due since: whoever waits for it drives it, with no daemon anywhere."""
    saga = Saga("s", [Signal("ok", timeout=1000.0)])
    gone = drive(saga, journal=journal)
    assert gone.run("s", None, saga_id="x", check=False).state == "waiting.ok"
    gone.close()

    later = drive(saga, journal=journal, clock=lambda: time.time() + 2000)
    assert later.wait("x", check=False).failed


def test_heartbeat_tells_a_driver_of_what_another_process_posted(drive, journal):
    """An execution waits an hour for its next attempt. A cancel that came by another way reaches it at a heartbeat."""
    hourly = Retry(wait_initial=3600.0, wait_max=3600.0)
    world = World()
    mediator = drive(Saga("s", [world.step("a", OSError(), retry=hourly)]), journal=journal)
    mediator.start("s", saga_id="x")
    eventually(lambda: found(journal, "x").state == "retrying.a")
    journal.post("x", InboxItem(CANCEL, reason="no more", at=time.time()))

    core_of(mediator).heartbeat()

    assert eventually(lambda: mediator.outcome("x").failed)
    assert world.calls == ["a"]


def test_a_timer_that_ends_during_an_attempt_is_not_set_again(drive, monkeypatch):
    """The execution is driven already, so that nothing remains to wake: no timer fires again and again meanwhile."""
    added: list[str] = []

    def step_during_which_the_timer_ends(*_: object) -> None:
        monkeypatch.setattr(core.wake_timers, "add", lambda at, saga_id, *more: added.append(saga_id))
        core.wake("x")

    mediator = drive(Saga("s", [World().step("a", step_during_which_the_timer_ends)]))
    core = core_of(mediator)

    assert mediator.run("s", saga_id="x").succeeded
    assert added == []
    mediator.close()
    core.wake("x")
    assert added == []
