"""Billing: plans, charges and refunds."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Any

from examples.profile_sync.faults import RefusedError
from examples.profile_sync.services.service import Service


class BillingService(Service):
    """Stores the plan of each user, and a book of charges and refunds, which is only appended to."""

    name = "billing"
    tables = """
        CREATE TABLE IF NOT EXISTS subscriptions (user_id INTEGER PRIMARY KEY, plan TEXT NOT NULL);
        CREATE TABLE IF NOT EXISTS book (
            id INTEGER PRIMARY KEY, user_id INTEGER NOT NULL, entry TEXT NOT NULL, cents INTEGER NOT NULL
        );
    """

    def enroll(self, subscriptions: Iterable[tuple[int, str]]) -> None:
        """Adds new users, as (user id, plan)."""
        self._enroll("INSERT OR IGNORE INTO subscriptions VALUES (?, ?)", subscriptions)

    def subscribe(self, user_id: int, plan: str, cents: int, *, key: str) -> None:
        """Changes the plan of a user and charges for it; refused if the card is declined."""

        def effect(db: sqlite3.Connection) -> dict[str, Any]:
            (before,) = self._of_user(db, "SELECT plan FROM subscriptions WHERE user_id = ?", user_id)
            if self.faults.refuses(self.name, user_id):
                raise RefusedError(f"the card was declined for {cents / 100:.2f}")
            db.execute("UPDATE subscriptions SET plan = ? WHERE user_id = ?", (plan, user_id))
            db.execute("INSERT INTO book (user_id, entry, cents) VALUES (?, 'charge', ?)", (user_id, cents))
            return {"plan": before, "cents": cents}

        self._once("subscribe", user_id, key, effect)

    def refund(self, user_id: int, *, key: str) -> None:
        """Undoes the `subscribe` of *key*: restores the plan and refunds the money."""

        def reverse(db: sqlite3.Connection, before: dict[str, Any]) -> None:
            db.execute("UPDATE subscriptions SET plan = ? WHERE user_id = ?", (before["plan"], user_id))
            db.execute("INSERT INTO book (user_id, entry, cents) VALUES (?, 'refund', ?)", (user_id, before["cents"]))

        self._undo("refund", user_id, key, reverse)
