"""SQLiteHome: a side store in a separate file beside the journal."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

from fsm_mediator.errors import JournalError
from fsm_mediator.statistics.side_tables import FORMAT

APPLICATION_ID: Final = 0x66736D73  # "fsms"

ENDING: Final = ".stats.db"

_SHORT: Final = 3
"""The minimum length of a text that the text index can find. A shorter text is searched without the index."""

TABLES: Final = """
    CREATE TABLE place (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        cursor TEXT NOT NULL,  -- of the last counted change
        at REAL NOT NULL,      -- all changes before this time are counted. 0 if the store was never complete
        source TEXT NOT NULL   -- identifies the journal: see `Home.source`
    ) STRICT;
    CREATE TABLE definitions (
        number INTEGER PRIMARY KEY,
        saga TEXT NOT NULL,
        version TEXT NOT NULL,
        UNIQUE (saga, version)
    ) STRICT;
    CREATE TABLE moves (
        number INTEGER PRIMARY KEY,
        event TEXT NOT NULL,
        source TEXT NOT NULL,
        target TEXT NOT NULL,
        in_doubt INTEGER NOT NULL,
        UNIQUE (event, source, target, in_doubt)
    ) STRICT;
    CREATE TABLE executions (
        number INTEGER PRIMARY KEY, -- the number in the journal
        saga_id TEXT NOT NULL,
        definition INTEGER NOT NULL,
        is_branch INTEGER NOT NULL,
        accepted_at REAL NOT NULL,
        state TEXT NOT NULL,
        changed_at REAL NOT NULL,
        error TEXT NOT NULL,  -- the type of the error in the failure, or empty: see `Filter`
        step TEXT NOT NULL,   -- the present step, or the failed step after the end, or empty
        failed_step TEXT NOT NULL,
        is_final INTEGER NOT NULL, -- whether the event of `error` is in `FAILURES`
        history TEXT NOT NULL -- JSON: for each record, the number of its move and its time
    ) STRICT;
    CREATE INDEX executions_by_change ON executions (changed_at);
    CREATE VIRTUAL TABLE ids USING fts5 (
        saga_id, content='executions', content_rowid='number', tokenize='trigram case_sensitive 1', columnsize=0
    );
    CREATE TABLE samples (
        definition INTEGER NOT NULL,
        span INTEGER NOT NULL, -- see `span_of`
        kind TEXT NOT NULL,    -- see `samples` in ``machines.py``
        name TEXT NOT NULL,
        size INTEGER NOT NULL,
        count INTEGER NOT NULL,
        PRIMARY KEY (definition, span, kind, name, size)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE places (
        definition INTEGER NOT NULL,
        is_branch INTEGER NOT NULL,
        state TEXT NOT NULL,
        error TEXT NOT NULL,
        step TEXT NOT NULL,
        span INTEGER NOT NULL,
        count INTEGER NOT NULL,
        PRIMARY KEY (definition, state, span, error, step, is_branch)
    ) STRICT, WITHOUT ROWID;
    """
_KEEP_ID: Final = "INSERT INTO ids (rowid, saga_id) VALUES (?, ?)"
_REMOVE_ID: Final = "INSERT INTO ids (ids, rowid, saga_id) VALUES ('delete', ?, ?)"
_WITH_TEXT: Final = """
    SELECT e.number, e.saga_id, d.saga, d.version FROM ids i
        CROSS JOIN executions e ON e.number = i.rowid CROSS JOIN definitions d ON d.number = e.definition
    WHERE i.ids MATCH ? AND i.rowid < ? AND instr(e.saga_id, ?) ORDER BY i.rowid DESC LIMIT ?"""
_WITH_SHORT_TEXT: Final = """
    SELECT e.number, e.saga_id, d.saga, d.version FROM executions e CROSS JOIN definitions d ON d.number = e.definition
    WHERE e.number < ? AND instr(e.saga_id, ?) ORDER BY e.number DESC LIMIT ?"""


class SQLiteTables:
    """The tables of a side store in a SQLite file, within one transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def read(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        """Execute a query with the parameters *values*, and return its rows: see `Tables.read`."""
        return self._connection.execute(statement, values).fetchall()

    def write(self, statement: str, rows: Iterable[Sequence[Any]]) -> None:
        """Execute *statement* once for each of *rows*: see `Tables.write`."""
        self._connection.executemany(statement, rows)

    def with_text(self, text: str, below: int, limit: int) -> list[tuple[int, str, str, str]]:
        """The newest executions with *text* in their id: see `Tables.with_text`."""
        if len(text) < _SHORT:
            return self.read(_WITH_SHORT_TEXT, (below, text, limit))
        phrase = '"' + text.replace('"', '""') + '"'
        return self.read(_WITH_TEXT, (phrase, below, text, limit))

    def keep_ids(self, rows: Iterable[tuple[int, str]]) -> None:
        """Add executions, as (number in the journal, id), to the index that `with_text` searches."""
        self.write(_KEEP_ID, rows)

    def remove_ids(self, rows: Iterable[tuple[int, str]]) -> None:
        """Remove executions, as (number in the journal, id), from the index that `with_text` searches."""
        self.write(_REMOVE_ID, rows)

    def are_made(self) -> bool:
        """Whether the tables exist in the format `FORMAT` and can be read."""
        return self._ids() == (APPLICATION_ID, FORMAT)

    def make(self) -> None:
        """Delete all existing tables of a side store, and create empty tables: see `Tables.make`."""
        every = self.read("SELECT name FROM sqlite_schema WHERE type = 'table' AND sql IS NOT NULL")
        if every and self._ids()[0] != APPLICATION_ID:
            raise JournalError("the file of the side store is that of another application; move it away")
        for (name,) in every:
            if name == "ids" or not name.startswith("ids_"):  # SQLite drops the tables "ids_..." with the table "ids"
                self._connection.execute(f'DROP TABLE "{name}"')
        for statement in TABLES.split(";"):
            self._connection.execute(statement)
        self._connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
        self._connection.execute(f"PRAGMA user_version={FORMAT}")

    def _ids(self) -> tuple[int, int]:
        ((application_id,),), ((version,),) = self.read("PRAGMA application_id"), self.read("PRAGMA user_version")
        return application_id, version


class SQLiteHome:
    """The place of a side store for a SQLite journal: a file beside the journal's file.

    Args:
        path: The path of the journal's file.

    Attributes:
        path: The path of the store's file.
    """

    def __init__(self, path: str) -> None:
        self._source = path
        where = Path(path)
        self.path: Final = where.with_suffix(ENDING) if where.suffix == ".db" else where.with_name(where.name + ENDING)

    @property
    def name(self) -> str:
        """The path of the store's file, for messages."""
        return str(self.path)

    def is_there(self) -> bool:
        """Whether the file of the store exists."""
        return self.path.exists()

    def source(self) -> str:
        """The inode number of the journal's file, as text. Another file at the same path has another number."""
        return str(Path(self._source).stat().st_ino)

    def now(self) -> float:
        """The time in seconds since the epoch, by the clock of this machine."""
        return time.time()

    @contextmanager
    def reading(self) -> Iterator[SQLiteTables]:
        """Open a transaction for reading, and yield its tables: see `Home.reading`."""
        with self._opened("ro") as connection:
            connection.execute("BEGIN")  # so that all reads see the same snapshot
            yield SQLiteTables(connection)

    @contextmanager
    def writing(self) -> Iterator[SQLiteTables]:
        """Open a transaction for writing, and yield its tables: see `Home.writing`. A missing file is created."""
        with self._opened("rw") as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield SQLiteTables(connection)  # if the block raises, the connection is closed without a commit
            connection.execute("COMMIT")

    @contextmanager
    def _opened(self, mode: str) -> Iterator[sqlite3.Connection]:
        try:
            if mode == "rw" and not self.path.exists():
                os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))  # only its owner may read the ids
            uri = f"{self.path.absolute().as_uri()}?mode={mode}"
            with closing(sqlite3.connect(uri, uri=True, isolation_level=None, timeout=30.0)) as connection:
                connection.execute("PRAGMA cache_size=-65536")
                yield connection
        except (sqlite3.Error, OSError) as error:
            raise JournalError(
                f"the side store {self.name!r} cannot be used: {error}. It may be deleted, and built again by "
                f"fsm-mediator stats --refresh"
            ) from error
