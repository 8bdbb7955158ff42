"""Order fulfilment: reserve, wait for approval, charge, pack and label in parallel, wait for the carrier, notify.

``python -m examples.order_fulfilment`` runs it. Pass `app` to ``fsm-mediator`` as ``examples.order_fulfilment:app``.
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
    """The folder of the demo's state: ORDERS_DIR, or ``demo_orders``."""
    return Path(os.environ.get("ORDERS_DIR", DEFAULT_FOLDER))


def faults() -> Faults:
    """The faults of the network: the seed is in ORDERS_SEED, the seconds that a request takes in ORDERS_LATENCY."""
    seed, latency = int(os.environ.get("ORDERS_SEED", "20")), float(os.environ.get("ORDERS_LATENCY", "0.01"))
    return Faults(seed=seed, down=0.1, lost=0.1, outage=0.05, outage_calls=3, refused=0.1, latency=latency)


def app() -> Mediator:
    """A mediator on the journal in the demo's folder. Every process creates its own."""
    carrier = float(os.environ.get("ORDERS_CARRIER", "2"))
    saga = order_fulfilment(Services.at(folder(), faults()), carrier_delay=carrier)
    folder().mkdir(parents=True, exist_ok=True)
    return Mediator(saga, journal=folder() / JOURNAL)


# This opens no file: a service opens its database at its first request.
definition: Saga = order_fulfilment(Services.at(DEFAULT_FOLDER))
"""The saga, for diagrams and `verify`."""

sample = Order(7, ("table", "chair"), ("ada@example.org", "bob@example.org"))
"""The payload of the runs in the gallery."""
