"""Branches: the status of the branches of a group, for the execution that waits for them.

The status is read from the journal each time. An item in the inbox only says that the status may have changed.
Therefore a message may be lost, late or doubled without harm, and a new driver of an execution knows as much as the
last driver.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from typing import Final

import msgspec

from fsm_mediator.errors import JournalError
from fsm_mediator.execution.execution import Execution
from fsm_mediator.execution.outcome import Outcome
from fsm_mediator.execution.rules import NOT_BEGUN, RUNNING
from fsm_mediator.ids import branch_id, branch_name
from fsm_mediator.journal.planning import Planned, branches_counted, planned_of
from fsm_mediator.journal.protocol import Entry
from fsm_mediator.machine.parts import GROUPS, Kind
from fsm_mediator.mediator.active import NO_GROUP, Group, is_quiescent
from fsm_mediator.mediator.store import ExecutionStore
from fsm_mediator.records import CANCEL, Branch, Branches, InboxItem
from fsm_mediator.states import (
    COMPENSATING,
    ENDED,
    EXECUTING,
    FAILED,
    PENDING,
    PROBING,
    RETRYING,
    RETRYING_COMPENSATION,
    STUCK,
    STUCK_PHASES,
    SUCCEEDED,
    WAITING,
    is_settled,
    phase_of,
    split_state,
)

COUNTED: Final = 100
"""The smallest size of a group whose branches are counted before they are listed."""

_AT_WORK: Final = frozenset((EXECUTING, RETRYING, PROBING))
_ON_THE_WAY: Final = _AT_WORK | {PENDING, WAITING, SUCCEEDED}


class BranchesStatus(msgspec.Struct, frozen=True):
    """The status of the branches of the group that an execution waits for.

    Attributes:
        branches: The status of each branch. Results and leftovers are included when no branch runs any more.
        going_on: The ids of the branches that have not settled.
        undo: The ids of the branches to undo.
        stuck: The ids of the stuck branches.
        quiescent: Whether no branch continues by itself.
        unowned: The ids of branches, at any depth, that should continue and have no owner.
        failed: The name of a branch that has begun to compensate or has failed, if the group then cancels the other
            branches. Otherwise empty.
        unbegun: The entries of the branches that have not begun and have no owner.
        planned: The branches that must still be created. None if there are none.
    """

    branches: Branches
    going_on: tuple[str, ...]
    undo: tuple[str, ...]
    stuck: tuple[str, ...]
    quiescent: bool
    unowned: tuple[str, ...]
    failed: str = ""
    unbegun: tuple[Entry, ...] = ()
    planned: Planned | None = None


def branches_status(store: ExecutionStore, execution: Execution, group: Group = NO_GROUP) -> BranchesStatus:
    """The status of the branches of the group that *execution* waits for.

    *group*: the data of the execution's driver. The branches in `Group.succeeded` are not loaded from the journal.

    Raises:
        JournalError: The journal cannot be read, or lacks a branch.
    """
    part = execution.machine.places[execution.state].part
    assert part is not None
    entries, planned = _entries_of(store, execution, part.path)
    going_on = [entry for entry in entries if entry.state not in ENDED]
    stuck = tuple(entry.saga_id for entry in going_on if is_settled(entry.state))
    if stuck:
        going_on = [entry for entry in going_on if not is_settled(entry.state)]
    undo: tuple[str, ...] = ()
    if execution.phase == COMPENSATING:
        undo = tuple(entry.saga_id for entry in entries if entry.state == SUCCEEDED and _is_undoable(store, entry))
    ended = planned is not None and planned.ended is not None
    to_create = planned if planned is not None and not ended else None
    if not going_on and not undo and to_create is None:
        seen = [_branch(store, entry, group) for entry in entries]
    else:  # some branches still run: too early to decide, as the execution itself will find
        seen = [_branch_summary(entry, undo) for entry in entries]
    if planned is not None:
        seen[planned.first : planned.first] = _planned_branches(execution, planned)
    branches = Branches(tuple(seen))
    quiescent = (
        to_create is None
        and bool(going_on)
        and not undo
        and all(is_branch_quiescent(store, entry) for entry in going_on)
    )
    unowned = () if quiescent else tuple(saga_id for entry in going_on for saga_id in _unowned(store, entry))
    failed = ""
    if execution.phase == WAITING and part.cancels_on_failure and not part.forward_only and (going_on or to_create):
        failed = next((branch_name(entry.saga_id) for entry in entries if _has_failed(store, entry)), "")
    unbegun = tuple(entry for entry in going_on if entry.seq == 0 and entry.driver is None)
    ids = tuple(entry.saga_id for entry in going_on)
    return BranchesStatus(branches, ids, undo, stuck, quiescent, unowned, failed, unbegun, to_create)


def surely_going_on(store: ExecutionStore, execution: Execution) -> int:
    """The number of unsettled branches of a large group, if *execution* certainly has to wait for them. Otherwise 0.

    *execution* has to wait while a branch continues by itself and no branch has begun to compensate. In this case the
    branches need not be listed. To list thousands of branches takes seconds.
    """
    part = execution.machine.places[execution.state].part
    if execution.phase != WAITING or execution.cancelled or part is None or len(execution.group) < COUNTED:
        return 0
    phases = branches_counted(store.journal, execution.saga_id)
    if phases is None or sum(phases.values()) < len(execution.group) or not phases.keys() <= _ON_THE_WAY:
        return 0
    goes_on = any(phase in _AT_WORK or (phase == PENDING and part.at_most is None) for phase in phases)
    return sum(phases.values()) - phases.get(SUCCEEDED, 0) if goes_on else 0


def _entries_of(store: ExecutionStore, execution: Execution, path: str) -> tuple[list[Entry], Planned | None]:
    """The entries of the existing branches of the group at *path*, and its planned branches (None if none)."""
    ids = [branch_id(execution.saga_id, path, name) for name in execution.group]
    planned = None
    listed = {entry.saga_id: entry for entry in store.journal.entries(parent=execution.saga_id)}
    if not all(saga_id in listed for saga_id in ids):
        planned = planned_of(store.journal, execution.saga_id)
        listed = {entry.saga_id: entry for entry in store.journal.entries(parent=execution.saga_id)}  # listed again
        if planned is not None:
            ids[planned.first : planned.end] = []
    try:
        return [listed[saga_id] for saga_id in ids], planned
    except KeyError as missing:
        raise JournalError(f"execution {execution.saga_id!r} has a branch {missing} that the journal lacks") from None


def _planned_branches(execution: Execution, planned: Planned) -> list[Branch]:
    names = execution.group[planned.first : planned.end]
    if planned.ended is None:
        return [Branch(name, RUNNING) for name in names]
    error = planned.ended.raised()
    return [Branch(name, NOT_BEGUN, error=error) for name in names]


def _has_failed(store: ExecutionStore, entry: Entry) -> bool:
    """Whether a branch has begun to compensate or has failed. A branch that got stuck before that has not failed."""
    phase = phase_of(entry.state)
    if phase in STUCK_PHASES:
        return store.load_execution(entry).failure is not None
    return phase in (FAILED, COMPENSATING, RETRYING_COMPENSATION)


def stuck_branches(store: ExecutionStore, execution: Execution) -> tuple[str, ...]:
    """The ids of the stuck branches of the group that *execution* waits for."""
    return branches_status(store, execution).stuck


def _unowned(store: ExecutionStore, entry: Entry) -> tuple[str, ...]:
    if entry.driver_alive or is_branch_quiescent(store, entry):
        return ()
    if not entry.called and entry.wake_at is not None and entry.wake_at > store.clock():
        return ()
    # Only an execution that waits for a group has branches to check. Most executions are pending or at work, and are
    # not loaded.
    if not entry.called and entry.driver is None and phase_of(entry.state) in (WAITING, COMPENSATING):
        execution = store.load_execution(entry)
        if execution.group:  # checked again: the execution may have continued since it was listed
            status = branches_status(store, execution)
            return status.unowned or ((entry.saga_id,) if not status.going_on or status.planned else ())
    return (entry.saga_id,)


def _is_undoable(store: ExecutionStore, entry: Entry) -> bool:
    return store.registry.saga_of(entry.acceptance).machine.has_transition("undo", SUCCEEDED)


def _branch(store: ExecutionStore, entry: Entry, group: Group) -> Branch:
    succeeded = group.succeeded.get(entry.saga_id)
    if succeeded is not None and succeeded.epoch == entry.epoch:
        return succeeded.branch
    return settled_branch(store, store.load_execution(entry))


def settled_branch(store: ExecutionStore, execution: Execution) -> Branch:
    """The status of a branch that has ended or is stuck. The journal is read only if the branch has branches itself."""
    name = branch_name(execution.saga_id)
    saga, results = execution.saga, execution.results
    if execution.state == SUCCEEDED:
        result = dict(results) if saga.single is None else results[saga.single]
        return Branch(name, SUCCEEDED, result, leftovers=tuple(_uncompensatable_steps(store, execution)))
    outcome = execution.outcome()
    return Branch(name, execution.state if execution.ended else STUCK, error=outcome.error, leftovers=outcome.leftovers)


def _branch_summary(entry: Entry, undo: Container[str]) -> Branch:
    """The status of a branch, without its result, error and leftovers. *undo* has the ids of the branches to undo."""
    state = RUNNING
    if is_settled(entry.state):
        state = entry.state if entry.state in ENDED else STUCK
    return Branch(branch_name(entry.saga_id), state, undoable=entry.saga_id in undo)


def _uncompensatable_steps(store: ExecutionStore, execution: Execution) -> Iterator[str]:
    """The paths of the steps with an effect that cannot be undone, in a succeeded execution and in its branches."""
    for part in execution.saga.parts:
        if part.kind is Kind.STEP:
            yield part.path
        for name in execution.branches_of(part.path):
            branch = store.load_execution(store.entry(branch_id(execution.saga_id, part.path, name)))
            yield from (f"{part.path}.{name}.{path}" for path in _uncompensatable_steps(store, branch))


def is_branch_quiescent(store: ExecutionStore, entry: Entry) -> bool:
    """Whether a branch does not continue by itself.

    The branch has settled, waits for a signal or for another branch, or has only branches that do not continue by
    themselves.
    """
    if is_settled(entry.state):
        return True
    if entry.wake_at == float("inf") and not entry.called:
        return True  # dormant: the branch begins when another branch has settled
    phase, path = split_state(entry.state)
    if phase not in (WAITING, COMPENSATING) or entry.driver is not None or entry.called:
        return False
    saga = store.registry.saga_of(entry.acceptance)
    part = next((part for part in saga.parts if part.path == path), None)
    if part is None:
        return False
    if part.kind is Kind.SIGNAL:
        return phase == WAITING
    if part.kind not in GROUPS:
        return False
    execution = store.load_execution(entry)
    # The execution may have continued since it was listed.
    if execution.state != entry.state or surely_going_on(store, execution):
        return False
    return branches_status(store, execution).quiescent


def outcome_if_quiescent(store: ExecutionStore, entry: Entry) -> Outcome | None:
    """The outcome of an execution that has ended or waits for a person, a signal or a branch. None if it continues.

    If the time of a wait is over, the execution continues when a driver claims it. The result is then None.
    """
    is_due = entry.wake_at is not None and entry.wake_at <= store.clock()
    if store.has_verbs(entry) or (is_due and not is_settled(entry.state) and not store.waits_in_group(entry)):
        return None
    execution = store.load_execution(entry)
    quiescent = bool(execution.group) and is_branch_quiescent(store, entry)
    quiet = is_quiescent(execution, mail=entry.called, branches_quiescent=quiescent)
    return execution.outcome() if quiet else None


def cancel_message(execution: Execution, failed: str, at: float) -> InboxItem:
    """The message that cancels branches.

    Its reason names the branch *failed*. If *failed* is empty, the reason is that *execution* was cancelled.
    """
    if failed:
        return InboxItem(CANCEL, failed, reason=f"branch {failed} failed", at=at)
    return InboxItem(CANCEL, reason=f"{execution.saga_id!r}, whose branch it is, was cancelled", at=at)
