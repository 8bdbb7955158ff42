"""Fulfils orders: reserves, waits for an approval, charges, packs and labels at once, waits for the carrier, tells.

``python -m examples.order_fulfilment`` runs it; `app` is for ``fsm-mediator``, as ``examples.order_fulfilment:app``.
"""

from __future__ import annotations

import os
from pathlib import Path

from examples.order_fulfilment.fulfilment import order_fulfilment
from examples.order_fulfilment.orders import Order
from examples.order_fulfilment.services import Services
from examples.profile_sync.faults import Faults
from fsm_mediator import Mediator, Saga

DEFAULT_FOLDER = Path("demo_orders")
JOURNAL = "sagas.db"


def folder() -> Path:
    """Where the demo keeps its state: what ORDERS_DIR says, else ``demo_orders``."""
    return Path(os.environ.get("ORDERS_DIR", DEFAULT_FOLDER))


def faults() -> Faults:
    """What goes wrong, by the seed in ORDERS_SEED, and how slow it is, by the seconds in ORDERS_LATENCY."""
    seed, latency = int(os.environ.get("ORDERS_SEED", "20")), float(os.environ.get("ORDERS_LATENCY", "0.01"))
    return Faults(seed=seed, down=0.1, lost=0.1, outage=0.05, outage_calls=3, refused=0.1, latency=latency)


def app() -> Mediator:
    """The mediator of the demo, on the journal in its folder; every process makes its own."""
    carrier = float(os.environ.get("ORDERS_CARRIER", "2"))
    saga = order_fulfilment(Services.at(folder(), faults()), carrier_comes_after=carrier)
    folder().mkdir(parents=True, exist_ok=True)
    return Mediator(saga, journal=folder() / JOURNAL)


# Nothing is opened here: a service opens its file with its first request.
definition: Saga = order_fulfilment(Services.at(DEFAULT_FOLDER))
"""The saga, to be drawn and verified."""

sample = Order(7, ("table", "chair"), ("ada@example.org", "bob@example.org"))
"""An order, for the runs that the gallery shows."""
