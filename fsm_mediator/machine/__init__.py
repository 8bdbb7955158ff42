"""The machine: a saga's parts become a table of transitions, the table a checked ``transitions.Machine``."""

from __future__ import annotations

from fsm_mediator.machine.machine import SagaMachine, check_machine, compile_machine
from fsm_mediator.machine.parts import Effect, Kind, Part
from fsm_mediator.machine.table import Move, moves

__all__ = ["Effect", "Kind", "Move", "Part", "SagaMachine", "check_machine", "compile_machine", "moves"]
