"""Opens a `Journal` from the argument ``journal=`` of a mediator."""

from __future__ import annotations

import os

from fsm_mediator.errors import DefinitionError
from fsm_mediator.journal.memory import MemoryJournal
from fsm_mediator.journal.protocol import Journal, is_journal

_SUPPORTED = (
    "A path ('sagas.db'), a URL ('sqlite:///sagas.db' in this directory, 'sqlite:////var/lib/sagas.db' from the root, "
    "'sqlite://' in memory), ':memory:', a Journal, or None for MemoryJournal"
)


def open_journal(journal: Journal | str | os.PathLike[str] | None) -> Journal:
    """Open a path or URL of a SQLite file, ``:memory:``, or None for memory; a `Journal` is returned as it is.

    Raises:
        DefinitionError: *journal* is none of these.
        JournalError: There can be no journal at that path.
    """
    if journal is None:
        return MemoryJournal()
    if isinstance(journal, (str, os.PathLike)):
        path = path_of(os.fspath(journal))
        from fsm_mediator.journal.sqlite.journal import SQLiteJournal  # loads sqlite3

        return SQLiteJournal(path)
    if is_journal(journal):
        return journal
    raise DefinitionError(f"journal={journal!r} is no journal. It can be: {_SUPPORTED}")


def path_of(spec: str) -> str:
    """The file that a journal's path or URL names; ``:memory:`` for a journal in memory.

    Raises:
        DefinitionError: *spec* is empty, or a URL of another scheme.
    """
    scheme, separator, rest = spec.partition("://")
    if not separator:
        if not spec:
            raise DefinitionError(f"journal={spec!r} names no file. It can be: {_SUPPORTED}")
        return spec
    if scheme != "sqlite":
        raise DefinitionError(f"journal={spec!r}: there is no journal for {scheme + '://'!r}. It can be: {_SUPPORTED}")
    if rest in ("", "/", "/:memory:"):
        return ":memory:"
    if not rest.startswith("/"):
        raise DefinitionError(
            f"journal={spec!r}: a file's URL has three slashes, or four from the root: 'sqlite:///{rest}'"
        )
    return rest[1:]
