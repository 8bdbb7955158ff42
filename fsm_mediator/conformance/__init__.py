"""Conformance: checks whether a saga's machine can have made the moves in a journal, an export or a log."""

from __future__ import annotations

from fsm_mediator.conformance.checking import conforms
from fsm_mediator.conformance.report import Conformance, ConformanceError, IllegalMove, Unchecked

__all__ = ["Conformance", "ConformanceError", "IllegalMove", "Unchecked", "conforms"]
