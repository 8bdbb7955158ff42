"""Notes in a SQLite journal. They are written in a transaction that the caller began."""

from __future__ import annotations

from sqlite3 import Cursor
from typing import Final

import msgspec

from fsm_mediator.journal.attributes import changed_attributes
from fsm_mediator.journal.notes import ATTRIBUTES
from fsm_mediator.journal.rows import Row
from fsm_mediator.journal.storable import is_text

_NUMBER_OF: Final = "SELECT number FROM executions WHERE saga_id = ?"
_NOTED: Final = "SELECT number FROM notes WHERE token = ?"
_NOTE: Final = """
    INSERT INTO notes (execution, saga, step, kind, value, actor, reason, at, token)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"""
NOTES: Final = """
    SELECT n.number, e.saga_id, n.saga, n.step, n.kind, n.value, n.actor, n.reason, n.at
    FROM notes n LEFT JOIN executions e ON e.number = n.execution WHERE n.number > ?"""
_SET: Final = "INSERT OR REPLACE INTO attributes (execution, name, value) VALUES (?, ?, ?)"
_REMOVE: Final = "DELETE FROM attributes WHERE execution = ? AND name = ?"
NOTES_OF: Final = " AND n.execution = (SELECT number FROM executions WHERE saga_id = ?)"
OF_KIND: Final = " AND n.kind = ?"


def add(cursor: Cursor, saga_id: str | None, row: Row, token: int = 0) -> int:
    """Add a note, in a transaction. Returns the note's number; 0 if there is no such execution."""
    if token and (found := cursor.execute(_NOTED, (token,)).fetchone()) is not None:
        return int(found[0])
    number = None
    if saga_id is not None:
        execution = cursor.execute(_NUMBER_OF, (saga_id,)).fetchone() if is_text(saga_id) else None
        if execution is None:
            return 0
        (number,) = execution
    cursor.execute(_NOTE, (number, *row, token or None))
    note = cursor.lastrowid
    assert note is not None
    if row[2] == ATTRIBUTES and number is not None:
        kept, removed = changed_attributes(msgspec.json.decode(row[3]))
        cursor.executemany(_SET, [(number, *each) for each in kept.items()])
        cursor.executemany(_REMOVE, [(number, name) for name in removed])
    return note
