"""The check: a succeeded order is in every table once, a failed order in none; a waiting order is only reserved.

It reads the tables of the services with sqlite3, without the code of the services or of the steps.
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
    """Compares the tables with the state of each order's saga (by saga id). Returns the mismatches."""
    found = {table: _rows(folder / f"{FILES.get(table, table)}.db", select) for table, select in TABLES.items()}
    mismatches = []
    for order in orders:
        state = states.get(order.saga_id, "never accepted")
        expected = _expected(order, state)
        for table, rows in found.items():
            actual = Counter(row[1] for row in rows if row[0] == order.number)
            if expected is None:  # the saga is running: no row may be there twice
                if actual - _complete(order)[table]:
                    mismatches.append(f"{order.saga_id} ({state}): {table} holds {dict(actual)}, which is too much")
            elif actual != expected[table]:
                mismatches.append(
                    f"{order.saga_id} ({state}): {table} should hold {dict(expected[table])}, but holds {dict(actual)}"
                )
    mismatches += _stock_mismatches(folder, found["stock"])
    return mismatches


def _complete(order: Order) -> dict[str, Counter[Any]]:
    return {
        "stock": Counter(order.items),
        "payments": Counter([order.cents]),
        "warehouse": Counter(order.items),
        "labels": Counter(["label"]),
        "accounts": Counter([order.cents]),
        "mail": Counter(order.recipients),
    }


def _expected(order: Order, state: str) -> dict[str, Counter[Any]] | None:
    """The expected rows of each table; None if they depend on the progress of the saga."""
    everything = _complete(order)
    nothing: dict[str, Counter[Any]] = {table: Counter() for table in everything}
    if state == "succeeded":
        return everything
    if state in ("failed", "never accepted"):
        return nothing
    if state == "waiting.approval":
        return {**nothing, "stock": everything["stock"]}
    return None


def _stock_mismatches(folder: Path, reserved: list[tuple[Any, Any]]) -> list[str]:
    shelf = dict(_rows(folder / "stock.db", "SELECT item, quantity FROM shelf"))
    set_aside = Counter(item for _, item in reserved)
    return [
        f"stock: {shelf[item]} {item} on the shelf and {set_aside[item]} reserved do not add up to {quantity}"
        for item, quantity in STOCK.items()
        if item in shelf and shelf[item] + set_aside[item] != quantity
    ]


def _rows(path: Path, select: str) -> list[tuple[Any, Any]]:
    if not path.exists():
        return []
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as db:
        return db.execute(select).fetchall()
