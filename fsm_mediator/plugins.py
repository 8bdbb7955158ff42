"""The public names of `fsm_mediator.definition.plugins`. You can also import them from this module."""

from __future__ import annotations

from fsm_mediator.definition.plugins import load_step, registered_steps

__all__ = ["load_step", "registered_steps"]
