"""Pruning: deletes executions that ended long ago, in small transactions, and releases their disk space."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from sqlite3 import Cursor
from typing import Any, Final

from fsm_mediator.journal.attention import ANSWERS_KEPT
from fsm_mediator.journal.rows import Row
from fsm_mediator.journal.sqlite import sql

BATCH: Final = 50
"""The number of executions that are deleted in one transaction, so that no writer waits long."""

PAGES: Final = 1000
"""The maximum number of pages that are released in one transaction."""


_PRUNABLE_THESE: Final = """
    SELECT e.number FROM executions e
    WHERE e.saga_id IN (SELECT value FROM json_each(?)) AND e.ended_at < ?
        AND (e.parent IS NULL OR NOT EXISTS (SELECT 1 FROM executions p WHERE p.saga_id = e.parent))"""
_ENDED_SINCE: Final = "SELECT 1 FROM executions WHERE number = ? AND ended_at >= ?"


def prune(
    read: Callable[[str, Sequence[Any]], list[Row]],
    perform: Callable[[Callable[[Cursor], Any]], Any],
    before: float,
    *,
    saga: str | None,
    limit: int,
    forget_ids: bool,
    token: tuple[int, float] | None,
) -> int:
    """Delete executions for `SQLiteJournal.prune`. Returns the number of deleted executions.

    Args:
        read: Returns the rows of a query.
        perform: Calls a function with a cursor, in a transaction.
        before: Only executions that ended before this time, in seconds since the epoch.
        saga: Only executions of the saga with this name.
        limit: The maximum number of executions.
        forget_ids: Whether the deleted ids can be used again. Otherwise the journal keeps a row for each deleted id.
        token: The token of the call, and the time in seconds since the epoch. None if the call has no token.
    """
    earlier = () if token is None else read(sql.PRUNED, token[:1])
    deleted: int = sum(count for (count,) in earlier)
    after = -1
    query, parameters = (sql.PRUNABLE, ()) if saga is None else (sql.PRUNABLE_OF_SAGA, (saga,))
    while deleted < limit:
        numbers: list[int] = []
        batch = 0
        for number, size in read(query, (*parameters, after, before, BATCH)):
            if (numbers and batch + size > BATCH) or ((numbers or deleted) and batch + size > limit - deleted):
                break
            numbers.append(number)
            batch += size
        if not numbers:
            break
        after = numbers[-1]
        deleted += perform(partial(_delete, numbers=numbers, forget_ids=forget_ids, token=token))
    while forget_ids and perform(lambda cursor: cursor.execute(sql.FORGET, (before, saga)).rowcount):
        pass
    while read("PRAGMA freelist_count", ())[0][0] and perform(_give_back):
        pass
    return deleted


def prune_these(
    read: Callable[[str, Sequence[Any]], list[Row]],
    perform: Callable[[Callable[[Cursor], Any]], Any],
    saga_ids: Sequence[str],
    before: float,
) -> int:
    """Delete executions for `SQLiteJournal.prune_these`, each with its branches in one transaction.

    Returns the number of deleted executions.
    """
    deleted = 0
    for (number,) in read(_PRUNABLE_THESE, (sql.as_json(saga_ids), before)):
        deleted += perform(partial(_delete, numbers=(number,), forget_ids=False, token=None, before=before))
    while read("PRAGMA freelist_count", ())[0][0] and perform(_give_back):
        pass
    return deleted


def _delete(
    cursor: Cursor,
    numbers: Sequence[int],
    *,
    forget_ids: bool,
    token: tuple[int, float] | None,
    before: float | None = None,
) -> int:
    """Delete executions with their branches. Returns the number of deleted executions.

    If an execution or a branch is unfinished, neither the execution nor its branches are deleted.

    If *before* is given, and an execution ended at that time or later, it is not deleted. This happens if the execution
    was undone, and ended again, after it was chosen.
    """
    deleted = 0
    for number in numbers:
        whole = cursor.execute(sql.WHOLE, (number,)).fetchall()
        late = before is not None and cursor.execute(_ENDED_SINCE, (number, before)).fetchone() is not None
        if not late and not any(is_unfinished for _, is_unfinished in whole):
            if not forget_ids:
                cursor.execute(sql.REMEMBER, (number,))
            cursor.executemany(sql.PRUNE, [(each,) for each, _ in whole])
            deleted += len(whole)
    if token is not None:
        number, at = token
        cursor.execute(sql.COUNT_PRUNED, (number, deleted, at))
        cursor.execute(sql.FORGET_PRUNED, (at - ANSWERS_KEPT,))
    _give_back(cursor)
    return deleted


def _give_back(cursor: Cursor) -> bool:
    """Release at most `PAGES` free pages of the file to the disk. Returns whether more pages can be released."""
    (free,) = cursor.execute("PRAGMA freelist_count").fetchone()
    for _ in range(min(free, PAGES)):
        cursor.execute("PRAGMA incremental_vacuum(1)")  # sqlite3 makes one step, which releases one page
    (left,) = cursor.execute("PRAGMA freelist_count").fetchone()
    return bool(0 < left < free)
