"""The tables of a SQLite journal, and the migration of files of earlier versions.

`STEPS` has all versions. A new file runs through all steps, an older file through the steps that it lacks, in one
transaction. A released step is never edited; a new version adds a step. An older library must not write to a migrated
file, so a step that changes the meaning of a table also renames it.

How a row is found, and what a commit costs
-------------------------------------------

Most commits only add a record. They read the execution's row (epoch, driver) but do not change it. The row is written
when the execution is opened, claimed or parked. The state of an execution is in its last record.

Nearly all executions end in the epoch in which they were opened. Such an execution ends with a record alone: its row is
not changed. The row is *marked as ended* later, together with many others, when its driver renews its lease. Until then
the row names a driver that no longer owns the execution, and all SQL that reads the row takes this into account. If the
commit of the last record updated the row too, two more pages would go to the log. A benchmark compared both ways
(synchronous=NORMAL, one commit at a time). With the update, a saga of 4 commits took 14 to 15 % longer on a disk, and 6
to 7 % longer on tmpfs. With commits in groups, or with synchronous=FULL, there was no measurable difference.

``records`` is clustered by (execution, seq). *execution* is a small number, given in the order of opening. Therefore
executions that run at the same time are stored side by side, a history is one range, and no second index is needed.
Measured against a rowid table with an index on the execution, in microseconds per saga of 4 commits
(synchronous=NORMAL, one commit at a time): 112 against 127. If the table is clustered by the saga's id as text, commits
in groups of 256 take twice as long.

Executions that have not ended are in the index ``in_hand``. Ended executions are not in it, because no run and no
recovery reads them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Final

from fsm_mediator.errors import JournalError

APPLICATION_ID: Final = 0x66736D6D  # "fsmm"
"""The application id in the file's header. No other kind of SQLite file has it."""

OPERATORS: Final = """
    -- What became of verbs (retry, resolve, undo) that were in an inbox.
    CREATE TABLE answers (
        number INTEGER PRIMARY KEY, -- the verb's own, in the inbox
        name TEXT NOT NULL UNIQUE,
        seq INTEGER,                -- the record that it led to; NULL: it was refused
        refusal TEXT,
        at REAL NOT NULL
    ) STRICT;

    -- The definitions that drivers have enlisted with: their shapes, as JSON, and who knows them.
    CREATE TABLE shapes (
        fingerprint TEXT PRIMARY KEY,
        shape TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE known (
        driver INTEGER NOT NULL REFERENCES drivers ON DELETE CASCADE,
        fingerprint TEXT NOT NULL,
        PRIMARY KEY (driver, fingerprint)
    ) STRICT, WITHOUT ROWID;

    -- Executions that a driver could not decode, though it knows their definition.
    CREATE TABLE faults (
        execution INTEGER PRIMARY KEY REFERENCES executions ON DELETE CASCADE,
        epoch INTEGER NOT NULL, -- it counts as long as the execution has this epoch
        type TEXT NOT NULL,
        field TEXT NOT NULL,
        message TEXT NOT NULL
    ) STRICT;
    """

PENDING_LAST: Final = """
    -- A pending execution is claimed after those that have begun: see `rows.PENDING_NOW`.
    UPDATE executions SET attention = -1e300
    WHERE ended_at IS NULL AND driver IS NULL AND attention = -9e999 AND mail = 0
        AND (SELECT max(seq) FROM records WHERE execution = number) = 0;
    """

PLANNED: Final = """
    -- Branches of large groups that are no executions yet: see `Plan` in ``journal/planning.py``.
    CREATE TABLE planned (
        execution INTEGER NOT NULL REFERENCES executions ON DELETE CASCADE, -- whose group it is
        number INTEGER NOT NULL, -- in the group
        saga_id TEXT NOT NULL,
        definition INTEGER NOT NULL REFERENCES definitions,
        deadline_at REAL,
        dormant INTEGER NOT NULL,
        at REAL NOT NULL,
        details TEXT NOT NULL,   -- of its record 0
        ended TEXT,              -- JSON: type and message of the error with which it ended without being created
        PRIMARY KEY (execution, number)
    ) STRICT, WITHOUT ROWID;
    """

