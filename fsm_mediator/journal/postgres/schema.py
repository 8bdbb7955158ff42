"""The tables of a PostgreSQL journal, and their migration to newer versions.

`STEPS` has all versions, as in the SQLite journal: a released step is never edited, and a new version adds a step.
Tables are written as ``journal.executions``; `qualified` replaces ``journal`` by the name of the schema.

An execution's row has its last state and the number of its last record. Therefore a single statement can open an
execution or continue it: the statement checks the row, writes the records and updates the row. `fillfactor` leaves
room on each page: an update that changes no indexed column then needs no new index entry (a HOT update). Records have
no foreign key to executions, because each insert would then lock the execution's row. Values are text, because
``jsonb`` refuses the character NUL.

The journal uses one clock, the function ``now_seconds`` in the database. This clock is never compared with the clocks
of workers.
"""

# ruff: noqa: S608 - the only thing put into a statement is the name of the schema, which is checked

from __future__ import annotations

import functools
import zlib
from collections.abc import Sequence
from typing import Any, Final

import psycopg

from fsm_mediator.errors import DefinitionError, JournalError

REPEATED: Final = """
    -- Whether the owner claimed it from a dead driver.
    ALTER TABLE journal.executions ADD COLUMN abandoned boolean NOT NULL DEFAULT false;

    -- Calls that are recognised when they are repeated.
    CREATE TABLE journal.posted (token bigint PRIMARY KEY, execution bigint NOT NULL);
    CREATE INDEX posted_to ON journal.posted (execution);
    CREATE TABLE journal.pruned (token bigint PRIMARY KEY, deleted int NOT NULL, at float8 NOT NULL);
    """

SLOTS: Final = """
    -- How many attempts at a time each driver allows.
    CREATE TABLE journal.limits (
        name text NOT NULL,
        driver int NOT NULL REFERENCES journal.drivers ON DELETE CASCADE,
        most bigint NOT NULL,
        PRIMARY KEY (name, driver)
    );

    -- Attempts that have a slot of a limit, or queue for one, in the order of arrival.
    CREATE TABLE journal.slots (
        number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        execution bigint NOT NULL UNIQUE,
        name text NOT NULL,
        epoch int NOT NULL, -- in which it was asked for; in a later one it does not count
        begun boolean NOT NULL, -- it has its slot; if not, it queues
        overtaken int NOT NULL DEFAULT 0, -- how many later attempts began first, while a slot was free for it
        ignored_at float8 NOT NULL DEFAULT 'Infinity' -- from when on others leave no slot for it, until it asks again
    );
    CREATE INDEX slots_by_name ON journal.slots (name, begun, number);
    """

PLANNED: Final = """
    -- Branches of large groups that are no executions yet: see `Plan` in ``journal/planning.py``.
    CREATE TABLE journal.planned (
        execution bigint NOT NULL, -- whose group it is
        number int NOT NULL, -- in the group
        saga_id text NOT NULL,
        saga text NOT NULL,
        version text NOT NULL,
        fingerprint text NOT NULL,
        deadline_at float8,
        dormant boolean NOT NULL,
        at float8 NOT NULL,
        details text NOT NULL, -- of its record 0
        ended text, -- JSON: type and message of the error with which it ended without being created
        PRIMARY KEY (execution, number)
    );
    """

CHECKS: Final = """
    CREATE FUNCTION journal.is_json(value text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS '
        BEGIN
            PERFORM value::json;
            RETURN true;
        EXCEPTION WHEN others THEN
            RETURN false;
        END';
    """

CLAIMS: Final = """
    -- Executions without an owner, in the order in which they are claimed; those with one, by owner.
    CREATE INDEX to_claim ON journal.executions (attention, number) WHERE ended_at IS NULL AND driver IS NULL;
    DROP INDEX journal.in_hand;
    CREATE INDEX in_hand ON journal.executions (driver, number) WHERE ended_at IS NULL AND driver IS NOT NULL;
    """

