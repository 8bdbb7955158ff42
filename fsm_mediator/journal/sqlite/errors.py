"""Errors of SQLite as a `JournalError`. The message says what happened, where, and what to do next.

Every exception of ``sqlite3`` leaves the journal through `to_journal_error`.
"""

from __future__ import annotations

import sqlite3
from typing import Final

import msgspec

from fsm_mediator.errors import JournalError

_RESTORE: Final = "restore it from a backup; what can still be read: sqlite3 FILE .recover"

# Primary result codes (https://sqlite.org/rescode.html): what happened, and the next move.
_WORDS: Final[dict[int, tuple[str, str]]] = {
    sqlite3.SQLITE_BUSY: (
        "another process kept it locked for longer than {busy_timeout:g} seconds",
        "try again; if it stays so, find who holds it (a shell with an open transaction?), or raise busy_timeout",
    ),
    sqlite3.SQLITE_LOCKED: ("a table in it is locked", "try again"),
    sqlite3.SQLITE_FULL: ("the disk is full, or a limit of its size is reached", "make room, then try again"),
    sqlite3.SQLITE_READONLY: (
        "the file, its directory or its file system is read-only for this user",
        "mend the permissions of the directory and of the files whose names begin with the journal's",
    ),
    sqlite3.SQLITE_PERM: ("this user may not", "mend the permissions"),
    sqlite3.SQLITE_AUTH: ("this user may not", "mend the permissions"),
    sqlite3.SQLITE_CANTOPEN: (
        "the file, or one that SQLite keeps beside it (-wal, -shm), cannot be opened",
        "mend the permissions of the directory, and look whether too many files are open",
    ),
    sqlite3.SQLITE_IOERR: ("the disk failed, or is full", "look into the system's log; make room; then try again"),
    sqlite3.SQLITE_CORRUPT: ("the file is damaged", _RESTORE),
    sqlite3.SQLITE_NOTADB: (
        "it is not a SQLite file, or its beginning was overwritten",
        "name another file, or " + _RESTORE,
    ),
    sqlite3.SQLITE_NOMEM: ("memory is short", "try again"),
    sqlite3.SQLITE_TOOBIG: ("a value is larger than SQLite takes", "keep large things elsewhere, and pass their name"),
}

# Errors of one statement. They do not affect its transaction.
_OF_ONE_STATEMENT: Final = frozenset(
    (sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_CORRUPT)
)

ERRORS: Final = (sqlite3.Error, sqlite3.Warning, msgspec.MsgspecError, OverflowError, ValueError, TypeError)
"""The errors of ``sqlite3`` and ``msgspec``, and Python's errors for a parameter that cannot be bound."""


def to_journal_error(error: BaseException, path: str, doing: str, busy_timeout: float = 0.0) -> JournalError:
    """Return *error* as a `JournalError`.

    Args:
        error: The error of SQLite, or of decoding a row.
        path: The journal's file.
        doing: The action that failed: ``opened``, ``read``, ``written``.
        busy_timeout: The number of seconds for which SQLite waited for a lock.
    """
    code = getattr(error, "sqlite_errorcode", None) or 0
    if isinstance(error, msgspec.MsgspecError) or (not code and "decode to UTF-8" in str(error)):
        code = sqlite3.SQLITE_CORRUPT
    name = getattr(error, "sqlite_errorname", None) or type(error).__name__
    if code & 0xFF in _WORDS:
        what, move = _WORDS[code & 0xFF]
        what = what.format(busy_timeout=busy_timeout)
    else:
        what, move = str(error), "this should not happen: please report it"
    move = f"Nothing was written; {move}" if doing == "written" else move[0].upper() + move[1:]
    wrapped = JournalError(f"the journal {path!r} could not be {doing}: {what} ({name}). {move}")
    wrapped.__cause__ = error
    return wrapped


def is_busy(error: BaseException) -> bool:
    """Whether *error* says that another connection holds the lock."""
    return (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF == sqlite3.SQLITE_BUSY


def is_statement_error(error: BaseException) -> bool:
    """Whether *error* affects only one job of a transaction, not the whole transaction."""
    if not isinstance(error, sqlite3.Error):
        return True
    code = getattr(error, "sqlite_errorcode", None)
    return code is None or code & 0xFF in _OF_ONE_STATEMENT
