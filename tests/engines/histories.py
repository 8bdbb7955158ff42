"""The sagas whose histories on Temporal are kept, and how these are saved: python -m tests.engines.histories."""

from __future__ import annotations

import asyncio
import base64
import json
import uuid
from pathlib import Path
from typing import Any

from fsm_mediator import Choose, Parallel, Retry, Saga, Signal, Sleep, StepRejectedError, step

KEPT = Path(__file__).parent / "histories"


def part(name: str, *, fails: int = 0, undone: bool = True, changed: bool = False, **settings: Any) -> Any:
    """A step whose first attempts fail; *changed*: with other settings, and it may not be called."""
    counts = {"calls": 0}

    def act(payload: Any, context: Any) -> str:
        if changed:
            raise AssertionError("a replay calls nothing")
        counts["calls"] += 1
        if context.attempt <= fails:
            raise ValueError(f"{name} {context.attempt}")
        return f"{name} done"

    policy = Retry(attempts=1 if changed else fails + 1, wait_initial=9.0 if changed else 0.01)
    made = step(name=name, retry=policy, compensation_retry=Retry(attempts=2, wait_initial=0.01), **settings)(act)
    if undone:
        made.compensation(lambda payload, context: None)
    return made


def refuses(payload: Any) -> None:
    """A step that fails for good."""
    raise StepRejectedError("no")


def sagas(*, changed: bool = False) -> list[Saga]:
    """The sagas; *changed*: as a later release of the application may have them."""

    def same(name: str, **more: Any) -> Any:
        return part(name, changed=changed, **more)

    group = Parallel("g", [same("a"), Saga("b", [same("b1"), Signal("go", timeout=9.0 if changed else 60.0)])])
    each = Parallel.each("e", same("i"), over=lambda payload: [1, 2, 3], at_most=3 if changed else 1)
    choice = Choose("c", {"x": same("x"), "y": same("y")}, by=lambda payload: "x" if changed else "y")
    return [
        Saga("plain", [same("one", fails=1), Sleep("nap", 0.02), same("two"), Signal("approval")]),
        Saga("groups", [same("first"), group, each, choice]),
        Saga("undone", [same("first"), Parallel("g", [same("a"), same("b")]), step(name="refuses")(refuses)]),
    ]


def without_paths(content: Any) -> Any:
    """A history without the paths of this machine, which tracebacks hold."""
    if isinstance(content, dict):
        return {
            name: shortened(value) if isinstance(value, str) and name == "data" else without_paths(value)
            for name, value in content.items()
        }
    return [without_paths(each) for each in content] if isinstance(content, list) else content


def shortened(data: str) -> str:
    """A payload without them."""
    text = base64.b64decode(data).decode().replace(str(KEPT.parent.parent.parent), "")
    return base64.b64encode(text.encode()).decode()


async def save(address: str) -> None:
    """Run each saga, and keep the histories of it and of its branches."""
    from temporalio.client import Client

    from fsm_mediator.engines.temporal import LOOP, TemporalMediator, worker
    from tests.engines.sagas import branches_of

    client, queue = await Client.connect(address, identity="tests"), uuid.uuid4().hex
    async with worker(*sagas(), client=client, task_queue=queue):
        mediator = TemporalMediator(*sagas(), client=client, task_queue=queue)
        for saga in mediator.sagas:
            outcome = await mediator.run(saga.name, {"n": 1}, saga_id=saga.name, check=False)
            if saga.name == "plain":
                await mediator.signal(saga.name, "approval", "yes")
            elif saga.name == "groups":
                await mediator.signal(saga.name, "g.b.go", "yes")
            while not (outcome := await mediator.wait(saga.name, check=False)).ended:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
            for saga_id in (saga.name, *branches_of(outcome)):
                async for run in client.list_workflows(f"WorkflowId = '{saga_id}'"):
                    history = await client.get_workflow_handle(saga_id, run_id=run.run_id).fetch_history()
                    name = f"loop{LOOP}-{saga_id.replace('/', '-')}"
                    path = KEPT / f"{name}.json"
                    path = KEPT / f"{name}-undone.json" if path.exists() else path
                    path.write_text(
                        json.dumps(without_paths(json.loads(history.to_json())), indent=0), encoding="utf-8"
                    )


if __name__ == "__main__":
    from tests.engines.servers import TemporalServer

    KEPT.mkdir(exist_ok=True)
    server = TemporalServer()
    try:
        asyncio.run(save(server.address))
    finally:
        server.stop()
