"""The public name of `fsm_mediator.definition.saga`. You can also import it from this module."""

from __future__ import annotations

from fsm_mediator.definition.saga import Saga

__all__ = ["Saga"]
