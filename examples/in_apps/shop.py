"""The saga of the shop. It does not depend on the web framework, nor on the mediator that drives it."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from fsm_mediator import Context, Saga, Signal, StepRejectedError, step

FOLDER = Path(os.environ.get("SHOP_FOLDER", "."))
JOURNAL = FOLDER / "orders.db"


@dataclass
class Order:
    """The payload of the saga, and the body of the request that places an order."""

    item: str
    cents: int


@step
def reserve(order: Order, context: Context) -> str:
    """Reserve the item. A repeated attempt has the same key, so the item is reserved once."""
    send_request(context.idempotency_key, f"reserve {order.item}")
    return f"shelf of {order.item}"


@reserve.compensation
def release(order: Order, context: Context) -> None:
    """Cancel the reservation. If nothing was reserved, nothing happens."""
    cancel_request(context.execute_key)


@step(pivot=True)
def charge(order: Order, context: Context) -> int:
    """Charge the card. There is no refund: after this step the saga only goes forward."""
    if not context.results["approval"]:
        raise StepRejectedError("the order was not approved")
    send_request(context.idempotency_key, f"charge {order.cents}")
    return order.cents


@step
def ship(order: Order, context: Context) -> None:
    """Ship the item."""
    send_request(context.idempotency_key, f"ship {order.item}")


def send_request(key: str, request: str) -> None:
    """Send a request to another service: here, a row in a table. A key that the service knows is ignored."""
    with request_table() as db:
        db.execute("INSERT OR IGNORE INTO requests VALUES (?, ?)", (key, request))


def cancel_request(key: str) -> None:
    """Cancel the request with this key, if it ever arrived."""
    with request_table() as db:
        db.execute("DELETE FROM requests WHERE key = ?", (key,))


@contextmanager
def request_table() -> Iterator[sqlite3.Connection]:
    """A transaction on the table of requests."""
    with closing(sqlite3.connect(FOLDER / "services.db")) as db, db:
        db.execute("CREATE TABLE IF NOT EXISTS requests (key TEXT PRIMARY KEY, request TEXT NOT NULL)")
        yield db


order = Saga("order", [reserve, Signal("approval", payload=bool), charge, ship], payload=Order)