TOKENS: Final = """
    -- The last commit without a record: see `Commit.token`.
    ALTER TABLE executions ADD COLUMN token INTEGER NOT NULL DEFAULT 0;
    """

SLOTS: Final = """
    -- How many attempts at a time each driver allows.
    CREATE TABLE limits (
        name TEXT NOT NULL,
        driver INTEGER NOT NULL REFERENCES drivers ON DELETE CASCADE,
        most INTEGER NOT NULL,
        PRIMARY KEY (name, driver)
    ) STRICT, WITHOUT ROWID;

    -- Attempts that have a slot of a limit, or queue for one, in the order of arrival.
    CREATE TABLE slots (
        number INTEGER PRIMARY KEY,
        execution INTEGER NOT NULL UNIQUE REFERENCES executions ON DELETE CASCADE,
        name TEXT NOT NULL,
        epoch INTEGER NOT NULL, -- in which it was asked for; in a later one it does not count
        begun INTEGER NOT NULL, -- 1: it has its slot; 0: it queues
        overtaken INTEGER NOT NULL DEFAULT 0,   -- how many later attempts began first, while a slot was free for it
        ignored_at REAL NOT NULL DEFAULT 9e999  -- from when on others do not leave a slot for it, unless it asks again
    ) STRICT;
    CREATE INDEX slots_by_name ON slots (name, begun);
    """

REPEATED: Final = """
    -- Whether the owner claimed it from a dead driver.
    ALTER TABLE executions ADD COLUMN abandoned INTEGER NOT NULL DEFAULT 0;

    -- Calls that are recognised when they are repeated: see `Journal` in ``journal/protocol.py``.
    CREATE TABLE posted (
        token INTEGER PRIMARY KEY,
        execution INTEGER NOT NULL REFERENCES executions ON DELETE CASCADE
    ) STRICT;
    CREATE INDEX posted_to ON posted (execution);
    CREATE TABLE pruned (
        token INTEGER PRIMARY KEY,
        deleted INTEGER NOT NULL,
        at REAL NOT NULL
    ) STRICT;
    """

ACTORS: Final = """
    -- The person or program that says what an item says.
    ALTER TABLE inbox ADD COLUMN actor TEXT;
    """

CARRIERS: Final = """
    -- The context of the trace that an item was said in, as JSON.
    ALTER TABLE inbox ADD COLUMN carrier TEXT;
    """

NOTES: Final = """
    -- What is said about executions, sagas and steps without moving an execution: see ``journal/notes.py``.
    CREATE TABLE notes (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        execution INTEGER REFERENCES executions ON DELETE CASCADE, -- NULL: it is about a saga or a step
        saga TEXT,
        step TEXT,
        kind TEXT NOT NULL,
        value TEXT,          -- JSON
        actor TEXT,
        reason TEXT,
        at REAL NOT NULL,
        token INTEGER UNIQUE -- of the call that added it
    ) STRICT;
    CREATE INDEX notes_of ON notes (execution);
    CREATE INDEX notes_by_kind ON notes (kind);
    """

FINDING: Final = """
    -- Names with JSON scalars, by which executions are found.
    CREATE TABLE attributes (
        execution INTEGER NOT NULL REFERENCES executions ON DELETE CASCADE,
        name TEXT NOT NULL,
        value TEXT NOT NULL, -- JSON
        PRIMARY KEY (execution, name)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX attributes_by_value ON attributes (name, value, execution);

    -- Ended executions are found by saga, by failure and by time. An execution comes into these indexes when its row is
    -- marked as ended: no commit that opens an execution or adds a record writes to them.
    ALTER TABLE executions ADD COLUMN failed INTEGER NOT NULL DEFAULT 0; -- of one that has ended: whether in `failed`
    UPDATE executions SET failed = 1 WHERE ended_at IS NOT NULL
        AND (SELECT target FROM records WHERE execution = number ORDER BY seq DESC LIMIT 1) = 'failed';
    CREATE INDEX ended_by_saga ON executions (definition) WHERE ended_at IS NOT NULL;
    CREATE INDEX ended_in_failed ON executions (definition) WHERE ended_at IS NOT NULL AND failed = 1;
    CREATE INDEX ended_by_time ON executions (ended_at) WHERE ended_at IS NOT NULL;
    """

