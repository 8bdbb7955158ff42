"""Joining: the work of a parent's driver for the branches of a group, and commands to branches."""

from __future__ import annotations

import functools
from typing import Final

from fsm_mediator.errors import JournalError
from fsm_mediator.journal.protocol import Commit, Entry
from fsm_mediator.mediator.active import ActiveExecution
from fsm_mediator.mediator.branches import (
    BranchesStatus,
    branches_status,
    cancel_message,
    stuck_branches,
    surely_going_on,
)
from fsm_mediator.mediator.commands import Command, undo_command
from fsm_mediator.mediator.commits import append_immediate_moves
from fsm_mediator.mediator.core import Core
from fsm_mediator.mediator.creating import create_branches
from fsm_mediator.mediator.notifications import report
from fsm_mediator.mediator.store import ExecutionStore
from fsm_mediator.mediator.waiting import BRANCHES_POLL
from fsm_mediator.records import InboxItem, Record
from fsm_mediator.states import WAITING

LISTED_RARELY: Final = 10
"""A driver that has listed all branches waits before it lists them again: the duration of the listing, multiplied by
this number.
"""

UNBEGUN_AT_A_TIME: Final = 100
"""The maximum number of branches that have not begun and are ended in one transaction."""


async def join_branches(core: Core, active: ActiveExecution) -> Record | None:
    """Check the branches of an execution, and give commands to them.

    Returns the next record of the execution. None if the execution must still wait for its branches.
    """
    execution = active.execution
    group = active.enter_group()
    status = await _status_of_all(core, active)
    if status is None:
        return None
    at = core.clock()  # read after the check, so that this time is later than the events that the check found
    group.quiescent = status.quiescent
    if not active.background:
        for saga_id in status.unowned:
            core.resume(saga_id)  # the branch's driver had to leave it, and no other caller resumes it
    if execution.cancelled or status.failed:
        message = cancel_message(execution, "" if execution.cancelled else status.failed, at)
        ended = await _end_unbegun(core, status.unbegun, message)
        for saga_id in status.going_on:
            if saga_id not in group.notified and saga_id not in ended:
                group.notified |= {saga_id}
                group.quiescent = False
                if await core.runtime.in_thread(core.journal.post, saga_id, message):
                    core.notify(saga_id)
        if ended:
            status = await core.runtime.in_thread(branches_status, core.store, execution, group)
    group.must_retry = False
    for saga_id in status.undo:
        undo = undo_command(core.store, f"{execution.saga_id!r} compensates its group")
        if not await core.runtime.uncancellable(command_branch, core, saga_id, undo):
            group.must_retry = True
    record = execution.feed(status.branches, at)
    if record is not None:
        group.succeeded.clear()
    return record


async def _status_of_all(core: Core, active: ActiveExecution) -> BranchesStatus | None:
    """The status of the branches. None if the execution must still wait, or the next driver must create branches."""
    group, in_thread, began = active.group, core.runtime.in_thread, core.runtime.monotonic()
    if (active.background or began < group.listed_until) and await _surely_goes_on(core, active):
        group.quiescent = False
        return None
    status = await in_thread(branches_status, core.store, active.execution, group)
    now = core.runtime.monotonic()
    group.listed_until = now + max(BRANCHES_POLL, LISTED_RARELY * (now - began))
    if status.planned is None:
        return status
    group.quiescent = False
    if not await create_branches(core, active, status.planned, status.failed):
        return None
    return await core.runtime.in_thread(branches_status, core.store, active.execution, group)


async def _surely_goes_on(core: Core, active: ActiveExecution) -> bool:
    """Whether the execution certainly still has to wait for its branches. Asks the journal from time to time."""
    execution, group, inbox = active.execution, active.group, active.inbox
    if group.planned or group.notified or execution.cancelled or execution.phase != WAITING:
        return False
    if inbox.trouble or inbox.successes >= group.enough:
        going_on = await core.runtime.in_thread(surely_going_on, core.store, execution)
        group.enough = inbox.successes + going_on
        return going_on > 0
    return True


async def _end_unbegun(core: Core, branches: tuple[Entry, ...], cancel: InboxItem) -> set[str]:
    """End branches that have not begun, in batches and without a claim. Returns the ids of the ended branches.

    Branches that have begun meanwhile are left out.
    """
    ended: set[str] = set()
    for start in range(0, len(branches), UNBEGUN_AT_A_TIME):
        batch = branches[start : start + UNBEGUN_AT_A_TIME]
        for active in await core.runtime.in_thread(_ended_without_claim, core.store, batch, cancel):
            ended.add(active.saga_id)
            report(core.observers, active, active.execution.history)
    return ended


def _ended_without_claim(store: ExecutionStore, batch: tuple[Entry, ...], cancel: InboxItem) -> list[ActiveExecution]:
    """Cancel branches that have not begun, in one transaction. Returns the cancelled branches."""
    cancelled = []
    for entry in batch:
        active = ActiveExecution(entry.saga_id, store.load_execution(entry), entry.epoch)
        active.execution.receive(cancel)
        if active.execution.advance(max(cancel.at, entry.acceptance.at)) is not None:
            cancelled.append(active)
    commits = [
        Commit(active.saga_id, tuple(active.execution.history), None, active.epoch, held=False) for active in cancelled
    ]
    results = store.journal.write_all(commits) if commits else []
    return [each for each, result in zip(cancelled, results, strict=True) if not isinstance(result, JournalError)]


async def command_branch(core: Core, saga_id: str, command: Command, to_stuck_branches: Command | None = None) -> bool:
    """Give *command* to the branch *saga_id*, journal the command, and resume the branch.

    If the branch has stuck branches of its own, they first get the command *to_stuck_branches*.

    Returns False if the branch *saga_id* cannot be claimed, or the mediator is closed.
    """
    active = ActiveExecution(saga_id, background=True)
    try:
        while not core.try_reserve(active):
            if core.closed or not await core.wait_until_released(saga_id):
                return False
        if not await core.runtime.in_thread(functools.partial(core.owned.claim, active, for_command=True)):
            core.owned.finish(active)
            return False
        records = [await feed_command(core, active, command, to_stuck_branches)]
        append_immediate_moves(active, records, records[0].at)  # in one commit: an empty group is undone at once
        await write_records(core, active, records)
        if active.execution.effect is not None:
            core.submit(active)
        else:
            active.rests = True
            core.owned.finish(active, active.execution.outcome())
    except BaseException as error:
        core.release_if_unstarted(active, error)
        raise
    return True


async def write_records(core: Core, active: ActiveExecution, records: list[Record]) -> None:
    """Write *records* of an owned execution to the journal, and report them to the observers."""
    commit = core.commits.commit(active, records)
    await core.write(commit)
    report(core.observers, active, records)
    core.notify_others(commit)


async def feed_command(
    core: Core, active: ActiveExecution, command: Command, to_stuck_branches: Command | None
) -> Record:
    """Give *to_stuck_branches* to the stuck branches of a claimed execution, then *command* to the execution."""
    if to_stuck_branches is not None and active.execution.group:
        for saga_id in await core.runtime.in_thread(stuck_branches, core.store, active.execution):
            await command_branch(core, saga_id, to_stuck_branches, to_stuck_branches)
    record = command(active.execution, active.inbox.late)
    assert record is not None
    active.recovered = False
    return record
