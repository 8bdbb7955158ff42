"""Transactions on a Django database. Models, managers and cursors take part in them, as inside ``atomic``."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

from fsm_mediator.transactions.databases.base import Dialect, dialect_of, in_format, refused_by
from fsm_mediator.transactions.errors import TransactionError


class DjangoDatabase:
    """A Django database. The session of a transaction is Django's connection of the current thread."""

    asynchronous = False

    def __init__(self, using: str) -> None:
        from django.db import connections, transaction

        self._using = using
        self._connections = connections
        self._transaction = transaction
        self._open: dict[int, Any] = {}

    @property
    def dialect(self) -> Dialect:
        """The SQL dialect of the database. Read at each use, because Django knows the database only after its setup."""
        return dialect_of(self._connections[self._using].vendor)

    async def begin(self, isolation: str | None) -> Any:
        """Begin a new transaction, and return Django's connection as the session."""
        session = self._connections[self._using]
        if not session.in_atomic_block:
            session.close_if_unusable_or_obsolete()  # Django does this only for requests
        atomic = self._transaction.atomic(self._using, durable=True)
        try:
            atomic.__enter__()
        except RuntimeError as error:
            raise TransactionError(
                f"a transactional step needs its own transaction, but this thread already has an outer transaction "
                f"(atomic, ATOMIC_REQUESTS). Call start(), run the saga from transaction.on_commit, or decorate "
                f"the view with non_atomic_requests({self._using!r})"
            ) from error
        self._open[id(session)] = atomic
        if isolation is not None and session.vendor == "postgresql":
            try:
                with session.cursor() as cursor:
                    cursor.execute(f"SET TRANSACTION ISOLATION LEVEL {isolation}")
            except BaseException as error:
                await self.rollback(session, error)
                raise
        return session

    async def query(self, session: Any, statement: str, values: dict[str, Any]) -> Sequence[Sequence[Any]]:
        """Execute *statement* with the parameters *values*, and return its rows."""
        with session.cursor() as cursor:
            cursor.execute(in_format(statement), values)
            return cursor.fetchall() if cursor.description else ()

    def guard(self, session: Any) -> AbstractContextManager[None]:  # noqa: ARG002 - the protocol has it
        """Prevent the user's function from ending the transaction of *session*: see `Database.guard`.

        Django itself refuses `commit` and `rollback` inside an ``atomic`` block.
        """
        return refused_by(self._transaction.TransactionManagementError, "forbidden when an 'atomic' block")

    async def commit(self, session: Any) -> None:
        """Commit the transaction of *session*."""
        self._open.pop(id(session)).__exit__(None, None, None)

    async def rollback(self, session: Any, error: BaseException) -> None:
        """Roll back the transaction of *session*."""
        self._open.pop(id(session)).__exit__(type(error), error, error.__traceback__)


def names_in_settings() -> dict[str, str]:
    """The names of the tables in Django's setting ``FSM_MEDIATOR``. Empty if there is no such setting."""
    from django.conf import settings

    return dict(getattr(settings, "FSM_MEDIATOR", {}))
