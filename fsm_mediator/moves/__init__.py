"""Moves: everything that can happen to an execution, and what it does to a ledger that no execution can see.

Laws and judgements must never enter here: what a move leads to is decided by `Execution.feed`.
"""

from fsm_mediator.moves.family import Child, Family, Status, born_with
from fsm_mediator.moves.ghost import Ghost
from fsm_mediator.moves.move import (
    CRASHED,
    DIES,
    DRIVER,
    DUE,
    LOOK,
    NOTHING,
    OTHERS,
    PARTICIPANT,
    PERSON,
    Move,
    copied,
)
from fsm_mediator.moves.moves import Moves

__all__ = [
    "CRASHED",
    "DIES",
    "DRIVER",
    "DUE",
    "LOOK",
    "NOTHING",
    "OTHERS",
    "PARTICIPANT",
    "PERSON",
    "Child",
    "Family",
    "Ghost",
    "Move",
    "Moves",
    "Status",
    "born_with",
    "copied",
]
