"""Upgrades: whether executions of an older definition of a saga can go on under a newer one."""

from __future__ import annotations

from fsm_mediator.upgrades.comparing import compare
from fsm_mediator.upgrades.report import Comparison, StateVerdict, StrandedError, Verdict
from fsm_mediator.upgrades.shape import PartShape, Shape, read_shapes, written

__all__ = [
    "Comparison",
    "PartShape",
    "Shape",
    "StateVerdict",
    "StrandedError",
    "Verdict",
    "compare",
    "read_shapes",
    "written",
]
