"""Turns, the seam for engines: what they log is records, and a replay folds them and judges nothing."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from fsm_mediator import (
    Choose,
    DefinitionChangedError,
    Mediator,
    MemoryJournal,
    Parallel,
    RefusedError,
    Retry,
    Saga,
    Signal,
    Sleep,
    step,
)
from fsm_mediator.engines.questions import awaits_signal, may_decide
from fsm_mediator.engines.replay import Data, Turns
from fsm_mediator.execution import rules
from tests.engines.sagas import plain, saga_of

ONE = Retry(attempts=1, wait_initial=0.0)


def drive(turns: Turns, saga: str, payload: Any, saga_id: str, deadline: float | None = None) -> tuple[Data, list[Any]]:
    """Drive an execution without waits for branches or people, as an engine would; all that crosses is JSON."""

    async def to_its_end() -> tuple[Data, list[Any]]:
        opening, rows = turns.opening(saga, payload, saga_id, deadline), list[Any]()
        while not (execution := turns.load(opening, rows)).ended and (rows == [] or execution.effect is not None):
            request = {} if execution.wake_at is None else {"not_before": execution.wake_at}
            done = json.loads(json.dumps(await turns.turn(opening, rows, request)))
            rows += done["rows"]
        return opening, rows

    return asyncio.run(to_its_end())


def without_groups(seed: int) -> bool:
    """Whether a saga has no branches, nor a deadline that has to be waited for."""
    saga, _, _ = saga_of(seed)
    return not saga.branches and all(part.path != "late" for part in saga.parts)


@pytest.mark.parametrize("seed", [seed for seed in range(60) if without_groups(seed)][:30])
def test_turns_make_the_records_that_a_mediator_makes(seed):
    """Thirty random sagas, by turns and by a mediator: the same records, but for times."""
    saga, payload, deadline = saga_of(seed)
    turns = Turns(saga)
    opening, rows = drive(turns, saga.name, payload, "same", deadline)
    with Mediator(saga, journal=MemoryJournal(encode=True), sleep=lambda _: None) as mediator:
        expected = mediator.run(saga.name, payload, saga_id="same", deadline=deadline, check=False)
        while not (expected.ended or expected.stuck):
            expected = mediator.wait("same", check=False)
    assert plain(turns.outcome(opening, rows)) == plain(expected)


def test_a_replay_folds_and_never_judges(monkeypatch):
    """Rows are folded though every rule, and every function of the user's, would raise."""

    def fails(payload: Any, context: Any) -> str:
        if context.attempt == 1:
            raise ValueError("once")
        return "done"

    def parts(act: Callable[..., Any], by: Callable[..., Any], attempts: int) -> list[Any]:
        made = step(name="a", retry=Retry(attempts=attempts, wait_initial=0.0))(act)
        made.compensation(lambda payload: None)
        return [made, Sleep("nap", lambda payload: by(payload) and 0.0), step(name="b", retry=ONE)(refuses)]

    def refuses(payload: Any) -> None:
        raise ValueError("no")

    opening, rows = drive(Turns(Saga("folded", parts(fails, lambda payload: "y", 2))), "folded", None, "f")

    def never(*_: Any) -> Any:
        raise AssertionError("a replay judges nothing")

    for phase in rules.RULES:
        monkeypatch.setitem(rules.RULES, phase, never)
    again = Turns(Saga("folded", parts(never, never, 1)))
    outcome = again.outcome(opening, rows)
    assert outcome.failed
    assert [row[1] for row in rows] == [record.event for record in outcome.history]


def test_a_crash_is_fed_once_and_counted():
    """A turn that its engine lost counts as crashed; after too many, a person decides."""
    saga = Saga("lost", [step(name="a", retry=Retry(attempts=None, wait_initial=0.0))(lambda payload: "done")])
    turns = Turns(saga, max_recoveries=2)

    async def lost(crashes: list[int]) -> Any:
        opening = turns.opening("lost", None, "l")
        rows = (await turns.turn(opening, [], {}))["rows"]
        rows += (await turns.turn(opening, rows, {"crashes": crashes}))["rows"]
        return turns.outcome(opening, rows)

    once = asyncio.run(lost([1, 1]))
    assert (once.state, once.history[-1].in_doubt) == ("retrying.a", True)
    often = asyncio.run(lost([3, 1]))
    assert often.stuck


