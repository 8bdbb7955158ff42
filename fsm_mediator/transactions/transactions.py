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
    """The keyword arguments of `Transactions`, except *patience*."""

    publish: Publish | None


class TransactionsSettings(OutboxSettings, total=False):
    """All keyword arguments of `Transactions`."""

    patience: float


class Transactions:
    """Makes steps that take effect exactly once, in transactions of the user's own database.

    Create it with `sqlite3`, `psycopg`, `sqlalchemy` or `django`. Create its tables with `migrate`, with an Alembic
    migration (`fsm_mediator.transactions.alembic`) or with the Django app ``fsm_mediator.transactions.django_app``.

    Args:
        database: The user's database.
        table: The name of the table of keys.
        outbox: The name of the outbox table.
        schema: The schema of both tables on PostgreSQL. None for the first schema of the search path.
        patience: The number of seconds for which a probe or a compensation waits for an attempt with an open
            transaction.
        publish: A function ``publish(topic, payload, key, message_id)`` that publishes the messages of `emit`. With an
            `AsyncMediator` it may be a coroutine function. If None, messages wait for a process with such a function.

    Raises:
        DefinitionError: A name is not a plain identifier, or *patience* is not a number above 0.
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
        """Transactions on a SQLite file. The session of a step is a `sqlite3.Connection`.

        Do not use the file of a journal, because only the journal may write to it.

        Args:
            path: The path of the file.
            patience: The number of seconds to wait for an attempt with an open transaction, and for the write lock of
                the file.
            **settings: The other arguments of `Transactions`, such as *publish*.
        """
        from fsm_mediator.transactions.databases.sqlite import SQLiteDatabase

        return cls(SQLiteDatabase(path, patience), patience=patience, **settings)

    @classmethod
    def psycopg(
        cls, pool: Any, *, asynchronous: bool | None = None, **settings: Unpack[TransactionsSettings]
    ) -> Transactions:
        """Transactions on PostgreSQL. The session of a step is a psycopg connection.

        Args:
            pool: A pool of `psycopg_pool`, or the address of a server. With an address, each transaction opens a new
                connection.
            asynchronous: Whether the steps are coroutine functions. Pass it only with an address.
            **settings: The other arguments of `Transactions`, such as *publish*.
        """
        from fsm_mediator.transactions.databases.psycopg import PsycopgDatabase

        return cls(PsycopgDatabase(pool, asynchronous=asynchronous), **settings)

    @classmethod
    def sqlalchemy(cls, engine: Any, **settings: Unpack[TransactionsSettings]) -> Transactions:
        """Transactions with SQLAlchemy. The session of a step is a `Session` or, with an `AsyncEngine`, `AsyncSession`.

        Args:
            engine: An `Engine` or an `AsyncEngine`, for PostgreSQL or SQLite.
            **settings: The other arguments of `Transactions`, such as *publish*.
        """
        from fsm_mediator.transactions.databases.sqlalchemy import SQLAlchemyDatabase

        return cls(SQLAlchemyDatabase(engine), **settings)

    @classmethod
    def django(cls, using: str = "default", **settings: Unpack[TransactionsSettings]) -> Transactions:
        """Transactions on a Django database. The session of a step is Django's connection. The step may use models.

        Args:
            using: The alias of the database.
            **settings: The other arguments of `Transactions`, such as *publish*. If the names of the tables are left
                out, they come from Django's setting ``FSM_MEDIATOR``, a dictionary.
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
        """Make a step from ``function(session, payload)`` or ``function(session, payload, context)``.

        The effect, the key and the result of the step are committed in one transaction. So the step takes effect
        exactly once, even after a crash. The step is repeatable and has a probe.

        Args:
            function: The function that executes the step.
            name: The step's name. The default is the function's name.
            isolation: The isolation level of the step's transactions. None for the default level of the database.
            **settings: Settings of the step. The attributes of `Step` describe them.

        Raises:
            DefinitionError: The signature of *function* or a setting is wrong.
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

    # Calls in the user's own transactions.

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
        """Start a saga after the transaction of *session* is committed. After a rollback, nothing is started.

        The daemon of a mediator with ``relays=[tx]`` starts the saga. If an execution with this id exists, no second
        execution is started.

        Args:
            session: Your open session or connection, of the same type as a step's session. Its transaction stays open.
            saga: The saga or its name.
            payload: The payload, which every step gets.
            saga_id: The id of the execution.
            deadline: Seconds from the start of the execution. If the execution has not succeeded by then, it
                compensates. If None, the deadline of the saga applies.
            attributes: Names and values by which the execution can be found later, as for `Mediator.start`.

        Returns:
            None. With sessions for coroutines, an awaitable.

        Raises:
            PayloadError: The payload cannot be encoded, or an attribute is not valid.
            RefusedError: The id is malformed.
        """
        check_saga_id(saga_id)
        checked = {} if attributes is None else checked_attributes(attributes)
        name = saga if isinstance(saga, str) else saga.name
        return self._do(self._outbox.start, session, name, saga_id, payload, deadline, checked)

    def signal(self, session: Any, saga_id: str, name: str, value: Any = None) -> Any:
        """Send a signal after the transaction of *session* is committed. After a rollback, nothing is sent.

        Args:
            session: Your open session or connection, as for `start`.
            saga_id: The id of the execution.
            name: The name of the signal.
            value: The value of the signal.

        Returns:
            None. With sessions for coroutines, an awaitable.

        Raises:
            PayloadError: The value cannot be encoded.
            RefusedError: The id is malformed.
        """
        check_saga_id(saga_id)
        return self._do(self._outbox.put, session, "signal", name, saga_id, value)

    def emit(self, session: Any, topic: str, payload: Any, *, key: str = "") -> Any:
        """Publish a message after the transaction of *session* is committed. After a rollback, nothing is published.

        The message is published at least once, with a unique id. Messages with the same key are published in the order
        of their commits.

        Args:
            session: Your open session or connection, as for `start`.
            topic: The topic to which the message is published.
            payload: The content of the message: plain data, or types that msgspec encodes.
            key: The key of the message.

        Returns:
            None. With sessions for coroutines, an awaitable.

        Raises:
            PayloadError: The payload cannot be encoded.
        """
        return self._do(self._outbox.put, session, "message", topic, key, payload)

    async def pass_on(self, mediator: MediatorLike) -> int:
        """Deliver the waiting rows of the outbox. Returns the number of delivered or refused rows.

        The daemon of a mediator with ``relays=[tx]`` calls this method.
        """
        return await self._outbox.pass_on(mediator)

    def lag(self) -> Any:
        """The number of waiting rows and the number of refused rows in the outbox.

        Returns:
            A `Lag`. With sessions for coroutines, an awaitable `Lag`.
        """
        return self._do(self._outbox.lag)

    def _do(self, work: Callable[..., Coroutine[Any, Any, Any]], *arguments: Any) -> Any:
        return work(*arguments) if self.database.asynchronous else run_blocking(work, *arguments)

    def observe(self, *tables: str) -> Callable[[], Any]:
        """A function that returns all rows of your tables: ``check_saga(saga, 100, observe=tx.observe("account"))``.

        Args:
            *tables: Names of tables. Instead of a name, you can pass a SELECT statement, for example to omit columns
                that differ in each run, such as generated numbers.

        Returns:
            A function, or a coroutine function if the sessions are for coroutines. It returns a dictionary: the keys
            are the *tables*, and the values are the sorted rows.

        Raises:
            DefinitionError: *tables* is empty.
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

    # Calls about the tables.

    def prune(self, journal: Journal, older_than: float) -> Any:
        """Delete the old keys of ended executions. The journal decides whether an execution has ended.

        A succeeded execution can still be undone after its keys were deleted. Its compensations are then called,
        although their keys are missing.

        Args:
            journal: The journal of the mediator that executes the steps.
            older_than: The minimum age of the deleted keys, in seconds.

        Returns:
            A `Pruned`. With sessions for coroutines, an awaitable `Pruned`.

        Raises:
            DefinitionError: *older_than* is negative or not a number.
        """
        check_number("prune: older_than (seconds)", older_than)
        return self._do(prune_keys, self._access, journal, older_than)

    def ddl(self) -> str:
        """The SQL statements that create the tables, for a migration tool."""
        return ";\n".join(self._access.tables.statements(self.database.dialect)) + ";\n"

    def migrate(self) -> Any:
        """Create the missing tables of `Transactions` in the user's database.

        Returns:
            None. With sessions for coroutines, an awaitable.
        """
        return self._do(self._migrate)

    async def _migrate(self) -> None:
        async def make(session: Any) -> None:
            for statement in self._access.tables.statements(self.database.dialect):
                await self._access.query(session, statement)

        await self._access.transact(make)
