"""Pruning: executions that ended long ago are deleted, in small transactions, and their disk space is given back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from sqlite3 import Cursor
from typing import Any, Final

from fsm_mediator.journal.rows import ANSWERS_KEPT, Row
from fsm_mediator.journal.sqlite import sql

BATCH: Final = 50
"""Executions that are deleted in one transaction, so that no writer waits long."""

PAGES: Final = 1000
"""The most pages that are given back in one transaction."""


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
    """Delete executions for `SQLiteJournal.prune`. Returns how many.

    Args:
        read: Reads rows.
        perform: Has a function called with a cursor, within a transaction.
        before: As for `Journal.prune`, like the others.
        saga: The name of their saga.
        limit: At most so many.
        forget_ids: Whether nothing is kept of them.
        token: The call's token, and the time.
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
    """Delete executions for `SQLiteJournal.prune_these`, each with its branches in a transaction. Returns how many."""
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
    """Delete executions with their branches, unless one of these was claimed again. Returns how many.

    *before*: unless one has ended again since that time.
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
    """Give some of the file's free pages back. Returns whether there are more, and they can be given back."""
    (free,) = cursor.execute("PRAGMA freelist_count").fetchone()
    for _ in range(min(free, PAGES)):
        cursor.execute("PRAGMA incremental_vacuum(1)")  # sqlite3 takes one step of it, which is one page
    (left,) = cursor.execute("PRAGMA freelist_count").fetchone()
    return bool(0 < left < free)