PARKED: Final = """
    -- The phase of an execution that has not ended and has no owner; of others what it was, or NULL. Of many executions
    -- that wait the few that are stuck are found by this index. No record of an execution with an owner changes it.
    ALTER TABLE executions ADD COLUMN parked TEXT;
    UPDATE executions SET parked = (
        SELECT substr(target, 1, instr(target || '.', '.') - 1) FROM records
        WHERE execution = number ORDER BY seq DESC LIMIT 1)
        WHERE ended_at IS NULL AND driver IS NULL;
    CREATE INDEX parked ON executions (parked) WHERE ended_at IS NULL AND driver IS NULL;
    """

STEPS: Sequence[str] = (
    """
    CREATE TABLE definitions (
        number INTEGER PRIMARY KEY,
        saga TEXT NOT NULL,
        version TEXT NOT NULL,
        fingerprint TEXT NOT NULL,
        UNIQUE (saga, version, fingerprint)
    ) STRICT;

    -- Who performs effects. A number is never given twice: an execution may name the driver that it was taken from.
    CREATE TABLE drivers (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        host TEXT NOT NULL,
        boot_id TEXT NOT NULL,
        pid_namespace TEXT NOT NULL,
        pid INTEGER NOT NULL,
        started TEXT NOT NULL,
        beat_at REAL NOT NULL, -- when it renewed its lease
        lease REAL NOT NULL    -- for how many seconds
    ) STRICT;

    CREATE TABLE executions (
        number INTEGER PRIMARY KEY,
        saga_id TEXT NOT NULL UNIQUE,
        definition INTEGER NOT NULL REFERENCES definitions,
        deadline_at REAL,
        parent TEXT,           -- the saga_id of the execution whose group it is a branch of
        epoch INTEGER NOT NULL,
        driver INTEGER,        -- who holds it; no foreign key: it would want a full index, and a commit pays for those
        wake_at REAL,
        attention REAL,        -- when a driver should look at it; -Infinity: now; NULL: not by itself
        mail INTEGER NOT NULL, -- how many rows it has in the inbox
        ended_at REAL          -- NULL: it goes on, or somebody holds it
    ) STRICT;
    CREATE INDEX in_hand ON executions (driver, attention) WHERE ended_at IS NULL;
    CREATE INDEX branches ON executions (parent) WHERE parent IS NOT NULL;

    -- Record 0 is the acceptance: its value is the payload. What is not asked for by SQL is in one column: to bind a
    -- parameter takes sqlite3 up to 0.6 microseconds, and a column for each is half the time of an insert.
    CREATE TABLE records (
        execution INTEGER NOT NULL REFERENCES executions ON DELETE CASCADE,
        seq INTEGER NOT NULL,
        event TEXT NOT NULL,
        source TEXT NOT NULL,
        target TEXT NOT NULL,
        at REAL NOT NULL,
        details TEXT NOT NULL, -- JSON: step, attempt, value, error, in_doubt, due_at, reason, abandoned; if there
        PRIMARY KEY (execution, seq)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE inbox (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        execution INTEGER NOT NULL REFERENCES executions ON DELETE CASCADE,
        kind TEXT NOT NULL,
        name TEXT NOT NULL,
        value TEXT, -- JSON
        reason TEXT,
        at REAL NOT NULL
    ) STRICT;
    CREATE INDEX inbox_of ON inbox (execution);
    """,
    """
    -- How often the execution was claimed from a dead driver in the midst of an effect: since it got further, and since
    -- its last record.
    ALTER TABLE executions ADD COLUMN recoveries INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE executions ADD COLUMN recoveries_here INTEGER NOT NULL DEFAULT 0;
    """,
    """
    -- Executions that were deleted, so that their ids are not used again.
    CREATE TABLE forgotten (
        saga_id TEXT PRIMARY KEY,
        saga TEXT NOT NULL,
        state TEXT NOT NULL,
        ended_at REAL NOT NULL
    ) STRICT, WITHOUT ROWID;
    """,
    OPERATORS + PENDING_LAST + PLANNED + TOKENS + SLOTS,
    REPEATED,
    ACTORS + NOTES + FINDING,
    CARRIERS + PARKED,
)
"""The SQL from each version to the next version. The file stores its version in ``user_version``."""

