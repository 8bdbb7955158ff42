"""A user's database for the tests of transactional steps: one account, on each kind of database."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import sqlalchemy
from sqlalchemy.ext.asyncio import create_async_engine

from fsm_mediator.transactions import Transactions

KINDS = ("sqlite3", "sqlalchemy-sqlite", "psycopg", "sqlalchemy-postgres")
ON_POSTGRES = ("psycopg", "sqlalchemy-postgres")
_names = itertools.count(1)


class Shop:
    """One account with 1,000, and transactions on its database.

    Args:
        kind: One of `KINDS`.
        where: The path of a SQLite file, or the address of a PostgreSQL database that has nothing in it.
        coroutines: Whether the steps are coroutine functions.
    """

    def __init__(self, kind: str, where: str, *, coroutines: bool = False, make: bool = True, **settings: Any) -> None:
        self.kind, self.where = kind, where
        self.engine: Any = None
        if kind == "sqlite3":
            self.tx = Transactions.sqlite3(where, **settings)
        elif kind == "psycopg":
            self.tx = Transactions.psycopg(where, asynchronous=coroutines, **settings)
        else:
            url = f"sqlite:///{where}" if kind == "sqlalchemy-sqlite" else where.replace("://", "+psycopg://", 1)
            # No connection is kept for another event loop.
            plain = sqlalchemy.create_engine
            self.engine = create_async_engine(url, poolclass=sqlalchemy.NullPool) if coroutines else plain(url)
            self.tx = Transactions.sqlalchemy(self.engine, **settings)
        if make:
            self.execute("CREATE TABLE account (balance integer)")
            self.execute("INSERT INTO account VALUES (1000)")
            if coroutines:
                asyncio.run(self.migrate())
            else:
                self.tx.migrate()

    def connect(self) -> Any:
        """A connection of somebody else's."""
        if "sqlite" in self.kind:
            return sqlite3.connect(self.where, isolation_level=None, timeout=30)
        return psycopg.connect(self.where, autocommit=True)

    def execute(self, statement: str) -> list[Any]:
        """Execute a statement from outside."""
        connection = self.connect()
        try:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()

    @property
    def balance(self) -> int:
        return self.execute("SELECT balance FROM account")[0][0]  # type: ignore[no-any-return]

    def add(self, session: Any, amount: int) -> int:
        """Change the balance, and return what it is, in a step's session."""
        statement = f"UPDATE account SET balance = balance + {int(amount)} RETURNING balance"  # noqa: S608 - a number
        if self.engine is not None:
            return session.execute(sqlalchemy.text(statement)).scalar_one()  # type: ignore[no-any-return]
        return session.execute(statement).fetchone()[0]  # type: ignore[no-any-return]

    async def migrate(self) -> None:
        await self.tx.migrate()
        if self.engine is not None:
            await self.engine.dispose()

    def close(self) -> None:
        if self.engine is not None:
            getattr(self.engine, "sync_engine", self.engine).dispose()


@contextlib.contextmanager
def shops_in(folder: Path) -> Iterator[Callable[..., Shop]]:
    """Opens new shops, and closes them at the end."""
    with contextlib.ExitStack() as stack:

        def open_shop(kind: str, **settings: Any) -> Shop:
            return stack.enter_context(contextlib.closing(Shop(kind, address(kind, folder), **settings)))

        yield open_shop


def address(kind: str, folder: Path) -> str:
    """Where a new shop can be: a file, or a new database of the tests' server."""
    if "sqlite" in kind:
        return str(folder / f"shop-{next(_names)}.db")
    from tests.postgres_server import server

    name = f"shop_{os.getpid()}_{next(_names)}"
    server().execute(f"CREATE DATABASE {name}")
    return server().url().replace("/postgres?", f"/{name}?")


def django_database(kind: str, folder: Path) -> dict[str, Any]:
    """A new database, as Django's setting has it."""
    where = address(kind, folder)
    if "sqlite" in kind:
        return {"ENGINE": "django.db.backends.sqlite3", "NAME": where, "OPTIONS": {"timeout": 20}}
    from psycopg.conninfo import conninfo_to_dict

    parts = conninfo_to_dict(where)
    names = {"NAME": "dbname", "USER": "user", "HOST": "host", "PORT": "port"}
    return {"ENGINE": "django.db.backends.postgresql", **{name: str(parts[part]) for name, part in names.items()}}
