"""The public names of `fsm_mediator.definition.waits`, which may be imported from here as well."""

from __future__ import annotations

from fsm_mediator.definition.waits import Choose, Parallel, Signal, Sleep

__all__ = ["Choose", "Parallel", "Signal", "Sleep"]
