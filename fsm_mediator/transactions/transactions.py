"""Transactions: steps, starts and messages that are part of transactions of the user's own database."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, Literal, Unpack, overload

from fsm_mediator.definition.checks import SETTINGS, StepSettings
from fsm_mediator.definition.saga import Saga
from fsm_mediator.definition.type_variables import P, Payload, R
from fsm_mediator.errors import DefinitionError
from fsm_mediator.journal.attributes import checked_attributes
from fsm_mediator.journal.protocol import Journal
from fsm_mediator.mediator.threads import run_blocking
from fsm_mediator.mediator.validation import check_saga_id
from fsm_mediator.retry import check_number
from fsm_mediator.transactions.access import Access
from fsm_mediator.transactions.databases.base import ISOLATION, Database
from fsm_mediator.transactions.door import Door
from fsm_mediator.transactions.outbox import MediatorLike, Outbox, Publish
from fsm_mediator.transactions.pruning import prune_keys
from fsm_mediator.transactions.steps import TransactionalStep, TransactionalStepDecorator, result_type_of
from fsm_mediator.transactions.tables import TableNames, Tables

Isolation = Literal["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"]


class OutboxSettings(TableNames, total=False):
    """The settings of `Transactions`, besides *patience*."""

    publish: Publish | None


class TransactionsSettings(OutboxSettings, total=False):
    """All settings of `Transactions`."""

    patience: float


class Transactions:
    """Has steps take effect once, in transactions of the user's own database.

    Made by `sqlite3`, `psycopg`, `sqlalchemy` or `django`; the tables are made by `migrate`, by an Alembic
    migration (`fsm_mediator.transactions.alembic`) or by the Django app ``fsm_mediator.transactions.django_app``.

    Args:
        database: The database.
        table: The name of the table of keys.
        outbox: The name of the table of what is to be passed on.
        schema: The schema of both, on PostgreSQL. None: the first of the search path.
        patience: Seconds that a probe or a compensation waits for an attempt whose transaction is still open.
        publish: ``publish(topic, payload, key, message_id)``, a function or, in an `AsyncMediator`, a coroutine
            function: publishes what `emit` writes. None: messages wait for a process that has one.

    Raises:
        DefinitionError: A name is no plain identifier, or *patience* is no number above 0.
    """

    def __init__(
        self,
        database: Database,
        *,
        table: str = "fsm_mediator_done",
        outbox: str = "fsm_mediator_outbox",
        schema: str | None = None,
        patience: float = 10.0,
        publish: Publish | None = None,
    ) -> None:
        check_number("Transactions: patience (seconds)", patience, above=True)
        self.database = database
        self._access = Access(database, Tables(table, outbox, schema))
        self._patience = patience
        self._outbox = Outbox(self._access, publish)

    @classmethod
    def sqlite3(cls, path: str | Path, *, patience: float = 10.0, **settings: Unpack[OutboxSettings]) -> Transactions:
        """Transactions on a SQLite file, by the standard library; a step is given a `sqlite3.Connection`.

        The file is not a journal's: that is its mediator's own.

        Args:
            path: The file.
            patience: Seconds to wait for the file's write lock, too.
            **settings: As of `Transactions`.
        """
        from fsm_mediator.transactions.databases.sqlite import SQLiteDatabase

        return cls(SQLiteDatabase(path, patience), patience=patience, **settings)

    @classmethod
    def psycopg(
        cls, pool: Any, *, asynchronous: bool | None = None, **settings: Unpack[TransactionsSettings]
    ) -> Transactions:
        """Transactions on PostgreSQL; a step is given a connection of psycopg's.

        Args:
            pool: A pool of `psycopg_pool`, or the address of a server, to which each transaction then connects anew.
            asynchronous: With an address: whether the steps are coroutine functions.
            **settings: As of `Transactions`.
        """
        from fsm_mediator.transactions.databases.psycopg import PsycopgDatabase

        return cls(PsycopgDatabase(pool, asynchronous=asynchronous), **settings)

    @classmethod
    def sqlalchemy(cls, engine: Any, **settings: Unpack[TransactionsSettings]) -> Transactions:
        """Transactions by SQLAlchemy; a step is given a `Session`, or an `AsyncSession` from an `AsyncEngine`.

        Args:
            engine: An `Engine` or an `AsyncEngine`, of PostgreSQL or SQLite.
            **settings: As of `Transactions`.
        """
        from fsm_mediator.transactions.databases.sqlalchemy import SQLAlchemyDatabase

        return cls(SQLAlchemyDatabase(engine), **settings)

    @classmethod
    def django(cls, using: str = "default", **settings: Unpack[TransactionsSettings]) -> Transactions:
        """Transactions on a database of Django's; a step is given Django's connection, and may use models.

        Args:
            using: The alias of the database.
            **settings: As of `Transactions`; the names of the tables are by default those in Django's setting
                ``FSM_MEDIATOR``, a dictionary.
        """
        from fsm_mediator.transactions.databases.django import DjangoDatabase, names_in_settings

        both: dict[str, Any] = {**names_in_settings(), **settings}
        return cls(DjangoDatabase(using), **both)

    @overload
    def step(
        self, function: Callable[P, Coroutine[Any, Any, R]], /
    ) -> TransactionalStep[R, P, Coroutine[Any, Any, R]]: ...
    @overload
    def step(self, function: Callable[P, R], /) -> TransactionalStep[R, P, R]: ...
    @overload
    def step(
        self, /, *, name: str | None = None, isolation: Isolation | None = None, **settings: Unpack[StepSettings]
    ) -> TransactionalStepDecorator: ...
    def step(
        self,
        function: Callable[..., Any] | None = None,
        /,
        *,
        name: str | None = None,
        isolation: Isolation | None = None,
        **settings: Unpack[StepSettings],
    ) -> Any:
        """Make a step of ``function(session, payload)`` or ``function(session, payload, context)``.

        Its work, its key and its result are committed in one transaction, so that it takes effect once, whatever
        crashes. It is repeatable and has a probe.

        Args:
            function: The step's work.
            name: The step's name; by default the function's.
            isolation: The isolation level of its transactions. None: the database's own.
            **settings: As the attributes of `Step`.

        Raises:
            DefinitionError: The signature or a setting is wrong.
        """
        if isolation is not None and isolation not in ISOLATION:
            raise DefinitionError(f"tx.step: isolation must be one of {', '.join(ISOLATION)}, not {isolation!r}")
        for setting in settings:
            if setting not in SETTINGS:
                raise DefinitionError(
                    f"tx.step: unknown setting {setting!r}; there are name, isolation, {', '.join(SETTINGS)}"
                )

        def make(function: Callable[..., Any]) -> TransactionalStep:
            if isinstance(function, type) or not callable(function):
                raise DefinitionError(f"tx.step takes a function, not {function!r}")
            label = name if name is not None else getattr(function, "__name__", "")
            result = result_type_of(function)
            door = Door(self._access, isolation, self._patience, result, label)
            return TransactionalStep(function, label, settings, door, self.database.asynchronous)

        return make if function is None else make(function)

    # In transactions of the user's

    def start(
        self,
        session: Any,
        saga: Saga[Payload] | str,
        payload: Payload,
        *,
        saga_id: str,
        deadline: float | None = None,
        attributes: Mapping[str, Any] | None = None,
    ) -> Any:
        """Have a saga started if, and as soon as, the transaction of *session* is committed.

        A mediator with ``relays=[tx]`` starts it, in its daemon. The same id again joins the same execution.

        Args:
            session: An open session or connection of the user's, as a step is given; its transaction is left open.
            saga: The saga or its name.
            payload: What every step is given.
            saga_id: Names the execution.
            deadline: Seconds from its start within which it must have succeeded.
            attributes: As of `Mediator.start`.

        Returns:
            None; something to await where the sessions are for coroutines.

        Raises:
            PayloadError: The payload cannot be encoded, or there can be no such attribute.
            RefusedError: The id is malformed.
        """
        check_saga_id(saga_id)
        checked = {} if attributes is None else checked_attributes(attributes)
        name = saga if isinstance(saga, str) else saga.name
        return self._do(self._outbox.start, session, name, saga_id, payload, deadline, checked)

    def signal(self, session: Any, saga_id: str, name: str, value: Any = None) -> Any:
        """Have a signal sent if, and as soon as, the transaction of *session* is committed; as `start`.

        Args:
            session: As of `start`.
            saga_id: The execution.
            name: The signal.
            value: Its value.
        """
        check_saga_id(saga_id)
        return self._do(self._outbox.put, session, "signal", name, saga_id, value)

    def emit(self, session: Any, topic: str, payload: Any, *, key: str = "") -> Any:
        """Have a message published if, and as soon as, the transaction of *session* is committed; as `start`.

        It is published at least once, under an id that is its own; messages of one key in the order of their commits.

        Args:
            session: As of `start`.
            topic: Where to.
            payload: What every subscriber is given: plain data, or what msgspec encodes.
            key: What must stay in order.
        """
        return self._do(self._outbox.put, session, "message", topic, key, payload)

    async def pass_on(self, mediator: MediatorLike) -> int:
        """Pass on what the outbox holds; return how many rows. A daemon of a mediator with ``relays=[tx]`` calls it."""
        return await self._outbox.pass_on(mediator)

    def lag(self) -> Any:
        """Count what the outbox holds, as a `Lag`; something to await where the sessions are for coroutines."""
        return self._do(self._outbox.lag)

    def _do(self, work: Callable[..., Coroutine[Any, Any, Any]], *arguments: Any) -> Any:
        return work(*arguments) if self.database.asynchronous else run_blocking(work, *arguments)

    def observe(self, *tables: str) -> Callable[[], Any]:
        """A function that returns all rows of your tables: ``check_saga(saga, 100, observe=tx.observe("account"))``.

        Args:
            *tables: Names of tables. In place of a name, a SELECT statement leaves out what differs in each run, such
                as numbers that the database gives.

        Returns:
            A function, or a coroutine function where the sessions are for coroutines. It returns a dictionary: for each
            of *tables* its rows, sorted.

        Raises:
            DefinitionError: No table is named.
        """
        if not tables:
            raise DefinitionError("tx.observe takes the names of the tables that the saga changes")
        selects = {table: table if " " in table else f"SELECT * FROM {table}" for table in tables}  # noqa: S608 - the user's own

        async def read(session: Any) -> dict[str, list[tuple[Any, ...]]]:
            rows = {table: await self.database.query(session, select, {}) for table, select in selects.items()}
            return {table: sorted(map(tuple, found), key=repr) for table, found in rows.items()}

        async def look() -> Any:
            return await self._access.transact(read)

        return look if self.database.asynchronous else lambda: run_blocking(look)

    # The tables

    def prune(self, journal: Journal, older_than: float) -> Any:
        """Delete the older keys of executions that have ended as far as the journal knows.

        An execution that succeeded can still be undone: its compensations are then called as if the key were there.

        Args:
            journal: The journal of the mediator whose steps these are.
            older_than: Seconds.

        Returns:
            A `Pruned`; something to await where the sessions are for coroutines.

        Raises:
            DefinitionError: *older_than* is no number of at least 0.
        """
        check_number("prune: older_than (seconds)", older_than)
        return self._do(prune_keys, self._access, journal, older_than)

    def ddl(self) -> str:
        """The statements that make the tables, for a migration tool."""
        return ";\n".join(self._access.tables.statements(self.database.dialect)) + ";\n"

    def migrate(self) -> Any:
        """Make the tables, where they are missing.

        Returns:
            None; something to await where the sessions are for coroutines.
        """
        return self._do(self._migrate)

    async def _migrate(self) -> None:
        async def make(session: Any) -> None:
            for statement in self._access.tables.statements(self.database.dialect):
                await self._access.query(session, statement)

        await self._access.transact(make)
