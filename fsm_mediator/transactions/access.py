"""Access: execute statements on the tables of `Transactions` in the user's database."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from fsm_mediator.transactions.databases.base import Database
from fsm_mediator.transactions.tables import Tables

T = TypeVar("T")


class Access:
    """Executes statements on the tables of `Transactions`, and runs transactions in the user's database.

    Attributes:
        database: The user's database.
        tables: The names of the tables, and the SQL statements on them.
    """

    def __init__(self, database: Database, tables: Tables) -> None:
        self.database = database
        self.tables = tables

    async def query(self, session: Any, statement: str, **values: Any) -> Any:
        """Execute *statement*, a statement of `Tables`, with the parameters *values*, and return its rows."""
        return await self.database.query(session, self.tables.in_dialect(statement, self.database.dialect), values)

    async def transact(
        self,
        work: Callable[[Any], Awaitable[T]],
        isolation: str | None = None,
        commit: Callable[[Any], Awaitable[None]] | None = None,
    ) -> T:
        """Call *work* with a session in a new transaction, commit the transaction, and return the result of *work*.

        Args:
            work: A function that gets the session. If it raises, the transaction is rolled back.
            isolation: The isolation level. None for the default level of the database.
            commit: A function that commits the transaction of a session. None for `Database.commit`.
        """
        session = await self.database.begin(isolation)
        try:
            value = await work(session)
        except BaseException as error:
            await self.database.rollback(session, error)
            raise
        await (commit or self.database.commit)(session)
        return value
