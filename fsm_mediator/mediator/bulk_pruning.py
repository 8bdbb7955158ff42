"""Bulk pruning: deletes the executions of a batch with their branches, and writes a result for each execution."""

from __future__ import annotations

import math

from fsm_mediator.errors import RefusedError, UnknownExecutionError
from fsm_mediator.ids import root_of
from fsm_mediator.journal.optional import forgotten_of
from fsm_mediator.journal.protocol import Entry, Journal
from fsm_mediator.journal.retention import for_retention, with_branches
from fsm_mediator.mediator.bulk import BulkResult
from fsm_mediator.states import ENDED


def prune_one(journal: Journal, saga_id: str, at: float) -> BulkResult:
    """Delete an execution that had ended by time *at*, and its branches. Returns the result for the batch.

    An execution that the same batch deleted before an interruption counts as done.

    Raises:
        JournalError: The journal cannot be written, or cannot delete executions by id.
    """
    try:
        return BulkResult(saga_id, done=True, message=_prune(journal, saga_id, at))
    except (RefusedError, UnknownExecutionError) as error:
        return BulkResult(saga_id, done=False, message=str(error))


def _prune(journal: Journal, saga_id: str, at: float) -> str:
    entry = journal.find(saga_id)
    if entry is None:
        return _deleted_before(journal, saga_id)
    _check_ended(entry)
    branches = len(with_branches(journal, entry)) - 1
    if not for_retention(journal).prune_these([saga_id], math.nextafter(at, math.inf)):
        if journal.find(saga_id) is None:
            return _deleted_before(journal, saga_id)
        raise RefusedError(
            f"execution {saga_id!r} ended again after the batch was confirmed, is owned by a driver, or has a branch "
            f"or an operator's verb that is not settled; nothing was deleted. See fsm-mediator show {saga_id}"
        )
    return "deleted" if not branches else f"deleted, with {branches} branches"


def _deleted_before(journal: Journal, saga_id: str) -> str:
    if forgotten_of(journal, saga_id) is None:
        raise UnknownExecutionError(saga_id)
    return "deleted before"


def _check_ended(entry: Entry) -> None:
    saga_id = entry.saga_id
    if entry.acceptance.parent is not None:
        raise RefusedError(f"{saga_id!r} is a branch, and is deleted with its parent: prune {root_of(saga_id)!r}")
    if entry.state not in ENDED:
        raise RefusedError(f"execution {saga_id!r} has not ended, but is in {entry.state!r}; nothing was deleted")
