"""A shop on several workers: the program accepts orders, and any free worker drives them.

``fsm-mediator cluster --app examples.shop:mediator --workers 3`` runs the workers. ``python -m examples.shop`` also
gives them orders, kills the workers one after another, and prints a report.
"""

from __future__ import annotations

import os
import time

from fsm_mediator import Context, Mediator, Retry, Saga, StepRejectedError, step

SECONDS = float(os.environ.get("SHOP_SECONDS", "0.3"))
"""How long a call of another service takes."""

QUICK = Retry(attempts=20, wait_initial=0.05, wait_max=0.5)


@step(retry=QUICK)
def reserve(order: int, context: Context) -> str:
    """Reserve the goods. The warehouse knows the key: a repeated call reserves nothing more."""
    time.sleep(SECONDS)
    return f"reserved under {context.idempotency_key}"


@reserve.compensation
def release(order: int) -> None:
    """Give the goods back."""
    time.sleep(SECONDS)


@step(retry=QUICK)
def charge(order: int, context: Context) -> str:
    """Charge the card; every tenth card is declined."""
    time.sleep(SECONDS)
    if order % 10 == 9:
        raise StepRejectedError("the card was declined")
    return f"charged under {context.idempotency_key}"


@charge.compensation
def refund(order: int) -> None:
    """Give the money back."""
    time.sleep(SECONDS)


@step(retry=QUICK)
def ship(order: int) -> None:
    """Send the goods."""
    time.sleep(SECONDS)


order_saga = Saga("order", [reserve, charge, ship], payload=int)
mediator = Mediator(order_saga, max_workers=8)
