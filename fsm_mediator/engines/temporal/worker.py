"""The worker: runs the workflows of executions. A turn (one effect and the moves that follow) is an activity."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any, Unpack

from temporalio import activity
from temporalio.client import Client
from temporalio.exceptions import ApplicationError
from temporalio.worker import (
    Interceptor,
    Replayer,
    UnsandboxedWorkflowRunner,
    Worker,
    WorkflowInboundInterceptor,
    WorkflowInterceptorClassInput,
)

from fsm_mediator.definition.saga import Saga
from fsm_mediator.engines.projection import Projection
from fsm_mediator.engines.replay import Data, Row, Turns
from fsm_mediator.engines.settings import EngineSettings, TurnsSettings
from fsm_mediator.engines.temporal.loop import FOLLOW, NOT_BEGUN, TURN, TURNS, SagaWorkflow
from fsm_mediator.errors import MediatorError

QUEUE = "fsm_mediator"
"""The default task queue of executions."""


class _HandsTurns(Interceptor):
    """An interceptor that makes the worker's `Turns` available to workflows, under the name `TURNS`."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns

    def workflow_interceptor_class(
        self,
        input: WorkflowInterceptorClassInput,  # noqa: A002 - Temporal's name
    ) -> type[WorkflowInboundInterceptor] | None:
        """Add the extern function that returns the worker's `Turns`."""
        input.unsafe_extern_functions[TURNS] = lambda: self._turns
        return None


class _Activities:
    def __init__(self, turns: Turns, projection: Projection | None) -> None:
        self._turns = turns
        self._projection = projection

    @activity.defn(name=FOLLOW)
    async def follow(self, opening: Data, rows: list[Row]) -> None:
        """Write *rows*, the records of an execution, to the journal of the projection."""
        if self._projection is None:
            raise ApplicationError("this worker was given no projection=, which the execution's follow=True asks for")
        await self._projection.follow_apart(self._turns, opening, rows)

    @activity.defn(name=TURN)
    async def turn(self, opening: Data, rows: list[Row], request: Data) -> Data:
        """Make a turn of an execution: at most one effect, and the moves that follow. Returns the turn's result.

        During the turn, heartbeats show that this worker is alive.
        """
        try:
            execution = self._turns.load(opening, rows)
        except MediatorError as error:
            raise ApplicationError(str(error), type=NOT_BEGUN) from error
        if self._projection is not None:
            await self._projection.keep_up(self._turns, opening, rows)
        beat = activity.info().heartbeat_timeout
        async with _heartbeats(beat):
            return await self._turns.turn_of(execution, opening, request)


@contextlib.asynccontextmanager
async def _heartbeats(timeout: timedelta | None) -> AsyncIterator[None]:
    async def beat(seconds: float) -> None:
        while True:
            await asyncio.sleep(seconds)
            activity.heartbeat()

    task = None if timeout is None else asyncio.create_task(beat(timeout.total_seconds() / 4))
    try:
        yield
    finally:
        if task is not None:
            task.cancel()


def worker(
    *sagas: Saga,
    client: Client,
    task_queue: str = QUEUE,
    max_workers: int = 16,
    close_grace: float = 30.0,
    projection: Projection | None = None,
    temporal: Any = None,
    **settings: Unpack[TurnsSettings],
) -> Worker:
    """A worker that drives executions of *sagas* until its ``async with`` block ends.

    Args:
        sagas: The sagas.
        client: Temporal's client.
        task_queue: The task queue of the executions, the same as for their `TemporalMediator`.
        max_workers: The maximum number of attempts at the same time.
        close_grace: The seconds for which running attempts may continue when the worker stops. Attempts that run longer
            count as crashed.
        projection: The projection that copies the executions into a journal. None for no copy.
        temporal: More arguments for `temporalio.worker.Worker`, as a dictionary.
        settings: Further settings: arguments of `Turns`.
    """
    turns = Turns(*sagas, max_workers=max_workers, **settings)
    more: dict[str, Any] = {"max_concurrent_activities": max_workers, **(temporal or {})}
    return Worker(
        client,
        task_queue=task_queue,
        workflows=[SagaWorkflow],
        activities=_activities(turns, projection),
        workflow_runner=UnsandboxedWorkflowRunner(),  # a sandbox would import every saga again
        graceful_shutdown_timeout=timedelta(seconds=close_grace),
        interceptors=[_HandsTurns(turns), *more.pop("interceptors", ())],
        **more,
    )


def _activities(turns: Turns, projection: Projection | None) -> list[Any]:
    activities = _Activities(turns, projection)
    return [activities.turn, activities.follow]


def replayer(*sagas: Saga, **settings: Unpack[EngineSettings]) -> Replayer:
    """A Temporal `Replayer` for *sagas*. With it you can check that a new version still fits saved histories."""
    turns = Turns(*sagas, **settings)
    return Replayer(
        workflows=[SagaWorkflow], workflow_runner=UnsandboxedWorkflowRunner(), interceptors=[_HandsTurns(turns)]
    )
