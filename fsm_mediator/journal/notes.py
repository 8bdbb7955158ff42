"""Notes: texts about an execution, a saga or a step. A note never changes the state of an execution.

Notes are not records: neither a replay nor a check of conformance reads them. A note can be added without a claim or
an epoch. Notes are never changed. Notes about an execution are deleted together with the execution.
"""

from __future__ import annotations

from typing import Any, Final, Protocol, TypeGuard

import msgspec

from fsm_mediator.errors import JournalError


class Note(msgspec.Struct, frozen=True):
    """One note.

    Attributes:
        kind: The kind of the note: a constant of this module, such as `HOLD`.
        saga_id: The execution that the note is about. None if it is about a saga or a step.
        saga: The name of the saga that the note is about. None if it is about an execution.
        step: The path or name of the step that the note is about: in *saga*, or in every saga if *saga* is None. None
            if the note is about no step.
        value: More data of the note, as JSON types.
        actor: The name of the person or program that wrote the note.
        reason: The reason, as the actor wrote it.
        at: When the note was written, in seconds since the epoch.
        number: The number that the journal gave the note, in the order of writing.
    """

    kind: str
    saga_id: str | None = None
    saga: str | None = None
    step: str | None = None
    value: Any = None
    actor: str | None = None
    reason: str | None = None
    at: float = 0.0
    number: int = 0


class NotesJournal(Protocol):
    """A journal that keeps notes.

    A journal without notes can drive sagas, but features that need notes report an error.
    """

    def add_note(self, note: Note, *, token: int = 0) -> int:
        """Write *note* durably. Returns the note's number.

        Returns 0 and writes nothing if the execution does not exist.

        A repeated call is recognised by its *token*: see `new_token`. With token 0, a repeated call writes a second
        note.
        """

    def notes(
        self, saga_id: str | None = None, *, kind: str | None = None, after: int = 0, limit: int | None = None
    ) -> list[Note]:
        """Notes, in the order of writing.

        Args:
            saga_id: Only notes about this execution. None for notes about anything.
            kind: Only notes of this kind.
            after: Only notes with a higher number.
            limit: The maximum number of notes that are returned.
        """


def keeps_notes(journal: object) -> TypeGuard[NotesJournal]:
    """Whether *journal* keeps notes. ``__getattr__`` may provide its methods."""
    return hasattr(journal, "add_note") and hasattr(journal, "notes")


def for_notes(journal: object) -> NotesJournal:
    """Return *journal* as a `NotesJournal`.

    Raises:
        JournalError: The journal keeps no notes.
    """
    if not keeps_notes(journal):
        raise JournalError(
            f"the journal {type(journal).__name__} keeps no notes: it lacks add_note and notes. "
            f"Use a MemoryJournal, SQLiteJournal or PostgresJournal"
        )
    return journal


def notes_of(journal: object, saga_id: str) -> list[Note]:
    """The notes about an execution. Empty if the journal keeps no notes."""
    return journal.notes(saga_id) if keeps_notes(journal) else []


ATTRIBUTES: Final = "attributes"
"""The kind of a note whose value sets attributes of its execution, by name. A value of None removes the attribute."""

HOLD: Final = "hold"
UNHOLD: Final = "unhold"
"""The kinds of notes that hold an execution, a saga or a step, or lift the hold: see ``mediator/holding.py``."""

AGAIN: Final = "run_again"
AGAIN_OF: Final = "runs_again"
"""The kinds of two notes: one links an execution to its repetition, the other links the repetition to the execution."""

ACKNOWLEDGED: Final = "acknowledged"
"""The kind of a note which says that a person has seen the alerts of an execution: see ``acknowledging.py``."""

BATCH: Final = "batch"
BATCH_RESULT: Final = "batch_result"
"""The kinds of two notes: one has ids of a batch, the other has the result of the batch's verb for one id. See
``mediator/bulk.py``.
"""

BATCH_CLAIM: Final = "batch_claim"
"""The kind of a note that names the driver that executes a batch: see ``mediator/bulk_claims.py``."""

ENCODED: Final = msgspec.json.Encoder().encode
"""Encodes the value of a note as JSON. No hooks are needed, because the value never has a user's type."""


def note_text(note: Note) -> str | None:
    """The value of *note* as JSON text. None if it has no value.

    Raises:
        JournalError: The value does not consist of JSON types.
    """
    if note.value is None:
        return None
    try:
        return ENCODED(note.value).decode()
    except (TypeError, ValueError, RecursionError) as error:
        raise JournalError(f"a note of kind {note.kind!r} has a value that is not JSON: {error}") from error
