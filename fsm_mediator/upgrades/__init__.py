"""Upgrades: checks whether executions of an older definition of a saga can continue under a newer definition."""

from __future__ import annotations

from fsm_mediator.definition.shape import PartShape, Shape
from fsm_mediator.upgrades.comparing import compare
from fsm_mediator.upgrades.report import Comparison, StateVerdict, StrandedError, Verdict
from fsm_mediator.upgrades.shape_files import dump_shapes, read_shapes

__all__ = [
    "Comparison",
    "PartShape",
    "Shape",
    "StateVerdict",
    "StrandedError",
    "Verdict",
    "compare",
    "dump_shapes",
    "read_shapes",
    "written",
]

written = dump_shapes
"""The former name of `dump_shapes`."""
