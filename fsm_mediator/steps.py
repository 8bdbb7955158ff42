"""The public names of `fsm_mediator.definition.steps`, which may be imported from here as well."""

from __future__ import annotations

from fsm_mediator.definition.steps import Context, FunctionStep, Step, step

__all__ = ["Context", "FunctionStep", "Step", "step"]
