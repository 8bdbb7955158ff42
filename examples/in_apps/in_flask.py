"""The shop on Flask: ``gunicorn --workers 2 --preload examples.in_apps.in_flask:app``.

Beside it runs ``fsm-mediator serve --app examples.in_apps.in_flask:mediator``.
"""

from __future__ import annotations

import atexit
from typing import Any

import msgspec
from flask import Flask, request

from examples.in_apps.answers import status_of, told
from examples.in_apps.shop import JOURNAL, Order, order
from fsm_mediator import Mediator, MediatorError, PayloadError

mediator = Mediator(order, journal=JOURNAL, close_grace=10.0)
atexit.register(mediator.close)
app = Flask(__name__)


@app.put("/orders/<order_id>")
def place(order_id: str) -> tuple[dict[str, Any], int]:
    """Answered once it is on disk; threads of the mediator drive it on."""
    try:
        what = msgspec.convert(request.get_json(), Order)
    except msgspec.ValidationError as error:
        raise PayloadError(f"this is no order: {error}") from error
    mediator.start("order", what, saga_id=order_id)
    return told(mediator.outcome(order_id)), 202


@app.get("/orders/<order_id>")
def look(order_id: str) -> dict[str, Any]:
    """Where it stands, whichever worker drives it."""
    return told(mediator.outcome(order_id))


@app.post("/orders/<order_id>/approval")
def approve(order_id: str) -> tuple[dict[str, Any], int]:
    """A webhook may come twice: the first value counts."""
    mediator.signal(order_id, "approval", request.args["yes"] == "true")
    return told(mediator.outcome(order_id)), 202


@app.delete("/orders/<order_id>")
def cancel(order_id: str) -> tuple[dict[str, Any], int]:
    """Taken until the card is charged."""
    mediator.cancel(order_id, "the customer cancelled")
    return told(mediator.outcome(order_id)), 202


@app.errorhandler(MediatorError)
def refused(error: MediatorError) -> tuple[dict[str, Any], int]:
    """What the mediator refuses, in its words."""
    return {"error": str(error)}, status_of(error)
