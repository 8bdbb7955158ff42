"""The check: a succeeded saga changed every table, a failed saga changed none.

It reads the tables of the services with sqlite3, without the code of the services or of the steps.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, TypeAlias

import attrs

from examples.profile_sync.changes import original

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from examples.profile_sync.changes import Line, ProfileChange

Row: TypeAlias = "tuple[object, ...]"

# One row per user, for each service.
QUERIES = {
    "auth": "SELECT user_id, email FROM accounts",
    "billing": """
        SELECT user_id, plan,
               coalesce(sum(CASE entry WHEN 'charge' THEN cents WHEN 'refund' THEN -cents END), 0),
               coalesce(sum(CASE entry WHEN 'charge' THEN 1 WHEN 'refund' THEN -1 END), 0)
        FROM subscriptions LEFT JOIN book USING (user_id) GROUP BY user_id
    """,
    "notification": "SELECT user_id, group_concat(message, ' | ') FROM inbox GROUP BY user_id",
    "ui_cache": "SELECT user_id, display_name, badge FROM pages",
}


@attrs.frozen
class Mismatch:
    """A row that does not match the outcome of a saga.

    Attributes:
        saga_id: The saga; empty for a user without a saga.
        participant: The service.
        expected: The expected row; None for no row.
        found: The actual row; None for no row.
    """

    saga_id: str
    participant: str
    expected: object
    found: object

    def __str__(self) -> str:
        return f"{self.saga_id or '-'}: {self.participant} should hold {self.expected!r}, but holds {self.found!r}"


def check(folder: Path, lines: Iterable[Line], states: Mapping[str, str]) -> list[Mismatch]:
    """Compares the table of every service with the final state of each saga (by saga id).

    A saga that has not ended is a mismatch, and so is a row of a user without a line.
    """
    lines = list(lines)
    mismatches = [
        Mismatch(line.saga_id, "mediator", "succeeded or failed", states.get(line.saga_id))
        for line in lines
        if states.get(line.saga_id) not in {"succeeded", "failed"}
    ]
    for participant in QUERIES:
        found = _read(folder, participant)
        for line in lines:
            state = states.get(line.saga_id)
            if state in {"succeeded", "failed"}:
                expected = _expected(participant, line.change, changed=state == "succeeded")
                row = found.get(line.change.user_id)
                if row != expected:
                    mismatches.append(Mismatch(line.saga_id, participant, expected, row))
        unexpected = found.keys() - {line.change.user_id for line in lines}
        mismatches += [Mismatch("", participant, None, (user_id, *found[user_id])) for user_id in sorted(unexpected)]
    return mismatches


def _expected(participant: str, change: ProfileChange, *, changed: bool) -> Row | None:
    profile = change if changed else original(change.user_id)
    rows: dict[str, Row | None] = {
        "auth": (profile.email,),
        "billing": (profile.plan, change.cents if changed else 0, int(changed)),
        "notification": (change.message,) if changed else None,
        "ui_cache": (profile.display_name, profile.plan),
    }
    return rows[participant]


def _read(folder: Path, participant: str) -> dict[int, Row]:
    path = folder / f"{participant}.db"
    if not path.exists():
        return {}
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as db:
        return {row[0]: tuple(row[1:]) for row in db.execute(QUERIES[participant])}
