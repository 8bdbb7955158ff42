"""The shop on Flask: ``gunicorn --workers 2 --preload examples.in_apps.in_flask:app``.

Start ``fsm-mediator serve --app examples.in_apps.in_flask:mediator`` beside it.
"""

from __future__ import annotations

from flask import Flask, Response, jsonify, request

from examples.in_apps.responses import order_status
from examples.in_apps.shop import JOURNAL, Order, order
from fsm_mediator import Mediator
from fsm_mediator.contrib.flask import payload_from, use_mediator

mediator = Mediator(order, journal=JOURNAL, close_grace=10.0)
app = Flask(__name__)
use_mediator(app, mediator)


@app.put("/orders/<order_id>")
def place_order(order_id: str) -> tuple[Response, int]:
    """Start the saga. The response means that the order is on disk; threads of the mediator drive it."""
    mediator.start("order", payload_from(request.get_data(), Order), saga_id=order_id)
    return jsonify(order_status(mediator.outcome(order_id))), 202


@app.get("/orders/<order_id>")
def get_order(order_id: str) -> Response:
    """Report the status of an order. Any worker can answer."""
    return jsonify(order_status(mediator.outcome(order_id)))


@app.post("/orders/<order_id>/approval")
def approve_order(order_id: str) -> tuple[Response, int]:
    """Approve or refuse an order. A webhook can be delivered twice: the first value counts."""
    mediator.signal(order_id, "approval", request.args["approved"] == "true")
    return jsonify(order_status(mediator.outcome(order_id))), 202


@app.delete("/orders/<order_id>")
def cancel_order(order_id: str) -> tuple[Response, int]:
    """Cancel an order. Refused with 409 once the card is charged."""
    mediator.cancel(order_id, "the customer cancelled")
    return jsonify(order_status(mediator.outcome(order_id))), 202
