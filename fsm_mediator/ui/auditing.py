"""Auditing: a list of the actions of people and programs, read from the records and notes of a journal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final
from urllib.parse import quote

import attrs
import msgspec

from fsm_mediator.error_types import SagaCancelledError
from fsm_mediator.errors import JournalError
from fsm_mediator.journal.finding import Filter
from fsm_mediator.journal.notes import ACKNOWLEDGED, AGAIN, BATCH_CLAIM, HOLD, UNHOLD, Note, keeps_notes
from fsm_mediator.journal.protocol import Entry, Journal
from fsm_mediator.mediator.finding import find
from fsm_mediator.narration import details
from fsm_mediator.records import Failure, Record
from fsm_mediator.states import ABANDON

AUDITED: Final = 500
"""The maximum number of executions whose actions are on one page of the audit."""

_PERSONS: Final = frozenset({"retry", "settled_done", "settled_undone", "undo", ABANDON})
_CANCELLED: Final = Failure.of(SagaCancelledError()).type
_NOTED: Final = {HOLD: "hold", UNHOLD: "lift the hold", AGAIN: "run again", ACKNOWLEDGED: "acknowledge"}


@attrs.frozen
class Deed:
    """An action of a person or program on an execution, a saga or a step.

    Attributes:
        at: The time of the action, in seconds since the epoch.
        actor: The name of the person or program. Empty if no name was given.
        subject: The id of the execution, or the names of the saga and step.
        path: The path of the subject's page, relative to the monitor's root. Empty if the subject has no page.
        what: The action in words.
        why: The reason and other details, redacted.
    """

    at: float
    actor: str
    subject: str
    path: str
    what: str
    why: str


def audit(journal: Journal, redact: Callable[[str], str], after: str | None) -> tuple[list[Deed], str | None]:
    """One page of actions, with the newest action first.

    A page has the actions on the `AUDITED` executions that come after the cursor *after*. The first page, for which
    *after* is None, also has the actions on sagas and steps, and one action for each batch.

    Returns:
        The actions, and the cursor of the next page. The cursor is None on the last page.
    """
    entries = list(find(journal, Filter(), after, AUDITED))
    found = [*_of_records(journal, redact, entries), *_of_notes(journal, redact, entries, first=after is None)]
    more = entries[-1].cursor if len(entries) == AUDITED else None
    return sorted(found, key=lambda deed: -deed.at), more


def _of_records(journal: Journal, redact: Callable[[str], str], entries: Iterable[Entry]) -> Iterator[Deed]:
    for entry in entries:
        try:
            records = journal.records(entry.saga_id)
        except JournalError:  # the page of the execution shows the error
            continue
        for record in records:
            if _is_of_person(record):
                path = f"runs/{quote(record.saga_id)}#record-{record.seq}"
                what, why = _in_words(record)
                yield Deed(record.at, record.actor or "", record.saga_id, path, what, redact(why))


def _is_of_person(record: Record) -> bool:
    return record.actor is not None or record.event in _PERSONS or _is_cancel(record)


def _is_cancel(record: Record) -> bool:
    return record.error is not None and record.error.type == _CANCELLED


def _in_words(record: Record) -> tuple[str, str]:
    """The action that *record* shows and its reason, as two texts. The actor is not part of the texts."""
    if _is_cancel(record) and record.error is not None:
        return f"cancel, in {record.step}" if record.step else "cancel", record.error.message
    event = "signal" if record.event == "executed" else record.event.replace("_", " ")
    why = " ".join(details(msgspec.structs.replace(record, actor=None)))
    return f"{event} {record.step or ''}".strip(), why


def _of_notes(
    journal: Journal, redact: Callable[[str], str], entries: Iterable[Entry], *, first: bool
) -> Iterator[Deed]:
    if not keeps_notes(journal):
        return
    listed = {entry.saga_id for entry in entries}
    for kind, what in _NOTED.items():
        for note in journal.notes(kind=kind):
            if note.saga_id in listed or (first and note.saga_id is None):
                path = "" if note.saga_id is None else f"runs/{quote(note.saga_id)}#notes"
                yield Deed(note.at, note.actor or "", _subject(note), path, what, redact(note.reason or ""))
    seen = set()
    for note in journal.notes(kind=BATCH_CLAIM) if first else ():
        if note.value["run"] is not None and (name := note.value["batch"]) not in seen:
            seen.add(name)
            count = note.value["count"]
            what = f"{note.value['verb']}: {count:,} execution{'' if count == 1 else 's'}"
            yield Deed(note.at, note.actor or "", f"batch {name}", f"batches/{name}", what, redact(note.reason or ""))


def _subject(note: Note) -> str:
    named = (("saga", note.saga), ("step", note.step))
    return note.saga_id or ", ".join(f"{kind} {name}" for kind, name in named if name)
