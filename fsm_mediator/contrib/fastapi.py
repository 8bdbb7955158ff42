"""Sagas in FastAPI: a lifespan that opens a mediator in each worker, a dependency that returns it, and error responses.

::

    app = FastAPI(lifespan=saga_lifespan(order, journal="orders.db"))
    add_error_responses(app)

    @app.put("/orders/{order_id}", status_code=202)
    async def place_order(order_id: str, body: Order, mediator: MediatorDep) -> None:
        await mediator.start("order", body, saga_id=order_id)
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Annotated, Any

from fsm_mediator.contrib.http import error_body, error_status
from fsm_mediator.definition.saga import Saga
from fsm_mediator.errors import MissingExtraError
from fsm_mediator.mediator.aio import AsyncMediator

try:
    from fastapi import Depends, FastAPI, Request
    from fastapi.responses import JSONResponse
except ImportError as _error:
    raise MissingExtraError("fsm_mediator.contrib.fastapi", "fastapi") from _error

from fsm_mediator.errors import MediatorError

__all__ = ["MediatorDep", "add_error_responses", "get_mediator", "saga_lifespan"]


def saga_lifespan(
    *sagas: Saga, daemon: bool = True, **settings: Any
) -> Callable[[FastAPI], AbstractAsyncContextManager[dict[str, AsyncMediator]]]:
    """A lifespan for ``FastAPI(lifespan=...)``. It opens a mediator in each worker, and closes it at shutdown.

    The mediator runs on the event loop of the worker.

    Args:
        *sagas: The sagas.
        daemon: Whether each worker also recovers the sagas of dead workers. If False, run ``fsm-mediator serve``, which
            recovers them.
        **settings: Settings of `AsyncMediator`, such as ``journal`` and ``close_grace``.
    """

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[dict[str, AsyncMediator]]:
        async with AsyncMediator(*sagas, **settings) as mediator:
            if not daemon:
                yield {"mediator": mediator}
                return
            async with mediator.daemon():
                yield {"mediator": mediator}

    return lifespan


def get_mediator(request: Request) -> AsyncMediator:
    """The dependency that returns this worker's mediator: see `MediatorDep`."""
    mediator: AsyncMediator = request.state.mediator
    return mediator


MediatorDep = Annotated[AsyncMediator, Depends(get_mediator)]
"""The type of a parameter that gets the mediator of this worker."""


def add_error_responses(app: FastAPI) -> None:
    """Let *app* turn errors of the mediator into JSON responses.

    `fsm_mediator.contrib.http.error_status` chooses their status.
    """

    @app.exception_handler(MediatorError)
    async def error_response(_request: Request, error: MediatorError) -> JSONResponse:
        return JSONResponse(error_body(error), error_status(error))
