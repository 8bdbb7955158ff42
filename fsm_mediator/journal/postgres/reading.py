"""JournalReader: the methods of a PostgreSQL journal that read."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, Final

from fsm_mediator.journal.codec import Codec
from fsm_mediator.journal.planning import Planned
from fsm_mediator.journal.postgres import damage, sql
from fsm_mediator.journal.postgres.connections import Connections
from fsm_mediator.journal.postgres.presence import SecondLook
from fsm_mediator.journal.postgres.schema import lock_class
from fsm_mediator.journal.protocol import Driver, Entry, Forgotten, Written, check_bounds
from fsm_mediator.journal.rows import Row, entry_of, items_of, planned_from, record_of
from fsm_mediator.journal.storable import is_text
from fsm_mediator.records import Record
from fsm_mediator.states import STUCK, STUCK_EXECUTING

_PAGE: Final = 200
"""The number of executions that are read at a time when many are listed."""


class JournalReader:
    """The methods of `PostgresJournal` that read. `PostgresJournal` makes the connections."""

    encodes: bool = True
    codec: Codec
    _connections: Connections
    _liveness: SecondLook

    def find(self, saga_id: str) -> Entry | None:
        """Find an execution by its id: see `Journal.find`."""
        found = self._entries_of(self._read_of(sql.ENTRY, saga_id))
        return found[0] if found else None

    def records(self, saga_id: str) -> list[Record]:
        """The records of an execution: see `Journal.records`."""
        return [
            record_of(tuple(row), saga_id, saga, self.codec.cipher)
            for saga, *row in self._read_of(sql.RECORDS, saga_id)
        ]

    def inbox(self, saga_id: str) -> Written:
        """The items in the inbox of an execution: see `Journal.inbox`."""
        return self.inbox_after(saga_id, 0)

    def inbox_after(self, saga_id: str, number: int) -> Written:
        """The newer items in the inbox of an execution: see `LaterItemsJournal.inbox_after`."""
        return items_of(self._read_of(sql.MAIL, saga_id, number), saga_id, self.codec.cipher)

    def planned(self, saga_id: str) -> Planned | None:
        """The planned branches of an execution: see `PlanningJournal.planned`."""
        rows = self._read_of(sql.PLANNED, saga_id)
        return planned_from(rows[0], saga_id, self.codec.cipher) if rows else None

    def count_branches(self, saga_id: str) -> dict[str, int]:
        """Count the branches of an execution by phase: see `CountingJournal.count_branches`."""
        return dict(self._read_of(sql.COUNT_BRANCHES, saga_id))

    def forgotten(self, saga_id: str) -> Forgotten | None:
        """The row that is kept for a deleted execution: see `Journal.forgotten`."""
        rows = self._read_of(sql.FORGOTTEN, saga_id)
        return Forgotten(*rows[0]) if rows else None

    def entries(
        self,
        *,
        phase: str | None = None,
        saga: str | None = None,
        parent: str | None = None,
        before: float | None = None,
        limit: int | None = None,
    ) -> Iterator[Entry]:
        """List executions, the last opened execution first: see `Journal.entries`.

        Pages are read when they are needed.
        """
        check_bounds(before, limit)
        conditions: list[tuple[str, tuple[Any, ...]]] = []
        if phase is not None:
            conditions.append((sql.IN_PHASE, (phase, [phase, STUCK_EXECUTING if phase == STUCK else phase])))
        if saga is not None:
            conditions.append(("e.saga = %s", (saga,)))
        if parent is not None:
            conditions.append(("e.parent = %s", (parent,)))
        if before is not None:
            conditions.append(("e.changed_at < %s", (before,)))
        chosen = "".join(f" AND {condition}" for condition, _ in conditions)
        values = [value for _, each in conditions for value in each]
        query = f"{sql.ENTRIES} WHERE e.number < %s{chosen} ORDER BY e.number DESC LIMIT %s"
        below, left = 2**63 - 1, math.inf if limit is None else limit
        while left > 0:
            page = self._connections.read(query, (below, *values, int(min(_PAGE, left))))
            if not page:
                return
            yield from self._entries_of(page)
            below, left = page[-1][0], left - len(page)

    def next_wake(self) -> float | None:
        """When the next execution without an owner is due: see `Journal.next_wake`."""
        ((wake,),) = self._connections.read(sql.NEXT_WAKE)
        return None if wake is None else float(wake)

    def check(self) -> list[str]:
        """Check that the rows are consistent: see `Journal.check`. To check PostgreSQL's files, use ``pg_amcheck``."""
        return self.damage_of(None)

    def damage_of(self, saga_id: str | None) -> list[str]:
        """Describe the damage of one execution: see `RepairableJournal.damage_of`."""
        return [f"execution {each!r}: {fault}" for each, fault in damage.faults(self._connections, saga_id)]

    def repairable(self) -> list[str]:
        """The ids of executions with a row to repair: see `RepairableJournal.repairable`."""
        return [each for each, _ in damage.faults(self._connections, None, rows_alone=True)]

    def _drivers(self, query: str, *parameters: Any) -> list[Row]:
        """The rows of the drivers that *query*, a query based on `sql.DRIVERS`, finds."""
        return self._connections.read(query, (lock_class(self._connections.schema), *parameters))

    def _entries_of(self, rows: Sequence[Row]) -> list[Entry]:
        """The entries of *rows*; each owner is checked only once."""
        owners = {row[13] for row in rows} - {None}
        drivers = {owner: (Driver(owner), False) for owner in owners}
        for row in self._drivers(sql.DRIVERS_OF_IDS, list(owners)) if owners else ():
            drivers[row[5]] = Driver(*row[5:]), self._liveness.is_present(row)
        return [entry_of(row, *drivers.get(row[13], (None, False)), cipher=self.codec.cipher) for row in rows]

    def _read_of(self, query: str, saga_id: str, *parameters: Any) -> list[Row]:
        return self._connections.read(query, (saga_id, *parameters)) if is_text(saga_id) else []
