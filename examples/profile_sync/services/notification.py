"""Notification: messages to users, in an in-app inbox, so that a message can be withdrawn."""

from __future__ import annotations

import sqlite3
from typing import Any

from examples.profile_sync.faults import RefusedError
from examples.profile_sync.services.service import Service


class NotificationService(Service):
    """Stores the messages in the inbox of each user."""

    name = "notification"
    tables = """
        CREATE TABLE IF NOT EXISTS inbox (id INTEGER PRIMARY KEY, user_id INTEGER NOT NULL, message TEXT NOT NULL);
    """

    def send(self, user_id: int, message: str, *, key: str) -> None:
        """Adds a message to the inbox of a user; refused if the inbox is closed."""

        def effect(db: sqlite3.Connection) -> dict[str, Any]:
            if self.faults.refuses(self.name, user_id):
                raise RefusedError("the inbox is closed")
            row = db.execute("INSERT INTO inbox (user_id, message) VALUES (?, ?)", (user_id, message))
            return {"id": row.lastrowid}

        self._once("send", user_id, key, effect)

    def withdraw(self, user_id: int, *, key: str) -> None:
        """Undoes the `send` of *key*: deletes the message."""

        def reverse(db: sqlite3.Connection, before: dict[str, Any]) -> None:
            db.execute("DELETE FROM inbox WHERE id = ?", (before["id"],))

        self._undo("withdraw", user_id, key, reverse)
