"""The worker: serves the workflows of executions to Restate over HTTP/2."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import weakref
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any, Final, Unpack

import httpx
import restate
from hypercorn.asyncio import serve
from hypercorn.config import Config, Sockets
from restate import InvocationRetryPolicy, Workflow, WorkflowContext

from fsm_mediator.definition.saga import Saga
from fsm_mediator.engines.projection import Projection
from fsm_mediator.engines.replay import Data, Turns
from fsm_mediator.engines.restate import loop
from fsm_mediator.engines.restate.attempts import Attempts
from fsm_mediator.engines.restate.loop import JSON, SAGA, UNDONE, SagaRun
from fsm_mediator.engines.settings import TurnsSettings
from fsm_mediator.errors import JournalError

RETENTION: Final = 30 * 86_400.0
"""The default time in seconds for which Restate stores an execution after its end."""

INACTIVITY: Final = 60.0
"""The seconds without a message after which Restate suspends an execution, so that it uses no worker."""

FOREVER: Final = timedelta(days=3650)
RETRIES: Final[Any] = InvocationRetryPolicy(
    initial_interval=timedelta(milliseconds=50),
    exponentiation_factor=2.0,
    max_interval=timedelta(seconds=10),
    max_attempts=10**9,  # by default, Restate pauses an execution after 70 attempts
)
"""The policy by which Restate asks a worker again, after a worker was lost or did not have the definition."""

STREAMS: Final = 100_000
"""The maximum number of executions that Restate can drive at the same time on one connection."""


class _Listener(socket.socket):
    """A listening socket that stores its connections, so that a stopping worker can close them.

    After that, Restate sends its requests to another worker. The HTTP server of the stopping worker handles the closed
    connections as if Restate had closed them.
    """

    connections: weakref.WeakSet[socket.socket]

    def accept(self) -> tuple[socket.socket, Any]:
        """Accept a connection, and store it."""
        connection, address = super().accept()
        self.connections.add(connection)
        return connection, address


class _Listening(Config):
    """Hypercorn's settings, with listening sockets that store their connections (`_Listener`)."""

    def __init__(self, bind: str) -> None:
        super().__init__()
        self.bind = [bind]
        self.loglevel = "ERROR"
        self.h2_max_concurrent_streams = STREAMS
        self.keep_alive_timeout = 3600.0
        self.connections: weakref.WeakSet[socket.socket] = weakref.WeakSet()

    def create_sockets(self) -> Sockets:
        """Create the listening sockets, each a `_Listener`."""
        sockets = super().create_sockets()
        for number, each in enumerate(sockets.insecure_sockets):
            sockets.insecure_sockets[number] = listener = _Listener(fileno=each.detach())
            listener.connections = self.connections
        return sockets

    def end_connections(self) -> None:
        """Close every connection."""
        for connection in list(self.connections):
            with contextlib.suppress(OSError):  # the connection is already closed
                connection.shutdown(socket.SHUT_RDWR)


def _workflow(name: str, turns: Turns, attempts: Attempts, projection: Projection | None, kept: float) -> Workflow:
    workflow = Workflow(
        name,
        inactivity_timeout=timedelta(seconds=INACTIVITY),
        abort_timeout=FOREVER,  # a step may take any time
        invocation_retry_policy=RETRIES,
        journal_retention=timedelta(0),
    )

    @workflow.main(input_serde=JSON, output_serde=JSON, workflow_retention=timedelta(seconds=kept))
    async def run(context: WorkflowContext, start: Data) -> Data:
        return await SagaRun(turns, context, name, attempts, projection).run(start)

    for handler in (loop.tell, loop.say, loop.standing):
        workflow.handler(input_serde=JSON, output_serde=JSON)(handler)
    return workflow


@contextlib.asynccontextmanager
async def worker(
    *sagas: Saga,
    bind: str = "127.0.0.1:9080",
    admin: str | None = None,
    url: str | None = None,
    max_workers: int = 16,
    close_grace: float = 30.0,
    retention: float = RETENTION,
    projection: Projection | None = None,
    identity_keys: list[str] | None = None,
    **settings: Unpack[TurnsSettings],
) -> AsyncIterator[None]:
    """Drive executions of *sagas* until the ``async with`` block ends.

    Args:
        sagas: The sagas.
        bind: The address to listen on: ``HOST:PORT``.
        admin: The URL of Restate's admin API, to register the worker there. None if the worker is already registered.
        url: The URL at which Restate reaches the worker. None for ``http://`` and *bind*.
        max_workers: The maximum number of attempts at the same time.
        close_grace: The seconds for which running attempts may continue when the worker stops. Attempts that run longer
            count as crashed.
        retention: The seconds for which Restate stores an execution after its end. During this time the execution can
            be undone, and a start with the same id returns the same execution.
        projection: The projection that copies the executions into a journal. None for no copy.
        identity_keys: The keys with which Restate signs its requests. If you pass keys, requests without a valid
            signature are refused.
        settings: Further settings: arguments of `Turns`.

    Raises:
        JournalError: Restate does not accept the worker.
    """
    turns = Turns(*sagas, max_workers=max_workers, **settings)
    attempts = Attempts(max_workers, INACTIVITY / 2)
    workflows = [_workflow(name, turns, attempts, projection, retention) for name in (SAGA, UNDONE)]
    config, stop = _Listening(bind), asyncio.Event()
    app = restate.app(workflows, identity_keys=identity_keys)
    serving = asyncio.create_task(serve(app, config, shutdown_trigger=stop.wait))
    try:
        if admin is not None:
            await _make_known(admin, url or f"http://{bind}", serving)
        yield
    finally:
        await attempts.close(close_grace)
        stop.set()
        while not serving.done():
            config.end_connections()
            await asyncio.wait((serving,), timeout=0.1)
        serving.result()


async def _make_known(admin: str, url: str, serving: asyncio.Task[None]) -> None:
    async with httpx.AsyncClient(base_url=admin, timeout=30.0) as client:
        try:
            answer = await client.post("/deployments", json={"uri": url, "force": True})
        except httpx.TransportError as error:
            raise JournalError(f"Restate's admin API does not answer at {admin}: {error}") from error
    if serving.done():
        serving.result()
    if answer.is_error:
        raise JournalError(f"Restate does not accept the worker at {url}: {answer.text}")
