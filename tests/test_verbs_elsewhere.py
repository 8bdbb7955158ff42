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
        self.journal, self.world, self.pauses = journal, World(), list[float]()
        self.actions: list[Callable[[], object]] = [self.begin]
        light = self.world.step("light", OSError("no power"), self.world.gate(), retry=ONCE, undo=None)
        saga = Saga("s", [self.world.step("pay", pivot=True, undo=None), light])
        self.knows = drive(saga, journal=journal)
        assert self.knows.run("s", saga_id="x", check=False).stuck
        other = Saga("t", [World().step("b")])
        self.asked = drive(other, journal=journal, _runtime=lambda inner: Pausing(inner, self.pauses, self.actions))

    def begin(self) -> None:
        """The mediator that knows the saga obeys the verb, and is in the attempt."""
        (self.verb,) = self.journal.inbox("x")
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
    """The answer and the outcome come soon after they are there, although the caller would wait for an hour."""
    elsewhere.actions[:] = [lambda: None, elsewhere.begin, lambda: None, elsewhere.end]

    assert elsewhere.asked.retry("x", timeout=3600.0).succeeded
    assert elsewhere.pauses == pytest.approx([0.002, 0.003, 0.002, 0.003])


def test_answer_that_was_read_is_forgotten(elsewhere):
    """The caller has the answer to its verb. The journal keeps it no longer."""
    elsewhere.actions.append(elsewhere.end)

    assert elsewhere.asked.retry("x", timeout=3600.0).succeeded
    assert elsewhere.journal.answer(elsewhere.verb.name) is None


def test_caller_waits_no_longer_than_it_said(elsewhere):
    """The verb was obeyed in the last moment: the caller gets the state in which the execution is."""
    assert elsewhere.asked.retry("x", timeout=0.002).state == "executing.light"

    assert elsewhere.pauses == [0.002]
    elsewhere.end()
