"""Telemetry: spans and metrics of executions for OpenTelemetry, and log fields for the standard library's logging."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fsm_mediator.lazy import lazy_names as _lazy_names
from fsm_mediator.telemetry.logs import SagaFilter, log_context

if TYPE_CHECKING:
    from fsm_mediator.telemetry.spans import Telemetry

__all__ = ["SagaFilter", "Telemetry", "log_context"]

if not TYPE_CHECKING:  # hidden from type checkers: a module with __getattr__ accepts every name
    __getattr__, __dir__ = _lazy_names(__name__, globals(), {"Telemetry": "fsm_mediator.telemetry.spans"})
