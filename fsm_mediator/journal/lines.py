"""Lines: writes executions as JSON, one execution per line, for exports and archives. Texts can be sealed or hidden."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

import msgspec

from fsm_mediator.ciphers import Cipher
from fsm_mediator.errors import IllegalRecordError
from fsm_mediator.journal.finding import attributes_of
from fsm_mediator.journal.note_rows import about_note
from fsm_mediator.journal.notes import Note, notes_of
from fsm_mediator.journal.planning import planned_of
from fsm_mediator.journal.protocol import Entry, Journal
from fsm_mediator.journal.rows import about_item, about_record
from fsm_mediator.journal.sealing import MARK, NO_VALUE, is_sealed, seal, seal_secrets
from fsm_mediator.models import shown
from fsm_mediator.records import Failure, InboxItem, Record
from fsm_mediator.redaction import Redaction

_ALL_SHOWN: Final = Redaction()


def plain(value: Any) -> Any:
    """Return *value* as JSON types. A value that is still encoded is decoded."""
    if not isinstance(value, msgspec.Raw):
        return msgspec.to_builtins(value, enc_hook=shown)
    if is_sealed(value):
        return f"({MARK[:-1]})"
    try:
        return msgspec.json.decode(value)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:  # the other executions must still be shown
        return f"(unreadable: {error})"


def hide_texts(redaction: Redaction, record: Record) -> Record:
    """Return *record*, but hide the secrets in its error and its reason."""
    error = record.error
    if error is not None:
        texts = (redaction.field(name, getattr(error, name)) for name in ("message", "traceback"))
        error = Failure(error.type, *texts)
    return msgspec.structs.replace(record, error=error, reason=redaction.field("reason", record.reason))


def hide_reason(redaction: Redaction, note: Note) -> Note:
    """Return *note*, but hide the secrets in its reason."""
    return msgspec.structs.replace(note, reason=redaction.field("reason", note.reason))


class Lines:
    """Makes the lines of exports and archives.

    Args:
        cipher: Seals the texts of users. If None, texts are written as the journal returns them. Texts that the
            journal could not open stay sealed.
        redaction: Hides parts of values and texts.
    """

    def __init__(self, cipher: Cipher | None = None, redaction: Redaction = _ALL_SHOWN) -> None:
        self._cipher = cipher
        self._hidden = redaction.field

    def of(self, journal: Journal, entries: Iterable[Entry]) -> Iterator[dict[str, Any]]:
        """Yield the line of each execution, with its inbox and its records.

        If the records cannot be read, the line has the reason.
        """
        for listed in entries:
            entry = msgspec.structs.replace(listed, attributes=attributes_of(journal, listed.saga_id))
            inbox = [self._item(entry.saga_id, item) for item in journal.inbox(entry.saga_id)]
            more: dict[str, Any] = {}
            try:
                records = journal.records(entry.saga_id)
            except IllegalRecordError as error:
                records, more["unreadable"] = [], str(error)
            if (planned := planned_of(journal, entry.saga_id)) is not None:
                ended = None if planned.ended is None else str(planned.ended)
                more["planned"] = {
                    **msgspec.structs.asdict(planned),
                    "ended": self._text("message", ended, entry.saga_id),
                }
            if notes := notes_of(journal, entry.saga_id):
                more["notes"] = list(map(self._note, notes))
            yield {**self.entry(entry), "mail": inbox, "history": list(map(self._record, records)), **more}

    def entry(self, entry: Entry) -> dict[str, Any]:
        """An execution as JSON types, without its records."""
        acceptance = entry.acceptance
        dormant = entry.wake_at == float("inf")
        return {
            "saga_id": acceptance.saga_id,
            "saga": acceptance.saga,
            "version": acceptance.version,
            "fingerprint": acceptance.fingerprint,
            "state": entry.state,
            "accepted_at": acceptance.at,
            "changed_at": entry.changed_at,
            "deadline_at": acceptance.deadline_at,
            "parent": acceptance.parent,
            "records": entry.seq,
            "wake_at": None if dormant else entry.wake_at,
            "dormant": dormant,
            "inbox": entry.mail,
            "driver": None if entry.driver is None else {"process": str(entry.driver), "alive": entry.driver_alive},
            "attributes": dict(entry.attributes),
            "cursor": entry.cursor,
            **self._secrets("payload", acceptance.payload, None, None, about_record(acceptance.saga_id, 0)),
        }

    def _record(self, record: Record) -> dict[str, Any]:
        error = record.error
        failure = None
        if error is not None:
            failure = {"type": error.type, "message": error.message, "traceback": error.traceback}
        about = about_record(record.saga_id, record.seq)
        found = msgspec.structs.asdict(record)
        del found["carrier"]
        return found | self._secrets("value", record.value, failure, record.reason, about)

    def _secrets(
        self, name: str, value: Any, error: dict[str, Any] | None, reason: str | None, about: str
    ) -> dict[str, Any]:
        """The fields with texts of people and of user code: the field called *name*, ``error`` and ``reason``.

        If the texts are sealed, these fields have no text, and the field ``sealed`` has all the texts.
        """
        fields = {"error": error, "reason": reason} if name == "value" else {}
        if is_sealed(value):
            return {**fields, name: None, "sealed": bytes(value).decode()}
        shown = {each: text if each == "type" else self._hidden(each, text) for each, text in (error or {}).items()}
        hidden = self._hidden(name, plain(value)), self._hidden("reason", reason)
        if self._cipher is None or (value is None and fields == {"error": None, "reason": None}):
            fields = {"error": shown or None, "reason": hidden[1]} if fields else {}
            return {**fields, name: hidden[0]}
        secret = (shown["message"], shown["traceback"]) if shown else None
        json = NO_VALUE if value is None and name == "value" else msgspec.Raw(msgspec.json.encode(hidden[0]))
        sealed = seal_secrets(json, secret, hidden[1], self._cipher, about)
        fields = (
            {"error": (shown and {**shown, "message": "", "traceback": ""}) or None, "reason": None} if fields else {}
        )
        return {**fields, name: None, "sealed": sealed}

    def _item(self, saga_id: str, item: InboxItem) -> dict[str, Any]:
        found, about = msgspec.structs.asdict(item), about_item(saga_id, item.name)
        del found["carrier"]
        found["reason"] = self._text("reason", item.reason, about)
        if is_sealed(item.value):
            return {**found, "value": None, "sealed": bytes(item.value).decode()}
        found["value"] = self._hidden("value", plain(item.value))
        if self._cipher is None or item.value is None:
            return found
        text = msgspec.json.encode(found["value"]).decode()
        return {**found, "value": None, "sealed": seal(text, self._cipher, about)}

    def _note(self, note: Note) -> dict[str, Any]:
        reason = self._text("reason", note.reason, about_note(note.saga_id))
        return {**msgspec.structs.asdict(note), "value": self._hidden("value", note.value), "reason": reason}

    def _text(self, name: str, text: str | None, about: str) -> str | None:
        """Hide the secrets in *text*, and seal it if there is a cipher. A sealed text is returned unchanged."""
        if text is None or MARK in text:
            return text
        hidden: str = self._hidden(name, text)
        return hidden if self._cipher is None else seal(hidden, self._cipher, about)
