"""Connections to the database. Idle connections are kept, and a connection is used by one thread at a time.

psycopg's own pool is not needed: a thread that finds no idle connection makes a new one, and a broken connection is
closed. Before an idle connection is used, its socket is checked without waiting. Therefore a connection from before a
restart of the server is not used.
"""

from __future__ import annotations

import select
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import psycopg
from psycopg import IsolationLevel
from psycopg.pq import TransactionStatus

from fsm_mediator.journal.postgres.address import Address
from fsm_mediator.journal.postgres.errors import ERRORS, to_journal_error
from fsm_mediator.journal.postgres.schema import qualified
from fsm_mediator.journal.rows import Row


class Session:
    """A connection, for the tables of one schema.

    Attributes:
        connection: The connection, in autocommit.
    """

    def __init__(self, connection: psycopg.Connection[Row], schema: str) -> None:
        self.connection = connection
        self._schema = schema

    def execute(self, statement: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> psycopg.Cursor[Row]:
        """Execute a statement of the module ``sql``, with the name of the schema in place of ``journal``."""
        return self.connection.execute(qualified(statement, self._schema).encode(), parameters)

    def pipeline(self) -> AbstractContextManager[Any]:
        """A context in which statements are sent without waiting for their answers, if libpq supports this."""
        return self.connection.pipeline() if psycopg.Pipeline.is_supported() else nullcontext()


class Connections:
    """Connections to one database.

    Args:
        address: The location of the database.
        schema: The schema of the journal's tables.
        most: The maximum number of open connections. A thread that needs one more waits.
        pooled: Whether a connection pooler such as PgBouncer is between this process and the server. None to detect
            this.
        patience: Seconds after which the server ends a transaction whose client sends nothing, for example because the
            client is stopped. Otherwise other transactions would wait for the rows that this transaction has locked.
            Ignored behind a pooler, because a pooler's sessions are shared.
        when_cut_off: Called when the database could not be reached.

    Attributes:
        address: The location of the database.
        schema: The schema of the journal's tables.
    """

    def __init__(
        self,
        address: Address,
        schema: str,
        *,
        most: int,
        pooled: bool | None,
        patience: float,
        when_cut_off: Callable[[], object],
    ) -> None:
        self.address = address
        self.schema = schema
        self._most = most
        self._pooled = pooled
        self._patience = patience
        self._when_cut_off = when_cut_off
        self.reset()

    def reset(self) -> None:
        """Forget the connections of the parent process. A forked child calls this method."""
        # Closing a connection would end the parent's session. psycopg does not close connections that another process
        # made.
        self._idle: list[psycopg.Connection[Row]] = []
        self._room = threading.BoundedSemaphore(self._most)

    def is_pooled(self) -> bool:
        """Whether a pooler is between this process and the server.

        A pooler's sessions are shared, so no statement is prepared in them.
        """
        if self._pooled is None:
            with self.session("opened"):
                pass
        return bool(self._pooled)

    def connect(self) -> psycopg.Connection[Row]:
        """Make a new connection, in autocommit mode."""
        connection = psycopg.connect(**self.address.parameters, autocommit=True)
        if self._pooled is None:
            # A pooler gives its clients process numbers that are not the server's.
            number = connection.info.backend_pid
            found = connection.execute("SELECT pg_backend_pid()").fetchone()
            self._pooled = found is None or found[0] != number
        if self._pooled:
            connection.prepare_threshold = None
        else:
            limit = f"{max(1, round(1000 * self._patience))}ms"
            connection.execute("SELECT set_config('idle_in_transaction_session_timeout', %s, false)", (limit,))
        connection.isolation_level = IsolationLevel.READ_COMMITTED  # each statement sees all earlier commits
        return connection

    @contextmanager
    def session(self, doing: str) -> Iterator[Session]:
        """A session for this thread. Each statement is a transaction.

        Args:
            doing: The verb for error messages: ``opened``, ``read`` or ``written``.

        Raises:
            JournalError: The database cannot be reached, or refuses a statement.
        """
        with self._room:
            connection = None
            try:
                connection = self._usable() or self.connect()
                yield Session(connection, self.schema)
            except ERRORS as error:
                if isinstance(error, psycopg.OperationalError):
                    self._when_cut_off()
                raise to_journal_error(error, self.address.shown, doing) from error
            finally:
                if connection is not None:
                    if connection.pgconn.transaction_status == TransactionStatus.IDLE:
                        self._idle.append(connection)
                    else:
                        connection.close()

    def _usable(self) -> psycopg.Connection[Row] | None:
        """An idle connection that the server has not closed. None if there is no such connection."""
        while self._idle:
            connection = self._idle.pop()
            try:
                while _has_news(connection.fileno()):  # reads the server's last message, then the end of the stream
                    connection.pgconn.consume_input()
                if connection.pgconn.transaction_status == TransactionStatus.IDLE:
                    return connection
            except (psycopg.Error, ValueError, OSError):
                pass  # the server has closed the connection
            connection.close()
        return None

    def read(self, query: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> list[Row]:
        """The rows of a query.

        Raises:
            JournalError: The rows cannot be read.
        """
        with self.session("read") as session:
            return session.execute(query, parameters).fetchall()

    def write(self, statement: str, parameters: Sequence[Any] | Mapping[str, Any]) -> Row | None:
        """Execute one statement as a transaction. Returns its first row, or None.

        Raises:
            JournalError: The statement failed.
        """
        with self.session("written") as session:
            cursor = session.execute(statement, parameters)
            return cursor.fetchone() if cursor.description else None

    def close(self) -> None:
        """Close all idle connections."""
        while self._idle:
            self._idle.pop().close()


def _has_news(descriptor: int) -> bool:
    """Whether a read from the socket *descriptor* would not block.

    If the connection is idle, this nearly always means that the server has closed it.
    """
    if not hasattr(select, "poll"):  # Windows
        return bool(select.select([descriptor], [], [], 0)[0])
    poll = select.poll()  # select takes no descriptor past 1023
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))
