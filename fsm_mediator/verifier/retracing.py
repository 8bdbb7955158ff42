"""Retracing: a way that was found is gone once more, with a clock, so that its records tell of waits and attempts."""

from __future__ import annotations

from collections.abc import Sequence

from fsm_mediator.errors import RefusedError
from fsm_mediator.moves import DUE, Moves, born_with
from fsm_mediator.parts import Kind
from fsm_mediator.records import Record
from fsm_mediator.saga import Saga
from fsm_mediator.verifier.deciding import Decisions
from fsm_mediator.verifier.stands import begun, made
from fsm_mediator.verifier.violation import Violation


def violation_of(saga: Saga, law: int, what: str, path: Sequence[str], possible: Moves) -> Violation:
    """The violation at the end of *path*."""
    decisions = Decisions(saga)
    execution, ghost, at = begun(decisions.saga), possible.nothing, 0.0
    recorded: list[tuple[Record, ...]] = []
    for words in path:
        label, *decided = words.split("; ")
        move = next((move for move in possible.at(execution, ghost) if move.label == label), None)
        if move is None:  # nothing is under way that a crash could interrupt
            break
        if move.said == DUE:
            at = max(at, execution.due_at or 0.0)
        decisions.are(decided)
        try:
            records = made(execution, move, at)
        except RefusedError:
            records = ()
        recorded.append(records)
        ghost = possible.after(move.ghost, born_with(execution, records))
    each = zip(saga.parts, ghost.effects, strict=True)
    effects = tuple(part.path for part, effect in each if effect and part.kind is not Kind.SIGNAL)
    return Violation(
        law=law,
        what=what,
        saga=saga,
        path=tuple(path[: len(recorded)]),
        recorded=tuple(recorded),
        effects=effects,
        strict=possible.strict,
    )
