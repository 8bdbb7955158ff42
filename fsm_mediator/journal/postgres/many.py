"""ManyTables: reads many executions of a PostgreSQL journal at once, and the SQL that claims many at once."""

# ruff: noqa: S608 - statements are put together from constants; values are always parameters

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from fsm_mediator.journal.postgres import sql
from fsm_mediator.journal.postgres.reading import JournalReader
from fsm_mediator.journal.protocol import Entry
from fsm_mediator.journal.rows import records_of_each
from fsm_mediator.journal.storable import is_text
from fsm_mediator.records import Record

_ENTRY_OF_EACH: Final = f"{sql.ENTRIES} WHERE e.saga_id = ANY(%s)"
_RECORDS_OF_EACH: Final = (
    sql.RECORDS.replace("SELECT e.saga", "SELECT e.saga_id, e.saga")
    .replace("e.saga_id = %s", "e.saga_id = ANY(%s)")
    .replace("ORDER BY r.seq", "ORDER BY e.number, r.seq")
)
OWNER_OF_EACH: Final = "SELECT number, driver, epoch FROM journal.executions WHERE saga_id = ANY(%s)"
# A row that another transaction has locked is skipped, so that no two transactions wait for each other.
CLAIM_ALL: Final = f"""
    WITH chosen AS (
        SELECT e.number AS chosen FROM unnest(%(numbers)s::bigint[], %(epochs)s::int[]) AS v (number, epoch)
            JOIN journal.executions e ON e.number = v.number AND e.epoch = v.epoch
        FOR UPDATE OF e SKIP LOCKED),
    claimed AS (
        UPDATE journal.executions SET driver = %(driver)s, epoch = epoch + 1, ended_at = NULL,
            attention = CASE WHEN mail > 0 THEN '-Infinity'::float8 END, abandoned = driver IS NOT NULL
        FROM chosen WHERE number = chosen
            AND EXISTS (SELECT 1 FROM journal.drivers WHERE id = %(driver)s FOR KEY SHARE)
        RETURNING executions.*),
    e AS (
        SELECT * FROM claimed
        UNION ALL SELECT * FROM journal.executions WHERE number = ANY(%(own)s::bigint[]) AND driver = %(driver)s)
    {sql.ENTRIES.replace("journal.executions e", "e").replace("AS queued", "AS queued, e.abandoned")}"""
"""Claims executions whose epochs are still the same. Also returns those of *own* that the driver still owns."""


class ManyTables(JournalReader):
    """The methods with which `PostgresJournal` reads many executions at once: see `ManyJournal`."""

    def find_all(self, saga_ids: Sequence[str]) -> dict[str, Entry]:
        """Find executions by their ids: see `ManyJournal.find_all`."""
        entries = self._entries_of(self._connections.read(_ENTRY_OF_EACH, (list(filter(is_text, saga_ids)),)))
        return {entry.saga_id: entry for entry in entries}

    def records_of_all(self, saga_ids: Sequence[str]) -> dict[str, list[Record]]:
        """The records of several executions: see `ManyJournal.records_of_all`."""
        rows = self._connections.read(_RECORDS_OF_EACH, (list(filter(is_text, saga_ids)),))
        return records_of_each(rows, self.codec.cipher)
