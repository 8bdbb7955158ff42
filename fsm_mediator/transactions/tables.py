"""The tables of `Transactions` in the user's database, and the statements on them."""

# ruff: noqa: S608 - the names in the statements are checked identifiers; values are always parameters

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, TypedDict

from fsm_mediator.errors import DefinitionError
from fsm_mediator.transactions.databases.base import Dialect

BEGUN: Final = "begun"
"""The state of a key while the transaction of an attempt is open. Only this transaction sees the state."""

DONE: Final = "done"
"""The state of a key after its step took effect."""

TRANSACTION: Final = "this_transaction()"
"""The placeholder in statements for the number of the current transaction."""

BEFORE: Final = "seconds_ago()"
"""The placeholder in statements for the time ``:seconds`` seconds ago."""

SETTLED: Final = "settled()"
"""The placeholder in statements for a condition: no open transaction can still commit a row with a lower number."""

AGE: Final = "age()"
"""The placeholder in statements for the age of the oldest waiting row of the outbox, in seconds."""

NOW: Final = "seconds_now()"
"""The placeholder in statements for the time of the database's clock, in seconds since the epoch."""

_IN_POSTGRES: Final = {
    NOW: "extract(epoch FROM clock_timestamp())::float8",
    TRANSACTION: "pg_current_xact_id()::text",
    BEFORE: "now() - make_interval(secs => :seconds)",
    SETTLED: "written_by < pg_snapshot_xmin(pg_current_snapshot())",
    AGE: "COALESCE(extract(epoch FROM now() - min(at) FILTER (WHERE refused IS NULL))::float8, 0)",
}
_IN_SQLITE: Final = {  # SQLite has no transaction numbers, and needs none: it has only one writer at a time
    NOW: "((julianday('now') - 2440587.5) * 86400.0)",
    TRANSACTION: "''",
    BEFORE: "datetime('now', '-' || :seconds || ' seconds')",
    SETTLED: "TRUE",
    AGE: "COALESCE((julianday('now') - julianday(min(at) FILTER (WHERE refused IS NULL))) * 86400.0, 0)",
}

CLOSED: Final = "closed"
"""The state of a key whose step did not take effect, or was undone.

An attempt can take effect only if its record number is above the fence in the key's row.
"""


class TableNames(TypedDict, total=False):
    """The keyword arguments of `Transactions` that name the tables."""

    table: str
    outbox: str
    schema: str | None


