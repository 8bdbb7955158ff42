"""What people say to sagas on an engine, on each of them: as `Mediator` does it, awaited."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from typing import Any

import pytest

from fsm_mediator import (
    Mediator,
    Parallel,
    RefusedError,
    Saga,
    SagaIdTakenError,
    Signal,
    Sleep,
    UnknownExecutionError,
    conforms,
    step,
)
from fsm_mediator.engines.mediator import EngineMediator
from fsm_mediator.engines.projection import Projection
from tests.engines.backends import ENGINES, ROOT, Engine, Undone, Work, ended, engine, run, until

pytestmark = pytest.mark.engines


@pytest.fixture(params=ENGINES)
def on_engine(request: pytest.FixtureRequest) -> Engine:
    """Each engine."""
    return engine(request.param, request)


def test_verbs_do_what_they_do_on_a_journal(on_engine):
    """Signal, cancel, undo refused, retry once the cause is fixed: as `Mediator`, awaited."""
    broken, calls = {"ship"}, list[str]()
    saga = Saga(
        "verbs",
        [
            Undone("hold", broken, calls=calls),
            Signal("approval", payload=str),
            Sleep("nap", 0.05),
            Work("charge", broken, pivot=True, calls=calls),
            Work("ship", broken, calls=calls),
        ],
    )

    async def body(mediator: EngineMediator) -> None:
        parked = await mediator.run("verbs", {"n": 1}, saga_id="v1", check=False)
        assert parked.state == "waiting.approval"
        with pytest.raises(RefusedError, match="tries a stuck part again"):
            await mediator.retry("v1")
        with pytest.raises(RefusedError, match="has no such signal; it has approval"):
            await mediator.signal("v1", "aproval", "yes")
        await mediator.signal("v1", "approval", "yes")
        stuck = await mediator.wait("v1", check=False)
        assert stuck.state == "stuck.ship"
        await mediator.signal("v1", "approval", "yes")  # the same again is harmless
        with pytest.raises(RefusedError, match="has come with another value"):
            await mediator.signal("v1", "approval", "no")
        with pytest.raises(RefusedError, match="past its pivot"):
            await mediator.cancel("v1")
        with pytest.raises(RefusedError, match="undo"):
            await mediator.undo("v1")
        broken.clear()
        done = await mediator.retry("v1", "the carrier is back")
        assert done.succeeded
        assert "the carrier is back" in {record.reason for record in done.history}
        assert conforms(done.history, saga).ok
        with pytest.raises(RefusedError, match="has ended"):
            await mediator.cancel("v1")
        with pytest.raises(UnknownExecutionError, match="knows no execution 'v2'"):
            await mediator.outcome("v2")

    run(on_engine(saga), body)
    assert calls == ["hold", "charge", "ship", "ship"]


def test_a_cancel_compensates_what_waits(on_engine):
    """A cancel ends the wait for a signal, and what was done is undone."""
    calls: list[str] = []
    saga = Saga("cancelled", [Undone("hold", set(), calls=calls), Signal("approval")])

    async def body(mediator: EngineMediator) -> None:
        await mediator.run("cancelled", saga_id="c1", check=False)
        await mediator.cancel("c1", "the customer left")
        failed = await mediator.wait("c1", check=False)
        assert failed.failed
        assert "the customer left" in str(failed.error)

    run(on_engine(saga), body)
    assert calls == ["hold", "undo hold"]


def test_an_undo_goes_back_through_groups(on_engine):
    """A saga that has succeeded is undone, with the branches of its groups, at any depth; once."""
    calls: list[str] = []
    inner = Saga("b", [Parallel("deep", [Undone("d1", set(), calls=calls)]), Undone("b1", set(), calls=calls)])
    saga = Saga(
        "undone", [Undone("first", set(), calls=calls), Parallel("g", [Undone("a", set(), calls=calls), inner])]
    )

    async def body(mediator: EngineMediator) -> None:
        assert (await mediator.run("undone", saga_id="u1")).succeeded
        undone = await mediator.undo("u1", "a mistake")
        assert undone.failed
        assert not undone.leftovers
        assert (await mediator.outcome("u1/g.b/deep.d1")).compensated == ("deep.d1",) or calls[-1] == "undo first"
        with pytest.raises(RefusedError):
            await mediator.undo("u1")

    run(on_engine(saga), body)
    assert sorted(calls[:4]) == ["a", "b1", "d1", "first"]
    assert sorted(calls[4:]) == ["undo a", "undo b1", "undo d1", "undo first"]
    assert calls.index("undo b1") < calls.index("undo d1") < calls.index("undo first")


def test_a_stuck_branch_is_retried_and_the_whole_goes_on(on_engine):
    """A branch whose compensation fails makes the whole stuck; a retry of the branch frees both."""
    broken = {"b", "undo a"}
    saga = Saga("halves", [Parallel("g", [Undone("a", broken), Work("b", broken)], on_failure="settle")])

    async def body(mediator: EngineMediator) -> None:
        stuck = await mediator.run("halves", saga_id="h1", check=False)
        assert stuck.state == "stuck.g"
        assert (await mediator.outcome("h1/g.a")).state == "stuck.a"
        broken.discard("undo a")
        assert (await mediator.retry("h1/g.a")).failed
        done = await mediator.wait("h1", check=False)
        assert done.failed
        with pytest.raises(RefusedError, match=r"has ended|not stuck|does not wait"):
            await mediator.retry("h1/g.a")

    run(on_engine(saga), body)


def test_a_retry_of_the_whole_reaches_its_stuck_branches(on_engine):
    """Retrying the whole retries the branches that made it stuck."""
    broken = {"b", "undo a"}
    saga = Saga("whole", [Parallel("g", [Undone("a", broken), Work("b", broken)], on_failure="settle")])

    async def body(mediator: EngineMediator) -> None:
        assert (await mediator.run("whole", saga_id="w1", check=False)).state == "stuck.g"
        broken.discard("undo a")
        assert (await mediator.retry("w1", "fixed")).failed

    run(on_engine(saga), body)


def test_a_signal_for_a_branch_is_handed_on(on_engine):
    """GROUP.BRANCH.SIGNAL reaches its branch, begun or not."""
    branch = Saga("b", [Signal("go", payload=int), Work("b1", set())])
    saga = Saga("handed", [Signal("first"), Parallel("g", [branch, Work("a", set())])])

    async def body(mediator: EngineMediator) -> None:
        await mediator.run("handed", saga_id="s1", check=False)
        await mediator.signal("s1", "g.b.go", 7)  # its branch does not exist yet
        await mediator.signal("s1", "first")
        done = await mediator.wait("s1", check=False)
        assert done.results["g"]["b"]["go"] == 7
        await mediator.run("handed", saga_id="s2", check=False)
        await mediator.signal("s2", "first")
        parked = await mediator.wait("s2", check=False)
        assert parked.state == "waiting.g"
        await mediator.signal("s2", "g.b.go", 8)
        assert (await mediator.wait("s2")).results["g"]["b"]["go"] == 8

    run(on_engine(saga), body)


def test_a_failure_cancels_the_other_branches(on_engine):
    """A branch that fails has the others cancelled: those that wait, and those that have not begun."""
    calls: list[str] = []
    waits = Saga("w", [Undone("w1", set(), calls=calls), Signal("never")])
    failing = Saga("f", [Sleep("nap", 0.3), Work("f1", {"f1"}, calls=calls)])
    group = Parallel("g", [waits, failing, Work("later", set(), calls=calls)], at_most=2)

    async def body(mediator: EngineMediator) -> None:
        failed = await mediator.run("siblings", saga_id="x1", check=False)
        failed = await until(lambda: ended(mediator, "x1"))
        assert "f1 is down" in str(failed.error)
        assert (await mediator.outcome("x1/g.w")).state == "failed"
        assert (await mediator.outcome("x1/g.later")).history[0].source == "pending"

    run(on_engine(Saga("siblings", [group])), body)
    assert "later" not in calls
    assert calls[-1] == "undo w1"


def test_an_id_joins_or_is_taken(on_engine):
    """The same start again joins; another payload is refused."""
    saga = Saga("twice", [Work("a", set())])

    async def body(mediator: EngineMediator) -> None:
        await mediator.run("twice", {"n": 1}, saga_id="t1")
        assert (await mediator.run("twice", {"n": 1}, saga_id="t1")).succeeded
        with pytest.raises(SagaIdTakenError, match="another payload"):
            await mediator.start("twice", {"n": 2}, saga_id="t1")

    run(on_engine(saga), body)


def test_coroutines_and_threads_are_both_steps(on_engine):
    """A coroutine function runs on the worker's loop, a plain one in a thread."""
    loops: list[Any] = []

    @step
    async def waits(payload: Any) -> str:
        loops.append(asyncio.get_running_loop())
        return "awaited"

    @step
    def blocks(payload: Any, context: Any) -> str:
        return f"{context.results['waits']} in {threading.current_thread() is threading.main_thread()}"

    async def body(mediator: EngineMediator) -> None:
        outcome = await mediator.run("both", saga_id="b1")
        assert outcome.results["blocks"] == "awaited in False"
        assert loops == [asyncio.get_running_loop()]

    run(on_engine(Saga("both", [waits, blocks])), body)


