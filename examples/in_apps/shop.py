"""What the shop does with an order. Nothing here knows of the web, nor of who drives it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from fsm_mediator import Context, Saga, Signal, StepRejectedError, step

FOLDER = Path(os.environ.get("SHOP_FOLDER", "."))
JOURNAL = FOLDER / "orders.db"


@dataclass
class Order:
    """What was ordered."""

    item: str
    cents: int


@step
def reserve(order: Order, context: Context) -> str:
    """Ask the warehouse. The key tells it an attempt that is repeated from another order of the same."""
    tell(f"reserve {order.item} under {context.idempotency_key}")
    return f"shelf of {order.item}"


@reserve.compensation
def release(order: Order, context: Context) -> None:
    """Give it back."""
    tell(f"release {order.item} for {context.saga_id}")


@step(pivot=True)
def charge(order: Order, context: Context) -> int:
    """Charge the card, which nobody takes back: from here on the order goes forward."""
    if not context.results["approval"]:
        raise StepRejectedError("nobody approved it")
    tell(f"charge {order.cents} for {context.saga_id}")
    return order.cents


@step
def ship(order: Order, context: Context) -> None:
    """Send it off."""
    tell(f"ship {order.item} for {context.saga_id}")


def tell(what: str) -> None:
    """Stands for a call of another service: a line in a file of its own."""
    with (FOLDER / "services.log").open("a", encoding="utf-8") as file:
        file.write(f"{what}\n")


order = Saga("order", [reserve, Signal("approval", payload=bool), charge, ship], payload=Order)
