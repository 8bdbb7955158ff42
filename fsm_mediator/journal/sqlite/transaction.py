"""Transaction: the jobs of a group, done on one connection: all that can be, in one commit, or nothing.

A job that is refused before it changed anything leaves the others as they are. One that fails half-way makes the group
be done again, each job within a savepoint of its own: that is rare, and nobody pays for savepoints but then.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from fsm_mediator.errors import MediatorError
from fsm_mediator.journal.sqlite.errors import ERRORS, fault, is_of_one
from fsm_mediator.journal.sqlite.group_commit import Waiter

Job: TypeAlias = Callable[[sqlite3.Cursor], Any]
"""Does something within a transaction, and returns what came of it; raises a `MediatorError` to refuse it."""


class Batched:
    """A job that is done together with others of its kind, in few statements.

    Each statement lets go of the interpreter's lock, and waits to have it again: in a crowd of threads that costs
    several times what the statement does.
    """

    __slots__ = ()

    def alone(self, cursor: sqlite3.Cursor) -> Any:
        """Do it in one statement, without a transaction around it; None, and nothing was done: it takes one."""
        raise NotImplementedError

    def together(self, cursor: sqlite3.Cursor, jobs: Sequence[Any]) -> list[Any]:
        """Do *jobs*, all of this kind, within a transaction: of each, what came of it, or why it was refused."""
        raise NotImplementedError

    def __call__(self, cursor: sqlite3.Cursor) -> Any:
        """Do it within a transaction."""
        (result,) = self.together(cursor, (self,))
        if isinstance(result, MediatorError):
            raise result
        return result


class _HalfDone(Exception):  # noqa: N818 - it never leaves this file
    """A job failed after it had changed something."""


def perform(
    cursor: sqlite3.Cursor,
    tickets: Sequence[Waiter[Job]],
    *,
    path: str,
    busy_timeout: float,
    undone: Callable[[], None],
) -> bool:
    """Do the jobs of *tickets* in one transaction, and give each its results, or all the same failure.

    Args:
        cursor: Of a connection that is used by nobody else meanwhile.
        tickets: What to do, and where to leave what came of it.
        path: The journal's file, for messages.
        busy_timeout: How many seconds the connection waits for locks, for messages.
        undone: Called after something was rolled back: what was learned from it may not be so.

    Returns:
        Whether the connection can be used further.

    Raises:
        BaseException: What interrupted it; the transaction was rolled back, unless it had been committed by then.
    """
    committing = False
    results: list[Any] = []
    jobs = tickets[0].jobs if len(tickets) == 1 else [job for ticket in tickets for job in ticket.jobs]
    try:
        cursor.execute("BEGIN IMMEDIATE")
        try:
            results = _done(cursor, jobs)
        except _HalfDone:
            cursor.execute("ROLLBACK")
            undone()
            cursor.execute("BEGIN IMMEDIATE")
            results = [_done_apart(cursor, job, path, undone) for job in jobs]
        committing = True
        cursor.execute("COMMIT")
        _hand_out(tickets, results)
    except ERRORS as error:
        usable = rolled_back(cursor.connection)
        undone()
        for ticket in tickets:
            ticket.failure = fault(error, path, "written", busy_timeout)
        return usable
    except BaseException:
        if committing and not cursor.connection.in_transaction:
            _hand_out(tickets, results)
        else:
            rolled_back(cursor.connection)
            undone()
        raise
    return True


def _hand_out(tickets: Sequence[Waiter[Job]], results: list[Any]) -> None:
    start = 0
    for ticket in tickets:
        end = start + len(ticket.jobs)
        ticket.results = results[start:end]
        start = end


def _done(cursor: sqlite3.Cursor, jobs: Sequence[Job]) -> list[Any]:
    connection = cursor.connection
    results: list[Any] = [None] * len(jobs)
    batch = [number for number, job in enumerate(jobs) if isinstance(job, Batched)]
    changes = connection.total_changes
    try:
        if batch:
            some: Any = jobs[batch[0]]
            for number, result in zip(batch, some.together(cursor, [jobs[each] for each in batch]), strict=True):
                results[number] = result
        if len(batch) < len(jobs):
            for number, job in enumerate(jobs):
                if not isinstance(job, Batched):
                    changes = connection.total_changes
                    try:
                        results[number] = job(cursor)
                    except MediatorError as refusal:
                        if connection.total_changes != changes:
                            raise _HalfDone from None
                        results[number] = refusal
    except ERRORS as error:
        if is_of_one(error):
            raise _HalfDone from None
        raise
    return results


def _done_apart(cursor: sqlite3.Cursor, job: Job, path: str, undone: Callable[[], None]) -> Any:
    cursor.execute("SAVEPOINT job")
    try:
        result = job(cursor)
    except MediatorError as refusal:
        cursor.execute("ROLLBACK TO job")
        undone()
        result = refusal
    except ERRORS as error:
        if not is_of_one(error):
            raise
        cursor.execute("ROLLBACK TO job")
        undone()
        result = fault(error, path, "written")
    cursor.execute("RELEASE job")
    return result


def rolled_back(connection: sqlite3.Connection) -> bool:
    """Roll back what is under way, if anything is; whether the connection can be used further."""
    try:
        if connection.in_transaction:
            connection.rollback()
    except sqlite3.Error:
        return False
    return True
