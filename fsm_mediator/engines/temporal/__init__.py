"""Sagas on Temporal, with the extra ``temporal``.

An execution is a Temporal workflow. An attempt is an activity, and a verb is an update.

::

    async with worker(checkout, client=client):
        mediator = TemporalMediator(checkout, client=client)
        outcome = await mediator.run("checkout", order, saga_id="o-1")
"""

from __future__ import annotations

from importlib.util import find_spec

from fsm_mediator.errors import MissingExtraError

if find_spec("temporalio") is None:
    raise MissingExtraError("fsm_mediator.engines.temporal", "temporal")

from fsm_mediator.engines.temporal.loop import LOOP, SagaWorkflow
from fsm_mediator.engines.temporal.mediator import TemporalMediator
from fsm_mediator.engines.temporal.worker import QUEUE, replayer, worker

__all__ = ["LOOP", "QUEUE", "SagaWorkflow", "TemporalMediator", "replayer", "worker"]
