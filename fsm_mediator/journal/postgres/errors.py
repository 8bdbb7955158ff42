"""Errors of PostgreSQL as a `JournalError`. The message says what happened, where, and what to do next.

Every exception of ``psycopg`` leaves the journal through `to_journal_error`.
"""

from __future__ import annotations

from typing import Final

import msgspec
import psycopg

from fsm_mediator.errors import JournalError, LeaseLostError

ERRORS: Final = (psycopg.Error, UnicodeError, msgspec.MsgspecError)
"""The errors of psycopg and msgspec, and Python's error for a text that cannot be encoded."""

RETRIED: Final = (psycopg.errors.UniqueViolation, psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure)
"""The errors of a transaction that conflicted with another one. The transaction was rolled back and can be repeated
at once.
"""

_MIGRATE: Final = "`fsm-mediator migrate` makes it; its --sql prints the statements for somebody who may execute them"

# SQLSTATE or its class (https://www.postgresql.org/docs/current/errcodes-appendix.html): what happened, the next move.
_WORDS: Final[dict[str, tuple[str, str]]] = {
    "28": ("the server refuses this user, or the password", "check user and password, the password file, pg_hba.conf"),
    "3D": ("there is no database of this name", "create it, or name another one"),
    "42501": ("this user may not", "grant the user what docs/scaling.md lists"),
    "42P01": ("a table is missing", _MIGRATE),
    "3F": ("the schema is missing", _MIGRATE),
    "25006": ("the server is read-only: a standby", "name the primary; for reading alone, open it with read_only=True"),
    "25P03": (
        "its transaction waited for this process for longer than the lease, and the server ended it",
        "try again",
    ),
    "53100": ("the server's disk is full", "make room, then try again"),
    "53300": ("the server has no connection left", "raise max_connections, lower most_connections, or use PgBouncer"),
    "40": ("other transactions were in its way", "try again"),
    "57P": ("the server stops, starts, or ended the connection", "try again"),
}


def to_journal_error(error: BaseException, shown: str, doing: str) -> JournalError:
    """Return *error* as a `JournalError`.

    Args:
        error: The error of psycopg.
        shown: The journal's URL without secrets.
        doing: The action that failed: ``opened``, ``read``, ``written``.
    """
    state = (error.sqlstate if isinstance(error, psycopg.Error) else None) or ""
    words = next((_WORDS[key] for key in (state, state[:3], state[:2]) if key in _WORDS), None)
    if words is None and isinstance(error, psycopg.OperationalError):
        after = " (whether the last commit was made is not known)" if doing == "written" else ""
        words = f"the server cannot be reached, or the connection was cut{after}", "see whether it runs; then try again"
    what, move = words or ("PostgreSQL refuses it", "this should not happen: please report it")
    detail = " ".join(str(error).split())
    wrapped = JournalError(f"the journal {shown!r} could not be {doing}: {what} ({state or detail}). Next: {move}")
    wrapped.__cause__ = error
    return wrapped


def unknown_driver(driver_id: str | None) -> LeaseLostError:
    """The error for a driver that the journal does not know. Such a driver cannot own executions."""
    return LeaseLostError(
        f"the journal does not know the driver {driver_id!r}: it was never enlisted, or was dismissed, and can own "
        f"nothing. Enlist it; nothing was written"
    )
