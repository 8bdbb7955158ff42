"""PostgresHome: a side store in a separate schema of the journal's database. Needs the extra ``postgres``."""

# ruff: noqa: S608 - the statements are made only from constants; values are always parameters

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, Protocol

from fsm_mediator.errors import JournalError
from fsm_mediator.journal.postgres.connections import Connections, Session
from fsm_mediator.journal.postgres.counting import MAY_READ
from fsm_mediator.journal.postgres.errors import ERRORS, to_journal_error
from fsm_mediator.journal.postgres.schema import lock_class
from fsm_mediator.journal.storable import is_text
from fsm_mediator.statistics.side_tables import FORMAT

_SHORT: Final = 3
"""The minimum length of a text that the text index can find. A shorter text is searched without the index."""

NAMES: Final = ("place", "definitions", "moves", "executions", "ids", "samples", "places")

MARK: Final = "side_store"
"""The name of the table that has the format of a side store. A schema without this table is no side store."""

TABLES: Final = f"""
    CREATE TABLE {MARK} (format int NOT NULL);
    INSERT INTO {MARK} VALUES ({FORMAT});
    CREATE TABLE place (
        one int PRIMARY KEY CHECK (one = 1),
        cursor text NOT NULL, -- of the last counted change
        at float8 NOT NULL,   -- all changes before this time are counted. 0 if the store was never complete
        source text NOT NULL  -- identifies the journal: see `Home.source`
    );
    CREATE TABLE definitions (
        number int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        saga text NOT NULL,
        version text NOT NULL,
        UNIQUE (saga, version)
    );
    CREATE TABLE moves (
        number int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        event text NOT NULL,
        source text NOT NULL,
        target text NOT NULL,
        in_doubt int NOT NULL,
        UNIQUE (event, source, target, in_doubt)
    );
    CREATE TABLE executions (
        number bigint PRIMARY KEY, -- the number in the journal
        saga_id text NOT NULL,
        definition int NOT NULL,
        is_branch int NOT NULL,
        accepted_at float8 NOT NULL,
        state text NOT NULL,
        changed_at float8 NOT NULL,
        error text NOT NULL,  -- the type of the error in the failure, or empty: see `Filter`
        step text NOT NULL,   -- the present step, or the failed step after the end, or empty
        failed_step text NOT NULL,
        is_final int NOT NULL, -- whether the event of `error` is in `FAILURES`
        history text NOT NULL -- JSON: for each record, the number of its move and its time
    );
    CREATE INDEX executions_by_change ON executions (changed_at);
    -- This is a separate table, because rows of `executions` change, and a text index is costly to update.
    CREATE TABLE ids (number bigint PRIMARY KEY, saga_id text NOT NULL);
    CREATE OR REPLACE FUNCTION trigrams(value text) RETURNS text[] LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS
        'SELECT array_agg(DISTINCT substr(value, n, 3)) FROM generate_series(1, length(value) - 2) AS n';
    CREATE INDEX ids_by_text ON ids USING gin (trigrams(saga_id));
    CREATE TABLE samples (
        definition int NOT NULL,
        span bigint NOT NULL, -- see `span_of`
        kind text NOT NULL,   -- see `samples` in ``machines.py``
        name text NOT NULL,
        size int NOT NULL,
        count bigint NOT NULL,
        PRIMARY KEY (definition, span, kind, name, size)
    );
    CREATE TABLE places (
        definition int NOT NULL,
        is_branch int NOT NULL,
        state text NOT NULL,
        error text NOT NULL,
        step text NOT NULL,
        span bigint NOT NULL,
        count bigint NOT NULL,
        PRIMARY KEY (definition, state, span, error, step, is_branch)
    );
    """
_TABLES_OF: Final = "SELECT tablename::text FROM pg_tables WHERE schemaname = ?"
_IS_OTHERS: Final = """
    SELECT 1 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = ? LIMIT 1"""
_NOW: Final = "SELECT extract(epoch FROM clock_timestamp())::float8"
_KEEP_ID: Final = "INSERT INTO ids (number, saga_id) VALUES (?, ?)"
_REMOVE_ID: Final = "DELETE FROM ids WHERE number = ? AND saga_id = ?"
_FOUND: Final = """
    SELECT e.number, e.saga_id, d.saga, d.version
    FROM ids i JOIN executions e ON e.number = i.number JOIN definitions d ON d.number = e.definition"""
WITH_TEXT: Final = f"""
    {_FOUND} WHERE trigrams(i.saga_id) @> trigrams(?) AND i.number < ? AND strpos(i.saga_id, ?) > 0
    ORDER BY i.number DESC LIMIT ?"""
_WITH_SHORT_TEXT: Final = f"""
    {_FOUND} WHERE i.number < ? AND strpos(i.saga_id, ?) > 0 ORDER BY i.number DESC LIMIT ?"""


class StoredJournal(Protocol):
    """The methods that a side store needs of a PostgreSQL journal, or of a journal that wraps a PostgreSQL journal."""

    def identity(self) -> str:
        """A text that identifies the journal among all journals in this database. Uses a connection of the journal."""

    def may_read(self, schema: str, table: str) -> bool:
        """Whether the table exists and the database user may read it. Uses a connection of the journal."""

    @property
    def side_connections(self) -> Connections:
        """Connections for the schema of the side store."""


