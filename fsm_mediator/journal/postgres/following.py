"""ChangeOrder: the changes of a PostgreSQL journal, in the order of the transactions that wrote them.

Transactions are numbered when they begin to write, but may commit in another order. Therefore only rows of
transactions older than the oldest open transaction are read. A transaction that stays open, of any user of the same
server, delays the followers, but no change is lost.
"""

from __future__ import annotations

from fsm_mediator.journal.following import Change, places_in
from fsm_mediator.journal.postgres import sql
from fsm_mediator.journal.postgres.operators import OperatorTables
from fsm_mediator.journal.rows import record_of


class ChangeOrder(OperatorTables):
    """The methods with which `PostgresJournal` returns its changes in order: see `FollowedJournal`."""

    def changes(self, after: str = "", limit: int = 1000) -> list[Change]:
        """The changes after a cursor: see `FollowedJournal.changes`.

        Rows are read in growing ranges, so that no query sorts the whole table.
        """
        place = places_in(after or "0:0:0", 3)
        ((decided,),) = self._connections.read(sql.DECIDED)
        low, step = place[0], limit
        while low < decided:
            high = min(decided, low + step)
            rows = self._connections.read(sql.CHANGES, (low, high, *place, limit))
            if rows:
                return [
                    Change(
                        f"{transaction}:{number}:{row[0]}",
                        saga_id,
                        record_of(tuple(row), saga_id, saga, self.codec.cipher) if row[0] else None,
                    )
                    for transaction, number, saga_id, saga, *row in rows
                ]
            low, step = high, 8 * step
        return []
