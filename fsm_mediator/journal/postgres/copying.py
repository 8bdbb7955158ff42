"""CopyTables: a PostgreSQL journal as the source of a copy, or as the copy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from fsm_mediator.journal.copying import TABLES, Kept, check_empty, check_undriven, freed
from fsm_mediator.journal.postgres import sql
from fsm_mediator.journal.postgres.commit import without_nul
from fsm_mediator.journal.postgres.connections import Session
from fsm_mediator.journal.postgres.operators import OperatorTables
from fsm_mediator.journal.postgres.schema import lock_class, qualified
from fsm_mediator.journal.protocol import Driver
from fsm_mediator.journal.rows import Row

_ALL: Final = ", ".join(f"journal.{table}" for table in (*TABLES, "drivers"))
_LOCK: Final = f"LOCK TABLE {_ALL} IN SHARE ROW EXCLUSIVE MODE"
_PATIENCE: Final = "SET LOCAL lock_timeout = '10s'"
_EXECUTIONS: Final = f"""
    SELECT {", ".join(TABLES["executions"])}, driver,
        (SELECT string_agg(kind, ' ') FROM journal.inbox i WHERE i.execution = e.number)
    FROM journal.executions e ORDER BY number"""  # noqa: S608
_NUMBERED: Final = """
    SELECT setval(pg_get_serial_sequence('journal.executions', 'number'), greatest(1, max(number)))
        FROM journal.executions
    UNION ALL SELECT setval(pg_get_serial_sequence('journal.inbox', 'number'), greatest(1, max(number)))
        FROM (SELECT number FROM journal.inbox UNION ALL SELECT number FROM journal.answers) AS items
    UNION ALL SELECT setval(pg_get_serial_sequence('journal.notes', 'number'), greatest(1, max(number)))
        FROM journal.notes"""


class CopyTables(OperatorTables):
    """The methods with which a `PostgresJournal` is copied, or becomes a copy: see `CopyableJournal`."""

    def hand_over(self, take: Callable[[Kept], object]) -> None:
        """Pass every row to a function: see `CopyableJournal.hand_over`."""
        with self._connections.session("read") as session, session.connection.transaction():
            session.execute(_PATIENCE)
            session.execute(_LOCK)
            rows = session.execute(sql.DRIVERS, (lock_class(self._connections.schema),)).fetchall()
            alive = (Driver(*row[5:]) for row in rows if self._liveness.is_present(row))
            check_undriven(alive, self._connections.address.shown)
            take((table, _rows(session, self._connections.schema, table)) for table in TABLES)

    def fill(self, kept: Kept) -> dict[str, int]:
        """Write all rows of another journal: see `CopyableJournal.fill`."""
        with self._connections.session("written") as session, session.connection.transaction():
            session.execute(_PATIENCE)
            session.execute(_LOCK)
            count = "SELECT (SELECT count(*) FROM journal.executions) + (SELECT count(*) FROM journal.forgotten)"
            check_empty(session.execute(count).fetchall()[0], self._connections.address.shown)
            written = {table: _insert(session, self._connections.schema, table, rows) for table, rows in kept}
            session.execute(_NUMBERED)
            return written


def _rows(session: Session, schema: str, table: str) -> Iterator[Row]:
    """The rows of a table, fetched a few at a time."""
    query = _EXECUTIONS if table == "executions" else f"SELECT {', '.join(TABLES[table])} FROM journal.{table}"  # noqa: S608
    with session.connection.cursor(f"copy_{table}") as cursor:
        cursor.execute(qualified(query, schema).encode())
        yield from map(freed, cursor) if table == "executions" else cursor


def _insert(session: Session, schema: str, table: str, rows: Iterator[Row]) -> int:
    columns, count = ", ".join(TABLES[table]), 0
    statement = qualified(f"COPY journal.{table} ({columns}) FROM STDIN", schema)
    with session.connection.cursor() as cursor, cursor.copy(statement.encode()) as copy:
        for row in rows:
            copy.write_row(without_nul(row))
            count += 1
    return count