class Tables:
    """The names of the tables of `Transactions`, and the SQL statements on them.

    Args:
        table: The name of the table of keys.
        outbox: The name of the outbox table.
        schema: The schema of both tables on PostgreSQL. None for the first schema of the search path.

    Raises:
        DefinitionError: A name is not a plain identifier.
    """

    def __init__(
        self, table: str = "fsm_mediator_done", outbox: str = "fsm_mediator_outbox", schema: str | None = None
    ) -> None:
        for what, name in (("table", table), ("outbox", outbox), ("schema", schema)):
            if name is not None and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
                raise DefinitionError(f"Transactions: {what} must be a plain identifier, not {name!r}")
        prefix = "" if schema is None else f"{schema}."
        self.schema = schema
        self.names: tuple[str, str, str] = (table, outbox, f"{outbox}_relay")
        self.done: str = prefix + table
        self.outbox: str = prefix + outbox
        self.relay: str = f"{self.outbox}_relay"
        done, outbox, relay = self.done, self.outbox, self.relay
        self.take: str = (
            f"INSERT INTO {done} (key, saga_id, state, fence) VALUES (:key, :saga_id, '{BEGUN}', 0) "
            f"ON CONFLICT (key) DO NOTHING RETURNING {TRANSACTION}"
        )
        self.look: str = f"SELECT state, result, fence FROM {done} WHERE key = :key"
        self.retake: str = f"UPDATE {done} SET state = '{BEGUN}' WHERE key = :key RETURNING {TRANSACTION}"
        self.keep: str = (
            f"UPDATE {done} SET state = '{DONE}', result = :result, at = CURRENT_TIMESTAMP "
            f"WHERE key = :key AND state = '{BEGUN}' AND {TRANSACTION} = :transaction RETURNING key"
        )
        self.close: str = (
            f"INSERT INTO {done} AS known (key, saga_id, state, fence) VALUES (:key, :saga_id, '{CLOSED}', :fence) "
            f"ON CONFLICT (key) DO UPDATE SET "
            f"fence = CASE WHEN known.fence > excluded.fence THEN known.fence ELSE excluded.fence END, "
            f"result = COALESCE(known.result, 'null') RETURNING state, result"
        )  # the returned result is NULL only if the key had no row before
        self.lock_timeout = "SELECT current_setting('lock_timeout'), set_config('lock_timeout', :limit, true)"
        self.undo: str = f"UPDATE {done} SET state = '{CLOSED}', at = CURRENT_TIMESTAMP WHERE key = :key"
        self.old: str = (
            f"SELECT DISTINCT saga_id FROM {done} WHERE at < {BEFORE} AND saga_id > :after "
            f"ORDER BY saga_id LIMIT :limit"
        )
        self.forget: str = f"DELETE FROM {done} WHERE saga_id = :saga_id AND at < {BEFORE} RETURNING key"
        self.put: str = f"INSERT INTO {outbox} (kind, name, key, body) VALUES (:kind, :name, :key, :body)"
        self.waiting: str = (
            f"SELECT number, kind, name, key, body FROM {outbox} "
            f"WHERE number > :after AND refused IS NULL AND {SETTLED} ORDER BY number LIMIT :limit"
        )
        self.passed: str = f"DELETE FROM {outbox} WHERE number = :number"
        self.refuse: str = f"UPDATE {outbox} SET refused = :reason WHERE number = :number"
        self.lease: str = (
            f"INSERT INTO {relay} AS known (what, owner, until) VALUES ('messages', :owner, {NOW} + :seconds) "
            f"ON CONFLICT (what) DO UPDATE SET owner = excluded.owner, until = excluded.until "
            f"WHERE known.until < {NOW} RETURNING owner"
        )
        self.renew: str = f"UPDATE {relay} SET until = {NOW} + :seconds WHERE owner = :owner RETURNING owner"
        self.release: str = f"UPDATE {relay} SET until = 0 WHERE owner = :owner"
        self.lag: str = f"SELECT count(*) - count(refused), count(refused), {AGE} FROM {outbox}"

    @staticmethod
    def in_dialect(statement: str, dialect: Dialect) -> str:
        """*statement* in which SQL of *dialect* replaces the placeholders."""
        for token, meaning in (_IN_POSTGRES if dialect == "postgresql" else _IN_SQLITE).items():
            statement = statement.replace(token, meaning)
        return statement

    def statements(self, dialect: Dialect) -> Sequence[str]:
        """The SQL statements that create the missing tables. They do nothing if the tables exist."""
        number = (
            "bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY"
            if dialect == "postgresql"
            else "integer PRIMARY KEY AUTOINCREMENT"
        )
        written_by = ", written_by xid8 NOT NULL DEFAULT pg_current_xact_id()" if dialect == "postgresql" else ""
        made = [] if self.schema is None or dialect != "postgresql" else [f"CREATE SCHEMA IF NOT EXISTS {self.schema}"]
        at = f"{'timestamptz' if dialect == 'postgresql' else 'text'} NOT NULL DEFAULT CURRENT_TIMESTAMP"
        keys = "key text PRIMARY KEY, saga_id text NOT NULL, state text NOT NULL, result text, fence bigint NOT NULL"
        texts = ", ".join(f"{column} text NOT NULL" for column in ("kind", "name", "key", "body"))
        until = "until double precision NOT NULL"
        return (
            *made,
            f"CREATE TABLE IF NOT EXISTS {self.done} ({keys}, at {at})",
            f"CREATE INDEX IF NOT EXISTS {self.names[0]}_at ON {self.done} (at)",
            f"CREATE TABLE IF NOT EXISTS {self.outbox} (number {number}, {texts}, refused text, at {at}{written_by})",
            f"CREATE TABLE IF NOT EXISTS {self.relay} (what text PRIMARY KEY, owner text NOT NULL, {until})",
        )

    def drops(self) -> Sequence[str]:
        """The SQL statements that drop all tables."""
        return [f"DROP TABLE IF EXISTS {table}" for table in (self.done, self.outbox, self.relay)]
