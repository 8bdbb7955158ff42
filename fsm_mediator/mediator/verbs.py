"""Verbs: what a person says to an execution (``retry``, ``resolve``, ``undo``, ``cancel``), and why it may be refused.

What is said is fed to the execution once it was taken up for that; a cancel goes to the inbox of whoever drives it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from fsm_mediator.errors import PayloadError, RefusedError
from fsm_mediator.execution.execution import Execution
from fsm_mediator.journal import codec
from fsm_mediator.journal.protocol import Entry
from fsm_mediator.machine.parts import GROUPS, Kind, Part
from fsm_mediator.mediator.desk import Desk, are_equal, is_instance
from fsm_mediator.records import (
    CANCEL,
    SIGNAL,
    InboxItem,
    OperatorRetry,
    OperatorSettled,
    OperatorUndo,
    Record,
)
from fsm_mediator.states import COMPENSATING, ENDED, RETRYING_COMPENSATION, STUCK, STUCK_EXECUTING, SUCCEEDED, WAITING

Verb: TypeAlias = Callable[[Execution, str | None], Record | None]
"""Says it to an execution, given what an abandoned attempt of it has answered since."""


def say_retry(desk: Desk, reason: str | None) -> Verb:
    """The verb ``retry``.

    Said to a branch, it raises a RefusedError where the whole was settled by hand and has gone on without it.
    """

    def say(execution: Execution, late: str | None) -> Record | None:
        _refuse_orphan(desk, execution)
        return execution.feed(OperatorRetry(_and_late(reason, late)), desk.clock())

    return say


def say_undo(desk: Desk, reason: str | None) -> Verb:
    """The verb ``undo``."""
    return lambda execution, late: execution.feed(OperatorUndo(_and_late(reason, late)), desk.clock())


def say_resolve(desk: Desk, reason: str, done: bool | None, result: Any) -> Verb:
    """The verb ``resolve``.

    Raises:
        RefusedError: No reason is given, or a result without an effect.
    """
    if not isinstance(reason, str) or not reason.strip():
        raise RefusedError("resolve needs a reason: say in words how you made sure; it is journaled")
    if result is not None and done is False:
        raise RefusedError("resolve: only a step that is done has a result")

    def say(execution: Execution, late: str | None) -> Record | None:
        if execution.phase not in (STUCK, STUCK_EXECUTING):
            raise RefusedError(_not_stuck(execution))
        meant = done
        if meant is None:
            machine = execution.machine
            can_be_done = machine.has_transition("settled_done", execution.state)
            if can_be_done and machine.has_transition("settled_undone", execution.state):
                raise RefusedError(
                    f"execution {execution.saga_id!r} stands in {execution.state!r}: say whether the step has its "
                    f"effect (done=True, --done) or has none (done=False, --undone)"
                )
            meant = can_be_done
        value = result
        part = execution.machine.places[execution.state].part
        if meant and result is None and part is not None and part.kind in GROUPS:
            raise RefusedError(
                f"{part.path!r} is a {part.kind.value}: say as the result what its branches would have returned, "
                f"{'a list' if part.each else 'a dict by their names'}"
            )
        if meant and desk.journal.encodes and part is not None:
            value = codec.roundtrip_result(part, result, desk.journal.max_value_bytes)
        return execution.feed(OperatorSettled(meant, _and_late(reason, late) or reason, value), desk.clock())

    return say


def _not_stuck(execution: Execution) -> str:
    where = (
        f"execution {execution.saga_id!r} is not stuck, but stands in {execution.state!r}: there is nothing to settle"
    )
    phase, _, path = execution.state.partition(".")
    if phase == WAITING and execution.awaits_signal(path):
        return f"{where}. It waits for the signal {path!r}: mediator.signal, or fsm-mediator signal"
    return where


def post_cancel(desk: Desk, saga_id: str, reason: str | None) -> Entry:
    """Put a cancel into the execution's inbox; the entry says who is to be told.

    Raises:
        RefusedError: It is too late: it has ended, compensates already, is stuck, or is past its pivot.
        UnknownExecutionError: There is no such execution.
    """
    entry = desk.entry(saga_id)
    why = _too_late(desk, entry)
    if why is None and not desk.journal.post(saga_id, InboxItem(CANCEL, reason=reason, at=desk.clock())):
        why = "it has ended meanwhile"
    if why is None:
        entry = desk.entry(saga_id)  # anew: if nobody holds it now, nobody sees what was posted unless called
        # It may have gone on while we posted. To have ended in `failed` may be what the cancel did, these cannot.
        if entry.state == SUCCEEDED or _past_pivot(desk, entry):
            why = _too_late(desk, entry)
    if why is not None:
        raise RefusedError(f"execution {saga_id!r} cannot be cancelled: {why}")
    return entry


def post_signal(desk: Desk, saga_id: str, name: str, value: Any) -> Entry:
    """Put a signal into the execution's inbox; the entry says who is to be told.

    Raises:
        RefusedError: It awaits no such signal (any more), or another value has come first.
        PayloadError: The value is of another type than the signal's, or cannot be journaled.
        UnknownExecutionError: There is no such execution.
    """
    entry, part = _addressee(desk, saga_id, name)
    value = _signal_value(desk, part, value)
    where = f"signal {part.path!r} of execution {entry.saga_id!r}"
    if _has_come(desk, entry, part, value, where):
        return entry
    if not desk.journal.post(entry.saga_id, InboxItem(SIGNAL, part.path, value, at=desk.clock())):
        raise RefusedError(f"{where} is not awaited: the execution has ended")
    entry = desk.entry(entry.saga_id)  # anew: it may have gone on while we posted, and another may have been first
    if not _has_come(desk, entry, part, value, where):
        raise RefusedError(f"{where} is not awaited: the execution stands in {entry.state!r}")
    return entry


def _has_come(desk: Desk, entry: Entry, part: Part, value: Any, where: str) -> bool:
    """Whether this very value has come; False: none has, and it is awaited."""
    execution = desk.folded(entry)
    items = codec.decode_items(execution.saga, desk.journal.inbox(entry.saga_id))
    first = [item.value for item in items if item.kind == SIGNAL and item.name == part.path]
    if execution.has_answered(part.path):
        first.insert(0, execution.answer_of(part.path))
    elif not execution.awaits_signal(part.path):
        raise RefusedError(f"{where} is not awaited: the execution stands in {entry.state!r}")
    if first and not are_equal(first[0], value):
        raise RefusedError(f"{where} has come with another value, and the first one counts: {first[0]!r}")
    return bool(first)


def _addressee(desk: Desk, saga_id: str, name: str) -> tuple[Entry, Part]:
    """The execution, perhaps a branch, and the signal that *name* means there."""
    if not isinstance(name, str):
        raise RefusedError(f"a signal is meant by its name, a text, not by {name!r}")
    entry = desk.entry(saga_id)
    saga = desk.saga_of(entry.acceptance)
    for part in saga.parts:
        if part.kind is Kind.SIGNAL and part.path == name:
            return entry, part
        if part.kind in GROUPS and name.startswith(f"{part.path}."):
            branch, _, inside = name[len(part.path) + 1 :].partition(".")
            branch_id = f"{saga_id}/{part.path}.{branch}"
            branch_entry = desk.journal.find(branch_id)
            if branch_entry is not None:
                return _addressee(desk, branch_id, inside or desk.saga_of(branch_entry.acceptance).single or "")
    signals = ", ".join(part.path for part in saga.parts if part.kind is Kind.SIGNAL)
    raise RefusedError(
        f"execution {saga_id!r} of saga {saga.name!r} knows no signal {name!r}; it has {signals or 'none'}"
        f"{'' if not saga.branches else '. One of a branch is named GROUP.BRANCH.SIGNAL, once the branch is there'}"
    )


def _signal_value(desk: Desk, part: Part, value: Any) -> Any:
    if desk.journal.encodes:
        return codec.roundtrip_signal(part, value, desk.journal.max_value_bytes)
    if isinstance(part.returns, type) and not is_instance(value, part.returns):
        raise PayloadError(f"signal {part.path!r} takes a {part.returns.__name__}, not {value!r}")
    return value


def refuse_branch(saga_id: str) -> None:
    """Refuse to undo a branch by itself.

    Raises:
        RefusedError: It is one.
    """
    if "/" in saga_id:
        raise RefusedError(
            f"{saga_id!r} is a branch of {saga_id.rpartition('/')[0]!r}, and cannot be undone by itself: undo the whole"
        )


def _refuse_orphan(desk: Desk, execution: Execution) -> None:
    """Refuse to have a branch do anything once the whole does not wait for it any more."""
    branch_id, parent_id = execution.saga_id, execution.acceptance.parent
    while parent_id is not None:
        whole = desk.entry(parent_id)
        group = branch_id[len(parent_id) + 1 :].rpartition(".")[0]
        if whole.state.partition(".")[2] != group:
            raise RefusedError(
                f"{execution.saga_id!r} is a branch of {parent_id!r}, which does not wait for its group {group!r} any "
                f"more: it stands in {whole.state!r}, and what the branch did now would come too late"
            )
        branch_id, parent_id = parent_id, whole.acceptance.parent


def _too_late(desk: Desk, entry: Entry) -> str | None:
    phase = entry.state.partition(".")[0]
    if entry.state in ENDED:
        return f"it has ended in {entry.state!r}"
    if _past_pivot(desk, entry):
        return f"it is past its pivot, in {entry.state!r}, and can only go forward"
    if phase in (COMPENSATING, RETRYING_COMPENSATION):
        return f"it is compensating already, in {entry.state!r}"
    if phase in (STUCK, STUCK_EXECUTING):
        return f"it is stuck, in {entry.state!r}"
    return None


def _past_pivot(desk: Desk, entry: Entry) -> bool:
    saga = desk.saga_of(entry.acceptance)
    machine = saga.machine_with(entry.state)
    part = machine.places[entry.state].part if machine is not None else None
    return (part or saga.parts[0]).forward_only


def _and_late(reason: str | None, late: str | None) -> str | None:
    return reason if late is None else f"{reason or 'no reason given'} ({late})"
