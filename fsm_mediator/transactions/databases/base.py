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
"""The isolation levels that the transactions of a step may have."""


def dialect_of(database: str) -> Dialect:
    """The SQL dialect of a database. *database* is the name of the database in SQLAlchemy or Django.

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
    """The protocol of a user's database: how to begin, use and end a transaction.

    The methods of an implementation are coroutine functions. If *asynchronous* is False, these coroutines never
    suspend, so functions without an event loop can run them too.

    Attributes:
        dialect: The SQL dialect of the database.
        asynchronous: Whether the methods of a session must be awaited.
    """

    @property
    def dialect(self) -> Dialect:
        """The SQL dialect of the database."""

    @property
    def asynchronous(self) -> bool:
        """Whether the methods of a session must be awaited."""

    async def begin(self, isolation: str | None) -> Any:
        """Begin a new transaction, and return its session.

        *isolation* is the isolation level. None for the default level of the database.

        Raises:
            TransactionError: The caller already has a transaction, and the new transaction would be a part of it.
        """

    async def query(self, session: Any, statement: str, values: dict[str, Any]) -> Sequence[Sequence[Any]]:
        """Execute *statement* with the parameters *values*, and return its rows. A parameter is written as ``:key``."""

    def guard(self, session: Any) -> AbstractContextManager[Any]:
        """A context manager that prevents the user's function from ending the transaction of *session*.

        Raises:
            TransactionError: The function ended the transaction, or tried to end it.
        """

    async def commit(self, session: Any) -> None:
        """Commit the transaction of *session*, and release the session."""

    async def rollback(self, session: Any, error: BaseException) -> None:
        """Roll back the transaction of *session* because of *error*, and release the session.

        If the rollback fails, the failure is added to *error* as a note.
        """


async def settled(value: Awaitable[T] | T) -> T:
    """*value*, or its result if *value* is awaitable, as the results of asynchronous database drivers are."""
    return await value if inspect.isawaitable(value) else value


@contextmanager
def refused_by(kind: type[BaseException], words: str) -> Iterator[None]:
    """A context manager for `Database.guard`, if the database driver itself refuses to end the transaction.

    Args:
        kind: The class of the driver's error.
        words: A part of the error's message.

    Raises:
        TransactionError: The driver raised such an error, because the user's function tried to end the transaction.
    """
    try:
        yield
    except kind as error:
        if words in str(error):
            raise TransactionError(MAY_NOT_END) from error
        raise


def in_format(statement: str) -> str:
    """*statement* with parameters in the format ``pyformat`` of the DB-API: ``%(key)s`` for ``:key``."""
    return _PARAMETER.sub(r"%(\1)s", statement)


_PARAMETER: Final = re.compile(r"(?<!:):(\w+)")

MAY_NOT_END: Final = (
    "a transactional step may not commit or roll back: its key and its result are in this transaction. Return, and it "
    "is committed; raise, and it is rolled back. For a part that may fail by itself, use a savepoint"
)
