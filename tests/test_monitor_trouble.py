"""The trouble on the page Now: what nobody drives, however old, and what is past its deadline."""

from __future__ import annotations

import time

import pytest

from fsm_mediator import Mediator, Saga, Signal, SQLiteJournal
from fsm_mediator.ui import Monitor
from fsm_mediator.ui.reading import OVERDUE, Reader
from tests.asgi import get
from tests.commits import DRIVER, opening
from tests.drivers import JOURNALS, MARKS, World
from tests.test_monitor import acting


@pytest.fixture(params=[pytest.param(name, marks=MARKS.get(name, ())) for name in JOURNALS])
def journal(request, tmp_path):
    """Each journal."""
    made = JOURNALS[request.param](tmp_path)
    yield made
    made.close()


def troubled(journal, later):
    """What is in trouble so many seconds from now: ids by kind."""
    reader = Reader(journal, (), str, clock=lambda: time.time() + later)
    return {kind: [row.saga_id for row in rows] for kind, rows in reader.troubled()}


def test_execution_past_its_deadline_is_overdue(journal):
    """One that still waits for a signal after its deadline is named, unless a driver is merely about to see to it."""
    saga = Saga("s", [Signal("go"), World().step("a")])
    with Mediator(saga, journal=journal, park_after=0.0) as mediator:
        mediator.run("s", saga_id="in-time", check=False, deadline=9000.0)
        mediator.run("s", saga_id="none", check=False)
        mediator.run("s", saga_id="late", check=False, deadline=100.0)
        assert troubled(journal, 101.0 + OVERDUE - 30.0) == {}
        found = troubled(journal, 101.0 + OVERDUE)
    assert [saga_id for ids in found.values() for saga_id in ids] == ["late"]
    assert set(found) <= {"Overdue", "Nobody drives them"}


@pytest.mark.parametrize("read_only", [False, True])
def test_oldest_that_nobody_drives_is_found_behind_many_newer(tmp_path, monkeypatch, read_only):
    """The newest of each phase are looked at; one that was left alone long ago is listed all the same."""
    monkeypatch.setattr("fsm_mediator.ui.reading.LOOKED_AT", 2)
    path, saga = tmp_path / "sagas.db", Saga("s", [Signal("go", timeout=10.0), World().step("a")])
    other = Saga("t", [Signal("go")])
    with Mediator(saga, other, journal=path, park_after=0.0) as mediator:
        mediator.run(saga, saga_id="left", check=False)
        for number in range(5):
            mediator.run(other, saga_id=f"t-{number}", check=False)
    journal = SQLiteJournal(path, read_only=read_only)
    assert troubled(journal, 11.0 + OVERDUE) == {"Nobody drives them": ["left"]}
    assert troubled(journal, 0.0) == {}
    assert "t-4" not in get(Monitor(journal, authorize=acting), "/").text
    journal.close()


def test_attempt_that_outlasts_the_deadline_is_overdue(journal):
    """A living driver works on it, and yet its time is over; what is being compensated is not called overdue."""
    journal.enlist(DRIVER)
    journal.write(opening("late", "executing.a", opened={"deadline_at": 5.0}))
    journal.write(opening("undone", "compensating.a", opened={"deadline_at": 5.0}))
    journal.write(opening("in-time", "executing.a", opened={"deadline_at": time.time() + 1000.0}))
    assert troubled(journal, 0.0) == {"Overdue": ["late"]}
