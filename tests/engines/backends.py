"""Each engine with a mediator and a worker, for tests that hold on all of them."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from fsm_mediator import Retry, Saga, Step, StepRejectedError
from fsm_mediator.engines.mediator import EngineMediator
from fsm_mediator.engines.projection import Projection
from tests.engines.servers import RestateServer, TemporalServer, free_ports

ROOT = Path(__file__).parent.parent.parent
ONE = Retry(attempts=1)


class Work(Step):
    """Does its work, unless its name is among the broken ones."""

    retry = ONE
    compensation_retry = ONE

    def __init__(self, name: str, broken: set[str], *, pivot: bool = False, calls: list[str] | None = None) -> None:
        self.name = name
        self.broken = broken
        self.pivot = pivot
        self.calls = [] if calls is None else calls

    def execute(self, payload: Any, context: Any) -> str:
        self.calls.append(self.name)
        if self.name in self.broken:
            raise StepRejectedError(f"{self.name} is down")
        return f"{self.name} done"


class Undone(Work):
    def compensate(self, payload: Any, context: Any) -> None:
        self.calls.append(f"undo {self.name}")
        if f"undo {self.name}" in self.broken:
            raise StepRejectedError(f"undo {self.name} is down")


Body = Callable[[Any], Awaitable[None]]
Engine = Callable[..., contextlib.AbstractAsyncContextManager[EngineMediator]]


@contextlib.asynccontextmanager
async def temporal(
    server: TemporalServer, *sagas: Saga, projection: Projection | None = None, **settings: Any
) -> AsyncIterator[EngineMediator]:
    """A mediator on Temporal, while a worker runs."""
    from temporalio.client import Client

    from fsm_mediator.engines.temporal import TemporalMediator, worker

    client, queue = await Client.connect(server.address), uuid.uuid4().hex
    async with worker(*sagas, client=client, task_queue=queue, projection=projection):
        yield TemporalMediator(
            *sagas, client=client, task_queue=queue, task_timeout=2.0, follow=projection is not None, **settings
        )


@contextlib.asynccontextmanager
async def restate(
    server: RestateServer, *sagas: Saga, projection: Projection | None = None, **settings: Any
) -> AsyncIterator[EngineMediator]:
    """A mediator on Restate, while a worker runs."""
    import httpx

    from fsm_mediator.engines.restate import RestateMediator, worker

    bind = f"127.0.0.1:{free_ports(1)[0]}"
    async with (
        worker(*sagas, bind=bind, admin=server.admin, projection=projection),
        httpx.AsyncClient(base_url=server.ingress) as client,
    ):
        yield RestateMediator(*sagas, client=client, follow=projection is not None, **settings)


ENGINES: dict[str, Callable[..., contextlib.AbstractAsyncContextManager[EngineMediator]]] = {
    "temporal": temporal,
    "restate": restate,
}
MODULES = {"temporal": "temporalio", "restate": "restate"}


def engine(name: str, request: pytest.FixtureRequest) -> Engine:
    """The engine *name*, its server started; the test is skipped where it is not here."""
    pytest.importorskip(MODULES[name], reason=f"the extra `{name}` is not installed: make engines")
    server = request.getfixturevalue(f"{name}_server")

    def ready(*sagas: Saga, **settings: Any) -> contextlib.AbstractAsyncContextManager[EngineMediator]:
        return ENGINES[name](server, *sagas, **settings)

    return ready


def run(ready: contextlib.AbstractAsyncContextManager[EngineMediator], body: Body) -> None:
    """Run a coroutine function with a mediator."""

    async def all_of_it() -> None:
        async with asyncio.timeout(300), ready as mediator:
            await body(mediator)

    asyncio.run(all_of_it())


async def until(holds: Callable[[], Awaitable[Any]]) -> Any:
    """Wait until *holds* returns something true."""
    while not (value := await holds()):  # noqa: ASYNC110 - nothing announces it
        await asyncio.sleep(0.05)
    return value


async def ended(mediator: Any, saga_id: str) -> Any:
    """Its outcome, once it has ended."""
    outcome = await mediator.outcome(saga_id)
    return outcome if outcome.ended else None
