"""The public name of `fsm_mediator.definition.saga`, which may be imported from here as well."""

from __future__ import annotations

from fsm_mediator.definition.saga import Saga

__all__ = ["Saga"]
