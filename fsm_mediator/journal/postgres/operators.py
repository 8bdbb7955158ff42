"""OperatorTables: what operators say, and what drivers know, in a PostgreSQL journal."""

from __future__ import annotations

import msgspec

from fsm_mediator.journal.operators import Fault
from fsm_mediator.journal.postgres import sql
from fsm_mediator.journal.postgres.commit import without_nul
from fsm_mediator.journal.postgres.reading import JournalReader
from fsm_mediator.journal.rows import storable
from fsm_mediator.records import VerbAnswer


class OperatorTables(JournalReader):
    """The tables ``answers``, ``shapes``, ``known`` and ``faults`` of `PostgresJournal`."""

    def answer(self, name: str) -> VerbAnswer | None:
        """As `OperatorJournal.answer`."""
        return next((VerbAnswer(*row) for row in self._read_of(sql.ANSWER, name)), None)

    def forget_answer(self, name: str) -> None:
        """As `OperatorJournal.forget_answer`."""
        self._connections.write(sql.FORGET_ANSWER, (name,))

    def known(self) -> frozenset[str]:
        """As `OperatorJournal.known`."""
        alive = {row[0] for row in self._drivers(sql.DRIVERS) if self._liveness.is_present(row)}
        return frozenset(shape for driver, shape in self._connections.read(sql.KNOWN) if driver in alive)

    def shape(self, fingerprint: str) -> str | None:
        """As `OperatorJournal.shape`."""
        return next((str(shape) for (shape,) in self._read_of(sql.SHAPE, fingerprint)), None)

    def note_fault(self, saga_id: str, epoch: int, fault: Fault) -> None:
        """As `OperatorJournal.note_fault`."""
        texts = without_nul(map(storable, msgspec.structs.astuple(fault)))
        self._connections.write(sql.NOTE_FAULT, (epoch, *texts, saga_id))

    def faults(self) -> dict[str, Fault]:
        """As `OperatorJournal.faults`."""
        return {saga_id: Fault(*row) for saga_id, *row in self._connections.read(sql.NOTED_FAULTS)}
