"""Resealing: seals every text of a journal under the first key of its cipher, so that old keys can be removed.

A text that another key sealed is opened and sealed again. A plain text is sealed. A row is written only if it has not
changed since it was read, so drivers may run at the same time. If the process is killed, a second call completes the
work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from fsm_mediator.ciphers import CannotOpenError, Cipher
from fsm_mediator.errors import DefinitionError, JournalError
from fsm_mediator.journal.note_rows import about_batch, about_note
from fsm_mediator.journal.notes import BATCH
from fsm_mediator.journal.rows import UNREADABLE_AS, Row, about_item, about_record
from fsm_mediator.journal.sealing import key_of, reseal, reseal_details

AT_ONCE: Final = 200
"""The number of rows that are read together, and written in one transaction."""


class Resealed(NamedTuple):
    """The result of `ResealingJournal.reseal`.

    Attributes:
        changed: The number of rows that were sealed again.
        unopened: The number of texts that could not be opened, by the id of the key that sealed them. Damaged texts
            count under an empty id.
    """

    changed: int
    unopened: dict[str, int]


class ResealingJournal(Protocol):
    """A journal with a cipher that can seal its texts again."""

    def reseal(self, advance: Callable[[int], object] = int) -> Resealed:
        """Seal all texts under the first key of the cipher. Texts that this key has already sealed are not changed.

        *advance* is called several times, with the number of rows that were read since the last call.

        Raises:
            DefinitionError: There is no cipher, or the cipher does not say which key seals.
        """


def for_resealing(journal: Any) -> ResealingJournal:
    """Return *journal* as a `ResealingJournal`.

    Raises:
        JournalError: *journal* is not a `ResealingJournal`.
    """
    if not hasattr(journal, "reseal"):
        raise JournalError(f"a {type(journal).__name__} cannot seal its texts again: it has no method reseal")
    return journal  # type: ignore[no-any-return]


class Sealer:
    """Seals texts again, and counts the texts that no key of the cipher opens.

    Args:
        cipher: The journal's cipher.

    Attributes:
        unopened: The number of texts that could not be opened, by the id of the key that sealed them.

    Raises:
        DefinitionError: There is no cipher, or the cipher does not say which key seals.
    """

    def __init__(self, cipher: Cipher | None) -> None:
        key_ids = getattr(cipher, "key_ids", None)
        if cipher is None or not key_ids:
            raise DefinitionError(
                "reseal needs a cipher with key_ids, such as AesGcm: SQLiteJournal(path, cipher=...), or --cipher"
            )
        self._cipher = cipher
        self._key: str = key_ids[0]
        self.unopened: dict[str, int] = {}

    def text(self, text: str | None, about: str) -> str | None:
        """Return *text*, sealed under the first key. If *text* cannot be opened, it is returned unchanged."""
        return self._tried(reseal, text, about)

    def details(self, text: str, about: str) -> str | None:
        """The details of a record, sealed under the first key. Details that cannot be opened are returned unchanged."""
        return self._tried(reseal_details, text, about)

    def ending(self, text: str | None, about: str) -> str | None:
        """The error that ended planned branches, sealed under the first key.

        If the error's message cannot be opened, *text* is returned unchanged.
        """
        if text is None:
            return None
        kind, message = msgspec.json.decode(text, type=tuple[str, str])
        sealed = self.text(message, about)
        return text if sealed == message else msgspec.json.encode((kind, sealed)).decode()

    def batch(self, value: str) -> str:
        """The value of a note that confirms a batch, with the arguments of the batch sealed under the first key.

        A batch is one verb for many executions. Arguments that cannot be opened are returned unchanged.
        """
        kept = msgspec.json.decode(value)
        arguments = kept["arguments"]
        text = arguments if isinstance(arguments, str) else msgspec.json.encode(arguments).decode()
        kept["arguments"] = sealed = self.text(text, about_batch(kept["batch"]))
        return value if sealed == text else msgspec.json.encode(kept).decode()

    def _tried(self, function: Callable[..., str | None], text: str | None, about: str) -> str | None:
        try:
            return function(text, self._cipher, about, self._key)
        except CannotOpenError:
            key_id = key_of(text or "")
        except UNREADABLE_AS:
            key_id = ""
        self.unopened[key_id] = self.unopened.get(key_id, 0) + 1
        return text


class _Table(NamedTuple):
    """A column with sealed texts, and the statements that read and write this column.

    Attributes:
        keys: The number of columns of the row's key. They are the first columns of *select*.
        select: A statement that reads rows after a key, in order. Its columns are the key, the values that the cipher
            binds to the text, and the sealed text.
        update: A statement that writes the text of a row, by key, if the text has not changed since it was read.
        sealed: A function that returns the text of a row, sealed again.
    """

    keys: int
    select: str
    update: str
    sealed: Callable[[Sealer, Row], str | None]


def _texts(table: str, column: str, about: str, sealed: Callable[[Sealer, Row], str | None]) -> _Table:
    """The `_Table` of a column in a table with a number as its key.

    *about* is the SQL of the columns that the cipher binds to the text.
    """
    key = "execution" if table == "faults" else "number"
    return _Table(
        1,
        f"SELECT t.{key}, {about}, t.{column} FROM journal.{table} t "  # noqa: S608 - names of our own
        f"LEFT JOIN journal.executions e ON e.number = t.execution "
        f"WHERE t.{key} > ? AND t.{column} IS NOT NULL ORDER BY t.{key} LIMIT ?",
        f"UPDATE journal.{table} SET {column} = ? WHERE {key} = ? AND {column} = ?",  # noqa: S608
        sealed,
    )


def _details(table: str, number: str, column: str, about: str, sealed: Callable[[Sealer, Row], str | None]) -> _Table:
    """The `_Table` of a column in a table with a key of two numbers: the execution, and a number within it."""
    return _Table(
        2,
        f"SELECT t.execution, t.{number}, {about}, t.{column} FROM journal.{table} t "  # noqa: S608 - names of our own
        f"JOIN journal.executions e ON e.number = t.execution "
        f"WHERE (t.execution, t.{number}) > (?, ?) AND t.{column} IS NOT NULL "
        f"ORDER BY t.execution, t.{number} LIMIT ?",
        f"UPDATE journal.{table} SET {column} = ? WHERE execution = ? AND {number} = ? AND {column} = ?",  # noqa: S608
        sealed,
    )


TABLES: Final = (
    _details(
        "records", "seq", "details", "e.saga_id", lambda seals, row: seals.details(row[3], about_record(row[2], row[1]))
    ),
    _details(
        "planned", "number", "details", "t.saga_id", lambda seals, row: seals.details(row[3], about_record(row[2], 0))
    ),
    _details("planned", "number", "ended", "e.saga_id", lambda seals, row: seals.ending(row[3], f"{row[2]}/planned")),
    _texts("inbox", "value", "e.saga_id, t.name", lambda seals, row: seals.text(row[3], about_item(row[1], row[2]))),
    _texts("inbox", "reason", "e.saga_id, t.name", lambda seals, row: seals.text(row[3], about_item(row[1], row[2]))),
    _texts("notes", "reason", "e.saga_id", lambda seals, row: seals.text(row[2], about_note(row[1]))),
    _texts("notes", "value", "t.kind", lambda seals, row: seals.batch(row[2]) if row[1] == BATCH else row[2]),
    _texts("faults", "message", "e.saga_id", lambda seals, row: seals.text(row[2], f"{row[1]}/fault")),
    _Table(
        1,
        "SELECT number, name, refusal FROM journal.answers WHERE number > ? AND refusal IS NOT NULL "
        "ORDER BY number LIMIT ?",
        "UPDATE journal.answers SET refusal = ? WHERE number = ? AND refusal = ?",
        lambda seals, row: seals.text(row[2], row[1]),
    ),
)
"""All columns with sealed texts in a SQLite or PostgreSQL journal."""


def reseal_all(
    cipher: Cipher | None,
    read: Callable[[str, Sequence[Any]], Iterable[Row]],
    write: Callable[[str, Sequence[Row]], object],
    advance: Callable[[int], object],
) -> Resealed:
    """Seal all texts of a database again. Returns the number of changed rows, and the texts that could not be opened.

    Args:
        cipher: The journal's cipher.
        read: Returns the rows of a statement. In the statement, parameters are written ``?``, and tables
            ``journal.NAME``.
        write: Executes a statement once for each row of parameters, in one transaction.
        advance: Called several times, with the number of rows that were read since its last call.
    """
    sealer, changed = Sealer(cipher), 0
    for table in TABLES:
        after: Sequence[int] = (-1,) * table.keys
        while rows := list(read(table.select, (*after, AT_ONCE))):
            sealed = [(table.sealed(sealer, row), row) for row in rows]
            changes = [(text, *row[: table.keys], row[-1]) for text, row in sealed if text != row[-1]]
            if changes:
                write(table.update, changes)
            changed += len(changes)
            after = rows[-1][: table.keys]
            advance(len(rows))
    return Resealed(changed, sealer.unopened)