FOLLOWING: Final = """
    -- The transaction that wrote the record, for all who follow the journal. Its index is small: numbers only grow.
    ALTER TABLE journal.records ADD COLUMN transaction bigint NOT NULL DEFAULT txid_current();
    CREATE INDEX changes ON journal.records USING brin (transaction) WITH (pages_per_range = 8, autosummarize = on);
    """

ACTORS: Final = """
    -- The person or program that says what an item says.
    ALTER TABLE journal.inbox ADD COLUMN actor text;
    """

CARRIERS: Final = """
    -- The context of the trace that an item was said in, as JSON.
    ALTER TABLE journal.inbox ADD COLUMN carrier text;
    """

NOTES: Final = """
    -- What is said about executions, sagas and steps without moving an execution: see ``journal/notes.py``.
    CREATE TABLE journal.notes (
        number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        execution bigint, -- NULL: it is about a saga or a step
        saga text,
        step text,
        kind text NOT NULL,
        value text, -- JSON
        actor text,
        reason text,
        at float8 NOT NULL,
        token bigint UNIQUE -- of the call that added it
    );
    CREATE INDEX notes_of ON journal.notes (execution, number) WHERE execution IS NOT NULL;
    CREATE INDEX notes_by_kind ON journal.notes (kind, number);
    """

LATER_ITEMS: Final = """
    -- The newest items of an inbox are read without the earlier ones: that of a large group is long.
    DROP INDEX journal.inbox_of;
    CREATE INDEX inbox_of ON journal.inbox (execution, number);
    """

FINDING: Final = """
    -- Names with JSON scalars, by which executions are found.
    CREATE TABLE journal.attributes (
        execution bigint NOT NULL,
        name text NOT NULL,
        value text NOT NULL, -- JSON
        PRIMARY KEY (execution, name)
    );
    CREATE INDEX attributes_by_value ON journal.attributes (name, value, execution);

    -- Ended executions are found by saga, by failure and by time. Only the commit that ends an execution writes to
    -- these indexes.
    CREATE INDEX ended_by_saga ON journal.executions (saga, number) WHERE ended_at IS NOT NULL;
    CREATE INDEX ended_in_failed ON journal.executions (number) WHERE ended_at IS NOT NULL AND state = 'failed';
    CREATE INDEX ended_by_time ON journal.executions (ended_at) WHERE ended_at IS NOT NULL;
    """

FAILED: Final = """
    -- An index whose condition names `state` has a new entry made for every update of a row: `failed` changes once.
    ALTER TABLE journal.executions ADD COLUMN failed boolean NOT NULL GENERATED ALWAYS AS (state = 'failed') STORED;
    DROP INDEX journal.ended_in_failed;
    CREATE INDEX ended_in_failed ON journal.executions (number) WHERE ended_at IS NOT NULL AND failed;
    """

PARKED: Final = """
    -- The phase of an execution that has not ended and has no owner. Of many executions that wait the few that are
    -- stuck are found by this index. No record of an execution with an owner changes it.
    ALTER TABLE journal.executions ADD COLUMN parked text GENERATED ALWAYS AS (
        CASE WHEN ended_at IS NULL AND driver IS NULL THEN split_part(state, '.', 1) END) STORED;
    CREATE INDEX parked ON journal.executions (parked, number) WHERE parked IS NOT NULL;
    """

COUNTING: Final = """
    -- Executions that were deleted after a follower had begun to count: see `CountedJournal`.
    CREATE TABLE journal.removed (
        transaction bigint NOT NULL DEFAULT txid_current(),
        execution bigint NOT NULL,
        PRIMARY KEY (transaction, execution)
    );
    CREATE TABLE journal.counting (is_on boolean NOT NULL);
    INSERT INTO journal.counting VALUES (false);

    -- The lock on the row of `counting` is held until the deletion commits. So a follower that turns it on waits for
    -- all deletions that were not noted. The function has the rights of its owner: a role that may delete executions
    -- needs no right on these two tables.
    CREATE FUNCTION journal.note_removals() RETURNS trigger
        LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS '
        DECLARE
            noted boolean;
        BEGIN
            SELECT is_on INTO noted FROM journal.counting FOR SHARE;
            IF noted THEN
                INSERT INTO journal.removed (execution) SELECT number FROM gone;
            END IF;
            RETURN NULL;
        END';
    CREATE TRIGGER note_removals AFTER DELETE ON journal.executions
        REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION journal.note_removals();
    """

