"""Statements for many rows at a time. One statement for 64 rows costs less than 64 statements for one row."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from sqlite3 import Cursor
from typing import Any, Final

_SIZES: Final = (64, 16, 4, 2, 1)


def of_many(statement: str, row: str) -> dict[int, str]:
    """The statements for 64, 16, 4, 2 rows and for one row, by the number of rows."""
    return {size: statement.format(", ".join([row] * size)) for size in _SIZES}


def many(cursor: Cursor, statement: dict[int, str], rows: Sequence[tuple[Any, ...]]) -> int:
    """Execute a statement for all *rows*, many rows at a time. Returns the number of changed rows."""
    start, left, changed = 0, len(rows), 0
    for size in _SIZES:
        while left >= size:
            end = start + size
            cursor.execute(statement[size], rows[start] if size == 1 else tuple(chain.from_iterable(rows[start:end])))
            changed += cursor.rowcount
            start, left = end, left - size
    return changed
