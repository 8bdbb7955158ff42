"""JournalReader: the methods of a SQLite journal that read."""

from __future__ import annotations

import contextlib
import math
from array import array
from collections.abc import Iterator, Sequence
from typing import Any, Final

from fsm_mediator.journal.codec import Codec
from fsm_mediator.journal.group_commit import GroupCommit
from fsm_mediator.journal.liveness import LivenessCheck
from fsm_mediator.journal.planning import Planned
from fsm_mediator.journal.protocol import Driver, Entry, Forgotten, Written, check_bounds
from fsm_mediator.journal.rows import Row, entry_of, items_of, planned_from, record_of, records_of_each
from fsm_mediator.journal.sqlite import sql
from fsm_mediator.journal.sqlite.connections import Connections
from fsm_mediator.journal.sqlite.errors import ERRORS, to_journal_error
from fsm_mediator.journal.sqlite.log import hidden_commits
from fsm_mediator.journal.storable import is_text
from fsm_mediator.records import Record
from fsm_mediator.states import ENDED, STUCK, STUCK_EXECUTING

_PAGE: Final = 200
"""The number of executions that are read at a time when many are listed."""

_IS_ONE_OF: Final = "e.saga_id IN (SELECT value FROM json_each(?))"
_ENTRY_OF_EACH: Final = sql.ENTRY.replace("e.saga_id = ?", _IS_ONE_OF)
_RECORDS_OF_EACH: Final = (
    sql.RECORDS.replace("SELECT d.saga", "SELECT e.saga_id, d.saga")
    .replace("e.saga_id = ?", _IS_ONE_OF)
    .replace("ORDER BY r.seq", "ORDER BY e.number, r.seq")
)


