"""What is Temporal's alone, on a real server: crashes, workers that are not there, histories that are replayed."""

from __future__ import annotations

import asyncio
import os
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("temporalio", reason="the extra `temporal` is not installed: make engines")

from temporalio.client import Client, WorkflowHistory

from fsm_mediator import (
    Retry,
    Saga,
    Signal,
    StillRunningError,
    step,
)
from fsm_mediator.engines.temporal import SagaWorkflow, TemporalMediator, replayer, worker
from tests.engines.backends import ROOT, Undone, Work, ended, run, temporal, until
from tests.engines.servers import TemporalServer

pytestmark = pytest.mark.engines


def test_a_verb_without_a_worker_says_so(temporal_server):
    """Nobody to judge it: the caller is told which task queue has no worker."""
    saga = Saga("alone", [Signal("go")])

    async def all_of_it() -> None:
        client, queue = await Client.connect(temporal_server.address), uuid.uuid4().hex
        mediator = TemporalMediator(saga, client=client, task_queue=queue)
        async with worker(saga, client=client, task_queue=queue):
            await mediator.run("alone", saga_id="l1", check=False)
        with pytest.raises(StillRunningError, match=queue):
            await mediator.cancel("l1", timeout=1.0)

    asyncio.run(all_of_it())


# Crashes


WORKER = """
import asyncio, os, sys
from temporalio.client import Client
from fsm_mediator import Retry, Saga, step
from fsm_mediator.engines.temporal import worker

@step(retry=Retry(attempts=3, wait_initial=0.0), repeatable=sys.argv[4] == "repeatable")
def dies(payload, context):
    with open(sys.argv[3], "a") as ledger:
        ledger.write(f"{context.attempt}\\n")
    if context.attempt == 1:
        os._exit(9)
    return context.in_doubt

saga = Saga("crash", [dies])

async def main():
    client = await Client.connect(sys.argv[1])
    async with worker(saga, client=client, task_queue=sys.argv[2]):
        await asyncio.sleep(3600)

asyncio.run(main())
"""


@pytest.mark.parametrize("repeatable", ["repeatable", "not"])
def test_a_worker_that_dies_leaves_its_attempt_in_doubt(temporal_server, tmp_path, repeatable):
    """A process that dies in a step: the next worker repeats it with the next attempt, in doubt, if it may."""
    script, ledger, queue = tmp_path / "w.py", tmp_path / "ledger", uuid.uuid4().hex
    script.write_text(WORKER)

    @step(name="dies", retry=Retry(attempts=3, wait_initial=0.0), repeatable=repeatable == "repeatable")
    def dies(payload: Any, context: Any) -> bool:
        return bool(context.in_doubt)

    saga = Saga("crash", [dies])

    async def all_of_it() -> None:
        client = await Client.connect(temporal_server.address)
        mediator = TemporalMediator(saga, client=client, task_queue=queue, heartbeat=1.0, task_timeout=1.0)
        saga_id = f"crash-{repeatable}"
        await mediator.start("crash", saga_id=saga_id)
        arguments = [sys.executable, str(script), temporal_server.address, queue, str(ledger), repeatable]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        for expected in (9, None):
            process = await asyncio.create_subprocess_exec(*arguments, env=environment)
            if expected is not None:
                assert await process.wait() == expected
        try:
            outcome = await asyncio.wait_for(mediator.wait(saga_id, check=False), 60)
        finally:
            process.kill()
            await process.wait()
        events = [record.event for record in outcome.history]
        if repeatable == "repeatable":
            assert outcome.results == {"dies": True}
            assert events == ["start", "errored", "retry_due", "executed"]
            assert ledger.read_text() == "1\n2\n"
        else:
            assert outcome.failed
            assert outcome.leftovers == ("dies",)
            assert ledger.read_text() == "1\n"
        assert outcome.history[1].error is not None
        assert outcome.history[1].error.type == "fsm_mediator.errors.AttemptCrashedError"

    asyncio.run(all_of_it())


