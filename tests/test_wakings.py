"""WakeTimers: whoever is parked is woken when its time has come, with one alarm for all."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from fsm_mediator.mediator.timers import WakeTimers


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
    for number, (time, passes) in enumerate(times):
        due[f"s{number}"] = max(bell.now, float(time))
        wakings.add(float(time), f"s{number}")
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
