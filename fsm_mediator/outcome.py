"""The public names of `fsm_mediator.execution.outcome`. You can also import them from this module."""

from __future__ import annotations

from fsm_mediator.execution.outcome import Outcome

__all__ = ["Outcome"]
