"""Change your own database once, and publish a message if and only if the change was committed."""

from __future__ import annotations

import os
import sqlite3
from dataclasses import dataclass
from pathlib import Path

from fsm_mediator import Context, Saga, StepRejectedError
from fsm_mediator.transactions import Transactions

FOLDER = Path(os.environ.get("SHOP_FOLDER", "."))


@dataclass
class Sale:
    """Goods that are sold."""

    item: str
    pieces: int


messages: list[tuple[str, object]] = []
"""Messages that the broker's subscribers have received."""


def publish(topic: str, payload: object, key: str, message_id: str) -> None:
    """Publish a message by your broker. A subscriber compares *message_id*: a message can come twice."""
    messages.append((topic, payload))


tx = Transactions.sqlite3(FOLDER / "shop.sqlite", publish=publish)


def create_tables() -> None:
    """Create the tables: those of the shop and those of the transactions."""
    with sqlite3.connect(FOLDER / "shop.sqlite") as db:
        db.execute("CREATE TABLE IF NOT EXISTS stock (item TEXT PRIMARY KEY, pieces INTEGER CHECK (pieces >= 0))")
        db.execute("INSERT OR IGNORE INTO stock VALUES ('lamp', 10)")
        db.execute("CREATE TABLE IF NOT EXISTS sales (saga_id TEXT PRIMARY KEY, item TEXT, pieces INTEGER)")
    db.close()
    tx.migrate()


@tx.step
def take(db: sqlite3.Connection, sale: Sale, context: Context) -> None:
    """Take the goods: the change and the key of the attempt are one commit."""
    try:
        db.execute("UPDATE stock SET pieces = pieces - ? WHERE item = ?", (sale.pieces, sale.item))
    except sqlite3.IntegrityError as error:
        raise StepRejectedError(f"not enough of {sale.item}") from error


@take.compensation
def put_back(db: sqlite3.Connection, sale: Sale, context: Context) -> None:
    """Put the goods back. It is called only if `take` was committed."""
    db.execute("UPDATE stock SET pieces = pieces + ? WHERE item = ?", (sale.pieces, sale.item))


@tx.step
def note_sale(db: sqlite3.Connection, sale: Sale, context: Context) -> None:
    """Note the sale, and put the message into the outbox within the same transaction."""
    if sale.item == "":
        raise StepRejectedError("a sale of nothing")
    db.execute("INSERT INTO sales VALUES (?, ?, ?)", (context.saga_id, sale.item, sale.pieces))
    tx.emit(db, "sold", {"item": sale.item, "pieces": sale.pieces}, key=sale.item)


@note_sale.compensation
def strike_sale(db: sqlite3.Connection, sale: Sale, context: Context) -> None:
    """Delete the sale, and tell the subscribers."""
    db.execute("DELETE FROM sales WHERE saga_id = ?", (context.saga_id,))
    tx.emit(db, "returned", {"item": sale.item, "pieces": sale.pieces}, key=sale.item)


sale = Saga("sale", [take, note_sale], payload=Sale)
