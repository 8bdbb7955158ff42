"""OperatorTables: the answers, notes, definitions and faults in a SQLite journal."""

from __future__ import annotations

from collections.abc import Callable
from sqlite3 import Cursor
from typing import Any

from fsm_mediator.journal.note_rows import note_of, note_row
from fsm_mediator.journal.notes import Note
from fsm_mediator.journal.operators import Fault
from fsm_mediator.journal.protocol import Driver
from fsm_mediator.journal.rows import answer_of, fault_of, fault_row
from fsm_mediator.journal.sqlite import notes, sql
from fsm_mediator.journal.sqlite.finding import FindingTables
from fsm_mediator.journal.storable import is_text
from fsm_mediator.records import VerbAnswer


class OperatorTables(FindingTables):
    """The tables ``answers``, ``shapes``, ``known``, ``faults`` and ``notes`` of `SQLiteJournal`."""

    def _perform(self, job: Callable[[Cursor], Any]) -> Any:
        """Execute *job* in a transaction, and return its result. `SQLiteJournal` implements this method."""
        raise NotImplementedError

    def answer(self, name: str) -> VerbAnswer | None:
        """The answer to a verb: see `OperatorJournal.answer`."""
        rows = self._read_of(sql.ANSWER, name)
        return answer_of(rows[0], self.codec.cipher) if rows else None

    def forget_answer(self, name: str) -> None:
        """Delete the answer to a verb: see `OperatorJournal.forget_answer`."""
        if self.answer(name) is not None:
            self._perform(lambda cursor: cursor.execute(sql.FORGET_ANSWER, (name,)).rowcount)

    def known(self) -> frozenset[str]:
        """The fingerprints that living drivers know: see `OperatorJournal.known`."""
        alive = {number for number, *row in self._read(sql.DRIVERS) if self._is_alive(number, row)}
        return frozenset(fingerprint for driver, fingerprint in self._read(sql.KNOWN) if driver in alive)

    def is_driver_alive(self, driver_id: str) -> bool:
        """Whether a driver is enlisted and alive."""
        return any(row[2] == driver_id and self._is_alive(number, row) for number, *row in self._read(sql.DRIVERS))

    def shape(self, fingerprint: str) -> str | None:
        """The shape with a fingerprint: see `OperatorJournal.shape`."""
        rows = self._read_of(sql.SHAPE, fingerprint)
        return str(rows[0][0]) if rows else None

    def note_fault(self, saga_id: str, epoch: int, fault: Fault) -> None:
        """Note that a driver could not decode an execution: see `OperatorJournal.note_fault`."""
        row = (epoch, *fault_row(fault, saga_id, self.codec.cipher), saga_id)
        self._perform(lambda cursor: cursor.execute(sql.NOTE_FAULT, row).rowcount)

    def faults(self) -> dict[str, Fault]:
        """The reasons why executions cannot be decoded: see `OperatorJournal.faults`."""
        return {saga_id: fault_of(row, saga_id, self.codec.cipher) for saga_id, *row in self._read(sql.NOTED_FAULTS)}

    def add_note(self, note: Note, *, token: int = 0) -> int:
        """Write a note: see `NotesJournal.add_note`."""
        row = note_row(note, self.codec.cipher)
        number: int = self._perform(lambda cursor: notes.add(cursor, note.saga_id, row, token))
        return number

    def notes(
        self, saga_id: str | None = None, *, kind: str | None = None, after: int = 0, limit: int | None = None
    ) -> list[Note]:
        """The notes about an execution, or all notes: see `NotesJournal.notes`."""
        query, parameters = notes.NOTES, list[Any]((after,))
        for value, condition in ((saga_id, notes.NOTES_OF), (kind, notes.OF_KIND)):
            if value is not None:
                query += condition
                parameters.append(value)
        if saga_id is not None and not is_text(saga_id):
            return []
        rows = self._read(f"{query} ORDER BY n.number LIMIT ?", (*parameters, -1 if limit is None else limit))
        return [note_of(row, self.codec.cipher) for row in rows]


def note_definitions(cursor: Cursor, driver: Driver) -> None:
    """Store the definitions that *driver* knows, in place of its earlier definitions."""
    cursor.execute(sql.FORGET_KNOWN, (driver.id,))
    for each in driver.definitions:
        cursor.execute(sql.KEEP_SHAPE, (each.fingerprint, each.shape))
        cursor.execute(sql.KNOW, (each.fingerprint, driver.id))
