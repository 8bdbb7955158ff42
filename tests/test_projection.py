"""Projections: a journal that follows an engine is never ahead of it, is not driven, and hands on what people say."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fsm_mediator import Mediator, MemoryJournal, RefusedError, Retry, Saga, Signal, SQLiteJournal, step
from fsm_mediator.engines.mediator import EngineMediator
from fsm_mediator.engines.projection import Projection
from fsm_mediator.engines.replay import Data, Turns
from fsm_mediator.errors import JournalError
from fsm_mediator.journal.operators import for_operators
from fsm_mediator.mediator.verbs import new_verb
from fsm_mediator.records import InboxItem
from tests.engines.sagas import plain
from tests.test_engine_turns import drive

ONE = Retry(attempts=1, wait_initial=0.0)


@pytest.fixture(params=["memory", "sqlite"])
def kept(request: pytest.FixtureRequest, tmp_path: Any) -> Any:
    """A journal that encodes."""
    return MemoryJournal(encode=True) if request.param == "memory" else SQLiteJournal(tmp_path / "followed.db")


def saga_that_fails() -> Saga:
    """A saga that does something, fails, and undoes it."""
    done = step(name="a")(lambda payload: "done")
    done.compensation(lambda payload: None)

    def fails(payload: Any) -> None:
        raise ValueError("no")

    return Saga("fails", [done, step(name="b", retry=ONE)(fails)])


def test_a_journal_follows_record_by_record_and_ends_equal(kept):
    """Followed at any points, also twice, the journal has what the engine has: no more, and in the end no less."""
    turns = Turns(saga_that_fails())
    opening, rows = drive(turns, "fails", {"n": 1}, "f-1")
    projection = Projection(kept)
    for known in (0, 0, 1, 3, 2, len(rows), len(rows)):
        projection.follow(turns, opening, rows[:known])
        assert kept.find("f-1").seq <= max(known, 3)
    with Mediator(*turns.registry.sagas, journal=kept) as mediator:
        outcome = mediator.outcome("f-1")
    assert plain(outcome) == plain(turns.outcome(opening, rows))
    entry = kept.find("f-1")
    assert (entry.state, entry.driver) == ("failed", None)


def test_nobody_drives_what_an_engine_drives(kept):
    """Its owner is the engine, which is alive for every driver, whatever the time."""
    saga = Saga("driven", [step(name="a")(lambda payload: pytest.fail("it was called"))])
    turns = Turns(saga)
    opening = turns.opening("driven", None, "d-1")
    rows = asyncio.run(turns.turn(opening, [], {}))["rows"]
    Projection(kept).follow(turns, opening, rows)
    with Mediator(saga, journal=kept, clock=lambda: 4e9) as mediator:
        assert kept.claimable(4e9, 10) == []
        assert kept.claim("d-1", mediator_id(kept)) is None
        assert mediator.recover() == []
        (entry,) = mediator.executions()
    assert (entry.state, entry.driver_alive, str(entry.driver)) == ("executing.a", True, "the engine temporal")


def mediator_id(journal: Any) -> str:
    """The id of another driver."""
    from fsm_mediator.journal.liveness import this_driver

    driver = this_driver()
    journal.enlist(driver)
    return driver.id


class Engine(EngineMediator):
    """An engine that only notes what it is told, and refuses what the machine refuses."""

    def __init__(self, saga: Saga, opening: Data, rows: list[Any]) -> None:
        super().__init__(saga)
        self.opening, self.rows = opening, rows
        self.heard: list[Data] = []

    async def _standing(self, saga_id: str) -> Data:
        return {"opening": self.opening, "rows": self.rows, "items": [], "rests": True}

    async def _say(self, saga_id: str, words: Data, timeout: float) -> None:
        if "item" in words:
            self.turns.check_item(self.turns.load(self.opening, self.rows), [], words["item"])
        self.heard.append(words)

    async def _undo(self, standing: Data, verb: Data) -> None:
        self.heard.append(verb)


def test_what_comes_to_the_inbox_is_handed_to_the_engine(kept):
    """A signal, a cancel, and a verb with its answer: taken by the engine, or refused by the machine."""
    saga = Saga("parked", [Signal("go", payload=int), step(name="a")(lambda payload: None)])
    turns = Turns(saga)
    opening = turns.opening("parked", None, "p-1")
    rows = asyncio.run(turns.turn(opening, [], {}))["rows"]
    projection, engine = Projection(kept), Engine(saga, opening, rows)
    projection.follow(turns, opening, rows)
    with Mediator(saga, journal=kept) as mediator:
        mediator.signal("p-1", "go", 7)
        mediator.cancel("p-1", "enough")
        verb = new_verb("retry", "why not", at=5.0)
        kept.post("p-1", verb)
        asyncio.run(projection.hand_over(engine))
        assert [words["item"][:4] for words in engine.heard] == [
            ["signal", "go", "7", None],
            ["cancel", "", None, "enough"],
        ]
        answer = for_operators(kept).answer(verb.name)
        assert answer is not None
        assert "tries a stuck part again" in str(answer.refusal)
        asyncio.run(projection.hand_over(engine))
        assert len(engine.heard) == 2
        mediator.signal("p-1", "go", 7)  # the same again is harmless
        with pytest.raises(RefusedError, match="another value"):
            mediator.signal("p-1", "go", 8)
        item = turns.signal(opening, "go", 7)
        rows += asyncio.run(turns.turn(opening, rows, {"items": [item]}))["rows"]
        projection.follow(turns, opening, rows)
        assert kept.inbox("p-1") == ()


def test_an_undo_goes_to_the_engine_until_it_is_released(kept):
    """What has succeeded stays with the engine, which alone may undo it; once released it can be pruned."""
    made = step(name="a")(lambda payload: "done")
    made.compensation(lambda payload: pytest.fail("it was called"))
    turns = Turns(saga := Saga("undoable", [made]))
    opening, rows = drive(turns, "undoable", None, "u-1")
    projection, engine = Projection(kept), Engine(saga, opening, rows)
    projection.follow(turns, opening, rows)
    kept.post("u-1", InboxItem("undo", "name", None, "a mistake", 5.0))
    asyncio.run(projection.hand_over(engine))
    assert engine.heard == [{"kind": "undo", "reason": "a mistake", "actor": None}]
    answer = for_operators(kept).answer("name")
    assert answer is not None
    assert answer.refusal is None
    assert kept.prune(4e9) == 0
    assert projection.release(4e9) == 1
    assert kept.prune(4e9) == 1


def test_a_journal_that_fails_is_said(kept, monkeypatch):
    """What cannot be written is an error, for the engine to try again."""
    turns = Turns(saga_that_fails())
    opening, rows = drive(turns, "fails", None, "f-2")
    projection = Projection(kept)

    def full(commit: Any) -> Any:
        raise JournalError("the disk is full")

    monkeypatch.setattr(kept, "write", full)
    with pytest.raises(JournalError, match="the disk is full"):
        projection.follow(turns, opening, rows)
