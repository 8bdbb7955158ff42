"""Claims: give executions to drivers. Many claims take as few statements as one claim.

In a recovery many threads claim at the same time, and the thread that leads the group commit executes all their claims.
The number of statements matters, because each statement releases the interpreter's lock and waits to get it back.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from sqlite3 import Cursor
from typing import Any, TypeAlias

import attrs
import msgspec

from fsm_mediator.ciphers import Cipher
from fsm_mediator.errors import MediatorError, UnknownExecutionError
from fsm_mediator.journal.attention import NOW
from fsm_mediator.journal.protocol import Driver, Entry
from fsm_mediator.journal.rows import Row, entry_of
from fsm_mediator.journal.sqlite import sql
from fsm_mediator.journal.sqlite.leases import SETTLED, IdCache, unknown_driver
from fsm_mediator.journal.storable import is_text

_IsAlive: TypeAlias = Callable[[int, Sequence[Any]], bool]


@attrs.frozen
class Claim:
    """A claim of one execution.

    Attributes:
        saga_id: The execution.
        driver_id: The new owner.
        is_alive: Returns whether the driver with this number and row is alive.
        cipher: Opens the texts of the entry.
    """

    saga_id: str
    driver_id: str
    is_alive: _IsAlive
    cipher: Cipher | None


def execute_claims(cursor: Cursor, ids: IdCache, claims: Sequence[Claim]) -> list[Entry | MediatorError | None]:
    """Give executions to drivers, in a transaction that the caller began.

    Returns:
        One result for each claim. It is the execution's entry, which says whether a dead driver owned the execution. It
        is None if another living driver owns the execution, or if its rows are damaged. It is an error if there is no
        such execution or no such driver.
    """
    results: list[Entry | MediatorError | None] = [None] * len(claims)
    first = {claim.saga_id: index for index, claim in reversed(list(enumerate(claims)))}
    asked = sql.as_json(filter(is_text, first))
    found = {saga_id: row for saga_id, *row in cursor.execute(sql.OWNER_OF_EACH, (asked,)).fetchall()}
    for driver_id in {claim.driver_id for claim in claims}:
        ids.drivers.pop(driver_id, None)  # another process may have dismissed the driver
    alive: dict[int, bool] = {}
    by_driver: defaultdict[int, list[int]] = defaultdict(list)
    claimed: dict[int, tuple[int, bool]] = {}  # by execution: the claim, and whether a dead driver was the owner
    for saga_id, index in first.items():
        number, owner = found.get(saga_id, (None, None))
        own = None if number is None else ids.driver(cursor, claims[index].driver_id)
        if number is None:
            results[index] = UnknownExecutionError(f"the journal knows no execution {saga_id!r}")
        elif own is None:
            results[index] = unknown_driver(claims[index].driver_id)
        elif owner == own:  # the answer to an earlier claim was lost
            claimed[number] = index, bool(cursor.execute(sql.CLAIMED, (number,)).fetchone()[0])
        elif owner is None or not _is_alive(cursor, owner, alive, claims[index].is_alive):
            claimed[number] = index, owner is not None
            by_driver[own].append(number)
    abandoned = sql.as_json(number for number, (_, was_owned) in claimed.items() if was_owned)
    for own, numbers in by_driver.items():
        cursor.execute(sql.CLAIM_ALL, (own, abandoned, sql.as_json(numbers)))
    entries = _claimed_entries(cursor, claimed, claims[0].is_alive, claims[0].cipher) if claimed else {}
    for number, (index, was_owned) in claimed.items():
        entry = entries.get(number)  # None: its rows are damaged
        results[index] = None if entry is None else msgspec.structs.replace(entry, abandoned=was_owned)
    for index, claim in enumerate(claims):
        if first[claim.saga_id] != index:  # a second claim of an execution sees the effect of the first
            (results[index],) = execute_claims(cursor, ids, (claim,))
    return results


def find_claimable(
    read: Callable[[str, Sequence[Any]], list[Row]], dead: Iterable[int], at: float, limit: int, skip: str, leave: str
) -> list[tuple[int, int | None]]:
    """The number and owner of each execution that `Journal.claim_some` claims, in the order of the claims.

    Args:
        read: Executes a query.
        dead: The numbers of dead drivers.
        at: The time, in seconds since the epoch.
        limit: The maximum number of executions.
        skip: The fingerprints of definitions that are skipped, as JSON.
        leave: The ids of executions that are left out, as JSON.
    """
    found: list[Row] = []
    for owner in dead:
        for attention in (None, NOW):
            found += read(sql.ABANDONED, (owner, skip, *SETTLED, leave, attention, limit))
    found = sorted(found)[:limit]
    for query, *time in ((sql.FREE_NOW,), (sql.FREE_DUE, at), (sql.FREE_PENDING,)):
        if len(found) < limit:
            found += read(query, (*time, skip, leave, limit - len(found)))
    return [(number, owner) for number, owner in found]


def claim_some(
    cursor: Cursor,
    ids: IdCache,
    driver_id: str,
    is_alive: Callable[[int, Sequence[Any]], bool],
    cipher: Cipher | None,
    at: float,
    limit: int,
    skip: str,
    leave: str,
) -> list[Entry]:
    """Give the executions that `find_claimable` finds to a driver. Returns their entries.

    Raises:
        LeaseLostError: There is no such driver.
    """
    ids.drivers.pop(driver_id, None)
    own = ids.driver(cursor, driver_id)
    if own is None:
        raise unknown_driver(driver_id)
    drivers = {number: row for number, *row in cursor.execute(sql.OWNERS).fetchall()}
    dead = [number for number, row in drivers.items() if number != own and not is_alive(number, row)]

    def read(query: str, parameters: Sequence[Any]) -> list[Row]:
        return cursor.execute(query, parameters).fetchall()

    owners = dict(find_claimable(read, dead, at, limit, skip, leave))
    if not owners:
        return []
    abandoned = sql.as_json(number for number, owner in owners.items() if owner is not None)
    cursor.execute(sql.CLAIM_ALL, (own, abandoned, sql.as_json(owners)))
    entries = _claimed_entries(cursor, owners, is_alive, cipher)
    return [msgspec.structs.replace(entries[each], abandoned=owners[each] is not None) for each in owners]


def _claimed_entries(
    cursor: Cursor, numbers: Iterable[int], is_alive: _IsAlive, cipher: Cipher | None
) -> dict[int, Entry]:
    """The entries of the executions with these *numbers*, by number. Each execution must have an owner."""
    entries = {}
    owners: dict[int, tuple[Driver, bool]] = {}
    for row in cursor.execute(sql.LISTED, (sql.as_json(numbers),)).fetchall():
        own, owner = row[13], row[sql.OF_OWNER :]
        if own not in owners:
            owners[own] = Driver(*owner[2:]), is_alive(own, owner)
        entries[row[0]] = entry_of(row[: sql.OF_OWNER], *owners[own], cipher=cipher)
    return entries


def _is_alive(cursor: Cursor, number: int, known: dict[int, bool], is_alive: _IsAlive) -> bool:
    if number not in known:
        row = cursor.execute(sql.DRIVER_ROW, (number,)).fetchone()
        known[number] = row is not None and is_alive(number, row)
    return known[number]
