"""ChangeTable: numbers the changes of a SQLite journal in the order of their commits.

SQLite has one writer at a time, so the numbers are in the order of the commits. The first call of `changes` creates the
table and the triggers that fill it. A journal that is never followed does not have them.
"""

# ruff: noqa: S608 - statements are put together from constants; values are always parameters

from __future__ import annotations

from sqlite3 import Cursor
from typing import Final

from fsm_mediator.journal.following import REMOVED, Change, Move, places_in
from fsm_mediator.journal.rows import record_of
from fsm_mediator.journal.sqlite.operators import OperatorTables

_IS_THERE: Final = "SELECT 1 FROM sqlite_schema WHERE name = 'changes'"
_MAKE: Final = (
    """
    CREATE TABLE changes (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        execution INTEGER NOT NULL,
        seq INTEGER NOT NULL
    ) STRICT""",
    "INSERT INTO changes (execution, seq) SELECT execution, seq FROM records ORDER BY execution, seq",
    "CREATE INDEX changes_of ON changes (execution)",
    """
    CREATE TRIGGER number_change AFTER INSERT ON records BEGIN
        INSERT INTO changes (execution, seq) VALUES (new.execution, new.seq);
    END""",
    """
    CREATE TRIGGER forget_changes AFTER DELETE ON executions BEGIN
        DELETE FROM changes WHERE execution = old.number;
    END""",
)
_NUMBERS_REMOVALS: Final = "SELECT 1 FROM sqlite_schema WHERE name = 'number_removal'"
# The row of a deletion has no record, so `changes` does not return it.
_NUMBER_REMOVALS: Final = (
    "DROP TRIGGER forget_changes",
    f"""
    CREATE TRIGGER number_removal AFTER DELETE ON executions BEGIN
        DELETE FROM changes WHERE execution = old.number;
        INSERT INTO changes (execution, seq) VALUES (old.number, {REMOVED});
    END""",
)
_DETAIL: Final = "iif(json_valid(r.details), json_extract(r.details, '$.{}'), NULL)"
MOVES: Final = f"""
    SELECT c.number, c.execution, c.seq, e.saga_id, d.saga, d.version, e.parent IS NOT NULL,
        r.event, r.source, r.target, r.at,
        {_DETAIL.format("step")}, {_DETAIL.format("error[0]")}, coalesce({_DETAIL.format("in_doubt")}, 0)
    FROM changes c
        LEFT JOIN executions e ON e.number = c.execution AND c.seq >= 0
        LEFT JOIN definitions d ON d.number = e.definition
        LEFT JOIN records r ON r.execution = c.execution AND r.seq = c.seq
    WHERE c.number > ? ORDER BY c.number LIMIT ?"""
_CHANGES: Final = """
    SELECT c.number, e.saga_id, d.saga, r.seq, r.event, r.source, r.target, r.at, CAST(r.details AS BLOB)
    FROM changes c
        CROSS JOIN executions e ON e.number = c.execution
        CROSS JOIN definitions d ON d.number = e.definition
        CROSS JOIN records r ON r.execution = c.execution AND r.seq = c.seq
    WHERE c.number > ? ORDER BY c.number LIMIT ?"""


class ChangeTable(OperatorTables):
    """The methods with which `SQLiteJournal` returns its changes: see `FollowedJournal` and `CountedJournal`."""

    def changes(self, after: str = "", limit: int = 1000) -> list[Change]:
        """The changes after a cursor: see `FollowedJournal.changes`.

        The first call on a journal file creates a table, so it needs write access.
        """
        (last,) = places_in(after or "0", 1)
        self._number(_IS_THERE)
        rows = self._read(_CHANGES, (last, limit))
        with self._reading():
            return [
                Change(
                    str(number), saga_id, record_of(tuple(row), saga_id, saga, self.codec.cipher) if row[0] else None
                )
                for number, saga_id, saga, *row in rows
            ]

    def moves(self, after: str = "", limit: int = 1000) -> list[Move]:
        """The changes after a cursor, without values: see `CountedJournal.moves`.

        The first call on a journal file needs write access, as for `changes`.
        """
        (last,) = places_in(after or "0", 1)
        self._number(_NUMBERS_REMOVALS)
        rows = self._read(MOVES, (last, limit))
        empty = ("", "", "", 0, "", "", "", 0.0, None, None, 0)
        return [
            Move(str(number), execution, seq, *(more if more[0] is not None else empty))
            for number, execution, seq, *more in rows
        ]

    def last_change(self) -> int:
        """The number of the last change: see `CountedJournal.last_change`."""
        return sum(number for (number,) in self._read("SELECT seq FROM sqlite_sequence WHERE name = 'changes'"))

    def decided(self) -> int:
        """The number up to which no further change can appear: see `CountedJournal.decided`.

        Only one transaction writes at a time, so this is the last change.
        """
        return self.last_change()

    def is_changed(self, after: str) -> bool:
        """Whether any change follows a cursor: see `CountedJournal.is_changed`."""
        return bool(self.moves(after, 1))

    def _number(self, is_done: str) -> None:
        if not self._read(is_done):
            self._connections.check_writable()
            self._perform(_make if is_done == _IS_THERE else _make_removals)


def _make(cursor: Cursor) -> None:
    if cursor.execute(_IS_THERE).fetchone() is None:  # otherwise another process has just created it
        for statement in _MAKE:
            cursor.execute(statement)


def _make_removals(cursor: Cursor) -> None:
    _make(cursor)
    if cursor.execute(_NUMBERS_REMOVALS).fetchone() is None:
        for statement in _NUMBER_REMOVALS:
            cursor.execute(statement)
