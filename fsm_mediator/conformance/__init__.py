"""Conformance: whether what was recorded is what a saga's machine can do."""

from __future__ import annotations

from fsm_mediator.conformance.checking import conforms
from fsm_mediator.conformance.report import Conformance, ConformanceError, IllegalMove, Unchecked

__all__ = ["Conformance", "ConformanceError", "IllegalMove", "Unchecked", "conforms"]
