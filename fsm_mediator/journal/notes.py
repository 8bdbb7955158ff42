"""Notes: words about an execution, a saga or a step. No note moves an execution.

Records stay transitions: no fold and no check of conformance reads a note. A note takes no claim and no epoch. Notes
are only added; those about an execution are deleted with it.
"""

from __future__ import annotations

from typing import Any, Final, Protocol, TypeGuard

import msgspec

from fsm_mediator.errors import JournalError


class Note(msgspec.Struct, frozen=True):
    """One note.

    Attributes:
        kind: The kind of note.
        saga_id: The execution that it is about; None: it is about a saga or a step.
        saga: The saga that it is about, by name; None: it is about an execution.
        step: The path or name of the step that it is about, in *saga*, or in any saga without one; None: about no step.
        value: More data of the note, as JSON types.
        actor: The name of the person or program that said it.
        reason: Why, in its words.
        at: When, in seconds since the epoch.
        number: Given by the journal, in the order of writing.
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
    """A journal that keeps notes. A journal without it drives sagas; what needs notes says so."""

    def add_note(self, note: Note, *, token: int = 0) -> int:
        """Keep *note*, durably. Returns its number; 0, and nothing is done: there is no such execution.

        *token*: by which the call is recognised when it is repeated, see `new_token`; 0: it is not.
        """

    def notes(
        self, saga_id: str | None = None, *, kind: str | None = None, after: int = 0, limit: int | None = None
    ) -> list[Note]:
        """Notes, in the order of writing.

        Args:
            saga_id: Those about this execution; None: about anything.
            kind: Only those of this kind.
            after: Only those with a higher number.
            limit: At most so many.
        """


def keeps_notes(journal: object) -> TypeGuard[NotesJournal]:
    """Whether *journal* keeps notes, if only through ``__getattr__``."""
    return hasattr(journal, "add_note") and hasattr(journal, "notes")


def for_notes(journal: object) -> NotesJournal:
    """*journal*, as a `NotesJournal`.

    Raises:
        JournalError: It keeps no notes.
    """
    if not keeps_notes(journal):
        raise JournalError(
            f"the journal {type(journal).__name__} keeps no notes: it lacks add_note and notes. Nothing can be said "
            f"about an execution there besides what moves it; use a MemoryJournal, SQLiteJournal or PostgresJournal"
        )
    return journal


def notes_of(journal: object, saga_id: str) -> list[Note]:
    """The notes about an execution; none where the journal keeps none."""
    return journal.notes(saga_id) if keeps_notes(journal) else []


ATTRIBUTES: Final = "attributes"
"""The kind of a note whose value sets attributes of its execution, by name, or with None removes them."""

HOLD: Final = "hold"
UNHOLD: Final = "unhold"
"""The kinds of notes that hold an execution, a saga or a step, and lift the hold: see ``mediator/holding.py``."""

AGAIN: Final = "run_again"
AGAIN_OF: Final = "runs_again"
"""The kinds of the two notes that link an execution and its repetition to each other."""

ACKNOWLEDGED: Final = "acknowledged"
"""The kind of a note by which a person has seen the alerts of an execution: see ``acknowledging.py``."""

BATCH: Final = "batch"
BATCH_RESULT: Final = "batch_result"
"""The kinds of notes that keep the ids of a batch, and what came of the verb for each: see ``mediator/bulk.py``."""

BATCH_CLAIM: Final = "batch_claim"
"""The kind of a note that names the driver which carries out a batch: see ``mediator/bulk_claims.py``."""

ENCODED: Final = msgspec.json.Encoder().encode
"""The value of a note as JSON: it is no value of a user's type."""


def note_text(note: Note) -> str | None:
    """The value of *note* as it is stored; None: it has none.

    Raises:
        JournalError: It is not made of JSON types.
    """
    if note.value is None:
        return None
    try:
        return ENCODED(note.value).decode()
    except (TypeError, ValueError, RecursionError) as error:
        raise JournalError(f"a note of kind {note.kind!r} has a value that is no JSON: {error}") from error
