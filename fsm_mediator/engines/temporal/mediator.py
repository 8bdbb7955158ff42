"""TemporalMediator: the verbs of an `AsyncMediator`, for sagas on Temporal."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any, Unpack

from temporalio.client import (
    Client,
    WorkflowExecutionStatus,
    WorkflowFailureError,
    WorkflowHandle,
    WorkflowQueryFailedError,
    WorkflowUpdateFailedError,
    WorkflowUpdateRPCTimeoutOrCancelledError,
)
from temporalio.common import WorkflowIDReusePolicy
from temporalio.exceptions import ApplicationError, WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from fsm_mediator.definition.saga import Saga
from fsm_mediator.engines.mediator import EngineMediator
from fsm_mediator.engines.replay import Data
from fsm_mediator.engines.settings import EngineSettings
from fsm_mediator.engines.temporal.loop import LOOP, REFUSED, SagaWorkflow
from fsm_mediator.engines.temporal.worker import QUEUE
from fsm_mediator.errors import JournalError, RefusedError, StillRunningError, UnknownExecutionError


class TemporalMediator(EngineMediator):
    """Starts sagas on Temporal, and sends verbs to them, like an `AsyncMediator`. A `worker` drives the sagas.

    An execution is a workflow. The workflow's id is the saga_id.

    Args:
        sagas: The sagas that the mediator knows.
        client: Temporal's client.
        task_queue: The task queue of the executions. The workers must use the same queue.
        heartbeat: If a worker sends no heartbeat for this number of seconds during an attempt, it counts as lost. If
            the number is too low for a busy machine, running attempts count as crashed.
        follow: Whether the workers copy the executions into a journal (`fsm_mediator.engines.projection`).
        task_timeout: The seconds after which Temporal gives a workflow task to another worker.
        settings: Further settings: arguments of `Turns`.
    """

    engine: str = "Temporal"

    def __init__(
        self,
        *sagas: Saga,
        client: Client,
        task_queue: str = QUEUE,
        heartbeat: float = 20.0,
        follow: bool = False,
        task_timeout: float = 10.0,
        **settings: Unpack[EngineSettings],
    ) -> None:
        super().__init__(*sagas, **settings)
        self._client = client
        self._task_queue = task_queue
        self._task_timeout = timedelta(seconds=task_timeout)
        self._common = {"loop": LOOP, "heartbeat": heartbeat, "follow": follow}

    async def _open(self, opening: Data) -> bool:
        start = {**self._common, "opening": opening, "rows": self.turns.begun(opening)}
        return await self._begin(start, WorkflowIDReusePolicy.REJECT_DUPLICATE)

    async def _begin(self, start: Data, policy: WorkflowIDReusePolicy) -> bool:
        try:
            await self._client.start_workflow(
                SagaWorkflow.run,
                start,
                id=start["opening"]["saga_id"],
                task_queue=self._task_queue,
                id_reuse_policy=policy,
                task_timeout=self._task_timeout,
                static_summary=start["opening"]["saga"],
            )
        except WorkflowAlreadyStartedError:
            return False
        return True

    def _handle(self, saga_id: str) -> WorkflowHandle[Any, Any]:
        return self._client.get_workflow_handle(saga_id)

    async def _standing(self, saga_id: str) -> Data:
        handle = self._handle(saga_id)
        try:
            status = (await handle.describe()).status
        except RPCError as error:
            raise _unknown(error, saga_id) from error
        if status == WorkflowExecutionStatus.COMPLETED:
            return await self._ended(saga_id)
        return await self._look(saga_id)

    async def _look(self, saga_id: str) -> Data:
        handle = self._handle(saga_id)
        try:
            known: Data = await handle.query(SagaWorkflow.standing)
        except (RPCError, WorkflowQueryFailedError) as error:
            if isinstance(error, RPCError) and error.status == RPCStatusCode.NOT_FOUND:
                raise _unknown(error, saga_id) from error
            raise JournalError(
                f"execution {saga_id!r} is on Temporal, but no worker has answered: run one for the task queue "
                f"{self._task_queue!r} ({error})"
            ) from error
        return known

    async def _ended(self, saga_id: str) -> Data:
        try:
            result: Data = await self._handle(saga_id).result()
        except RPCError as error:
            raise _unknown(error, saga_id) from error
        except WorkflowFailureError as error:
            raise JournalError(
                f"the workflow of execution {saga_id!r} was ended by hand, or timed out: {error.cause}. Its records "
                f"are in Temporal's history"
            ) from error
        return {**result, "items": [], "rests": True}

    async def _say(self, saga_id: str, words: Data, timeout: float) -> None:
        try:
            async with asyncio.timeout(timeout):
                await self._handle(saga_id).execute_update(SagaWorkflow.say, words)
        except WorkflowUpdateFailedError as error:
            cause = error.cause
            if isinstance(cause, ApplicationError) and cause.type == REFUSED:
                raise RefusedError(cause.message) from None
            raise JournalError(f"execution {saga_id!r}: {cause}") from error
        except (TimeoutError, WorkflowUpdateRPCTimeoutOrCancelledError):
            state = "unknown"
            message = (
                f"execution {saga_id!r}: no worker has answered in {timeout:g} seconds. The command may still take "
                f"effect: check its outcome, and check that a worker runs for the task queue {self._task_queue!r}"
            )
            raise StillRunningError(saga_id, state, timeout, message) from None
        except RPCError as error:
            if error.status != RPCStatusCode.NOT_FOUND:
                raise
            standing = await self._standing(saga_id)
            state = self._load(standing).state
            raise RefusedError(f"execution {saga_id!r} has ended in {state!r}: it accepts no verb") from None

    async def _undo(self, standing: Data, verb: Data) -> None:
        known = {name: standing[name] for name in ("opening", "rows", "branches")}
        if not await self._begin({**self._common, **known, "verb": verb}, WorkflowIDReusePolicy.ALLOW_DUPLICATE):
            raise RefusedError(f"execution {standing['opening']['saga_id']!r} is being undone already")


def _unknown(error: RPCError, saga_id: str) -> UnknownExecutionError | RPCError:
    if error.status == RPCStatusCode.NOT_FOUND:
        return UnknownExecutionError(f"Temporal knows no execution {saga_id!r}, or its retention is over")
    return error
