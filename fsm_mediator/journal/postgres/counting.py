"""CountedChanges: the changes of a PostgreSQL journal, without values and with deletions, for a side store.

Changes come in the order of `ChangeOrder`. A trigger stores the deletions that follow the first call of `moves`.
"""

# ruff: noqa: S608 - statements are put together from constants; values are always parameters

from __future__ import annotations

from typing import Final

from fsm_mediator.errors import JournalError
from fsm_mediator.journal.following import REMOVED, Move, places_in
from fsm_mediator.journal.postgres.finding import without_escapes
from fsm_mediator.journal.postgres.following import ChangeOrder

_REMOVAL: Final = 2**31 - 1
"""The number in a cursor that stands for a deletion. It is above all numbers of records: a deletion comes last."""

_ENDS: Final = """
    SELECT txid_snapshot_xmin(txid_current_snapshot()) - 1, txid_snapshot_xmax(txid_current_snapshot()) - 1"""
_IS_ON: Final = "SELECT is_on FROM journal.counting"
_TURN_ON: Final = "UPDATE journal.counting SET is_on = true WHERE NOT is_on"
_OF_RECORDS: Final = "transaction >= %(low)s AND (transaction, execution, seq) > (%(last)s, %(execution)s, %(seq)s)"
_OF_REMOVED: Final = f"""
    transaction >= %(low)s AND (transaction, execution, {_REMOVAL}) > (%(last)s, %(execution)s, %(seq)s)"""
_DETAILS: Final = without_escapes("r.details")
MOVES: Final = f"""
    SELECT m.transaction, m.execution, m.seq, e.saga_id, e.saga, e.version, (e.parent IS NOT NULL)::int,
        r.event, r.source, r.target, r.at, d.details ->> 'step', d.details -> 'error' ->> 0,
        coalesce(d.details ->> 'in_doubt' = 'true', false)::int
    FROM (
            SELECT transaction, execution, seq FROM journal.records
            WHERE {_OF_RECORDS} AND transaction < %(high)s
            UNION ALL
            SELECT transaction, execution, {_REMOVAL} FROM journal.removed
            WHERE {_OF_REMOVED} AND transaction < %(high)s
            ORDER BY 1, 2, 3 LIMIT %(limit)s
        ) AS m
        LEFT JOIN journal.executions e ON e.number = m.execution AND m.seq < {_REMOVAL}
        LEFT JOIN journal.records r ON r.execution = e.number AND r.seq = m.seq
        LEFT JOIN LATERAL (
            SELECT CASE WHEN r.seq > 0 AND journal.is_json({_DETAILS}) THEN {_DETAILS}::json END AS details
            OFFSET 0 -- so that the details are decoded once
        ) AS d ON true
    ORDER BY 1, 2, 3"""
# This query uses min. With EXISTS, the server would expect many rows, and scan the table from its beginning.
CHANGED: Final = f"""
    SELECT min(transaction) FROM (
        SELECT transaction FROM journal.records WHERE {_OF_RECORDS} AND transaction < %(high)s
        UNION ALL
        SELECT transaction FROM journal.removed WHERE {_OF_REMOVED} AND transaction < %(high)s
    ) AS later"""

_FOREIGN: Final = f"SELECT min(transaction) FROM journal.records WHERE transaction > %s AND transaction < {2**62}"
_IDENTITY: Final = """
    SELECT c.oid::bigint FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = %s AND c.relname = 'executions'"""

MAY_READ: Final = """
    SELECT 1 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = %s AND c.relname = %s AND has_schema_privilege(n.oid, 'USAGE')
        AND has_table_privilege(c.oid, 'SELECT')"""


class CountedChanges(ChangeOrder):
    """The methods with which `PostgresJournal` returns its changes without values: see `CountedJournal`."""

    read_only: bool

    def moves(self, after: str = "", limit: int = 1000) -> list[Move]:
        """The changes after a cursor, without values: see `CountedJournal.moves`.

        The first call for a journal needs write access to the table ``counting``.
        """
        place = places_in(after or "0:0:0", 3)
        ((is_on,),) = self._connections.read(_IS_ON)
        if not is_on:
            if self.read_only:
                raise JournalError(
                    f"the journal {self._connections.address.shown!r} was never counted, and was opened only for "
                    f"reading. Next: fsm-mediator stats --refresh"
                )
            self._connections.write(_TURN_ON, ())
        if not after:
            self._check_numbers()
        end = self.decided() + 1
        low, step = place[0], limit
        found: list[Move] = []
        while low < end and len(found) < limit:
            high = min(end, low + step)
            page = self._page(place, low, high, limit - len(found))
            found += page
            low, step = high, step if page else 8 * step
        return found

    def _check_numbers(self) -> None:
        """Check that the transaction numbers in the records are numbers of this server.

        Raises:
            JournalError: A record has a transaction number that this server has not given yet.
        """
        ((found,),) = self._connections.read(_FOREIGN, (self.last_change(),))
        if found is not None:
            schema = self._connections.schema
            raise JournalError(
                f"the journal {self._connections.address.shown!r} cannot be counted: its records have "
                f"transaction numbers of another server, as after a restore from a dump. Next: UPDATE {schema}.records "
                f"SET transaction = txid_current(), then fsm-mediator stats --rebuild"
            )

    def _page(self, place: list[int], low: int, high: int, limit: int) -> list[Move]:
        last, execution, seq = place
        chosen = {"low": low, "high": high, "last": last, "execution": execution, "seq": seq, "limit": limit}
        empty = ("", "", "", 0, "", "", "", 0.0, None, None, 0)
        return [
            Move(
                f"{transaction}:{number}:{seq}",
                number,
                REMOVED if seq == _REMOVAL else seq,
                *(more if more[0] is not None else empty),
            )
            for transaction, number, seq, *more in self._connections.read(MOVES, chosen)
        ]

    def last_change(self) -> int:
        """The number of the last change: see `CountedJournal.last_change`."""
        ((_, newest),) = self._connections.read(_ENDS)
        return int(newest)

    def decided(self) -> int:
        """The number up to which no further change can appear: see `CountedJournal.decided`.

        An open transaction that has a number keeps the result below its number.
        """
        ((decided, _),) = self._connections.read(_ENDS)
        return int(decided)

    def identity(self) -> str:
        """A text that no other journal in this database has, not even a later journal in a schema of the same name."""
        ((number,),) = self._connections.read(_IDENTITY, (self._connections.schema,))
        return str(number)

    def may_read(self, schema: str, table: str) -> bool:
        """Whether the table exists and the database user may read it."""
        return bool(self._connections.read(MAY_READ, (schema, table)))

    def is_changed(self, after: str) -> bool:
        """Whether any change follows a cursor: see `CountedJournal.is_changed`. Changes above `decided` count too."""
        last, execution, seq = places_in(after or "0:0:0", 3)
        chosen = {"last": last, "execution": execution, "seq": seq}
        low, end, step = last, self.last_change() + 1, 1000
        while low < end:
            high = min(end, low + step)
            ((found,),) = self._connections.read(CHANGED, {**chosen, "low": low, "high": high})
            if found is not None:
                return True
            low, step = high, 8 * step
        return False
