"""Native code for Temporal: a workflow of three activities that do nothing."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

try:
    from temporalio import activity, workflow
    from temporalio.worker import UnsandboxedWorkflowRunner, Worker
except ImportError:  # `benchmarks.engines` says that it is skipped
    pass
else:

    @activity.defn
    def nothing(name: str) -> None:
        """Do nothing."""

    @workflow.defn
    class Native:
        """Three activities, one after another."""

        @workflow.run
        async def run(self, payload: str) -> str:
            """Execute the activities."""
            for name in "abc":
                await workflow.execute_activity(nothing, name, start_to_close_timeout=timedelta(seconds=60))
            return payload


def worker(client: Any) -> Any:
    """A worker for this workflow, without the sandbox, like our worker."""
    return Worker(
        client,
        task_queue="native",
        workflows=[Native],
        activities=[nothing],
        activity_executor=ThreadPoolExecutor(64),
        workflow_runner=UnsandboxedWorkflowRunner(),
        max_concurrent_activities=64,
    )


async def run(client: Any, saga_id: str) -> None:
    """Run the workflow once."""
    await client.execute_workflow(Native.run, "x", id=saga_id, task_queue="native")
