"""The public names of `fsm_mediator.execution.outcome`, which may be imported from here as well."""

from __future__ import annotations

from fsm_mediator.execution.outcome import Outcome

__all__ = ["Outcome"]
