"""Pruning: deletes executions that ended long ago. Each is deleted with its branches, in its own transaction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from fsm_mediator.journal.attention import ANSWERS_KEPT
from fsm_mediator.journal.postgres import sql
from fsm_mediator.journal.postgres.connections import Connections
from fsm_mediator.journal.storable import is_text

_PAGE: Final = 50
"""The number of ended executions that are read at a time, before they are deleted one by one."""


def prune(
    connections: Connections, before: float, *, saga: str | None, limit: int, forget_ids: bool, token: int
) -> int:
    """Delete ended executions: see `Journal.prune`."""
    earlier = connections.read(sql.PRUNED, (token,)) if token else ()
    deleted: int = sum(count for (count,) in earlier)
    after = -1
    while deleted < limit and (roots := connections.read(sql.PRUNABLE, (after, before, saga, saga, _PAGE))):
        for (root,) in roots:
            after = root
            most = limit - deleted if deleted else None
            whole = _delete(connections, root, most, forget_ids=forget_ids, token=token)
            if whole is None:
                roots = []
                break
            deleted += whole
            if deleted >= limit:
                break
        if not roots:
            break
    while forget_ids and connections.write(f"{sql.FORGET} RETURNING 1", (before, saga, saga)):
        pass
    return deleted


def prune_these(connections: Connections, saga_ids: Sequence[str], before: float) -> int:
    """Delete ended executions by id: see `RetainingJournal.prune_these`."""
    roots = connections.read(sql.PRUNABLE_THESE, (list(filter(is_text, saga_ids)), before))
    deleted = (_delete(connections, root, None, forget_ids=False, token=0, before=before) for (root,) in roots)
    return sum(filter(None, deleted))


def _delete(
    connections: Connections,
    root: int,
    most: int | None,
    *,
    forget_ids: bool,
    token: int,
    before: float | None = None,
) -> int | None:
    """Delete an execution with its branches, unless one of them can still change.

    If *before* is given, and the execution ended at that time or later, nothing is deleted and the result is 0. This
    happens if the execution was undone, and ended again, after it was chosen.

    Returns the number of deleted executions. If the execution and its branches are more than *most* executions, nothing
    is deleted and the result is None.
    """
    with connections.session("written") as session, session.connection.transaction():
        whole = session.execute(sql.WHOLE, (root, root)).fetchall()
        if not whole or any(can_move for _, can_move in whole):
            return 0
        if before is not None and session.execute(sql.ENDED_SINCE, (root, before)).fetchone() is not None:
            return 0
        if most is not None and len(whole) > most:
            return None
        if not forget_ids:
            session.execute(sql.REMEMBER, (root,))
        session.execute(sql.DELETE, {"numbers": [number for number, _ in whole]})
        if token:
            session.execute(sql.COUNT_PRUNED, (ANSWERS_KEPT, token, token, len(whole)))
        return len(whole)
