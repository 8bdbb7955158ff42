"""Transactions through SQLAlchemy: with an `Engine` for functions, or an `AsyncEngine` for coroutine functions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from fsm_mediator.errors import DefinitionError
from fsm_mediator.transactions.databases.base import MAY_NOT_END, Dialect, dialect_of, settled
from fsm_mediator.transactions.errors import TransactionError


class SQLAlchemyDatabase:
    """A database that is used through SQLAlchemy. Each transaction has a new `Session` or `AsyncSession`."""

    def __init__(self, engine: Any) -> None:
        from sqlalchemy import Engine, event, text
        from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
        from sqlalchemy.orm import Session

        if not isinstance(engine, (Engine, AsyncEngine)):
            raise DefinitionError(
                f"Transactions.sqlalchemy takes an Engine or an AsyncEngine, not {engine!r}: create_engine(...), or "
                f"create_async_engine(...)"
            )
        self.dialect: Dialect = dialect_of(engine.dialect.name)
        self.asynchronous: bool = isinstance(engine, AsyncEngine)
        self._engine = engine
        self._session: Any = AsyncSession if self.asynchronous else Session
        self._text, self._event = text, event

    async def begin(self, isolation: str | None) -> Any:
        """Begin a new transaction, and return its session."""
        session = self._session(self._engine, expire_on_commit=False)
        options = {} if isolation is None or self.dialect == "sqlite" else {"isolation_level": isolation}
        try:
            connection = await settled(session.connection(execution_options=options))
            self._refuse_autocommit(connection.sync_connection if self.asynchronous else connection)
        except BaseException:
            await settled(session.close())
            raise
        return session

    @staticmethod
    def _refuse_autocommit(connection: Any) -> None:
        of_engine = getattr(connection.dialect, "_on_connect_isolation_level", None)
        if connection.get_execution_options().get("isolation_level", of_engine) == "AUTOCOMMIT":
            raise DefinitionError(
                "Transactions.sqlalchemy: the engine commits each statement (AUTOCOMMIT), so that a step and its key "
                'would be two commits. Give it engine.execution_options(isolation_level="READ COMMITTED"), or '
                "SERIALIZABLE on SQLite"
            )

    async def query(self, session: Any, statement: str, values: dict[str, Any]) -> Sequence[Sequence[Any]]:
        """Execute *statement* with the parameters *values*, and return its rows."""
        found = await settled(session.execute(self._text(statement), values))
        return found.all() if found.returns_rows else ()

    @contextmanager
    def guard(self, session: Any) -> Iterator[None]:
        """Prevent the user's function from ending the transaction of *session*: see `Database.guard`.

        Commits are intercepted, and at the end the session must still be in the same transaction.
        """
        inner = session.sync_session if self.asynchronous else session
        whole = inner.get_transaction()

        def refuse(_: Any) -> None:
            if inner.get_nested_transaction() is None:
                raise TransactionError(MAY_NOT_END)

        self._event.listen(inner, "before_commit", refuse)
        try:
            yield
        finally:
            self._event.remove(inner, "before_commit", refuse)
        if inner.get_transaction() is not whole or inner.get_nested_transaction() is not None:
            raise TransactionError(MAY_NOT_END)

    async def commit(self, session: Any) -> None:
        """Commit the transaction of *session*, and close the session."""
        try:
            await settled(session.commit())
        finally:
            await settled(session.close())

    async def rollback(self, session: Any, error: BaseException) -> None:  # noqa: ARG002 - the protocol has it
        """Roll back the transaction of *session*, and close the session."""
        await settled(session.close())  # close() rolls back