def test_a_worker_that_knows_another_definition_leaves_it(temporal_server):
    """A saga is driven by the worker that knows its shape; one with another shape does not crash its attempts."""
    old, new = Saga("shape", [Work("a", set()), Work("b", set())]), Saga("shape", [Work("a", set())])

    async def all_of_it() -> None:
        client, queue = await Client.connect(temporal_server.address), uuid.uuid4().hex
        mediator = TemporalMediator(old, client=client, task_queue=queue, task_timeout=1.0)
        await mediator.start("shape", saga_id="d1")
        async with worker(new, client=client, task_queue=queue):
            await asyncio.sleep(1.5)
        async with worker(old, client=client, task_queue=queue):
            outcome = await asyncio.wait_for(mediator.wait("d1"), 60)
        assert [record.event for record in outcome.history] == ["start", "executed", "executed"]

    asyncio.run(all_of_it())


def test_a_long_history_is_continued_as_another(tmp_path):
    """Before a history grows too long the workflow goes on in a new run, with its records and its inbox."""
    server = TemporalServer(
        *("--dynamic-config-value", "limit.historyCount.suggestContinueAsNew=30"),
    )
    failing = step(name="a", retry=Retry(attempts=12, wait_initial=0.0, wait_jitter=0.0))(fails_ten_times)
    saga = Saga("long", [Undone("first", set()), failing, Signal("go", payload=int)])

    async def body(mediator: TemporalMediator) -> None:
        await mediator.start("long", saga_id="l1")
        await mediator.signal("l1", "go", 7)  # kept over the runs
        outcome = await until(lambda: ended(mediator, "l1"))
        assert outcome.results["go"] == 7
        assert [record.seq for record in outcome.history] == list(range(1, 25))
        client = await Client.connect(server.address)
        assert await until(lambda: runs_of(client, "l1")) > 1

    try:
        run(temporal(server, saga), body)
    finally:
        server.stop()


def fails_ten_times(payload: Any, context: Any) -> None:
    """The function of a step."""
    if context.attempt <= 10:
        raise ValueError("not yet")


async def runs_of(client: Client, saga_id: str) -> int:
    """How many runs of a workflow have ended."""
    return len([run async for run in client.list_workflows(f"WorkflowId = '{saga_id}'")])


# Replays


def histories() -> list[Path]:
    """The histories that were saved by each released loop."""
    return sorted((Path(__file__).parent / "histories").glob("*.json"))


@pytest.mark.parametrize("path", histories(), ids=lambda path: path.stem)
def test_a_saved_history_is_followed(path):
    """A history of each released loop, replayed: the same commands, whatever the settings are by now."""
    from tests.engines.histories import sagas

    history = WorkflowHistory.from_json(f"saved-{path.stem}", path.read_text(encoding="utf-8"))
    asyncio.run(replayer(*sagas(changed=True)).replay_workflow(history))


def test_a_replay_never_judges(temporal_server):
    """Replayed with steps and functions that raise, and with other settings, a history is the same."""
    attempts = iter([ValueError("once"), None])

    def act(payload: Any) -> str:
        if (error := next(attempts)) is not None:
            raise error
        return "done"

    def saga(act: Any, by: Any, attempts: int) -> Saga:
        from fsm_mediator import Choose

        made = step(name="a", retry=Retry(attempts=attempts, wait_initial=0.0))(act)
        return Saga("judged", [made, Choose("c", {"x": Work("x", set()), "y": Work("y", set())}, by=by)])

    def never(payload: Any) -> Any:
        raise AssertionError("a replay calls nothing")

    async def body(mediator: TemporalMediator) -> None:
        await mediator.run("judged", saga_id="j1")
        client = await Client.connect(temporal_server.address)
        history = await client.get_workflow_handle_for(SagaWorkflow.run, "j1").fetch_history()
        await replayer(saga(never, never, 1)).replay_workflow(history)

    run(temporal(temporal_server, saga(act, lambda payload: "y", 2)), body)