STEPS: Sequence[str] = (
    """
    CREATE FUNCTION journal.now_seconds() RETURNS float8 LANGUAGE sql VOLATILE
        AS 'SELECT extract(epoch FROM clock_timestamp())::float8';

    -- session_lock: whether the driver's process holds an advisory lock on its number for as long as it is connected.
    CREATE TABLE journal.drivers (
        number int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        id text NOT NULL UNIQUE,
        host text NOT NULL,
        boot_id text NOT NULL,
        pid_namespace text NOT NULL,
        pid int NOT NULL,
        started text NOT NULL,
        beat_at float8 NOT NULL,
        lease float8 NOT NULL,
        session_lock boolean NOT NULL
    );

    -- attention: when a driver should look at it; -Infinity: now; NULL: not by itself.
    -- ended_at: NULL: it has not ended, or a driver owns it.
    CREATE TABLE journal.executions (
        number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        saga_id text NOT NULL UNIQUE,
        saga text NOT NULL,
        version text NOT NULL,
        fingerprint text NOT NULL,
        deadline_at float8,
        parent text,
        state text NOT NULL,
        changed_at float8 NOT NULL,
        seq int NOT NULL,
        epoch int NOT NULL,
        driver text,
        wake_at float8,
        mail int NOT NULL,
        attention float8,
        ended_at float8,
        recoveries int NOT NULL DEFAULT 0,
        recoveries_here int NOT NULL DEFAULT 0,
        last_token bigint -- of the last commit without a record
    ) WITH (fillfactor = 70);
    CREATE INDEX in_hand ON journal.executions (driver, attention) WHERE ended_at IS NULL;
    CREATE INDEX branches ON journal.executions (parent) WHERE parent IS NOT NULL;

    -- Record 0 is the acceptance: its value is the payload.
    CREATE TABLE journal.records (
        execution bigint NOT NULL,
        seq int NOT NULL,
        event text NOT NULL,
        source text NOT NULL,
        target text NOT NULL,
        at float8 NOT NULL,
        details text NOT NULL,
        PRIMARY KEY (execution, seq)
    );

    CREATE TABLE journal.inbox (
        number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        execution bigint NOT NULL,
        kind text NOT NULL,
        name text NOT NULL,
        value text,
        reason text,
        at float8 NOT NULL
    );
    CREATE INDEX inbox_of ON journal.inbox (execution);

    -- Executions that were deleted, so that their ids are not used again.
    CREATE TABLE journal.forgotten (
        saga_id text PRIMARY KEY,
        saga text NOT NULL,
        state text NOT NULL,
        ended_at float8 NOT NULL
    );

    -- What became of verbs (retry, resolve, undo) that were in an inbox.
    CREATE TABLE journal.answers (
        number bigint PRIMARY KEY,
        name text NOT NULL UNIQUE,
        seq int,
        refusal text,
        at float8 NOT NULL
    );

    -- The definitions that drivers have enlisted with: their shapes, as JSON, and who knows them.
    CREATE TABLE journal.shapes (fingerprint text PRIMARY KEY, shape text NOT NULL);
    CREATE TABLE journal.known (
        driver int NOT NULL REFERENCES journal.drivers ON DELETE CASCADE,
        fingerprint text NOT NULL,
        PRIMARY KEY (driver, fingerprint)
    );

    -- Executions that a driver could not decode, for as long as they have this epoch.
    CREATE TABLE journal.faults (
        execution bigint PRIMARY KEY,
        epoch int NOT NULL,
        type text NOT NULL,
        field text NOT NULL,
        message text NOT NULL
    );
    """,
    REPEATED + SLOTS + PLANNED + CHECKS + CLAIMS + FOLLOWING,
    ACTORS + NOTES + LATER_ITEMS + FINDING,
    FAILED,
    CARRIERS + PARKED,
    COUNTING,
)
"""The SQL from each version to the next version. The schema stores its version in the table ``version``."""


