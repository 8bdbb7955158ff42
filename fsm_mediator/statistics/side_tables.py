"""The protocols `Tables` and `Home` for the tables of a side store, and the SQL statements on these tables.

All databases execute the same SQL statements, in which ``?`` is a parameter. The code for SQLite alone is in
`SQLiteHome`, and the code for PostgreSQL alone is in `PostgresHome`: the definitions of the tables, the search for
texts, connections and locks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final, Protocol

FORMAT: Final = 2
"""The version number of the tables' format. A store whose tables have another format is built again."""


class Tables(Protocol):
    """The tables of a side store, within one transaction of the database."""

    def read(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        """Execute a query with the parameters *values*, and return its rows."""

    def write(self, statement: str, rows: Iterable[Sequence[Any]]) -> None:
        """Execute *statement* once for each of *rows*, which have its parameters."""

    def with_text(self, text: str, below: int, limit: int) -> list[tuple[int, str, str, str]]:
        """The newest *limit* executions with *text* in their id and a number below *below*.

        An execution is returned as (number in the journal, id, saga, version).
        """

    def keep_ids(self, rows: Iterable[tuple[int, str]]) -> None:
        """Add executions, as (number in the journal, id), to the index that `with_text` searches."""

    def remove_ids(self, rows: Iterable[tuple[int, str]]) -> None:
        """Remove executions, as (number in the journal, id), from the index that `with_text` searches."""

    def are_made(self) -> bool:
        """Whether the tables exist in the format `FORMAT` and can be read."""

    def make(self) -> None:
        """Create empty tables. The data of an existing side store is deleted.

        Raises:
            JournalError: The tables belong to another application.
        """


class Home(Protocol):
    """The place of the tables of a side store: a file, or a schema of a database."""

    @property
    def name(self) -> str:
        """The file or the schema as text, for messages."""

    def is_there(self) -> bool:
        """Whether a store exists. It may have any format, and may belong to another journal."""

    def source(self) -> str:
        """A text that identifies the journal. The text changes if another journal replaces the journal."""

    def now(self) -> float:
        """The time in seconds since the epoch, by a clock that all processes that use this store share."""

    def reading(self) -> AbstractContextManager[Tables]:
        """Open a transaction for reading, and yield its tables. All reads see the same snapshot."""

    def writing(self) -> AbstractContextManager[Tables]:
        """Open a transaction for writing, and yield its tables. Other writers wait until it ends.

        The transaction is committed at the end of the block. If the block raises, it is rolled back.
        """


PLACE: Final = "SELECT cursor, at, source FROM place"
SET_PLACE: Final = """
    INSERT INTO place (one, cursor, at, source) VALUES (1, ?, ?, ?)
    ON CONFLICT (one) DO UPDATE SET cursor = excluded.cursor, at = excluded.at, source = excluded.source"""
DEFINE: Final = "INSERT INTO definitions (saga, version) VALUES (?, ?) ON CONFLICT DO NOTHING"
DEFINITION: Final = "SELECT number FROM definitions WHERE saga = ? AND version = ?"
NAME_MOVE: Final = "INSERT INTO moves (event, source, target, in_doubt) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING"
MOVE: Final = "SELECT number FROM moves WHERE event = ? AND source = ? AND target = ? AND in_doubt = ?"
MOVES: Final = "SELECT number, event, source, target, in_doubt FROM moves"
EXECUTIONS: Final = """
    SELECT number, saga_id, definition, is_branch, accepted_at, state, changed_at, error, step, failed_step, is_final,
        history
    FROM executions WHERE number IN ({})"""
KEEP: Final = """
    INSERT INTO executions (number, saga_id, definition, is_branch, accepted_at, state, changed_at, error, step,
        failed_step, is_final, history)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (number) DO UPDATE SET saga_id = excluded.saga_id, definition = excluded.definition,
        is_branch = excluded.is_branch, accepted_at = excluded.accepted_at, state = excluded.state,
        changed_at = excluded.changed_at, error = excluded.error, step = excluded.step,
        failed_step = excluded.failed_step, is_final = excluded.is_final, history = excluded.history"""
REMOVE: Final = "DELETE FROM executions WHERE number = ?"
ADD_SAMPLES: Final = """
    INSERT INTO samples (definition, span, kind, name, size, count) VALUES (?, ?, ?, ?, ?, ?)
    ON CONFLICT (definition, span, kind, name, size) DO UPDATE SET count = samples.count + excluded.count"""
DROP_SAMPLES: Final = """
    DELETE FROM samples WHERE (definition, span, kind, name, size) = (?, ?, ?, ?, ?) AND count = 0"""
ADD_PLACES: Final = """
    INSERT INTO places (definition, is_branch, state, error, step, span, count) VALUES (?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (definition, state, span, error, step, is_branch)
    DO UPDATE SET count = places.count + excluded.count"""
DROP_PLACES: Final = """
    DELETE FROM places WHERE (definition, is_branch, state, error, step, span) = (?, ?, ?, ?, ?, ?) AND count = 0"""

COUNT: Final = """
    SELECT key, CAST(sum(count) AS BIGINT) FROM (
        SELECT {key} AS key, p.count FROM places p JOIN definitions d ON d.number = p.definition
        WHERE p.span >= ? AND p.span < ? AND {where}
        UNION ALL
        SELECT {key}, 1 FROM executions p JOIN definitions d ON d.number = p.definition
        WHERE p.changed_at >= ? AND p.changed_at < ? AND {where}
        UNION ALL
        SELECT {key}, 1 FROM executions p JOIN definitions d ON d.number = p.definition
        WHERE p.changed_at >= ? AND p.changed_at < ? AND {where}
    ) AS counted GROUP BY key"""
OF_SAGA: Final = """
    SELECT number FROM definitions
    WHERE (CAST(? AS TEXT) IS NULL OR saga = ?) AND (CAST(? AS TEXT) IS NULL OR version = ?)"""
SAMPLES: Final = """
    SELECT kind, name, size, CAST(sum(count) AS BIGINT) FROM samples
    WHERE definition = ? AND span >= ? GROUP BY kind, name, size"""
STATES: Final = "SELECT state, error, step, span, count FROM places WHERE definition = ?"
COUNTS: Final = """
    SELECT d.saga, d.version, p.state, CAST(sum(p.count) AS BIGINT)
    FROM places p JOIN definitions d ON d.number = p.definition GROUP BY d.saga, d.version, p.state"""

IN_STATE: Final = "p.state = ? OR substr(p.state, 1, ?) = ?"
WITH_ERROR: Final = (
    "p.error <> '' AND (p.error = ? OR (length(p.error) > ? AND substr(p.error, length(p.error) - ?) = ?))"
)
AT_STEP: Final = "p.step = ?"
IS_ROOT: Final = "p.is_branch = 0"
KEYS: Final = {
    None: "''",
    "state": "p.state",
    "saga": "d.saga",
    "version": "d.version",
    "error": "p.error",
    "step": "p.step",
}
