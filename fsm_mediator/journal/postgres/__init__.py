"""The journal in a PostgreSQL database. It needs the extra ``postgres``."""

from __future__ import annotations

from fsm_mediator.errors import MissingExtraError

try:
    import psycopg  # noqa: F401
except ImportError as _error:  # also if psycopg finds no libpq
    raise MissingExtraError("the journal on PostgreSQL", "postgres") from _error

from fsm_mediator.journal.postgres.journal import PostgresJournal

__all__ = ["PostgresJournal"]
