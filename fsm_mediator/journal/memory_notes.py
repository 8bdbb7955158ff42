"""Notes: the part of a `MemoryJournal` that keeps notes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from fsm_mediator.journal.attributes import Scalar
from fsm_mediator.journal.notes import ATTRIBUTES, Note, note_text

TOKENS_KEPT: Final = 1000
"""The number of tokens of `NotesJournal.add_note` that are remembered. The oldest tokens are forgotten first."""


class Notes:
    """The notes of one journal. The caller must hold the lock of the journal.

    Attributes:
        attributes: The attributes of each execution, by the id of the execution.
    """

    def __init__(self) -> None:
        self._kept: dict[int, Note] = {}
        self._tokens: dict[int, int] = {}
        self._numbers: dict[str, list[int]] = {}
        self._last = 0
        self.attributes: dict[str, dict[str, Scalar]] = {}

    def add(self, note: Note, token: int = 0) -> int:
        """Keep *note*, unless an earlier call had the same token. Returns the number of the note."""
        if token and token in self._tokens:
            return self._tokens[token]
        text = note_text(note)
        value = None if text is None else msgspec.json.decode(text)
        self._last += 1
        self._kept[self._last] = msgspec.structs.replace(note, value=value, number=self._last)
        if note.saga_id is not None:
            self._numbers.setdefault(note.saga_id, []).append(self._last)
            if note.kind == ATTRIBUTES:
                changed = {**self.attributes.get(note.saga_id, {}), **(value or {})}
                self.attributes[note.saga_id] = {n: changed[n] for n in sorted(changed) if changed[n] is not None}
        if token:
            self._tokens[token] = self._last
            if len(self._tokens) > TOKENS_KEPT:
                del self._tokens[next(iter(self._tokens))]
        return self._last

    def of(self, saga_id: str | None) -> Iterable[Note]:
        """The notes about an execution, in order. All notes if *saga_id* is None."""
        if saga_id is None:
            return self._kept.values()
        return (self._kept[number] for number in self._numbers.get(saga_id, ()))

    def forget(self, saga_id: str) -> None:
        """Delete the notes about an execution."""
        if self._numbers:
            self.attributes.pop(saga_id, None)
            for number in self._numbers.pop(saga_id, ()):
                del self._kept[number]
