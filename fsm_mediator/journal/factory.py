"""Opens a `Journal` from the argument ``journal=`` of a mediator."""

from __future__ import annotations

import os
import re

from fsm_mediator.errors import DefinitionError
from fsm_mediator.journal.memory import MemoryJournal
from fsm_mediator.journal.protocol import Journal, is_journal

_SUPPORTED = (
    "A path ('sagas.db'), a URL ('sqlite:///sagas.db' in this directory, 'sqlite:////var/lib/sagas.db' from the root, "
    "'sqlite://' in memory; 'postgresql://app@db/shop'), ':memory:', a Journal, or None for MemoryJournal"
)


def open_journal(journal: Journal | str | os.PathLike[str] | None) -> Journal:
    """Open a journal by a path or URL of a SQLite file, or by a PostgreSQL URL.

    ``:memory:`` and None open a journal in memory.

    A `Journal` is returned unchanged.

    Raises:
        DefinitionError: *journal* is neither a `Journal` nor a path or URL of a journal.
        MissingExtraError: The journal is on PostgreSQL, and psycopg is not installed.
        JournalError: No journal can be opened at that path, or the server cannot be reached.
    """
    if journal is None:
        return MemoryJournal()
    if isinstance(journal, (str, os.PathLike)):
        if is_postgres(spec := os.fspath(journal)):
            from fsm_mediator.journal.postgres import PostgresJournal  # loads psycopg

            return PostgresJournal(spec)
        path = path_of(spec)
        from fsm_mediator.journal.sqlite.journal import SQLiteJournal  # loads sqlite3

        return SQLiteJournal(path)
    if is_journal(journal):
        return journal
    raise DefinitionError(f"journal={journal!r} is not a journal. It can be: {_SUPPORTED}")


def open_for_reading(spec: str | os.PathLike[str]) -> Journal:
    """Open an existing journal by its path or URL, only for reading.

    Raises:
        DefinitionError: *spec* is neither a path nor a URL of a journal.
        MissingExtraError: The journal is on PostgreSQL, and psycopg is not installed.
        JournalError: There is no journal at *spec*.
    """
    if is_postgres(spec := os.fspath(spec)):
        from fsm_mediator.journal.postgres import PostgresJournal  # loads psycopg

        return PostgresJournal(spec, read_only=True)
    from fsm_mediator.journal.sqlite.journal import SQLiteJournal  # loads sqlite3

    return SQLiteJournal(path_of(spec), read_only=True)


def is_postgres(spec: str) -> bool:
    """Whether a journal's URL names a PostgreSQL database."""
    return isinstance(spec, str) and spec.startswith(("postgresql://", "postgres://"))


def without_password(spec: str) -> str:
    """Return *spec*, a path or URL of any kind, without the parts that can be a password. For display."""
    scheme, separator, rest = spec.partition("://")
    if not separator:
        return spec
    before_host, at, after = rest.rpartition("@")
    user = before_host.partition(":")[0] + at if at else ""
    return f"{scheme}://{user}{re.sub('[?&][^?&=]*passw[^&]*', '', after)}"


def path_of(spec: str) -> str:
    """The file path in a journal's path or URL. ``:memory:`` for a journal in memory.

    Raises:
        DefinitionError: *spec* is empty, or is a URL of another scheme.
    """
    scheme, separator, rest = spec.partition("://")
    if not separator:
        if not spec:
            raise DefinitionError(f"journal={spec!r} names no file. It can be: {_SUPPORTED}")
        return spec
    if scheme != "sqlite":
        shown = without_password(spec)
        raise DefinitionError(f"journal={shown!r}: there is no journal for {scheme + '://'!r}. It can be: {_SUPPORTED}")
    if rest in ("", "/", "/:memory:"):
        return ":memory:"
    if not rest.startswith("/"):
        raise DefinitionError(
            f"journal={spec!r}: a file's URL has three slashes, or four from the root: 'sqlite:///{rest}'"
        )
    return rest[1:]
