"""Transactions on a SQLite file, with the standard library's `sqlite3`."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fsm_mediator.transactions.databases.base import MAY_NOT_END, Dialect
from fsm_mediator.transactions.errors import TransactionError


class SQLiteDatabase:
    """A SQLite file. Each transaction opens a new connection, and holds the write lock of the file from its start.

    *patience* is the number of seconds for which a transaction waits for this lock.
    """

    dialect: Dialect = "sqlite"
    asynchronous = False

    def __init__(self, path: str | Path, patience: float) -> None:
        self._path = path
        self._patience = patience

    async def begin(self, isolation: str | None) -> sqlite3.Connection:  # noqa: ARG002 - the protocol has it
        """Begin a new transaction, and return its connection as the session.

        *isolation* is ignored, because every transaction of SQLite is serializable.
        """
        session = sqlite3.connect(self._path, timeout=self._patience, isolation_level=None)
        try:
            session.execute("BEGIN IMMEDIATE")
        except BaseException:
            session.close()
            raise
        return session

    async def query(
        self, session: sqlite3.Connection, statement: str, values: dict[str, Any]
    ) -> Sequence[Sequence[Any]]:
        """Execute *statement* with the parameters *values*, and return its rows."""
        return session.execute(statement, values).fetchall()

    @contextmanager
    def guard(self, session: sqlite3.Connection) -> Iterator[None]:
        """Prevent the user's function from ending the transaction of *session*: see `Database.guard`.

        SQLite calls an authorizer, which refuses statements that would end the transaction.
        """
        refused = False

        def authorize(action: int, *_: object) -> int:
            nonlocal refused
            refused |= action == sqlite3.SQLITE_TRANSACTION
            return sqlite3.SQLITE_DENY if action == sqlite3.SQLITE_TRANSACTION else sqlite3.SQLITE_OK

        session.set_authorizer(authorize)
        try:
            yield
        except sqlite3.DatabaseError as error:
            if refused:
                raise TransactionError(MAY_NOT_END) from error
            raise
        finally:
            session.set_authorizer(None)
        if refused:
            raise TransactionError(MAY_NOT_END)

    async def commit(self, session: sqlite3.Connection) -> None:
        """Commit the transaction of *session*, and close the connection."""
        session.execute("COMMIT")
        session.close()

    async def rollback(self, session: sqlite3.Connection, error: BaseException) -> None:  # noqa: ARG002 - the protocol has it
        """Roll back the transaction of *session*, and close the connection."""
        session.close()  # close() rolls back
