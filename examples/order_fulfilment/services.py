"""Five services, each with its own database. None knows another, and none depends on fsm_mediator.

As in the other example, requests are safe to repeat, by key, and a seed decides when the network fails.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import attrs

from examples.order_fulfilment.orders import STOCK
from examples.profile_sync.faults import Faults, RefusedError
from examples.profile_sync.services.service import Service


class Stock(Service):
    """Keeps the items on the shelves, and the items reserved for each order."""

    name = "stock"
    tables = """
        CREATE TABLE IF NOT EXISTS shelf (item TEXT PRIMARY KEY, quantity INTEGER NOT NULL CHECK (quantity >= 0));
        CREATE TABLE IF NOT EXISTS reserved (order_id INTEGER NOT NULL, item TEXT NOT NULL);
    """

    def fill(self) -> None:
        """Adds the stock of the demo, once."""
        self._enroll("INSERT OR IGNORE INTO shelf VALUES (?, ?)", STOCK.items())

    def reserve(self, order: int, items: tuple[str, ...], *, key: str) -> None:
        """Reserves all items or none; refused if an item is missing."""

        def effect(db: sqlite3.Connection) -> dict[str, Any]:
            for item in items:
                taken = db.execute("UPDATE shelf SET quantity = quantity - 1 WHERE item = ? AND quantity > 0", (item,))
                if taken.rowcount != 1:
                    raise RefusedError(f"there is no {item} left")
                db.execute("INSERT INTO reserved VALUES (?, ?)", (order, item))
            return {"items": items}

        self._once("reserve", order, key, effect)

    def release(self, order: int, *, key: str) -> None:
        """Undoes the `reserve` of *key*."""

        def reverse(db: sqlite3.Connection, before: dict[str, Any]) -> None:
            db.execute("DELETE FROM reserved WHERE order_id = ?", (order,))
            for item in before["items"]:
                db.execute("UPDATE shelf SET quantity = quantity + 1 WHERE item = ?", (item,))

        self._undo("release", order, key, reverse)


class Payments(Service):
    """Keeps a book of charges, which is only appended to. There is no refund."""

    name = "payments"
    tables = "CREATE TABLE IF NOT EXISTS book (order_id INTEGER NOT NULL, cents INTEGER NOT NULL, key TEXT NOT NULL);"

    def charge(self, order: int, cents: int, *, key: str) -> str:
        """Charges the card; refused if it is declined."""

        def effect(db: sqlite3.Connection) -> dict[str, Any]:
            if self.faults.refuses(self.name, order):
                raise RefusedError(f"the card was declined for {cents / 100:.2f}")
            db.execute("INSERT INTO book VALUES (?, ?, ?)", (order, cents, key))
            return {}

        self._once("charge", order, key, effect)
        return f"receipt-{order}"

    def receipt(self, order: int, *, key: str) -> str | None:
        """The receipt of the charge with this key; None if there was none."""

        def look() -> str | None:
            with self._transaction() as db:
                row = db.execute("SELECT order_id FROM book WHERE key = ?", (key,)).fetchone()
            return f"receipt-{row[0]}" if row else None

        return self.faults.deliver(self.name, "receipt", order, look)


class Warehouse(Service):
    """Keeps the parcels and their labels."""

    name = "warehouse"
    tables = """
        CREATE TABLE IF NOT EXISTS parcels (order_id INTEGER NOT NULL, line INTEGER NOT NULL, item TEXT NOT NULL);
        CREATE TABLE IF NOT EXISTS labels (order_id INTEGER NOT NULL, grams INTEGER NOT NULL);
    """

    def pack(self, order: int, line: int, item: str, *, key: str) -> None:
        """Packs one item."""

        def effect(db: sqlite3.Connection) -> dict[str, Any]:
            db.execute("INSERT INTO parcels VALUES (?, ?, ?)", (order, line, item))
            return {}

        self._once(f"pack {line}", order, key, effect)

    def label(self, order: int, grams: int, *, key: str) -> None:
        """Prints the label."""

        def effect(db: sqlite3.Connection) -> dict[str, Any]:
            db.execute("INSERT INTO labels VALUES (?, ?)", (order, grams))
            return {}

        self._once("label", order, key, effect)


class Accounts(Service):
    """Keeps the invoices."""

    name = "accounts"
    tables = "CREATE TABLE IF NOT EXISTS invoices (order_id INTEGER NOT NULL, cents INTEGER NOT NULL, receipt TEXT);"

    def invoice(self, order: int, cents: int, receipt: str, *, key: str) -> None:
        """Writes the invoice."""

        def effect(db: sqlite3.Connection) -> dict[str, Any]:
            db.execute("INSERT INTO invoices VALUES (?, ?, ?)", (order, cents, receipt))
            return {}

        self._once("invoice", order, key, effect)


class Mail(Service):
    """Keeps the messages that were sent."""

    name = "mail"
    tables = "CREATE TABLE IF NOT EXISTS sent (order_id INTEGER NOT NULL, recipient TEXT NOT NULL);"

    def send(self, order: int, recipient: str, *, key: str) -> None:
        """Notifies one recipient that the order is shipped."""

        def effect(db: sqlite3.Connection) -> dict[str, Any]:
            db.execute("INSERT INTO sent VALUES (?, ?)", (order, recipient))
            return {}

        self._once(f"send {recipient}", order, key, effect)


@attrs.frozen
class Services:
    """The clients of all services."""

    stock: Stock
    payments: Payments
    warehouse: Warehouse
    accounts: Accounts
    mail: Mail

    @classmethod
    def at(cls, folder: Path, faults: Faults | None = None) -> Services:
        """Services with their databases in *folder*, opened at the first request."""
        return cls(
            Stock(folder, faults),
            Payments(folder, faults),
            Warehouse(folder, faults),
            Accounts(folder, faults),
            Mail(folder, faults),
        )

    def close(self) -> None:
        """Closes every database."""
        for service in (self.stock, self.payments, self.warehouse, self.accounts, self.mail):
            service.close()
