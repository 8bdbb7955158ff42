"""The public names of `fsm_mediator.definition.waits`. You can also import them from this module."""

from __future__ import annotations

from fsm_mediator.definition.waits import Choose, Parallel, Signal, Sleep

__all__ = ["Choose", "Parallel", "Signal", "Sleep"]
