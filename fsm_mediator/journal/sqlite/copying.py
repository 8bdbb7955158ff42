"""CopyTables: a SQLite journal as the source of a copy, or as the copy."""

# ruff: noqa: S608 - statements are put together from constants; values are always parameters

from __future__ import annotations

from collections.abc import Callable, Iterator
from sqlite3 import Cursor
from typing import Any, Final

from fsm_mediator.errors import MediatorError
from fsm_mediator.journal.copying import TABLES, Kept, check_empty, check_undriven, freed
from fsm_mediator.journal.protocol import Driver
from fsm_mediator.journal.rows import Row
from fsm_mediator.journal.sqlite import sql
from fsm_mediator.journal.sqlite.errors import ERRORS, to_journal_error
from fsm_mediator.journal.sqlite.operators import OperatorTables

_EXECUTIONS: Final = """
    SELECT e.number, e.saga_id, d.saga, d.version, d.fingerprint, e.deadline_at, e.parent, r.target, r.at, r.seq,
        e.epoch, e.wake_at, e.mail, e.attention, e.ended_at, e.recoveries, e.recoveries_here, e.driver,
        (SELECT group_concat(kind, ' ') FROM inbox i WHERE i.execution = e.number)
    FROM executions e JOIN definitions d ON d.number = e.definition JOIN records r
        ON r.execution = e.number AND r.seq = (SELECT max(seq) FROM records WHERE execution = e.number)
    ORDER BY e.number"""
_PLANNED: Final = """
    SELECT p.execution, p.number, p.saga_id, d.saga, d.version, d.fingerprint, p.deadline_at, p.dormant, p.at,
        p.details, p.ended
    FROM planned p JOIN definitions d ON d.number = p.definition"""
_DEFINITION: Final = "(SELECT number FROM definitions WHERE saga = ?3 AND version = ?4 AND fingerprint = ?5)"
_INSERT: Final = {
    "executions": f"""
        INSERT INTO executions (number, saga_id, definition, deadline_at, parent, epoch, wake_at, mail, attention,
            ended_at, failed, recoveries, recoveries_here, parked)
        VALUES (?1, ?2, {_DEFINITION}, ?6, ?7, ?11, ?12, ?13, ?14, ?15, ?8 = 'failed', ?16, ?17,
            substr(?8, 1, instr(?8 || '.', '.') - 1))""",
    "planned": f"""
        INSERT INTO planned (execution, number, saga_id, definition, deadline_at, dormant, at, details, ended)
        VALUES (?1, ?2, ?3, {_DEFINITION.replace("?5", "?6").replace("?4", "?5").replace("?3", "?4")}, ?7, ?8, ?9, ?10,
            ?11)""",
}
_KEEP_DEFINITION: Final = "INSERT OR IGNORE INTO definitions (saga, version, fingerprint) VALUES (?, ?, ?)"
_LAST_ITEM: Final = "SELECT max(number) FROM (SELECT number FROM inbox UNION ALL SELECT number FROM answers)"


class _HalfCopied(Exception):  # noqa: N818 - it never leaves this file
    """Reading the rows of a copy failed, so the copy is incomplete."""


class CopyTables(OperatorTables):
    """The methods with which a `SQLiteJournal` is copied, or becomes a copy: see `CopyableJournal`."""

    def hand_over(self, take: Callable[[Kept], object]) -> None:
        """Pass every row to a function: see `CopyableJournal.hand_over`."""

        def job(cursor: Cursor) -> None:
            drivers = self._read(sql.DRIVERS)
            check_undriven((Driver(*row[2:]) for number, *row in drivers if self._is_alive(number, row)), self.path)
            take((table, _rows(cursor, table)) for table in TABLES)

        self._perform(job)

    def fill(self, kept: Kept) -> dict[str, int]:
        """Write all rows of another journal: see `CopyableJournal.fill`."""

        def job(cursor: Cursor) -> dict[str, int]:
            try:
                return {table: _insert(cursor, table, rows) for table, rows in kept}
            except (MediatorError, *ERRORS) as error:
                raise _HalfCopied(error) from error  # a refused job would be repeated, but the rows are already read

        counts = self._read("SELECT (SELECT count(*) FROM executions) + (SELECT count(*) FROM forgotten)")
        check_empty(counts[0], self.path)
        try:
            written: dict[str, int] = self._perform(job)
        except _HalfCopied as half:
            (error,) = half.args
            raise (
                error if isinstance(error, MediatorError) else to_journal_error(error, self.path, "written")
            ) from error
        return written


def _rows(cursor: Cursor, table: str) -> Iterator[Row]:
    read = cursor.connection.execute
    if table == "executions":
        return map(freed, read(_EXECUTIONS))
    return iter(read(_PLANNED if table == "planned" else f"SELECT {', '.join(TABLES[table])} FROM {table}"))


def _insert(cursor: Cursor, table: str, rows: Iterator[Row]) -> int:
    columns = TABLES[table]
    places = ", ".join("?" * len(columns))
    statement = _INSERT.get(table, f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({places})")
    at = columns.index("saga") if table in _INSERT else None
    count, known = 0, set[Any]()
    for row in rows:
        if at is not None and (definition := row[at : at + 3]) not in known:
            known.add(definition)
            cursor.execute(_KEEP_DEFINITION, definition)
        cursor.execute(statement, row)
        count += 1
    if table == "answers":  # no later item may get the number of an answered verb
        (last,) = cursor.execute(_LAST_ITEM).fetchone()
        cursor.execute("DELETE FROM sqlite_sequence WHERE name = 'inbox'")
        cursor.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('inbox', ?)", (last or 0,))
    return count
