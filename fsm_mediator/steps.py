"""The public names of `fsm_mediator.definition.steps`. You can also import them from this module."""

from __future__ import annotations

from fsm_mediator.definition.steps import Context, FunctionStep, Step, step

__all__ = ["Context", "FunctionStep", "Step", "step"]