def test_a_probe_that_was_lost_is_asked_again_later():
    """A crash while a probe is asked moves nothing: the turn says when it is to be made again."""

    def hangs(payload: Any) -> None:
        raise TimeoutError("no answer")

    made = step(name="a", retry=Retry(attempts=2, wait_initial=5.0, wait_jitter=0.0))(hangs)
    made.probing(lambda payload: None)
    turns = Turns(Saga("probed", [made]), clock=lambda: 1000.0)

    async def lost() -> Data:
        opening = turns.opening("probed", None, "p")
        rows = (await turns.turn(opening, [], {}))["rows"]
        rows += (await turns.turn(opening, rows, {}))["rows"]
        assert turns.load(opening, rows).state == "probing.a"
        return await turns.turn(opening, rows, {"crashes": [1, 1]})

    assert asyncio.run(lost()) == {"rows": [], "asks_at": 1005.0}


def test_the_inbox_is_judged_before_an_engine_takes_it():
    """A cancel that is too late, a signal that is not awaited, or another value: refused, and why."""
    turns = Turns(Saga("inbox", [Signal("go", payload=int), step(name="b", pivot=True)(lambda payload: None)]))

    async def parked() -> tuple[Data, list[Any]]:
        opening = turns.opening("inbox", None, "i")
        return opening, (await turns.turn(opening, [], {}))["rows"]

    opening, rows = asyncio.run(parked())
    execution = turns.load(opening, rows)
    assert awaits_signal(execution)
    assert not may_decide(execution)
    item = turns.signal(opening, "go", 7)
    assert turns.check_item(execution, [], item)
    assert not turns.check_item(execution, [item], item)
    with pytest.raises(RefusedError, match="another value, and the first one counts: 7"):
        turns.check_item(execution, [item], turns.signal(opening, "go", 8))
    with pytest.raises(RefusedError, match="has no such signal; it has go"):
        turns.check_item(execution, [], turns.item("signal", "og", 7))
    rows += asyncio.run(turns.turn(opening, rows, {"items": [item]}))["rows"]
    rows += asyncio.run(turns.turn(opening, rows, {}))["rows"]
    ended = turns.load(opening, rows)
    assert turns.outcome(opening, rows).results == {"go": 7, "b": None}
    with pytest.raises(RefusedError, match="it has ended"):
        turns.check_item(ended, [], turns.item("cancel"))
    with pytest.raises(RefusedError, match="no way back"):
        turns.check_verb(opening, rows, {"kind": "undo", "reason": None})


def test_a_group_opens_its_branches_in_its_turn():
    """The openings of the branches, with the order in which they may begin, are in the log with the record."""
    branch = step(name="b")(lambda payload, context: sorted(context.results))
    group = Parallel.each("g", branch, over=lambda payload: payload, at_most=2)
    turns = Turns(
        Saga(
            "opens", [step(name="a")(lambda payload: "done"), group, Choose("c", {"x": branch}, by=lambda payload: "x")]
        )
    )

    async def opened() -> tuple[Data, Data]:
        opening = turns.opening("opens", [1, 2, 3], "o")
        rows = (await turns.turn(opening, [], {}))["rows"]
        done = await turns.turn(opening, rows, {})
        branch = done["new"][0]
        began = await turns.turn(branch, [], {})
        return done, await turns.turn(branch, began["rows"], {})

    done, ended = asyncio.run(opened())
    assert [opening.get("successor") for opening in done["new"]] == ["o/g.2", None, None]
    assert done["cancels"] is True
    assert ended["summary"] == {"state": "succeeded", "result": '["a"]', "undoable": False}


def test_a_worker_with_another_shape_calls_nothing():
    """The turn is refused before anything is called."""
    called: list[str] = []
    opening = Turns(Saga("shape", [step(name="a")(len)])).opening("shape", "x", "s")
    other = Turns(Saga("shape", [step(name="b")(lambda payload: called.append("b"))]))
    with pytest.raises(DefinitionChangedError):
        asyncio.run(other.turn(opening, [], {}))
    assert called == []


@pytest.mark.parametrize("module", ["fsm_mediator", "fsm_mediator.engines.driving", "fsm_mediator.engines.projection"])
def test_no_engine_is_imported_unless_it_is_asked_for(module):
    """The default install has no engine."""
    code = f"import sys, {module}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"temporalio", "restate", "httpx", "hypercorn"} & set(loaded)
