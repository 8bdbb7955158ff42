"""OperatorTables: the answers, notes, definitions and faults in a PostgreSQL journal."""

from __future__ import annotations

from typing import Any

from fsm_mediator.journal.note_rows import note_of
from fsm_mediator.journal.notes import HOLD, UNHOLD, Note
from fsm_mediator.journal.operators import Fault
from fsm_mediator.journal.postgres import sql
from fsm_mediator.journal.postgres.commit import note_parameters, without_nul
from fsm_mediator.journal.postgres.finding import FindingTables
from fsm_mediator.journal.postgres.schema import lock_class
from fsm_mediator.journal.rows import answer_of, fault_of, fault_row
from fsm_mediator.journal.storable import is_text
from fsm_mediator.records import VerbAnswer


class OperatorTables(FindingTables):
    """The tables ``answers``, ``shapes``, ``known``, ``faults`` and ``notes`` of `PostgresJournal`."""

    def answer(self, name: str) -> VerbAnswer | None:
        """The answer to a verb: see `OperatorJournal.answer`."""
        return next((answer_of(row, self.codec.cipher) for row in self._read_of(sql.ANSWER, name)), None)

    def forget_answer(self, name: str) -> None:
        """Delete the answer to a verb: see `OperatorJournal.forget_answer`."""
        self._connections.write(sql.FORGET_ANSWER, (name,))

    def known(self) -> frozenset[str]:
        """The fingerprints that living drivers know: see `OperatorJournal.known`."""
        alive = {row[0] for row in self._drivers(sql.DRIVERS) if self._liveness.is_present(row)}
        return frozenset(shape for driver, shape in self._connections.read(sql.KNOWN) if driver in alive)

    def is_driver_alive(self, driver_id: str) -> bool:
        """Whether a driver is enlisted and alive."""
        return any(self._liveness.is_present(row) for row in self._drivers(sql.DRIVERS_OF_IDS, [driver_id]))

    def shape(self, fingerprint: str) -> str | None:
        """The shape with a fingerprint: see `OperatorJournal.shape`."""
        return next((str(shape) for (shape,) in self._read_of(sql.SHAPE, fingerprint)), None)

    def note_fault(self, saga_id: str, epoch: int, fault: Fault) -> None:
        """Store the reason why a driver could not decode an execution: see `OperatorJournal.note_fault`."""
        texts = without_nul(fault_row(fault, saga_id, self.codec.cipher))
        self._connections.write(sql.NOTE_FAULT, (epoch, *texts, saga_id))

    def faults(self) -> dict[str, Fault]:
        """The reasons why executions cannot be decoded: see `OperatorJournal.faults`."""
        cipher = self.codec.cipher
        found = self._connections.read(sql.NOTED_FAULTS)
        return {saga_id: fault_of(row, saga_id, cipher) for saga_id, *row in found}

    def add_note(self, note: Note, *, token: int = 0) -> int:
        """Write a note: see `NotesJournal.add_note`."""
        if note.saga_id is not None and not is_text(note.saga_id):
            return 0
        parameters = note_parameters(note, self.codec.cipher, token)
        if note.kind not in (HOLD, UNHOLD):
            found = self._connections.write(sql.NOTE, parameters)
        else:  # drivers read holds by number: a higher number must not be committed first
            with self._connections.session("written") as session, session.connection.transaction():
                session.execute(sql.LOCK_HOLDS, (lock_class(self._connections.schema),))
                found = session.execute(sql.NOTE, parameters).fetchone()
        return 0 if found is None else int(found[0])

    def notes(
        self, saga_id: str | None = None, *, kind: str | None = None, after: int = 0, limit: int | None = None
    ) -> list[Note]:
        """The notes about an execution, or all notes: see `NotesJournal.notes`."""
        if saga_id is not None and not is_text(saga_id):
            return []
        query, parameters = sql.NOTES, list[Any]((after,))
        for value, condition in ((saga_id, sql.NOTES_OF), (kind, sql.OF_KIND)):
            if value is not None:
                query += condition
                parameters.append(value)
        rows = self._connections.read(f"{query} ORDER BY n.number LIMIT %s", (*parameters, limit))
        return [note_of(row, self.codec.cipher) for row in rows]
