"""Families: how the branches of a group stand, and what its execution is to do about them.

It looks at the journal, each time anew: what comes to the inbox only says that it is worth looking. So nothing depends
on a message that is lost, late or there twice, and whoever takes an execution up finds what the one before him knew.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from typing import NamedTuple

from fsm_mediator.errors import JournalError
from fsm_mediator.execution.execution import RUNNING, Execution
from fsm_mediator.execution.outcome import Outcome
from fsm_mediator.journal.protocol import Entry
from fsm_mediator.machine.parts import GROUPS, Kind
from fsm_mediator.mediator.desk import Desk
from fsm_mediator.mediator.live import is_at_rest, rests
from fsm_mediator.records import CANCEL, Branch, Branches, InboxItem
from fsm_mediator.states import COMPENSATING, ENDED, SUCCEEDED, WAITING

STUCK = "stuck"


class Family(NamedTuple):
    """The branches of the group that an execution stands in.

    Attributes:
        branches: How each of them stands; what those that have settled returned or left, only once none goes on.
        going_on: The ids of those that have not settled.
        undo: The ids of those that are to be undone.
        stuck: The ids of those that are stuck.
        resting: Whether none goes on by itself.
        idle: The ids of those (and of branches of theirs) that should go on, and that nobody drives.
    """

    branches: Branches
    going_on: tuple[str, ...]
    undo: tuple[str, ...]
    stuck: tuple[str, ...]
    resting: bool
    idle: tuple[str, ...]


def look(desk: Desk, execution: Execution) -> Family:
    """How the branches stand of the group that *execution* stands in.

    Raises:
        JournalError: It cannot be read, or a branch is not in it.
    """
    part = execution.machine.places[execution.state].part
    assert part is not None
    prefix = f"{execution.saga_id}/{part.path}."
    listed = {entry.saga_id: entry for entry in desk.journal.entries(parent=execution.saga_id)}
    try:
        entries = [listed[f"{prefix}{name}"] for name in execution.group]
    except KeyError as missing:
        raise JournalError(f"execution {execution.saga_id!r} has a branch {missing} that the journal lacks") from None
    going_on = [entry for entry in entries if not is_at_rest(entry.state)]
    stuck = tuple(entry.saga_id for entry in entries if is_at_rest(entry.state) and entry.state not in ENDED)
    undo: tuple[str, ...] = ()
    if execution.phase == COMPENSATING:
        undo = tuple(entry.saga_id for entry in entries if entry.state == SUCCEEDED and _is_undoable(desk, entry))
    if not going_on and not undo:
        branches = Branches(tuple(_branch(desk, entry) for entry in entries))
    else:  # nothing is decided yet; but that is the execution's to say, as the verifier walks it
        branches = Branches(tuple(_branch_in_brief(entry, undo) for entry in entries))
    resting = bool(going_on) and not undo and all(is_resting(desk, entry) for entry in going_on)
    idle = () if resting else tuple(saga_id for entry in going_on for saga_id in _idle(desk, entry))
    return Family(branches, tuple(entry.saga_id for entry in going_on), undo, stuck, resting, idle)


def _idle(desk: Desk, entry: Entry) -> tuple[str, ...]:
    if entry.driver_alive or is_resting(desk, entry):
        return ()
    if not entry.called and entry.wake_at is not None and entry.wake_at > desk.clock():
        return ()
    # Only who waits in a group has branches to look at: most are pending or at work, and need not be folded for that.
    if not entry.called and entry.driver is None and entry.state.startswith((f"{WAITING}.", f"{COMPENSATING}.")):
        execution = desk.folded(entry)
        if execution.group:  # still: it may have gone on since it was listed
            family = look(desk, execution)
            return family.idle or ((entry.saga_id,) if not family.going_on else ())
    return (entry.saga_id,)


def _is_undoable(desk: Desk, entry: Entry) -> bool:
    return desk.saga_of(entry.acceptance).machine.has_transition("undo", SUCCEEDED)


def _branch(desk: Desk, entry: Entry) -> Branch:
    execution = desk.folded(entry)
    name = entry.saga_id.rpartition(".")[2]
    saga, results = execution.saga, execution.results
    if execution.state == SUCCEEDED:
        result = dict(results) if saga.single is None else results[saga.single]
        return Branch(name, SUCCEEDED, result, leftovers=tuple(_effects(desk, execution)))
    outcome = execution.outcome()
    return Branch(name, execution.state if execution.ended else STUCK, error=outcome.error, leftovers=outcome.leftovers)


def _branch_in_brief(entry: Entry, undo: Container[str]) -> Branch:
    """How a branch stands, as far as that is known without folding it."""
    state = RUNNING
    if is_at_rest(entry.state):
        state = entry.state if entry.state in ENDED else STUCK
    return Branch(entry.saga_id.rpartition(".")[2], state, undoable=entry.saga_id in undo)


def _effects(desk: Desk, execution: Execution) -> Iterator[str]:
    """The steps with an effect of an execution that has succeeded and cannot be undone, those of its branches too."""
    for part in execution.saga.parts:
        if part.kind is Kind.STEP:
            yield part.path
        for name in execution.branches_of(part.path):
            branch = desk.folded(desk.entry(f"{execution.saga_id}/{part.path}.{name}"))
            yield from (f"{part.path}.{name}.{path}" for path in _effects(desk, branch))


def is_resting(desk: Desk, entry: Entry) -> bool:
    """Whether nothing goes on by itself there: it waits for a person or a signal, or all its branches do."""
    if is_at_rest(entry.state):
        return True
    if entry.wake_at == float("inf") and not entry.called:
        return True  # dormant: it begins when another has settled
    phase, _, path = entry.state.partition(".")
    if phase not in (WAITING, COMPENSATING) or entry.driver is not None or entry.called:
        return False
    saga = desk.saga_of(entry.acceptance)
    part = next((part for part in saga.parts if part.path == path), None)
    if part is None:
        return False
    if part.kind is Kind.SIGNAL:
        return phase == WAITING
    if part.kind not in GROUPS:
        return False
    execution = desk.folded(entry)
    # It may have gone on since it was listed.
    return execution.state == entry.state and look(desk, execution).resting


def parked_outcome(desk: Desk, entry: Entry) -> Outcome | None:
    """The outcome of an execution that has ended, or rests until a person, a signal or a branch says something."""
    execution = desk.folded(entry)
    resting = bool(execution.group) and is_resting(desk, entry)
    return execution.outcome() if rests(execution, mail=entry.called, resting=resting) else None


def cancel_for(execution: Execution, at: float) -> InboxItem:
    """What the branches of a cancelled execution are told."""
    return InboxItem(CANCEL, reason=f"{execution.saga_id!r}, whose branch it is, was cancelled", at=at)