class JournalReader:
    """The methods of `SQLiteJournal` that read. `SQLiteJournal` makes the connections."""

    encodes: bool = True
    path: str
    codec: Codec
    _connections: Connections
    _group: GroupCommit[Any]
    _liveness: LivenessCheck

    def find(self, saga_id: str) -> Entry | None:
        """Find an execution by its id: see `Journal.find`."""
        entries = self._entries_of(self._read_of(sql.ENTRY, saga_id))
        return entries[0] if entries else None

    def find_all(self, saga_ids: Sequence[str]) -> dict[str, Entry]:
        """Find executions by their ids: see `ManyJournal.find_all`."""
        entries = self._entries_of(self._read(_ENTRY_OF_EACH, (sql.as_json(filter(is_text, saga_ids)),)))
        return {entry.saga_id: entry for entry in entries}

    def records(self, saga_id: str) -> list[Record]:
        """The records of an execution: see `Journal.records`."""
        rows = self._read_of(sql.RECORDS, saga_id)
        with self._reading():
            return [record_of(tuple(row), saga_id, saga, self.codec.cipher) for saga, *row in rows]

    def records_of_all(self, saga_ids: Sequence[str]) -> dict[str, list[Record]]:
        """The records of several executions: see `ManyJournal.records_of_all`."""
        rows = self._read(_RECORDS_OF_EACH, (sql.as_json(filter(is_text, saga_ids)),))
        return records_of_each(rows, self.codec.cipher)

    def inbox(self, saga_id: str) -> Written:
        """The items in the inbox of an execution: see `Journal.inbox`."""
        return self.inbox_after(saga_id, 0)

    def inbox_after(self, saga_id: str, number: int) -> Written:
        """The newer items in the inbox of an execution: see `LaterItemsJournal.inbox_after`."""
        return items_of(self._read_of(sql.MAIL_OF, saga_id, number), saga_id, self.codec.cipher)

    def planned(self, saga_id: str) -> Planned | None:
        """The planned branches of an execution: see `PlanningJournal.planned`."""
        rows = self._read_of(sql.PLANNED, saga_id)
        with self._reading():
            return planned_from(rows[0], saga_id, self.codec.cipher) if rows else None

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
        chosen = ""
        parameters: list[Any] = []
        if phase is not None:
            chosen += f" AND {sql.IN_PHASE}"
            parameters += [phase, phase, STUCK_EXECUTING if phase == STUCK else phase]
        for value, condition in ((saga, sql.OF_SAGA), (parent, sql.OF_PARENT), (before, sql.BEFORE)):
            if value is not None:
                chosen += f" AND {condition}"
                parameters.append(value)
        left = math.inf if limit is None else limit
        for page in self._pages(phase, chosen, parameters, left):
            for entry in self._entries_of(self._read(sql.LISTED, (sql.as_json(page),))):
                if left <= 0:
                    return
                left -= 1
                yield entry

    def _pages(self, phase: str | None, chosen: str, parameters: list[Any], limit: float) -> Iterator[list[int]]:
        """The numbers of executions, newest first, in pages. No query stays open between two pages."""
        if phase is not None and phase not in ENDED:
            # Few executions have not ended, and their index is not in this order: all their numbers are read at once,
            # 8 bytes each.
            query = f"{sql.CHOSEN_IN_HAND}{chosen} {sql.NEWEST_FIRST}"
            most = -1 if limit == math.inf else int(limit)
            numbers = array("q", (number for (number,) in self._read(query, (*parameters, most))))
            for start in range(0, len(numbers), _PAGE):
                yield numbers[start : start + _PAGE].tolist()
            return
        query = f"{sql.CHOSEN} WHERE {sql.BELOW}{chosen} {sql.NEWEST_FIRST}"
        below = 2**63 - 1
        while page := [number for (number,) in self._read(query, (below, *parameters, int(min(_PAGE, limit))))]:
            yield page
            below = page[-1]

    def count_branches(self, saga_id: str) -> dict[str, int]:
        """Count the branches of an execution by phase: see `CountingJournal.count_branches`."""
        return dict(self._read_of(sql.COUNT_BRANCHES, saga_id))

    def forgotten(self, saga_id: str) -> Forgotten | None:
        """The row that is kept for a deleted execution: see `Journal.forgotten`."""
        rows = self._read_of(sql.FORGOTTEN, saga_id)
        return Forgotten(*rows[0]) if rows else None

    def next_wake(self) -> float | None:
        """When the next execution without an owner is due: see `Journal.next_wake`."""
        ((wake,),) = self._read(sql.NEXT_WAKE)
        return None if wake is None else float(wake)

    def check(self) -> list[str]:
        """Search for damage in the file, in the log, and in the rows: see `Journal.check`.

        The file is checked by SQLite, which reads the whole file. The log is also read completely.
        """
        damage = [fault for (fault,) in self._read("PRAGMA integrity_check") if fault != "ok"]
        damage += [f"a row of {name!r} refers to one of {to!r} that is lost" for name, to in self._read(sql.REFERENCES)]
        return damage + hidden_commits(self.path) + self.damage_of(None)

    def damage_of(self, saga_id: str | None) -> list[str]:
        """Describe the damage of one execution: see `RepairableJournal.damage_of`."""
        return [f"execution {each!r}: {fault}" for each, fault in self._faults(saga_id, sql.FAULTS, sql.ROW_FAULTS)]

    def repairable(self) -> list[str]:
        """The ids of executions with a row to repair: see `RepairableJournal.repairable`."""
        return [saga_id for saga_id, _ in self._faults(None, sql.ROW_FAULTS)]

    def _faults(self, saga_id: str | None, *queries: str) -> list[Row]:
        return [
            row for query in queries for row in self._read(sql.of_all(query) if saga_id is None else query, (saga_id,))
        ]

    def _entries_of(self, rows: list[Row]) -> list[Entry]:
        """The entries of *rows*. For each owner, it is checked only once whether the owner is alive."""
        owners: dict[int | None, tuple[Driver | None, bool]] = {None: (None, False)}
        entries = []
        with self._reading():
            for row in rows:
                number, owner = row[13], row[sql.OF_OWNER :]
                if number not in owners:
                    known = owner[2] is not None  # else the driver was dismissed
                    owners[number] = (Driver(*owner[2:]), self._is_alive(number, owner)) if known else owners[None]
                entries.append(entry_of(row[: sql.OF_OWNER], *owners[number], cipher=self.codec.cipher))
        return entries

    def _is_alive(self, number: int, row: Sequence[Any]) -> bool:
        last_beat, lease, *identity = row
        return self._liveness.is_alive(number, Driver(*identity), last_beat, lease)

    def _read_of(self, query: str, saga_id: str, *parameters: Any) -> list[Row]:
        return self._read(query, (saga_id, *parameters)) if is_text(saga_id) else []

    def _read(self, query: str, parameters: Sequence[Any] = ()) -> list[Row]:
        with self._reading():
            if self._connections.in_memory:
                with self._group.exclusive():
                    return self._connections.writer().execute(query, parameters).fetchall()
            with self._connections.reader() as connection:
                return connection.execute(query, parameters).fetchall()

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except ERRORS as error:
            raise to_journal_error(error, self.path, "read", self._connections.busy_timeout) from error
