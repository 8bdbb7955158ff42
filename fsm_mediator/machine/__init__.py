"""The machine: makes a table of transitions from a saga's parts, and a ``transitions.Machine`` from the table."""

from __future__ import annotations

from fsm_mediator.machine.machine import CompiledMachine, check_machine, compile_machine
from fsm_mediator.machine.parts import Effect, Kind, Part
from fsm_mediator.machine.table import Transition, transitions_of

__all__ = [
    "CompiledMachine",
    "Effect",
    "Kind",
    "Part",
    "Transition",
    "check_machine",
    "compile_machine",
    "transitions_of",
]
