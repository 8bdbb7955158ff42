"""Abandoning: a person closes an execution that no driver can drive. A record is written; nothing is undone.

Abandoning needs no definition, because the record is not a transition of the saga's machine. A replay accepts the
record in any state.
"""

from __future__ import annotations

from collections.abc import Iterator

from fsm_mediator.errors import AlreadyDrivenError, JournalError, RefusedError, SagaAbandonedError
from fsm_mediator.ids import is_branch, root_of
from fsm_mediator.journal.liveness import this_driver
from fsm_mediator.journal.operators import Drivability
from fsm_mediator.journal.protocol import Commit, Entry, Journal
from fsm_mediator.records import Failure, Record
from fsm_mediator.states import ABANDON, ENDED, FAILED, PENDING, SUCCEEDED, WAITING, path_of, phase_of


def abandon(journal: Journal, entry: Entry, reason: str, at: float, actor: str | None = None) -> list[str]:
    """Close an undrivable execution as given up, together with all its branches that have not ended.

    Args:
        journal: The journal that keeps the execution.
        entry: The execution.
        reason: The reason, as text. The reason is journaled.
        at: The time, in seconds since the epoch.
        actor: The name of the person who gives the execution up.

    Returns:
        The ids of the executions that were closed.

    Raises:
        RefusedError: The execution has ended, is a branch, or can be driven by a living driver. Nothing was changed.
        AlreadyDrivenError: A living driver owns the execution or one of its branches.
    """
    saga_id = entry.saga_id
    if entry.state in ENDED:
        raise RefusedError(f"execution {saga_id!r} has ended in {entry.state!r}: it cannot be given up")
    if is_branch(saga_id):
        raise RefusedError(f"{saga_id!r} is a branch, and cannot be given up by itself: give up {root_of(saga_id)!r}")
    if Drivability(journal).why_not(entry) is None:
        raise RefusedError(
            f"execution {saga_id!r} can be driven, or this journal cannot tell. To compensate it, cancel it or resolve "
            f"its stuck step. Only an execution that no living driver can drive can be given up"
        )
    driver, claimed = this_driver(), []
    journal.enlist(driver)
    try:
        for each in _with_branches(journal, entry):
            found = None if each.state in ENDED else journal.claim(each.saga_id, driver.id)
            if found is not None:
                claimed.append(found)
            elif each.state not in ENDED:
                raise AlreadyDrivenError(f"execution {each.saga_id!r} is being driven by {each.driver}; end that first")
        commits = [_closing(journal, each, driver.id, reason, at, actor) for each in claimed]
        for result in journal.write_all(commits):
            if isinstance(result, JournalError):
                raise result
    finally:
        journal.dismiss(driver.id)  # frees executions that were claimed and not closed
    return [each.saga_id for each in claimed]


def _with_branches(journal: Journal, entry: Entry) -> Iterator[Entry]:
    yield entry
    for branch in journal.entries(parent=entry.saga_id):
        yield from _with_branches(journal, branch)


def _closing(journal: Journal, entry: Entry, driver_id: str, reason: str, at: float, actor: str | None) -> Commit:
    """The commit that closes one execution."""
    state, mail = entry.state, journal.inbox(entry.saga_id)
    record = Record(
        entry.saga_id,
        entry.acceptance.saga,
        entry.seq + 1,
        ABANDON,
        state,
        FAILED,
        at,
        step=path_of(state) or None,
        error=Failure.of(SagaAbandonedError(f"a person gave it up: {reason}")),
        in_doubt=phase_of(state) not in (PENDING, WAITING, SUCCEEDED),
        reason=reason,
        actor=actor,
    )
    taken = tuple(item.number for item in mail)
    return Commit(entry.saga_id, (record,), driver_id, entry.epoch, held=False, taken=taken)
