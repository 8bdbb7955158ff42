"""The shop on FastAPI: ``uvicorn --workers 2 examples.in_apps.in_fastapi:app``."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request
from fastapi.responses import JSONResponse

from examples.in_apps.answers import status_of, told
from examples.in_apps.shop import JOURNAL, Order, order
from fsm_mediator import AsyncMediator, MediatorError


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """While it serves: a mediator of this worker's event loop, whose daemon takes up what others have left."""
    async with AsyncMediator(order, journal=JOURNAL, close_grace=10.0) as mediator, mediator.daemon():
        app.state.mediator = mediator
        yield


def mediator_of(request: Request) -> AsyncMediator:
    """The mediator of this worker."""
    mediator: AsyncMediator = request.app.state.mediator
    return mediator


Drives = Annotated[AsyncMediator, Depends(mediator_of)]
app = FastAPI(lifespan=lifespan)


@app.put("/orders/{order_id}", status_code=202)
async def place(order_id: str, what: Order, mediator: Drives) -> dict[str, Any]:
    """Answered once it is on disk. A client that got no answer asks again with the same id: it is started once."""
    await mediator.start("order", what, saga_id=order_id)
    return told(await mediator.outcome(order_id))


@app.get("/orders/{order_id}")
async def look(order_id: str, mediator: Drives) -> dict[str, Any]:
    """Where it stands, whichever worker drives it."""
    return told(await mediator.outcome(order_id))


@app.post("/orders/{order_id}/approval", status_code=202)
async def approve(order_id: str, yes: bool, mediator: Drives) -> dict[str, Any]:
    """A webhook may come twice: the first value counts."""
    await mediator.signal(order_id, "approval", yes)
    return told(await mediator.outcome(order_id))


@app.delete("/orders/{order_id}", status_code=202)
async def cancel(order_id: str, mediator: Drives) -> dict[str, Any]:
    """Taken until the card is charged."""
    await mediator.cancel(order_id, "the customer cancelled")
    return told(await mediator.outcome(order_id))


@app.exception_handler(MediatorError)
async def refused(request: Request, error: MediatorError) -> JSONResponse:
    """What the mediator refuses, in its words."""
    return JSONResponse({"error": str(error)}, status_of(error))
