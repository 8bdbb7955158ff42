"""Native code for Restate: a workflow of three side effects that do nothing, served like our saga."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

try:
    import httpx
    import restate
    from hypercorn.asyncio import serve
    from hypercorn.config import Config
    from restate import Workflow, WorkflowContext
except ImportError:  # `benchmarks.engines` says that it is skipped
    pass
else:
    native = Workflow("Native")

    def nothing() -> None:
        """Do nothing."""

    @native.main()
    async def run_three(context: WorkflowContext, payload: str) -> str:
        """Execute three side effects, one after another."""
        for name in "abc":
            await context.run_typed(name, nothing)
        return payload


@contextlib.asynccontextmanager
async def worker(bind: str, admin: str) -> AsyncIterator[None]:
    """Serve the workflow, and register it at the server."""
    config, stop = Config(), asyncio.Event()
    config.bind, config.loglevel, config.h2_max_concurrent_streams = [bind], "ERROR", 100_000
    serving = asyncio.create_task(serve(restate.app([native]), config, shutdown_trigger=stop.wait))
    async with httpx.AsyncClient(base_url=admin, timeout=30.0) as client:
        (await client.post("/deployments", json={"uri": f"http://{bind}", "force": True})).raise_for_status()
    try:
        yield
    finally:
        stop.set()
        await asyncio.wait((serving,), timeout=5.0)


async def run(client: Any, saga_id: str) -> None:
    """Run the workflow once."""
    (await client.post(f"/Native/{saga_id}/run_three", json="x", timeout=60.0)).raise_for_status()
