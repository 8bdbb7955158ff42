"""The usual commit as one statement. It opens an execution, or adds records to an execution with an empty inbox.

If there are few records, each value is a separate parameter. Arrays would cost more: the client takes longer to write
them than all other parameters, and the server has to unpack each array.
"""

from __future__ import annotations

import functools
from typing import Any, Final

from fsm_mediator.journal.attention import next_attention_at
from fsm_mediator.journal.postgres import sql
from fsm_mediator.journal.protocol import Commit
from fsm_mediator.journal.rows import Row
from fsm_mediator.states import ENDED

FEW: Final = 4
"""The maximum number of records that are written as separate parameters. Each number of records is another prepared
statement.
"""

_COLUMNS: Final = {"seq": "int", "event": "text", "source": "text", "target": "text", "at": "float8", "details": "text"}


def usual_statement(commit: Commit, rows: list[Row], owner: str | None) -> tuple[str, dict[str, Any]]:
    """The statement, with its parameters, that writes a usual commit.

    The statement changes nothing if the execution is not as the driver knows it.

    Args:
        commit: The commit, which only adds records.
        rows: The rows of its records.
        owner: The driver that owns the execution afterwards.
    """
    acceptance = commit.acceptance
    last, _, _, state, changed_at, _ = rows[-1]
    awaits = commit.awaits and acceptance is None
    parameters = {
        "saga_id": commit.saga_id,
        "state": state,
        "changed_at": changed_at,
        "last": last,
        "owner": owner,
        "wake_at": commit.wake_at,
        "attention": next_attention_at(state, owner is not None, 0, commit.wake_at, awaits=awaits),
        "ended_at": changed_at if owner is None and state in ENDED else None,
    }
    if acceptance is not None:
        for name in ("saga", "version", "fingerprint", "deadline_at", "parent"):
            parameters[name] = getattr(acceptance, name)
        return _with_records(sql.OPEN, rows, parameters)
    total, here = commit.recoveries or (None, None)
    parameters |= {"driver": commit.driver, "epoch": commit.epoch, "before": rows[0][0] - 1}
    parameters |= {"recoveries": total, "recoveries_here": here}
    return _with_records(sql.GO_ON if commit.slot is None else sql.GO_ON_WITHOUT_SLOT, rows, parameters)


def _with_records(statement: str, rows: list[Row], parameters: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Add the records in *rows* to *statement* and *parameters*. Returns the new statement and parameters."""
    if len(rows) > FEW:
        columns = zip(_COLUMNS, zip(*rows, strict=True), strict=True)
        return statement, parameters | {f"all_{name}": list(values) for name, values in columns}
    for number, row in enumerate(rows):
        for name, value in zip(_COLUMNS, row, strict=True):
            parameters[f"{name}{number}"] = value
    return _of_few(statement, len(rows)), parameters


@functools.lru_cache(maxsize=64)
def _of_few(statement: str, count: int) -> str:
    """Return *statement* with its arrays of records replaced by separate parameters for *count* records."""
    rows = (", ".join(f"%({name}{number})s::{kind}" for name, kind in _COLUMNS.items()) for number in range(count))
    return statement.replace(sql.NEW_RECORDS, f"(VALUES ({'), ('.join(rows)})) AS r")
