"""Database: the few things that `Transactions` does with a database of the user's."""

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
"""The isolation levels that a step may ask for."""


def dialect_of(database: str) -> Dialect:
    """The dialect of a database, by the name that SQLAlchemy and Django have for it.

    Raises:
        DefinitionError: It is another one.
    """
    if database not in ("postgresql", "sqlite"):
        raise DefinitionError(
            f"Transactions knows PostgreSQL and SQLite, not {database}: another database may lock, or report "
            f"conflicts, in another way"
        )
    return database  # type: ignore[return-value]


class Database(Protocol):
    """A database of the user's.

    One implementation serves functions and coroutine functions: its methods are coroutine functions, which never
    suspend where *asynchronous* is False.

    Attributes:
        dialect: Which SQL it speaks.
        asynchronous: Whether its sessions are for coroutines.
    """

    @property
    def dialect(self) -> Dialect:
        """As above."""

    @property
    def asynchronous(self) -> bool:
        """As above."""

    async def begin(self, isolation: str | None) -> Any:
        """A session in a new transaction, which is part of no other.

        Raises:
            TransactionError: The caller is in a transaction, which the new one would be part of.
        """

    async def query(self, session: Any, statement: str, values: dict[str, Any]) -> Sequence[Sequence[Any]]:
        """Execute a statement with parameters such as ``:key``, and return its rows."""

    def guard(self, session: Any) -> AbstractContextManager[Any]:
        """While the user's function has the session: nothing ends its transaction.

        Raises:
            TransactionError: On leaving, or where it was tried: it was ended.
        """

    async def commit(self, session: Any) -> None:
        """Commit, and give the session back."""

    async def rollback(self, session: Any, error: BaseException) -> None:
        """Roll back, and give the session back; a failure of this is added to *error* as a note."""


async def settled(value: Awaitable[T] | T) -> T:
    """Await *value* where it is awaitable: a driver's method gives its result, or, for coroutines, a promise of it."""
    return await value if inspect.isawaitable(value) else value


@contextmanager
def refused_by(kind: type[BaseException], words: str) -> Iterator[None]:
    """A `Database.guard` where the driver itself refuses, with an error of this *kind* that has these *words*.

    Raises:
        TransactionError: It was tried.
    """
    try:
        yield
    except kind as error:
        if words in str(error):
            raise TransactionError(MAY_NOT_END) from error
        raise


def in_format(statement: str) -> str:
    """*statement* with its parameters as drivers of the format ``pyformat`` take them."""
    return _PARAMETER.sub(r"%(\1)s", statement)


_PARAMETER: Final = re.compile(r"(?<!:):(\w+)")

MAY_NOT_END: Final = (
    "a transactional step may not commit or roll back: its key and its result are in this transaction. Return, and it "
    "is committed; raise, and it is rolled back. For a part that may fail by itself, use a savepoint"
)
