"""Entering a wait: `enter_wait` finds the end of the wait, and creates the branches of a group.

This module also calls the deciding functions: the function of a `Sleep`, the *by* of a `Choose`, and the *over* of
`Parallel.each`. No other module calls them. The record of the move has the answer, so a replay does not call the
function again.
"""

from __future__ import annotations

from typing import Any

from fsm_mediator.definition.steps import Context
from fsm_mediator.definition.waits import EACH, items_of
from fsm_mediator.error_types import DecisionError, safe_repr
from fsm_mediator.execution.data import ExecutionData
from fsm_mediator.machine.parts import Kind, Part
from fsm_mediator.records import Acceptance
from fsm_mediator.states import WAITING


def enter_wait(
    data: ExecutionData, part: Part, at: float, value: Any, before: Part | None
) -> tuple[float | None, tuple[str, ...] | None]:
    """Enter the wait at *part*: find its end and create its branches.

    Args:
        data: The execution, after the move to the wait's state.
        part: The part of the wait: a sleep, a signal, a group or a choice.
        at: The time of the move, in seconds since the epoch.
        value: The result of *before*.
        before: The part that the execution left in this move. None if this is the first move.

    Returns:
        The end of the wait in seconds since the epoch, and the names of the branches. Both are None if *part* was
        entered to be compensated, or if its deciding function raised an exception. `data.undecided` has the exception.
    """
    if data.places[data.state].phase != WAITING:
        return None, None
    data.undecided = None
    if part.kind is Kind.SIGNAL:
        return (None if part.seconds is None else at + part.seconds), None
    try:
        decided = None
        if part.decide is not None and (part.kind is Kind.SLEEP or part.path not in (data.plans or ())):
            answered = data.answered
            if before is not None and before is not part:
                data.answered = {**answered, before.path: value}  # the record of *value* is not applied yet
            try:
                decided = _decide(data, part)
            finally:
                data.answered = answered
        if part.kind is Kind.SLEEP:
            return (part.subject.due_at(at, decided) if part.subject else at + (part.seconds or 0.0)), None
        return None, _spawn_branches(data, part, at, decided)
    except Exception as error:
        data.undecided = error
        return None, None


def _decide(data: ExecutionData, part: Part) -> Any:
    assert part.decide is not None
    if data.poison is not None:
        raise data.poison
    payload, decide = data.payload_seen(), part.decide.function
    if data.around is None and not part.decide.takes_context:
        return decide(payload)
    context = Context(data.saga_id, part.path, 0, "decide", data.results_seen_by(part))
    if data.around is not None:
        decide = data.around(decide, context)
    return decide(payload, context) if part.decide.takes_context else decide(payload)


def _spawn_branches(data: ExecutionData, part: Part, at: float, decided: Any) -> tuple[str, ...]:
    """Create the branches of *part*, unless they were created before. Returns the names of the branches.

    *decided*: the answer of the deciding function of *part*. None if there is no such function.
    """
    known = data.plans.get(part.path) if data.plans else None
    if known is not None:
        return known
    sagas = data.saga.branches[part.path]
    mine = data.acceptance
    payloads = [mine.payload] * len(part.branches)
    names: tuple[str, ...] = part.branches
    if part.each:
        payloads = items_of(part, decided)
        if data.encoding is not None:
            payloads = [data.encoding.accept_payload(sagas[EACH], item) for item in payloads]
        names = tuple(map(str, range(len(payloads))))
    elif part.kind is Kind.CHOICE:
        if decided not in part.branches:
            assert part.decide is not None
            raise DecisionError(
                f"{part.decide.label} chose {safe_repr(decided)} for {part.path!r}; there are "
                f"{', '.join(part.branches)}"
            )
        names = (decided,)
    ids = [f"{data.saga_id}/{part.path}.{name}" for name in names]
    after = part.at_most or len(ids)
    data.new_branches = tuple(
        Acceptance(
            branch_id,
            (saga := sagas[EACH if part.each else name]).name,
            saga.version,
            saga.fingerprint,
            payload,
            at,
            None if part.forward_only else data.deadline_at,
            data.saga_id,
            ids[number + after] if number + after < len(ids) else None,
            carrier=mine.carrier,
        )
        for number, (branch_id, name, payload) in enumerate(zip(ids, names, payloads, strict=False))
    )
    return names