def test_what_an_engine_does_not_have_is_refused_by_name(on_engine):
    """The message names what is missing and the next move."""

    async def body(mediator: EngineMediator) -> None:
        for verb, move in (
            ("recover", "run a worker"),
            ("daemon", "run a worker"),
            ("executions", "projection"),
            ("enqueue", "call start"),
        ):
            with pytest.raises(RefusedError, match=f"Mediator has no '{verb}'.*{move}"):
                getattr(mediator, verb)()
        kind: Any = type(mediator)
        for setting in ("limits", "observers", "journal", "park_after"):
            with pytest.raises(RefusedError, match=f"has no '{setting}'"):
                kind(client=None, **{setting: None})

    run(on_engine(Saga("any", [Work("a", set())])), body)


# A journal that follows

FOLLOWED = Saga(
    "followed",
    [Undone("hold", set()), Signal("approval", payload=str), Parallel("g", [Undone("a", set()), Undone("b", set())])],
)


def test_the_command_line_works_on_a_journal_that_follows(on_engine, tmp_path):
    """List, show, signal, undo and conform on a SQLite file, of executions that run on an engine."""
    path, app = tmp_path / "followed.db", ["--app", "tests.engines.test_verbs:FOLLOWED"]

    def command(*words: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-m", "fsm_mediator", *words, "--journal", str(path), *app],
            capture_output=True,
            text=True,
            check=False,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        return done.returncode, done.stdout + done.stderr

    projection = Projection(path)

    async def body(mediator: EngineMediator) -> None:
        async with projection.bridge(mediator, poll=0.1):
            await mediator.run("followed", {"n": 1}, saga_id="p1", check=False)
            code, text = await asyncio.to_thread(command, "list")
            assert (code, "waiting.approval" in text, "the engine" in text) == (0, True, True), text
            code, text = await asyncio.to_thread(command, "retry", "p1")
            assert code == 4, text
            assert "tries a stuck part again" in " ".join(text.split())
            code, text = await asyncio.to_thread(command, "signal", "p1", "approval", '"yes"')
            assert code == 0, text
            assert (await until(lambda: ended(mediator, "p1"))).succeeded
            code, text = await asyncio.to_thread(command, "undo", "p1")
            assert code == 0, text
            assert (await until(lambda: ended(mediator, "p1"))).failed
            code, text = await asyncio.to_thread(command, "show", "p1")
            assert (code, "undone" in text) == (0, True), text
            code, text = await asyncio.to_thread(command, "conform")
            assert code == 0, text
        with Mediator(FOLLOWED, journal=path) as reader:
            for saga_id in ("p1", "p1/g.a", "p1/g.b"):
                assert reader.outcome(saga_id).failed

    run(on_engine(FOLLOWED, projection=projection), body)
