"""Pruning: delete the keys of transactional steps after their execution has ended."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from fsm_mediator.journal.optional import forgotten_of
from fsm_mediator.journal.protocol import Journal
from fsm_mediator.states import ENDED
from fsm_mediator.transactions.access import Access

BATCH: Final = 500
"""The maximum number of executions whose keys are deleted in one transaction."""


class Pruned(NamedTuple):
    """The result of `Transactions.prune`.

    Attributes:
        deleted: The number of deleted keys.
        open: The number of executions that have not ended. Their keys are kept.
        unknown: The number of executions that the journal never knew. Their keys are kept.
    """

    deleted: int
    open: int
    unknown: int


async def prune_keys(access: Access, journal: Journal, older_than: float) -> Pruned:
    """Delete the keys older than *older_than* seconds whose execution has ended. See `Transactions.prune`."""
    total, after = Pruned(0, 0, 0), ""

    async def prune_batch(session: Any) -> tuple[Pruned, str]:
        """Read the next `BATCH` executions with old keys, and delete the old keys of ended executions.

        Returns:
            The counts for this batch, and its last id. The id is empty if this was the last batch.
        """
        tables = access.tables
        rows = await access.query(session, tables.old, seconds=older_than, after=after, limit=BATCH)
        deleted = still_open = unknown = 0
        for (saga_id,) in rows:
            entry = journal.find(saga_id)
            if entry is None and forgotten_of(journal, saga_id) is None:
                unknown += 1
            elif entry is not None and entry.state not in ENDED:
                still_open += 1
            else:
                deleted += len(await access.query(session, tables.forget, saga_id=saga_id, seconds=older_than))
        return Pruned(deleted, still_open, unknown), rows[-1][0] if len(rows) == BATCH else ""

    while True:
        found, after = await access.transact(prune_batch)
        total = Pruned(*(one + other for one, other in zip(total, found, strict=True)))
        if not after:
            return total