class PostgresTables:
    """The tables of a side store in the schema *schema*.

    The statements do not name the schema, because each transaction sets the search path.
    """

    def __init__(self, session: Session, schema: str) -> None:
        self._connection = session.connection
        self._schema = schema

    def read(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        """Execute a query with the parameters *values*, and return its rows: see `Tables.read`."""
        return self._connection.execute(statement.replace("?", "%s").encode(), values).fetchall()

    def write(self, statement: str, rows: Iterable[Sequence[Any]]) -> None:
        """Execute *statement* once for each of *rows*: see `Tables.write`."""
        with self._connection.cursor() as cursor:
            cursor.executemany(statement.replace("?", "%s").encode(), list(rows))

    def with_text(self, text: str, below: int, limit: int) -> list[tuple[int, str, str, str]]:
        """The newest executions with *text* in their id: see `Tables.with_text`."""
        if not is_text(text):
            return []
        if len(text) < _SHORT:
            return self.read(_WITH_SHORT_TEXT, (below, text, limit))
        return self.read(WITH_TEXT, (text, below, text, limit))

    def keep_ids(self, rows: Iterable[tuple[int, str]]) -> None:
        """Add executions, as (number in the journal, id), to the index that `with_text` searches."""
        self.write(_KEEP_ID, rows)

    def remove_ids(self, rows: Iterable[tuple[int, str]]) -> None:
        """Remove executions, as (number in the journal, id), from the index that `with_text` searches."""
        self.write(_REMOVE_ID, rows)

    def are_made(self) -> bool:
        """Whether the tables exist in the format `FORMAT` and can be read."""
        may_read = bool(self._connection.execute(MAY_READ, (self._schema, MARK)).fetchall())
        return may_read and self.read(f"SELECT format FROM {MARK}") == [(FORMAT,)]

    def make(self) -> None:
        """Create empty tables: see `Tables.make`.

        If the tables exist in the format `FORMAT`, their rows are deleted and the tables are kept, so that access
        rights remain.
        """
        if self.are_made():
            for name in NAMES:  # TRUNCATE would wait for readers, and remove rows from their snapshots
                self._connection.execute(f"DELETE FROM {name}".encode())
            return
        if not self.read("SELECT 1 FROM pg_namespace WHERE nspname = ?", (self._schema,)):
            self._connection.execute(f'CREATE SCHEMA "{self._schema}"'.encode())
        names = [name for (name,) in self.read(_TABLES_OF, (self._schema,))]
        if MARK in names:
            for name in names:
                self._connection.execute(f'DROP TABLE "{self._schema}"."{name}"'.encode())
        elif self.read(_IS_OTHERS, (self._schema,)):
            raise JournalError(
                f"the schema {self._schema!r} is that of another application; name another one for the side store: "
                f"?stats_schema=NAME"
            )
        self._connection.execute(TABLES.encode())


class PostgresHome:
    """The place of a side store in the database of a PostgreSQL journal: a schema of its own.

    Args:
        journal: The journal.
    """

    def __init__(self, journal: StoredJournal) -> None:
        self._journal = journal
        self._connections = journal.side_connections
        self.schema: Final = journal.side_connections.schema

    @property
    def name(self) -> str:
        """The name of the schema and the address of the database, without the password."""
        return f"schema {self.schema} of {self._connections.address.shown}"

    def is_there(self) -> bool:
        """Whether the schema has a side store that the database user may read."""
        return self._journal.may_read(self.schema, MARK)

    def source(self) -> str:
        """A text that identifies the journal: see `StoredJournal.identity`."""
        return self._journal.identity()

    def now(self) -> float:
        """The time by the clock of the database server."""
        ((now,),) = self._connections.read(_NOW)
        return float(now)

    @contextmanager
    def reading(self) -> Iterator[PostgresTables]:
        """Open a transaction for reading, and yield its tables: see `Home.reading`."""
        with self._opened("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY") as tables:
            yield tables

    @contextmanager
    def writing(self) -> Iterator[PostgresTables]:
        """Open a transaction for writing, and yield its tables: see `Home.writing`.

        An advisory lock makes other writers wait, even before the tables exist. The commit does not wait for the disk.
        If the server crashes, the next refresh counts the lost changes again.
        """
        with self._opened("SET LOCAL synchronous_commit = off") as tables:
            tables.read("SELECT 1 FROM pg_advisory_xact_lock(?::int, 0)", (lock_class(self.schema),))
            yield tables

    @contextmanager
    def _opened(self, setting: str) -> Iterator[PostgresTables]:
        with self._connections.session("used") as session:
            try:
                with session.connection.transaction():
                    session.connection.execute(setting.encode())
                    session.connection.execute("SELECT set_config('search_path', %s, true)", (f'"{self.schema}"',))
                    yield PostgresTables(session, self.schema)
            except ERRORS as error:
                journal = to_journal_error(error, self._connections.address.shown, "counted")
                raise JournalError(
                    f"the side store in the schema {self.schema!r} cannot be used: {journal}. The schema may be "
                    f"dropped, and built again by fsm-mediator stats --refresh"
                ) from error
