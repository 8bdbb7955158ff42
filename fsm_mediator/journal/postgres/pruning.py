"""Pruning: executions that ended long ago are deleted with their branches, each whole in a transaction of its own."""

from __future__ import annotations

from typing import Final

from fsm_mediator.journal.postgres import sql
from fsm_mediator.journal.postgres.connections import Connections

_PAGE: Final = 50
"""Executions that are looked for at a time."""


def prune(connections: Connections, before: float, *, saga: str | None, limit: int, forget_ids: bool) -> int:
    """As `Journal.prune`."""
    deleted, after = 0, -1
    while deleted < limit and (roots := connections.read(sql.PRUNABLE, (after, before, saga, saga, _PAGE))):
        for (root,) in roots:
            after = root
            whole = _delete(connections, root, limit - deleted if deleted else None, forget_ids=forget_ids)
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


def _delete(connections: Connections, root: int, most: int | None, *, forget_ids: bool) -> int | None:
    """Delete an execution with its branches, unless one of these can move. Returns how many; None: more than *most*."""
    with connections.session("written") as session, session.connection.transaction():
        whole = session.execute(sql.WHOLE, (root, root)).fetchall()
        if not whole or any(can_move for _, can_move in whole):
            return 0
        if most is not None and len(whole) > most:
            return None
        if not forget_ids:
            session.execute(sql.REMEMBER, (root,))
        session.execute(sql.DELETE, {"numbers": [number for number, _ in whole]})
        return len(whole)
