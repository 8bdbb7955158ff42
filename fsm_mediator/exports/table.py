"""The machine's table as JSON, for other programs: the states, the moves and the parts."""

from __future__ import annotations

from typing import Any

from fsm_mediator.definition.saga import Saga, check_is_saga
from fsm_mediator.machine.parts import Effect
from fsm_mediator.states import ENDED, EVENTS


def to_table(saga: Saga) -> dict[str, Any]:
    """The machine of *saga* as JSON types: its states, its moves, the meanings of its events, and its parts.

    Raises:
        DefinitionError: *saga* is not a `Saga`.
    """
    check_is_saga("to_table()", saga)
    machine = saga.machine
    states = []
    for name, (phase, part) in machine.places.items():
        effects = [each.kind for each in machine.states[name].on_enter if isinstance(each, Effect)]
        states.append(
            {
                "state": name,
                "phase": phase,
                "part": part.path if part is not None else None,
                "effect": effects[0] if effects else None,
                "ended": name in ENDED,
            }
        )
    moves = list(machine.moves())
    return {
        "saga": saga.name,
        "version": saga.version,
        "fingerprint": saga.fingerprint,
        "parts": [
            {
                "path": part.path,
                "kind": part.kind.value,
                "compensatable": part.compensatable,
                "probed": part.probe is not None,
                "pivot": part.pivot,
                "forward_only": part.forward_only,
                "repeatable": part.repeatable,
                "attempts": part.retry.attempts,
                "compensation_attempts": part.compensation_retry.attempts,
            }
            for part in saga.parts
        ],
        "states": states,
        "moves": [move._asdict() for move in moves],
        "events": {event: text for event, text in EVENTS.items() if any(move.event == event for move in moves)},
    }