NEEDS: Final = (3, 38, 0)
"""The oldest SQLite version that works: STRICT tables came with 3.37, and 3.38 always has JSON functions."""


def check_library(version: tuple[int, ...] = sqlite3.sqlite_version_info) -> None:
    """Refuse a SQLite library that is too old.

    Raises:
        JournalError: The library is too old. The message names its version and the version that a journal needs.
    """
    if version < NEEDS:
        have, need = (".".join(map(str, each)) for each in (version, NEEDS))
        raise JournalError(
            f"this Python uses SQLite {have}, and a journal needs {need} or later. Use a newer Python, "
            f"or have it load a newer libsqlite3"
        )


def version_of(connection: sqlite3.Connection, path: str) -> int:
    """The schema version of a file. 0 if the file is empty.

    Raises:
        JournalError: The file is not a journal, or is a journal of a later version.
    """
    # One transaction for all: another process may be creating the file at this moment.
    own = not connection.in_transaction
    if own:
        connection.execute("BEGIN")
    try:
        (objects,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        (application_id,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
    finally:
        if own and connection.in_transaction:
            connection.execute("ROLLBACK")
    if application_id == APPLICATION_ID and version > len(STEPS):
        raise JournalError(
            f"the journal {path!r} was written by a later fsm_mediator: its schema has version {version}, and this one "
            f"knows {len(STEPS)}. Upgrade fsm_mediator"
        )
    if application_id == APPLICATION_ID and version:
        return int(version)
    if application_id or version or objects:
        raise JournalError(
            f"{path!r} is a SQLite file of another application, and no journal. Name another file for the journal"
        )
    return 0


def migrate(connection: sqlite3.Connection, path: str) -> None:
    """Migrate the file to the newest version, in one transaction. Other processes may migrate it at the same time.

    Raises:
        JournalError: The file is not a journal, or is a journal of a later version.
        sqlite3.Error: The file cannot be read or written.
    """
    if version_of(connection, path) == len(STEPS):
        return
    # A step may build a table again and rename it: with foreign keys off, see https://sqlite.org/lang_altertable.html.
    connection.execute("PRAGMA foreign_keys=OFF")
    connection.execute("BEGIN IMMEDIATE")
    try:
        for step in STEPS[version_of(connection, path) :]:
            for statement in _statements(step):
                connection.execute(statement)
        broken = connection.execute("PRAGMA foreign_key_check").fetchone()
        if broken is not None:
            raise JournalError(
                f"the journal {path!r} could not be migrated: a row of {broken[0]!r} refers to a missing row. "
                f"It was left as it is; please report it"
            )
        connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version={len(STEPS)}")
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _statements(script: str) -> list[str]:
    # Connection.executescript would end the transaction first.
    statements, pending = [], ""
    for piece in script.split(";")[:-1]:
        pending += piece + ";"
        if sqlite3.complete_statement(pending):  # skips a semicolon within a comment, a text or a trigger
            statements.append(pending)
            pending = ""
    return statements
