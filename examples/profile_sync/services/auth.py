"""Auth: the e-mail address that a user logs in with."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Any

from examples.profile_sync.faults import RefusedError
from examples.profile_sync.services.service import Service


class AuthService(Service):
    """Stores the e-mail address of each user."""

    name = "auth"
    tables = "CREATE TABLE IF NOT EXISTS accounts (user_id INTEGER PRIMARY KEY, email TEXT NOT NULL UNIQUE);"

    def enroll(self, accounts: Iterable[tuple[int, str]]) -> None:
        """Adds new users, as (user id, e-mail)."""
        self._enroll("INSERT OR IGNORE INTO accounts VALUES (?, ?)", accounts)

    def change_email(self, user_id: int, email: str, *, key: str) -> None:
        """Changes the address of a user; refused if the address is taken or blocked."""

        def effect(db: sqlite3.Connection) -> dict[str, Any]:
            (before,) = self._of_user(db, "SELECT email FROM accounts WHERE user_id = ?", user_id)
            if self.faults.refuses(self.name, user_id):
                raise RefusedError(f"the domain of {email} is blocked")
            try:
                db.execute("UPDATE accounts SET email = ? WHERE user_id = ?", (email, user_id))
            except sqlite3.IntegrityError as error:
                raise RefusedError(f"the address {email} is taken") from error
            return {"email": before}

        self._once("change_email", user_id, key, effect)

    def restore_email(self, user_id: int, *, key: str) -> None:
        """Undoes the `change_email` of *key*."""

        def reverse(db: sqlite3.Connection, before: dict[str, Any]) -> None:
            db.execute("UPDATE accounts SET email = ? WHERE user_id = ?", (before["email"], user_id))

        self._undo("restore_email", user_id, key, reverse)
