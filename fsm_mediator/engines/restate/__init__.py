"""Sagas on Restate, with the extra ``restate``.

An execution is a Restate workflow. An attempt is a `run` in the workflow, and a verb calls a shared handler.

::

    async with worker(checkout, bind="127.0.0.1:9080", admin="http://127.0.0.1:9070"):
        async with httpx.AsyncClient(base_url="http://127.0.0.1:8080") as client:
            mediator = RestateMediator(checkout, client=client)
            outcome = await mediator.run("checkout", order, saga_id="o-1")
"""

from __future__ import annotations

from importlib.util import find_spec

from fsm_mediator.errors import MissingExtraError

if any(find_spec(name) is None for name in ("restate", "httpx", "hypercorn")):
    raise MissingExtraError("fsm_mediator.engines.restate", "restate")

from fsm_mediator.engines.restate.mediator import RestateMediator
from fsm_mediator.engines.restate.worker import RETENTION, worker

__all__ = ["RETENTION", "RestateMediator", "worker"]
