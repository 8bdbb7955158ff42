"""The journal in a SQLite file."""

from __future__ import annotations

from fsm_mediator.journal.sqlite.journal import SQLiteJournal

__all__ = ["SQLiteJournal"]
