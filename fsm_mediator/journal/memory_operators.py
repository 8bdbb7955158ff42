"""OperatorRows: optional methods of a `MemoryJournal`, for operators, branches of groups, and long inboxes."""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from itertools import islice
from operator import attrgetter

from fsm_mediator.journal.memory_table import Table
from fsm_mediator.journal.notes import Note
from fsm_mediator.journal.operators import Fault
from fsm_mediator.journal.planning import Planned
from fsm_mediator.journal.protocol import Driver, Written
from fsm_mediator.records import VerbAnswer
from fsm_mediator.states import ENDED, phase_of


class OperatorRows:
    """Optional methods of a `MemoryJournal`.

    They return the answers to the verbs of operators, notes, the planned branches of a group, the number of its
    branches, and the newest items of an inbox.
    """

    _table: Table
    _drivers: dict[str, Driver]
    _lock: threading.Lock

    def answer(self, name: str) -> VerbAnswer | None:
        """The answer to a verb: see `OperatorJournal.answer`."""
        return self._table.answers.get(name)

    def forget_answer(self, name: str) -> None:
        """Delete the answer to a verb: see `OperatorJournal.forget_answer`."""
        with self._lock:
            self._table.answers.pop(name, None)

    def prune_these(self, saga_ids: Sequence[str], before: float) -> int:
        """Delete ended executions by id: see `RetainingJournal.prune_these`."""
        with self._lock:
            return self._table.prune_these(saga_ids, before)

    def known(self) -> frozenset[str]:
        """The fingerprints that living drivers know: see `OperatorJournal.known`."""
        with self._lock:
            return frozenset(each.fingerprint for driver in self._drivers.values() for each in driver.definitions)

    def is_driver_alive(self, driver_id: str) -> bool:
        """Whether a driver is enlisted. It is then alive, because it is in this process."""
        with self._lock:
            return driver_id in self._drivers

    def shape(self, fingerprint: str) -> str | None:
        """The shape with a fingerprint: see `OperatorJournal.shape`."""
        return self._table.shapes.get(fingerprint)

    def note_fault(self, saga_id: str, epoch: int, fault: Fault) -> None:
        """Store the reason why a driver could not decode an execution: see `OperatorJournal.note_fault`."""
        with self._lock:
            if saga_id in self._table.rows:
                self._table.rows[saga_id].fault = epoch, fault

    def faults(self) -> dict[str, Fault]:
        """The reasons why executions cannot be decoded: see `OperatorJournal.faults`."""
        with self._lock:
            noted = ((saga_id, row, row.fault) for saga_id, row in self._table.rows.items() if row.state not in ENDED)
            return {saga_id: fault[1] for saga_id, row, fault in noted if fault is not None and fault[0] == row.epoch}

    def inbox_after(self, saga_id: str, number: int) -> Written:
        """The newer items in the inbox of an execution: see `LaterItemsJournal.inbox_after`."""
        with self._lock:
            row = self._table.rows.get(saga_id)
            mail = () if row is None else row.mail
        return mail[bisect_right(mail, number, key=attrgetter("number")) :]

    def planned(self, saga_id: str) -> Planned | None:
        """The planned branches of an execution: see `PlanningJournal.planned`."""
        with self._lock:
            row = self._table.rows.get(saga_id)
            return None if row is None else row.planned.interval()

    def count_branches(self, saga_id: str) -> dict[str, int]:
        """Count the branches of an execution by phase: see `CountingJournal.count_branches`."""
        with self._lock:
            rows = (self._table.rows.get(branch) for branch in self._table.branches.get(saga_id, ()))
            return dict(Counter(phase_of(row.state) for row in rows if row is not None))

    def add_note(self, note: Note, *, token: int = 0) -> int:
        """Write a note: see `NotesJournal.add_note`."""
        with self._lock:
            if note.saga_id is not None and note.saga_id not in self._table.rows:
                return 0
            return self._table.notes.add(note, token)

    def notes(
        self, saga_id: str | None = None, *, kind: str | None = None, after: int = 0, limit: int | None = None
    ) -> list[Note]:
        """The notes about an execution, or all notes: see `NotesJournal.notes`."""
        with self._lock:
            kept = self._table.notes.of(saga_id)
            return list(islice((note for note in kept if kind in (None, note.kind) and note.number > after), limit))
