"""The check: who succeeded has all of it, once; who failed has nothing; who waits for approval has a reservation only.

It asks neither the services nor the steps: it reads the participants' own tables, with sqlite3 and nothing else.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from examples.order_fulfilment.orders import STOCK, Order

TABLES = {
    "stock": "SELECT order_id, item FROM reserved",
    "payments": "SELECT order_id, cents FROM book",
    "warehouse": "SELECT order_id, item FROM parcels",
    "labels": "SELECT order_id, 'label' FROM labels",
    "accounts": "SELECT order_id, cents FROM invoices",
    "mail": "SELECT order_id, recipient FROM sent",
}
FILES = {"labels": "warehouse"}


def check(folder: Path, orders: Iterable[Order], states: Mapping[str, str]) -> list[str]:
    """Where a participant's table is not what the state of an order's saga (by saga id) promises; [] if all is well."""
    found = {what: _rows(folder / f"{FILES.get(what, what)}.db", select) for what, select in TABLES.items()}
    wrong = []
    for order in orders:
        state = states.get(order.saga_id, "never accepted")
        expected = _expected(order, state)
        for what, rows in found.items():
            there = Counter(row[1] for row in rows if row[0] == order.number)
            if expected is None:  # it is under way: nothing may be there twice
                if there - _all(order)[what]:
                    wrong.append(f"{order.saga_id} ({state}): {what} holds {dict(there)}, which is too much")
            elif there != expected[what]:
                wrong.append(
                    f"{order.saga_id} ({state}): {what} should hold {dict(expected[what])}, but holds {dict(there)}"
                )
    wrong += _miscounted(folder, found["stock"])
    return wrong


def _all(order: Order) -> dict[str, Counter[Any]]:
    return {
        "stock": Counter(order.items),
        "payments": Counter([order.cents]),
        "warehouse": Counter(order.items),
        "labels": Counter(["label"]),
        "accounts": Counter([order.cents]),
        "mail": Counter(order.recipients),
    }


def _expected(order: Order, state: str) -> dict[str, Counter[Any]] | None:
    """What each table should hold of the order; None where that depends on how far it is."""
    everything = _all(order)
    nothing: dict[str, Counter[Any]] = {what: Counter() for what in everything}
    if state == "succeeded":
        return everything
    if state in ("failed", "never accepted"):
        return nothing
    if state == "waiting.approval":
        return {**nothing, "stock": everything["stock"]}
    return None


def _miscounted(folder: Path, reserved: list[tuple[Any, Any]]) -> list[str]:
    shelf = dict(_rows(folder / "stock.db", "SELECT item, quantity FROM shelf"))
    aside = Counter(item for _, item in reserved)
    return [
        f"stock: {shelf[item]} {item} on the shelf and {aside[item]} set aside are not the {quantity} there were"
        for item, quantity in STOCK.items()
        if item in shelf and shelf[item] + aside[item] != quantity
    ]


def _rows(path: Path, select: str) -> list[tuple[Any, Any]]:
    if not path.exists():
        return []
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as db:
        return db.execute(select).fetchall()
