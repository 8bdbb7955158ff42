"""Converts notes to rows of plain data and back, for journals in a database."""

from __future__ import annotations

import msgspec

from fsm_mediator.ciphers import Cipher
from fsm_mediator.journal.notes import Note, note_text
from fsm_mediator.journal.rows import Row
from fsm_mediator.journal.sealing import seal, unseal
from fsm_mediator.journal.storable import storable


def note_row(note: Note, cipher: Cipher | None) -> Row:
    """A note as a row. The row has neither the note's number nor the execution's number.

    Raises:
        JournalError: The value of the note does not consist of JSON types.
    """
    names = storable(note.saga), storable(note.step), storable(note.kind)
    reason = seal(storable(note.reason), cipher, about_note(note.saga_id))
    return *names, note_text(note), storable(note.actor), reason, note.at


def note_of(row: Row, cipher: Cipher | None) -> Note:
    """The note in *row*, a row of the table ``notes``. Its reason is opened with *cipher*."""
    number, saga_id, saga, step, kind, value, actor, reason, at = row
    decoded = None if value is None else msgspec.json.decode(value)
    return Note(kind, saga_id, saga, step, decoded, actor, unseal(reason, cipher, about_note(saga_id)), at, number)


def about_batch(name: str) -> str:
    """The text to which a cipher binds the arguments of the batch *name*. A batch is one verb for many executions."""
    return f"{name}/batch"


def about_note(saga_id: str | None) -> str:
    """The text to which a cipher binds the reason of a note."""
    return f"{saga_id or ''}/note"
