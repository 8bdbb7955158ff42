"""Pruning: executions that ended long ago are deleted, in small transactions, and their disk space is given back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from sqlite3 import Cursor
from typing import Any, Final

from fsm_mediator.journal.rows import Row
from fsm_mediator.journal.sqlite import sql

BATCH: Final = 50
"""Executions that are deleted in one transaction, so that no writer waits long."""

PAGES: Final = 1000
"""The most pages that are given back in one transaction."""


def prune(
    read: Callable[[str, Sequence[Any]], list[Row]],
    perform: Callable[[Callable[[Cursor], Any]], Any],
    before: float,
    *,
    saga: str | None,
    limit: int,
    forget_ids: bool,
) -> int:
    """Delete executions for `SQLiteJournal.prune`. Returns how many.

    Args:
        read: Reads rows.
        perform: Has a function called with a cursor, within a transaction.
        before: As for `Journal.prune`, like the others.
        saga: The name of their saga.
        limit: At most so many.
        forget_ids: Whether nothing is kept of them.
    """
    deleted, after = 0, -1
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
        deleted += perform(partial(_delete, numbers=numbers, forget_ids=forget_ids))
    while forget_ids and perform(lambda cursor: cursor.execute(sql.FORGET, (before, saga)).rowcount):
        pass
    while read("PRAGMA freelist_count", ())[0][0] and perform(_give_back):
        pass
    return deleted


def _delete(cursor: Cursor, numbers: Sequence[int], *, forget_ids: bool) -> int:
    """Delete executions with their branches, unless one of these was claimed again. Returns how many."""
    deleted = 0
    for number in numbers:
        whole = cursor.execute(sql.WHOLE, (number,)).fetchall()
        if not any(is_unfinished for _, is_unfinished in whole):
            if not forget_ids:
                cursor.execute(sql.REMEMBER, (number,))
            cursor.executemany(sql.PRUNE, [(each,) for each, _ in whole])
            deleted += len(whole)
    _give_back(cursor)
    return deleted


def _give_back(cursor: Cursor) -> bool:
    """Give some of the file's free pages back. Returns whether there are more, and they can be given back."""
    (free,) = cursor.execute("PRAGMA freelist_count").fetchone()
    for _ in range(min(free, PAGES)):
        cursor.execute("PRAGMA incremental_vacuum(1)")  # sqlite3 takes one step of it, which is one page
    (left,) = cursor.execute("PRAGMA freelist_count").fetchone()
    return bool(0 < left < free)
