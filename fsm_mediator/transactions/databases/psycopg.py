"""Transactions through psycopg, with a pool or the address of a server. For functions and coroutine functions."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

from fsm_mediator.transactions.databases.base import Dialect, in_format, refused_by, settled


class PsycopgDatabase:
    """A PostgreSQL database that is used through psycopg.

    A transaction takes a connection from the pool, or opens a new connection if there is only an address.
    """

    dialect: Dialect = "postgresql"

    def __init__(self, pool: Any, *, asynchronous: bool | None) -> None:
        import psycopg

        self._psycopg = psycopg
        self._pool = pool
        if isinstance(pool, str):
            self.asynchronous: bool = bool(asynchronous)
        else:
            self.asynchronous = hasattr(type(pool), "__aenter__")
        self._transactions: dict[int, Any] = {}

    async def begin(self, isolation: str | None) -> Any:
        """Begin a new transaction, and return its connection as the session."""
        session = await self._connection()
        try:
            if isolation is not None:
                level = self._psycopg.IsolationLevel[isolation.replace(" ", "_")]
                await self._isolate(session, level)
            transaction = session.transaction()
            await settled(transaction.__aenter__() if self.asynchronous else transaction.__enter__())
        except BaseException:
            await self._give_back(session)
            raise
        self._transactions[id(session)] = transaction
        return session

    async def _connection(self) -> Any:
        if not isinstance(self._pool, str):
            return await settled(self._pool.getconn())
        kind = self._psycopg.AsyncConnection if self.asynchronous else self._psycopg.Connection
        return await settled(kind.connect(self._pool))

    async def _isolate(self, session: Any, level: Any) -> None:
        if self.asynchronous:
            await session.set_isolation_level(level)
        else:
            session.isolation_level = level

    async def query(self, session: Any, statement: str, values: dict[str, Any]) -> Sequence[Sequence[Any]]:
        """Execute *statement* with the parameters *values*, and return its rows."""
        from psycopg.rows import tuple_row

        cursor = session.cursor(row_factory=tuple_row)
        await settled(cursor.execute(in_format(statement), values))
        return await settled(cursor.fetchall()) if cursor.description else ()

    def guard(self, session: Any) -> AbstractContextManager[None]:  # noqa: ARG002 - the protocol has it
        """Prevent the user's function from ending the transaction of *session*: see `Database.guard`.

        psycopg itself refuses `commit` and `rollback` inside ``connection.transaction()``.
        """
        return refused_by(self._psycopg.ProgrammingError, "forbidden within a Transaction")

    async def commit(self, session: Any) -> None:
        """Commit the transaction of *session*, and release the connection."""
        await self._leave(session, None)

    async def rollback(self, session: Any, error: BaseException) -> None:
        """Roll back the transaction of *session*, and release the connection."""
        try:
            await self._leave(session, error)
        except self._psycopg.Error as failed:
            error.add_note(f"the transaction was not rolled back by us, but by the end of its connection: {failed}")

    async def _leave(self, session: Any, error: BaseException | None) -> None:
        transaction = self._transactions.pop(id(session))
        how = (None, None, None) if error is None else (type(error), error, error.__traceback__)
        try:
            await settled(transaction.__aexit__(*how) if self.asynchronous else transaction.__exit__(*how))
        finally:
            await self._give_back(session)

    async def _give_back(self, session: Any) -> None:
        if isinstance(self._pool, str):
            await settled(session.close())
            return
        if not session.closed and session.info.transaction_status == self._psycopg.pq.TransactionStatus.IDLE:
            await self._isolate(session, None)
        await settled(self._pool.putconn(session))