LONGEST: Final = 63
"""The maximum number of characters of a name in PostgreSQL."""


def lock_class(schema: str) -> int:
    """The first key of this schema's advisory locks. The second key is the number of a driver, or 0 for migrations."""
    return zlib.crc32(f"fsm_mediator.{schema}".encode()) & 0x7FFFFFFF


def check_schema(schema: str, parameter: str = "schema") -> str:
    """Return *schema* if it can be the name of a schema. *parameter* is the argument that the error names.

    Raises:
        DefinitionError: The name is empty, too long for PostgreSQL, or has a character other than letters, digits
            and ``_``.
    """
    if not isinstance(schema, str) or not schema.isidentifier() or not schema.isascii() or len(schema) > LONGEST:
        raise DefinitionError(
            f"PostgresJournal: {parameter}={schema!r} must be a name of letters, digits and _, at most {LONGEST} of "
            f"them"
        )
    return schema


def stats_schema_of(schema: str, stats_schema: str | None) -> str:
    """The name of the schema of a journal's side store. None for *stats_schema* gives a name made from *schema*.

    Raises:
        DefinitionError: *stats_schema* cannot be the name of a schema, or is the schema of the journal.
    """
    if stats_schema is None:
        name = f"{schema}_stats"
        return name if len(name) <= LONGEST else f"{schema[: LONGEST - 15]}_{zlib.crc32(schema.encode()):08x}_stats"
    if check_schema(stats_schema, "stats_schema") == schema:
        raise DefinitionError(
            f"PostgresJournal: stats_schema={stats_schema!r} is the schema of the journal; the side store needs a "
            f"schema of its own"
        )
    return stats_schema


@functools.lru_cache(maxsize=1024)
def qualified(statement: str, schema: str) -> str:
    """Return *statement* with the name of the schema in place of ``journal``."""
    return statement.replace("journal.", f'"{schema}".')


def script(schema: str, version: int = 0) -> str:
    """The SQL that migrates the schema from *version* to the newest version. The owner of the schema can execute it."""
    create = (
        f'CREATE SCHEMA IF NOT EXISTS "{check_schema(schema)}";\nCREATE TABLE journal.version (number int NOT NULL);'
    )
    steps = [*STEPS[version:], f"DELETE FROM journal.version; INSERT INTO journal.version VALUES ({len(STEPS)});"]
    text = "\n".join((f"SELECT pg_advisory_xact_lock({lock_class(schema)}, 0);", "" if version else create, *steps))
    return f"BEGIN;\n{qualified(text, schema)}\nCOMMIT;\n"


def version_of(connection: psycopg.Connection[Any], schema: str) -> int:
    """The version of the journal in the schema. 0 if the schema has no journal.

    Raises:
        JournalError: A later fsm_mediator wrote the schema.
    """
    # to_regclass is not used: in a transaction that waited for a lock, it can still miss a table that it missed
    # before.
    query = "SELECT 1 FROM pg_tables WHERE schemaname = %s AND tablename = 'version'"
    if connection.execute(query, (schema,)).fetchone() is None:
        return 0
    row = connection.execute(qualified("SELECT max(number) FROM journal.version", schema)).fetchone()
    version = int(row[0] or 0) if row else 0
    if version > len(STEPS):
        raise JournalError(
            f"the schema {schema!r} was written by a later fsm_mediator: it has version {version}, and this one knows "
            f"{len(STEPS)}. Upgrade fsm_mediator"
        )
    return version


def migrate(connection: psycopg.Connection[Any], schema: str) -> int:
    """Migrate the schema to the newest version, in one transaction. Returns the version before the migration.

    An advisory lock makes processes that migrate at the same time wait for each other.

    Raises:
        JournalError: A later fsm_mediator wrote the schema.
        psycopg.Error: The schema cannot be read or changed.
    """
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s::int, 0)", (lock_class(schema),))
        version = version_of(connection, schema)
        if version < len(STEPS):
            # psycopg sends several statements at once only if there are no parameters.
            todo = script(schema, version).removeprefix("BEGIN;").removesuffix("COMMIT;\n")
            connection.execute(todo.encode())
    return version
