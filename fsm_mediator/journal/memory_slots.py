"""Slots: the slots of concurrency limits in a `MemoryJournal`. See `SlotJournal`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import islice

from fsm_mediator.journal.memory_table import Place, Row
from fsm_mediator.journal.protocol import Commit, Driver


class Slots:
    """Decides which executions have a slot of a concurrency limit.

    The place of one execution is in `Row.place`. This class keeps, for each limit, the ids of the executions that
    have a slot or are queued.

    Args:
        rows: The executions, by id.
        drivers: The drivers, by id.
    """

    def __init__(self, rows: Mapping[str, Row], drivers: Mapping[str, Driver]) -> None:
        self._rows = rows
        self._drivers = drivers
        # Ids in the order of arrival. The key is the limit's name and whether the executions have a slot. An id can
        # be outdated: the execution may have lost its place.
        self._ids: dict[tuple[str, bool], dict[str, None]] = {}

    def ask(self, row: Row, commit: Commit) -> bool:
        """Set the place of *row*, the row of the execution after *commit*. Returns True if the execution is queued."""
        saga_id, limit, before = commit.saga_id, commit.slot, row.place
        row.place = None
        if not limit:
            return False
        begins = before == Place(limit, row.epoch, begun=True) and not commit.records
        if not begins:
            keeps = before is not None and before.limit == limit and not (before.begun or commit.records)
            queue = self._ids.setdefault((limit, False), {})
            if not keeps:
                queue.pop(saga_id, None)
            queue.setdefault(saga_id)
            begins = commit.wake_at is None and saga_id in self.next_in_queue(limit, saga_id)
            if begins:
                self._ids.setdefault((limit, True), {})[saga_id] = None
        row.place = Place(limit, row.epoch, begins)
        if not begins and row.wake_at is None:
            row.wake_at = row.changed_at
        return not begins

    def next_in_queue(self, limit: str, candidate: str | None = None) -> list[str]:
        """The ids of queued executions for which a slot is free.

        *candidate* asks for a slot now and counts as queued.
        """
        most = [number for driver in self._drivers.values() for name, number in driver.limits if name == limit]
        free = min(most, default=math.inf) - sum(saga_id != candidate for saga_id in self._owned(limit, begun=True))
        if free < 1:
            return []
        queue = self._owned(limit, begun=False, candidate=candidate)
        return list(islice(queue, None if free == math.inf else int(free)))

    def _owned(self, limit: str, *, begun: bool, candidate: str | None = None) -> Iterator[str]:
        ids = self._ids.get((limit, begun), {})
        for saga_id in list(ids):
            row = self._rows.get(saga_id)
            place = None if row is None else row.place
            if saga_id == candidate:
                yield saga_id
            elif row is None or place is None or (place.limit, place.begun) != (limit, begun):
                del ids[saga_id]
            elif place.epoch == row.epoch and row.driver in self._drivers:
                yield saga_id
