"""Verbs: what a person says to an execution (``retry``, ``resolve``, ``undo``, ``cancel``), and why it may be refused.

What is said is fed to the execution once it was taken up for that; a cancel goes to the inbox of whoever drives it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from fsm_mediator.errors import RefusedError
from fsm_mediator.execution import Execution
from fsm_mediator.journal import codec
from fsm_mediator.journal.protocol import Entry
from fsm_mediator.machine import COMPENSATING, ENDED, RETRYING_COMPENSATION, STUCK, STUCK_EXECUTING, SUCCEEDED
from fsm_mediator.mediator.desk import Desk
from fsm_mediator.records import CANCEL, InboxItem, OperatorRetry, OperatorSettled, OperatorUndo, Record

Verb: TypeAlias = Callable[[Execution, str | None], Record | None]
"""Says it to an execution, given what an abandoned attempt of it has answered since."""


def say_retry(desk: Desk, reason: str | None) -> Verb:
    """The verb ``retry``."""
    return lambda execution, late: execution.feed(OperatorRetry(_and_late(reason, late)), desk.clock())


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
        raise RefusedError("resolve: a result goes with done=True only")

    def say(execution: Execution, late: str | None) -> Record | None:
        meant = done
        if meant is None:
            machine = execution.machine
            can_be_done = machine.takes("settled_done", execution.state)
            if can_be_done and machine.takes("settled_undone", execution.state):
                raise RefusedError(
                    f"execution {execution.saga_id!r} stands in {execution.state!r}: say done=True if the step has "
                    f"its effect, done=False if it has none"
                )
            meant = can_be_done
        value = result
        if meant and desk.journal.encodes:
            part = execution.machine.places[execution.state].part
            if part is not None:
                value = codec.settle_result(part, result, desk.journal.max_value_bytes)
        return execution.feed(OperatorSettled(meant, _and_late(reason, late) or reason, value), desk.clock())

    return say


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
    machine = desk.saga_of(entry.acceptance).machine_with(entry.state)
    part = machine.places[entry.state].part if machine is not None else None
    return part is not None and part.forward_only


def _and_late(reason: str | None, late: str | None) -> str | None:
    return reason if late is None else f"{reason or 'no reason given'} ({late})"
