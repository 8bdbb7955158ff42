"""Database: the operations that `Transactions` needs from the user's database."""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final, Literal, Protocol, TypeVar

from fsm_mediator.errors import DefinitionError
from fsm_mediator.transactions.errors import TransactionError

T = TypeVar("T")

Dialect = Literal["postgresql", "sqlite"]

ISOLATION: Final = ("READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE")
"""The isolation levels that a step may have."""


def dialect_of(database: str) -> Dialect:
    """The dialect of a database, from its name in SQLAlchemy or Django.

    Raises:
        DefinitionError: The database is neither PostgreSQL nor SQLite.
    """
    if database not in ("postgresql", "sqlite"):
        raise DefinitionError(
            f"Transactions knows PostgreSQL and SQLite, not {database}: another database may lock, or report "
            f"conflicts, in another way"
        )
    return database  # type: ignore[return-value]


class Database(Protocol):
    """The user's database.

    The methods of an implementation are coroutine functions. If *asynchronous* is False, these coroutines never
    suspend, so plain functions can use them too.

    Attributes:
        dialect: The SQL dialect of the database.
        asynchronous: Whether the sessions are for coroutines.
    """

    @property
    def dialect(self) -> Dialect:
        """The SQL dialect of the database."""

    @property
    def asynchronous(self) -> bool:
        """Whether the sessions are for coroutines."""

    async def begin(self, isolation: str | None) -> Any:
        """Begin a new transaction, and return its session. *isolation*: the isolation level, or None for the default.

        Raises:
            TransactionError: The caller already has a transaction, and the new transaction would be a part of it.
        """

    async def query(self, session: Any, statement: str, values: dict[str, Any]) -> Sequence[Sequence[Any]]:
        """Execute a statement with parameters such as ``:key``, and return its rows."""

    def guard(self, session: Any) -> AbstractContextManager[Any]:
        """A context manager that prevents the user's function from ending the transaction of *session*.

        Raises:
            TransactionError: The function ended the transaction, or tried to end it.
        """

    async def commit(self, session: Any) -> None:
        """Commit the transaction, and release the session."""

    async def rollback(self, session: Any, error: BaseException) -> None:
        """Roll back the transaction because of *error*, and release the session.

        If the rollback fails, the failure is added to *error* as a note.
        """


async def settled(value: Awaitable[T] | T) -> T:
    """*value*. If *value* is awaitable, as from a method of an asynchronous driver, await it and return its result."""
    return await value if inspect.isawaitable(value) else value


@contextmanager
def refused_by(kind: type[BaseException], words: str) -> Iterator[None]:
    """A context manager for the `Database.guard` of a driver that itself refuses to end the transaction.

    Args:
        kind: The class of the driver's error.
        words: A part of the error's message.

    Raises:
        TransactionError: The driver raised this error, because the function tried to end the transaction.
    """
    try:
        yield
    except kind as error:
        if words in str(error):
            raise TransactionError(MAY_NOT_END) from error
        raise


def in_format(statement: str) -> str:
    """*statement* with its parameters in the DB-API format ``pyformat``."""
    return _PARAMETER.sub(r"%(\1)s", statement)


_PARAMETER: Final = re.compile(r"(?<!:):(\w+)")

MAY_NOT_END: Final = (
    "a transactional step may not commit or roll back: its key and its result are in this transaction. Return, and it "
    "is committed; raise, and it is rolled back. For a part that may fail by itself, use a savepoint"
)
