"""Notification: what users are told, in an in-app inbox (so that a message can be withdrawn)."""

from __future__ import annotations

import sqlite3
from typing import Any

from examples.profile_sync.faults import RefusedError
from examples.profile_sync.services.service import Service


class NotificationService(Service):
    """Keeps the messages in each user's inbox."""

    name = "notification"
    tables = """
        CREATE TABLE IF NOT EXISTS inbox (id INTEGER PRIMARY KEY, user_id INTEGER NOT NULL, message TEXT NOT NULL);
    """

    def send(self, user_id: int, message: str, *, key: str) -> None:
        """Puts a message into the user's inbox; refused where the user has closed it."""

        def effect(db: sqlite3.Connection) -> dict[str, Any]:
            if self.faults.refuses(self.name, user_id):
                raise RefusedError("the inbox is closed")
            row = db.execute("INSERT INTO inbox (user_id, message) VALUES (?, ?)", (user_id, message))
            return {"id": row.lastrowid}

        self._once("send", user_id, key, effect)

    def withdraw(self, user_id: int, *, key: str) -> None:
        """Undoes the `send` of *key*: the message is gone from the inbox."""

        def reverse(db: sqlite3.Connection, before: dict[str, Any]) -> None:
            db.execute("DELETE FROM inbox WHERE id = ?", (before["id"],))

        self._undo("withdraw", user_id, key, reverse)
