"""The shop on FastAPI: ``uvicorn --workers 2 examples.in_apps.in_fastapi:app``."""

from __future__ import annotations

from fastapi import FastAPI

from examples.in_apps.responses import OrderStatus, order_status
from examples.in_apps.shop import JOURNAL, Order, order
from fsm_mediator.contrib.fastapi import MediatorDep, add_error_responses, saga_lifespan

app = FastAPI(lifespan=saga_lifespan(order, journal=JOURNAL, close_grace=10.0))
add_error_responses(app)


@app.put("/orders/{order_id}", status_code=202)
async def place_order(order_id: str, body: Order, mediator: MediatorDep) -> OrderStatus:
    """Start the saga. The response means that the order is on disk. The same request again starts no second saga."""
    await mediator.start("order", body, saga_id=order_id)
    return order_status(await mediator.outcome(order_id))


@app.get("/orders/{order_id}")
async def get_order(order_id: str, mediator: MediatorDep) -> OrderStatus:
    """Report the status of an order. Any worker can answer."""
    return order_status(await mediator.outcome(order_id))


@app.post("/orders/{order_id}/approval", status_code=202)
async def approve_order(order_id: str, approved: bool, mediator: MediatorDep) -> OrderStatus:
    """Approve or refuse an order. A webhook can be delivered twice: the first value counts."""
    await mediator.signal(order_id, "approval", approved)
    return order_status(await mediator.outcome(order_id))


@app.delete("/orders/{order_id}", status_code=202)
async def cancel_order(order_id: str, mediator: MediatorDep) -> OrderStatus:
    """Cancel an order. Refused with 409 once the card is charged."""
    await mediator.cancel(order_id, "the customer cancelled")
    return order_status(await mediator.outcome(order_id))
