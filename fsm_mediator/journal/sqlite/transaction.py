"""Transaction: does the jobs of a group commit in one transaction, on one connection.

A job that is refused before it has changed anything does not affect the other jobs. If a job fails after it has changed
something, the whole group is repeated with a savepoint around each job. This is rare, so savepoints usually cost
nothing.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

from fsm_mediator.errors import MediatorError
from fsm_mediator.journal.group_commit import Waiter, set_results
from fsm_mediator.journal.sqlite.batch import execute_batch
from fsm_mediator.journal.sqlite.claims import Claim, execute_claims
from fsm_mediator.journal.sqlite.commit import Write
from fsm_mediator.journal.sqlite.errors import ERRORS, is_busy, is_statement_error, to_journal_error
from fsm_mediator.journal.sqlite.leases import IdCache

PAUSE: Final = 0.0005
"""Seconds between two attempts to begin while another process writes."""

Job: TypeAlias = Write | Claim | Callable[[sqlite3.Cursor], Any]
"""A commit, a claim, or a function that does its work within a transaction and returns the result.

The function raises a `MediatorError` to refuse the job.
"""


class _HalfDone(Exception):  # noqa: N818 - it never leaves this file
    """A job failed after it had changed something."""


def perform(
    cursor: sqlite3.Cursor, waiters: Sequence[Waiter[Job]], ids: IdCache, *, path: str, busy_timeout: float
) -> None:
    """Do the jobs of *waiters* in one transaction, and set their results, or the same failure for all of them.

    After this call the caller must roll back any transaction that is still open.

    Args:
        cursor: A cursor of a connection that no other thread uses meanwhile.
        waiters: The jobs, and the places for their results.
        ids: A cache of numbers. It is cleared if something is rolled back.
        path: The journal's file, for messages.
        busy_timeout: The seconds for which the connection waits for locks, for messages.

    Raises:
        BaseException: An interrupt. Nothing was done, unless the transaction was already committed.
    """
    committing = False
    results: list[Any] = []
    jobs = waiters[0].jobs if len(waiters) == 1 else [job for waiter in waiters for job in waiter.jobs]
    try:
        _begin(cursor, busy_timeout)
        try:
            results = _do_all(cursor, jobs, ids)
        except _HalfDone:
            cursor.execute("ROLLBACK")
            ids.clear()
            _begin(cursor, busy_timeout)
            results = [_do_in_savepoint(cursor, job, ids, path) for job in jobs]
        committing = True
        cursor.execute("COMMIT")
        set_results(waiters, results)
    except ERRORS as error:
        ids.clear()
        for waiter in waiters:
            waiter.failure = to_journal_error(error, path, "written", busy_timeout)
    except BaseException:
        if committing and not cursor.connection.in_transaction:
            set_results(waiters, results)
        else:
            ids.clear()
        raise


def _begin(cursor: sqlite3.Cursor, busy_timeout: float) -> None:
    """Begin a transaction, as soon as no other process writes.

    SQLite's own wait tries again after 1, 2, 5, 10 ... ms. With these long pauses the lock would be free for most of
    the time, even if several processes always want to write.
    """
    until: float | None = None
    while True:
        try:
            cursor.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            now = time.monotonic()
            until = now + busy_timeout if until is None else until
            if not is_busy(error) or now >= until:
                raise
            time.sleep(PAUSE)
        else:
            return


def _do_all(cursor: sqlite3.Cursor, jobs: Sequence[Job], ids: IdCache) -> list[Any]:
    try:
        writes = [job for job in jobs if isinstance(job, Write)]
        if len(writes) == len(jobs):  # the usual case
            return execute_batch(cursor, ids, writes)
        return _do_each_kind(cursor, jobs, ids)
    except ERRORS as error:
        if is_statement_error(error):
            raise _HalfDone from None
        raise


def _do_each_kind(cursor: sqlite3.Cursor, jobs: Sequence[Job], ids: IdCache) -> list[Any]:
    connection = cursor.connection
    results: list[Any] = [None] * len(jobs)
    writes = {index: job for index, job in enumerate(jobs) if isinstance(job, Write)}
    claims = {index: job for index, job in enumerate(jobs) if isinstance(job, Claim)}
    if writes:
        for index, result in zip(writes, execute_batch(cursor, ids, list(writes.values())), strict=True):
            results[index] = result
    if claims:
        for index, entry in zip(claims, execute_claims(cursor, ids, list(claims.values())), strict=True):
            results[index] = entry
    for index, job in enumerate(jobs):
        if isinstance(job, (Write, Claim)):
            continue
        changes = connection.total_changes
        try:
            results[index] = job(cursor)
        except MediatorError as refusal:
            if connection.total_changes != changes:
                raise _HalfDone from None
            results[index] = refusal
    return results


def _do_in_savepoint(cursor: sqlite3.Cursor, job: Job, ids: IdCache, path: str) -> Any:
    cursor.execute("SAVEPOINT job")
    try:
        result = _do(cursor, job, ids)
    except (MediatorError, *ERRORS) as error:
        if not isinstance(error, MediatorError) and not is_statement_error(error):
            raise
        cursor.execute("ROLLBACK TO job")
        ids.clear()
        result = error if isinstance(error, MediatorError) else to_journal_error(error, path, "written")
    cursor.execute("RELEASE job")
    return result


def _do(cursor: sqlite3.Cursor, job: Job, ids: IdCache) -> Any:
    if isinstance(job, Write):
        (result,) = execute_batch(cursor, ids, (job,))
        return result
    if isinstance(job, Claim):
        (result,) = execute_claims(cursor, ids, (job,))
        return result
    return job(cursor)
