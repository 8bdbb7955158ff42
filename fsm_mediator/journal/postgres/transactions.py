"""CallersTransactions: opens executions in a transaction of the caller, on the caller's connection.

If an execution is refused, the caller's transaction must stay usable. Therefore no statement may fail in the server
for a foreseeable reason. The connection is checked without a statement, and an id that is taken is not an error of
the server.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, Final

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row

from fsm_mediator.errors import DefinitionError, RefusedError
from fsm_mediator.journal.codec import Codec
from fsm_mediator.journal.postgres import sql
from fsm_mediator.journal.postgres.commit import Write, note_parameters
from fsm_mediator.journal.postgres.errors import ERRORS, to_journal_error
from fsm_mediator.journal.postgres.operators import OperatorTables
from fsm_mediator.journal.postgres.schema import qualified
from fsm_mediator.journal.protocol import Commit, Entry, IdTakenError
from fsm_mediator.journal.rows import Row, entry_of
from fsm_mediator.records import Acceptance

_USABLE: Final = (TransactionStatus.IDLE, TransactionStatus.INTRANS)


class CallersTransactions(OperatorTables):
    """The methods of `PostgresJournal` for transactions of the caller: see `TransactionJournal`."""

    codec: Codec

    async def open_within(self, connection: Any, acceptance: Acceptance) -> Entry | None:
        """Open an execution in the caller's transaction: see `TransactionJournal.open_within`.

        With a `psycopg.Connection` the coroutine never suspends.

        Raises:
            DefinitionError: *connection* is not a connection of psycopg 3.
            RefusedError: The connection is closed, in a failed transaction, or to another database. Nothing was sent.
            PayloadError: The payload or the id cannot be journaled. Nothing was sent.
            JournalError: The server refused the statement, for example because the role may not write. The caller's
                transaction has then failed.
        """
        self._check_connection(connection)
        commit = Commit(acceptance.saga_id, (), None, held=False, acceptance=acceptance)
        usual = Write(commit, self.codec).as_one_statement()
        assert usual is not None
        notes = [note_parameters(note, self.codec.cipher) for note in acceptance.notes]
        schema, shown = self._connections.schema, self._connections.address.shown
        try:
            if await _rows(connection, qualified(usual[0], schema), usual[1]):
                for note in notes:
                    await _rows(connection, qualified(sql.NOTE, schema), note)
                return None
            rows = await _rows(connection, qualified(sql.ENTRY, schema), (acceptance.saga_id,))
        except ERRORS as error:
            raise to_journal_error(error, shown, "written") from error
        if not rows:
            raise IdTakenError(f"an execution {acceptance.saga_id!r} is forgotten; nothing was written")
        return entry_of(rows[0], None, alive=False, cipher=self.codec.cipher)

    def _check_connection(self, connection: Any) -> None:
        if not isinstance(connection, (psycopg.Connection, psycopg.AsyncConnection)):
            raise DefinitionError(
                f"connection={connection!r} is a {type(connection).__name__}; it takes a psycopg.Connection or "
                f"psycopg.AsyncConnection (of SQLAlchemy: session.connection().connection.driver_connection)"
            )
        if connection.closed:
            raise RefusedError("connection= is closed; nothing was sent. Give an open one")
        if connection.info.transaction_status not in _USABLE:
            status = connection.info.transaction_status.name
            raise RefusedError(
                f"connection= is in the state {status}; nothing was sent. Roll a failed transaction back first, and "
                f"end what runs on the connection"
            )
        theirs = _place(connection)
        with self._connections.session("read") as session:
            ours = _place(session.connection)
            same = ours == theirs or (
                ours[-1] == theirs[-1] and session.execute(sql.HAS_SESSION, (connection.info.backend_pid,)).fetchone()
            )
        if not same:
            host, port, name = theirs
            raise RefusedError(
                f"connection= is connected to the database {name!r} at {host}:{port}, and the journal is in "
                f"{self._connections.address.shown!r}; nothing was sent. Give a connection to the journal's database, "
                f"opened with the same host and port"
            )


def _place(connection: psycopg.Connection[Any] | psycopg.AsyncConnection[Any]) -> tuple[str, int, str]:
    """The host, port and database of a connection. No statement is sent."""
    info = connection.info
    return info.host, info.port, info.dbname


async def _rows(connection: Any, statement: str, parameters: Sequence[Any] | Mapping[str, Any]) -> list[Row]:
    """The rows of a statement as tuples, on a synchronous or asynchronous connection with any row factory."""
    cursor = connection.cursor(row_factory=tuple_row)
    done = cursor.execute(statement.encode(), parameters)
    if inspect.isawaitable(done):
        await done
    rows = cursor.fetchall()
    found: list[Row] = await rows if inspect.isawaitable(rows) else rows
    return found
