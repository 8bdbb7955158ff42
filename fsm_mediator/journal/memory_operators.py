"""OperatorRows: what operators say, and what drivers know, in a `MemoryJournal`."""

from __future__ import annotations

import threading

from fsm_mediator.journal.memory_table import Table
from fsm_mediator.journal.operators import Fault
from fsm_mediator.journal.protocol import Driver
from fsm_mediator.records import VerbAnswer
from fsm_mediator.states import ENDED


class OperatorRows:
    """The part of `MemoryJournal` that makes it an `OperatorJournal`."""

    _table: Table
    _drivers: dict[str, Driver]
    _lock: threading.Lock

    def answer(self, name: str) -> VerbAnswer | None:
        """As `OperatorJournal.answer`."""
        return self._table.answers.get(name)

    def forget_answer(self, name: str) -> None:
        """As `OperatorJournal.forget_answer`."""
        with self._lock:
            self._table.answers.pop(name, None)

    def known(self) -> frozenset[str]:
        """As `OperatorJournal.known`."""
        with self._lock:
            return frozenset(each.fingerprint for driver in self._drivers.values() for each in driver.definitions)

    def shape(self, fingerprint: str) -> str | None:
        """As `OperatorJournal.shape`."""
        return self._table.shapes.get(fingerprint)

    def note_fault(self, saga_id: str, epoch: int, fault: Fault) -> None:
        """As `OperatorJournal.note_fault`."""
        with self._lock:
            if saga_id in self._table.rows:
                self._table.rows[saga_id].fault = epoch, fault

    def faults(self) -> dict[str, Fault]:
        """As `OperatorJournal.faults`."""
        with self._lock:
            noted = ((saga_id, row, row.fault) for saga_id, row in self._table.rows.items() if row.state not in ENDED)
            return {saga_id: fault[1] for saga_id, row, fault in noted if fault is not None and fault[0] == row.epoch}
