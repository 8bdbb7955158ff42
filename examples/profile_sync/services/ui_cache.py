"""The UI cache: the content of each profile page."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Any

from examples.profile_sync.services.service import Service


class UICacheService(Service):
    """Stores the name and the plan badge of each profile page."""

    name = "ui_cache"
    tables = """
        CREATE TABLE IF NOT EXISTS pages (user_id INTEGER PRIMARY KEY, display_name TEXT NOT NULL, badge TEXT NOT NULL);
    """

    def enroll(self, pages: Iterable[tuple[int, str, str]]) -> None:
        """Adds new users, as (user id, display name, badge)."""
        self._enroll("INSERT OR IGNORE INTO pages VALUES (?, ?, ?)", pages)

    def refresh(self, user_id: int, display_name: str, badge: str, *, key: str) -> None:
        """Changes the name and the badge on the page of a user."""

        def effect(db: sqlite3.Connection) -> dict[str, Any]:
            select = "SELECT display_name, badge FROM pages WHERE user_id = ?"
            name_before, badge_before = self._of_user(db, select, user_id)
            self._show(db, user_id, display_name, badge)
            return {"display_name": name_before, "badge": badge_before}

        self._once("refresh", user_id, key, effect)

    def restore(self, user_id: int, *, key: str) -> None:
        """Undoes the `refresh` of *key*."""

        def reverse(db: sqlite3.Connection, before: dict[str, Any]) -> None:
            self._show(db, user_id, before["display_name"], before["badge"])

        self._undo("restore", user_id, key, reverse)

    @staticmethod
    def _show(db: sqlite3.Connection, user_id: int, display_name: str, badge: str) -> None:
        db.execute("UPDATE pages SET display_name = ?, badge = ? WHERE user_id = ?", (display_name, badge, user_id))
