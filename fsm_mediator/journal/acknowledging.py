"""Acknowledging: a person notes that an alert of an execution was seen. The alert is then not sent again.

The acknowledgement is valid until the execution changes its state. It stays valid while a failed attempt is repeated.
"""

from __future__ import annotations

from typing import Any, Final

from fsm_mediator.errors import RefusedError, UnknownExecutionError
from fsm_mediator.journal.notes import ACKNOWLEDGED, Note, for_notes, keeps_notes
from fsm_mediator.journal.protocol import Entry, Journal
from fsm_mediator.states import ENDED

SAME_TROUBLE: Final = frozenset({"errored", "retry_due", "compensation_errored", "compensation_due"})
"""The events of an attempt that fails and is repeated."""


def acknowledge(
    journal: Journal, entry: Entry, reason: str | None, actor: str | None, at: float, *, token: int = 0
) -> Note:
    """Write a note that a person has seen the alerts of an execution in its present state. Returns the note.

    Raises:
        RefusedError: The execution has ended, so no alerts are sent for it.
        UnknownExecutionError: The execution was just deleted.
        JournalError: The journal keeps no notes.
    """
    if entry.state in ENDED:
        raise RefusedError(f"execution {entry.saga_id!r} has ended as {entry.state!r}: it has no alerts")
    value: dict[str, Any] = {"state": entry.state, "seq": entry.seq}
    note = Note(ACKNOWLEDGED, entry.saga_id, value=value, actor=actor, reason=reason, at=at)
    if not for_notes(journal).add_note(note, token=token):
        raise UnknownExecutionError(entry.saga_id)
    return note


def acknowledgement_of(journal: Journal, saga_id: str) -> Note | None:
    """The newest acknowledgement of an execution.

    None if there is none, or if the execution has changed its state since then.
    """
    notes = journal.notes(saga_id, kind=ACKNOWLEDGED) if keeps_notes(journal) else []
    newest = notes[-1] if notes else None
    if newest is None:
        return None
    later = (record for record in journal.records(saga_id) if record.seq > newest.value["seq"])
    return newest if all(record.event in SAME_TROUBLE for record in later) else None
