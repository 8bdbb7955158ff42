"""OperatorTables: what operators say, and what drivers know, in a SQLite journal."""

from __future__ import annotations

from collections.abc import Callable
from sqlite3 import Cursor
from typing import Any

import msgspec

from fsm_mediator.journal.operators import Fault
from fsm_mediator.journal.protocol import Driver
from fsm_mediator.journal.rows import storable
from fsm_mediator.journal.sqlite import sql
from fsm_mediator.journal.sqlite.reading import JournalReader
from fsm_mediator.records import VerbAnswer


class OperatorTables(JournalReader):
    """The tables ``answers``, ``shapes`` and ``known`` of `SQLiteJournal`, which makes the connections."""

    def _perform(self, job: Callable[[Cursor], Any]) -> Any:
        """Have *job* done within a transaction."""
        raise NotImplementedError

    def answer(self, name: str) -> VerbAnswer | None:
        """As `OperatorJournal.answer`."""
        rows = self._read_of(sql.ANSWER, name)
        return VerbAnswer(*rows[0]) if rows else None

    def forget_answer(self, name: str) -> None:
        """As `OperatorJournal.forget_answer`."""
        if self.answer(name) is not None:
            self._perform(lambda cursor: cursor.execute(sql.FORGET_ANSWER, (name,)).rowcount)

    def known(self) -> frozenset[str]:
        """As `OperatorJournal.known`."""
        alive = {number for number, *row in self._read(sql.DRIVERS) if self._is_alive(number, row)}
        return frozenset(fingerprint for driver, fingerprint in self._read(sql.KNOWN) if driver in alive)

    def shape(self, fingerprint: str) -> str | None:
        """As `OperatorJournal.shape`."""
        rows = self._read_of(sql.SHAPE, fingerprint)
        return str(rows[0][0]) if rows else None

    def note_fault(self, saga_id: str, epoch: int, fault: Fault) -> None:
        """As `OperatorJournal.note_fault`."""
        row = (epoch, *map(storable, msgspec.structs.astuple(fault)), saga_id)
        self._perform(lambda cursor: cursor.execute(sql.NOTE_FAULT, row).rowcount)

    def faults(self) -> dict[str, Fault]:
        """As `OperatorJournal.faults`."""
        return {saga_id: Fault(*row) for saga_id, *row in self._read(sql.NOTED_FAULTS)}


def note_definitions(cursor: Cursor, driver: Driver) -> None:
    """Write down what *driver* knows, in place of what it knew."""
    cursor.execute(sql.FORGET_KNOWN, (driver.id,))
    for each in driver.definitions:
        cursor.execute(sql.KEEP_SHAPE, (each.fingerprint, each.shape))
        cursor.execute(sql.KNOW, (each.fingerprint, driver.id))
