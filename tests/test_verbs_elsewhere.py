"""A verb of a mediator that lacks the definition: another mediator obeys, and this one waits, not longer than asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fsm_mediator import Saga
from tests.drivers import ONCE, World, in_thread


class Pausing:
    """A runtime whose pauses are noted and take no time but its own. After the n-th pause the n-th action is called."""

    def __init__(self, inner: Any, pauses: list[float], actions: list[Callable[[], object]]) -> None:
        self.inner = inner
        self.pauses = pauses
        self.actions = actions

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def monotonic(self) -> float:
        """The seconds that were paused."""
        return sum(self.pauses)

    async def pause(self, seconds: float) -> None:
        """Note the pause, and do what happens meanwhile."""
        self.pauses.append(seconds)
        if self.actions:
            self.actions.pop(0)()


class Elsewhere:
    """Execution ``x`` is stuck. One mediator knows its saga, another is asked to retry it."""

    def __init__(self, drive: Any, journal: Any) -> None:
        self.world, self.pauses = World(), list[float]()
        self.actions: list[Callable[[], object]] = [self.begin]
        light = self.world.step("light", OSError("no power"), self.world.gate(), retry=ONCE, undo=None)
        saga = Saga("s", [self.world.step("pay", pivot=True, undo=None), light])
        self.knows = drive(saga, journal=journal)
        assert self.knows.run("s", saga_id="x", check=False).stuck
        other = Saga("t", [World().step("b")])
        self.asked = drive(other, journal=journal, _runtime=lambda inner: Pausing(inner, self.pauses, self.actions))

    def begin(self) -> None:
        """The mediator that knows the saga obeys the verb, and is in the attempt."""
        self.recovered = in_thread(self.knows.recover)
        self.world.begun()

    def end(self) -> None:
        """The attempt ends, and the saga succeeds."""
        self.world.go()
        self.recovered()


@pytest.fixture
def elsewhere(drive, journal) -> Any:
    """Two mediators, one of which knows the saga."""
    return Elsewhere(drive, journal)


def test_caller_asks_again_soon_and_then_less_often(elsewhere):
    """The outcome comes soon after the end, although the caller would wait for an hour."""
    elsewhere.actions += [lambda: None, elsewhere.end]

    assert elsewhere.asked.retry("x", timeout=3600.0).succeeded
    assert elsewhere.pauses == pytest.approx([0.002, 0.002, 0.003])


def test_caller_waits_no_longer_than_it_said(elsewhere):
    """The verb was obeyed in the last moment: the caller gets the state in which the execution is."""
    assert elsewhere.asked.retry("x", timeout=0.002).state == "executing.light"

    assert elsewhere.pauses == [0.002]
    elsewhere.end()
