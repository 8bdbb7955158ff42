"""FindingRows: finds executions in a `MemoryJournal` by checking every execution."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice

import msgspec

from fsm_mediator.journal.attributes import Scalar
from fsm_mediator.journal.finding import Filter, failure_of, no_cursor
from fsm_mediator.journal.memory_table import Row, Table
from fsm_mediator.journal.protocol import Entry


class FindingRows:
    """Makes a `MemoryJournal` a `FindingJournal`. A cursor is an execution's id and the time of its acceptance."""

    _table: Table
    _lock: threading.Lock

    def _entry(self, row: Row) -> Entry:
        raise NotImplementedError

    def search(self, chosen: Filter, after: str | None = None, limit: int = 100) -> list[Entry]:
        """List the executions that fit a filter: see `FindingJournal.search`.

        If the execution of the cursor was deleted, executions that were accepted at the same time are listed again.
        """
        return [
            msgspec.structs.replace(entry, cursor=f"{entry.acceptance.at!r} {entry.saga_id}")
            for entry, _ in islice(self._found(chosen, after), max(0, limit))
        ]

    def count_after(self, chosen: Filter, after: str | None, most: int) -> int:
        """Count the executions that fit and are older than a cursor: see `FindingJournal.count_after`."""
        return sum(1 for _ in islice(self._found(chosen, after), max(0, most)))

    def count(self, chosen: Filter, by: str | None = None) -> dict[str, int]:
        """Count the executions that fit a filter: see `FindingJournal.count`."""
        counts: Counter[str] = Counter()
        for entry, row in self._found(chosen, None):
            error, step = failure_of(entry.state, row.records) if by in ("error", "step") else (None, None)
            opened = entry.acceptance
            keys = {None: "", "state": entry.state, "saga": opened.saga, "version": opened.version}
            counts[{**keys, "error": error, "step": step}[by] or ""] += 1
        return dict(counts)

    def attributes(self, saga_ids: Sequence[str]) -> dict[str, dict[str, Scalar]]:
        """The attributes of executions, by id: see `FindingJournal.attributes`."""
        with self._lock:
            kept = self._table.notes.attributes
            return {saga_id: dict(kept[saga_id]) for saga_id in saga_ids if kept.get(saga_id)}

    def _found(self, chosen: Filter, after: str | None) -> Iterator[tuple[Entry, Row]]:
        with self._lock:
            rows = list(reversed(self._table.rows.values()))
        for row in rows if after is None else _below(rows, after):
            with self._lock:
                entry, attributes = self._entry(row), self._table.notes.attributes.get(row.acceptance.saga_id, {})
            if chosen.fits(entry, attributes, row.records):
                yield entry, row


def _below(rows: list[Row], after: str) -> list[Row]:
    at, space, saga_id = after.partition(" ")
    ids = [row.acceptance.saga_id for row in rows]
    if saga_id in ids:
        return rows[ids.index(saga_id) + 1 :]
    try:
        time = float(at if space else "")
    except ValueError:
        raise no_cursor(after) from None
    return [row for row in rows if row.acceptance.at <= time]
