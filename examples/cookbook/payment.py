"""Charge a card, and ask the bank if its answer was lost."""

from __future__ import annotations

from dataclasses import dataclass

from fsm_mediator import Context, Happened, NotHappened, Retry, Saga, StepRejectedError, step


@dataclass
class Order:
    """An order, and the card that pays for it."""

    item: str
    cents: int
    card: str


reserved: dict[str, str] = {}
"""Items of the warehouse, by idempotency key."""

charged: dict[str, int] = {}
"""Charges of the bank, by idempotency key."""

shipped: dict[str, str] = {}
"""Parcels of the carrier, by idempotency key."""


@step
def reserve(order: Order, context: Context) -> None:
    """Reserve the item."""
    reserved[context.idempotency_key] = order.item


@reserve.compensation
def release(order: Order, context: Context) -> None:
    """Release the item, if it was reserved."""
    reserved.pop(context.execute_key, None)


@step(pivot=True, timeout=10.0, retry=Retry(attempts=4, wait_initial=0.5))
def charge(order: Order, context: Context) -> str:
    """Charge the card. After this step nothing is undone."""
    if order.card == "expired":
        raise StepRejectedError("the card has expired")
    charged[context.idempotency_key] = order.cents
    return f"receipt of {context.idempotency_key}"


@charge.probing
def find_charge(order: Order, context: Context) -> Happened | NotHappened:
    """Ask the bank for the charge with this key."""
    key = context.idempotency_key
    return Happened(f"receipt of {key}") if key in charged else NotHappened()


@step
def ship(order: Order, context: Context) -> None:
    """Ship the item. After the pivot a step is attempted until it succeeds."""
    shipped[context.idempotency_key] = order.item


payment = Saga("payment", [reserve, charge, ship], payload=Order)
