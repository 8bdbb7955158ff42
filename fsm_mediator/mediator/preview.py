"""Preview: the steps that a cancel or an undo would compensate, and the leftovers. It changes nothing."""

from __future__ import annotations

from typing import NamedTuple

from fsm_mediator.errors import RefusedError
from fsm_mediator.execution.execution import Execution
from fsm_mediator.ids import branch_id
from fsm_mediator.machine.parts import GROUPS, Kind
from fsm_mediator.mediator.commands import refuse_branch, why_not_cancellable
from fsm_mediator.mediator.store import ExecutionStore
from fsm_mediator.records import UNDO
from fsm_mediator.states import COMPENSATING, EXECUTING, PROBING, RETRYING, RETRYING_COMPENSATION, SUCCEEDED, path_of

_AT_IT: frozenset[str] = frozenset((EXECUTING, PROBING, RETRYING))
"""The phases in which a step has begun or may have begun, and is not executed yet."""


class Preview(NamedTuple):
    """The effect of a verb on an execution in its current state.

    Attributes:
        verb: ``cancel`` or ``undo``.
        compensates: The steps that would be compensated, in the order of compensation. The step of a branch has the
            path ``group.branch.step``.
        leftovers: The steps whose effects would remain, because they have no compensation.
        under_way: The step that is being attempted, or None. Its effect is not known yet, so the lists count it as
            executed.
    """

    verb: str
    compensates: tuple[str, ...]
    leftovers: tuple[str, ...]
    under_way: str | None = None


def preview(store: ExecutionStore, saga_id: str) -> Preview:
    """The steps that `cancel`, or `undo` after a success, would compensate: see `Mediator.preview`.

    Raises:
        RefusedError: Neither a cancel nor an undo is possible.
    """
    entry = store.entry(saga_id)
    execution = store.load_execution(entry)
    if entry.state == SUCCEEDED:
        refuse_branch(saga_id)
        if not execution.machine.has_transition(UNDO, SUCCEEDED):
            raise RefusedError(f"execution {saga_id!r} cannot be undone: {execution.machine.refusal(UNDO, SUCCEEDED)}")
    elif execution.phase not in (COMPENSATING, RETRYING_COMPENSATION):
        why = why_not_cancellable(execution.saga, entry.state)
        if why is not None:
            raise RefusedError(f"execution {saga_id!r} cannot be cancelled: {why}")
    compensates, leftovers, under_way = _steps(store, execution)
    return Preview(UNDO if entry.state == SUCCEEDED else "cancel", tuple(compensates), tuple(leftovers), under_way)


def _steps(store: ExecutionStore, execution: Execution) -> tuple[list[str], list[str], str | None]:
    """The steps that would be compensated, the leftovers, and the step that is being attempted: see `Preview`."""
    under_way = path_of(execution.state) if execution.phase in _AT_IT and execution.attempt else None
    compensates: list[str] = []
    leftovers: list[str] = []
    for part in reversed(execution.saga.parts):
        path = part.path
        if path in execution.compensated:
            continue
        if part.kind in GROUPS:
            for name in execution.branches_of(path):
                undone, left = _branch(store, branch_id(execution.saga_id, path, name))
                compensates += [f"{path}.{name}.{each}" for each in undone]
                leftovers += [f"{path}.{name}.{each}" for each in left]
        elif part.kind is Kind.STEP and (path in execution.answered or path in (*execution.doubtful, under_way)):
            (compensates if part.compensatable else leftovers).append(path)
    return compensates, leftovers, under_way


def _branch(store: ExecutionStore, saga_id: str) -> tuple[list[str], list[str]]:
    """The steps of a branch that would be compensated, and its leftovers. Both are empty if there is no such branch."""
    entry = store.journal.find(saga_id)
    if entry is None:
        return [], []
    compensates, leftovers, _ = _steps(store, store.load_execution(entry))
    return compensates, leftovers
