"""MemoryJournal: what it keeps, where it is not to keep all."""

from __future__ import annotations

import math

import pytest

from fsm_mediator import (
    JournalError,
    MemoryJournal,
    Parallel,
    Saga,
    SagaFailedError,
    Signal,
    StepRejectedError,
    UnknownExecutionError,
)
from tests.drivers import World, core_of


@pytest.fixture(params=[False, True], ids=["as they are", "encoded"])
def encode(request) -> bool:
    """Without encoding, runs and their journal share a list of records; with it, all is written by commits."""
    return bool(request.param)


def test_the_newest_are_kept(drive, encode):
    """Whatever has ended goes in its turn, succeeded or failed; an id that has gone is unknown."""
    world = World()
    refused = world.step("refused", *[StepRejectedError("no")] * 10)
    journal = MemoryJournal(encode=encode, keep=3)
    mediator = drive(Saga("good", [world.step("a")]), Saga("bad", [refused]), journal=journal)
    for number in range(10):
        if number % 2:
            mediator.run("good", saga_id=f"o-{number}")
        else:
            with pytest.raises(SagaFailedError):
                mediator.run("bad", saga_id=f"o-{number}")

    assert [entry.saga_id for entry in journal.entries()] == ["o-9", "o-8", "o-7"]
    assert mediator.outcome("o-8").failed
    with pytest.raises(UnknownExecutionError, match="'o-6'"):
        mediator.outcome("o-6")
    assert len(journal._by_age) == 3


def test_unfinished_executions_are_never_evicted(drive, encode):
    """Nor does it keep others from having their turn, however many there are."""
    world = World()
    waiting = Saga("waiting", [Signal("go"), world.step("after")])
    journal = MemoryJournal(encode=encode, keep=4)
    mediator = drive(waiting, Saga("good", [world.step("a")]), journal=journal)
    parked = [mediator.start("waiting", saga_id=f"w-{number}") for number in range(6)]
    for saga_id in parked:
        mediator.wait(saga_id, check=False)
    for number in range(30):
        mediator.run("good", saga_id=f"o-{number}")

    kept = [entry.saga_id for entry in journal.entries()]
    assert set(parked) < set(kept)
    assert "o-29" in kept
    assert len(kept) <= 2 * len(parked)
    for saga_id in parked:
        mediator.signal(saga_id, "go", 1)
        assert mediator.wait(saga_id).succeeded
    for number in range(30, 45):
        mediator.run("good", saga_id=f"o-{number}")
    assert len(list(journal.entries())) == 4


def test_branches_are_evicted_with_the_whole(drive, encode):
    """Branches count with the execution that they belong to, and are forgotten with it."""
    world = World()
    inner = Parallel("inner", [world.step("a"), world.step("b")])
    journal = MemoryJournal(encode=encode, keep=2)
    mediator = drive(Saga("s", [Parallel("g", [Saga("branch", [inner]), world.step("c")])]), journal=journal)
    for number in range(5):
        assert mediator.run("s", saga_id=f"o-{number}").succeeded

    assert {entry.saga_id.partition("/")[0] for entry in journal.entries()} == {"o-3", "o-4"}
    assert len(list(journal.entries())) == 2 * 5
    assert len(journal._branches) == 2 * 2


def test_all_are_kept_by_default(drive):
    """A forgotten id can be run twice: that happens only if the user sets *keep*."""
    mediator = drive(Saga("s", [World().step("a")]))
    for number in range(2000):
        mediator.run("s", saga_id=f"o-{number}")
    assert mediator.outcome("o-0").succeeded
    assert len(mediator.executions()) == 2000


@pytest.mark.parametrize("keep", [0, -1, True, 1.5, "10"])
def test_nonsense_is_refused(keep):
    """At the edge, with what it may be."""
    with pytest.raises(JournalError, match="keep must be a whole number of at least 1, or None to keep all, not"):
        MemoryJournal(keep=keep)
    assert repr(MemoryJournal(keep=5)) == "MemoryJournal(encode=False, keep=5)"


def test_execution_evicted_between_two_reads_is_unknown(drive, monkeypatch):
    """Never `pending`, as if it had not begun: one is listed, then forgotten, then its records are asked for."""
    journal = MemoryJournal(keep=2)
    mediator = drive(Saga("s", [World().step("a")]), journal=journal)
    mediator.run("s", saga_id="o-1")
    find = journal.find

    def forgotten_since(saga_id):
        entry = find(saga_id)
        journal.prune(math.inf)
        return entry

    monkeypatch.setattr(journal, "find", forgotten_since)
    with pytest.raises(UnknownExecutionError, match="'o-1'"):
        mediator.outcome("o-1")


def test_recover_survives_an_evicted_whole(drive):
    """It has ended, thanks to its branches, before it was waited for: that is no error of the recovery."""
    world = World()
    saga = Saga("s", [Parallel("g", [world.step("a"), world.step("b")])])
    journal = MemoryJournal(keep=1)
    mediator = drive(saga, journal=journal)
    mediator.run("s", saga_id="o-1")
    outcome = mediator.outcome("o-1/g.a")
    assert journal.prune(math.inf) == 3

    assert core_of(mediator).store.roots_of([outcome], "nobody") == []
