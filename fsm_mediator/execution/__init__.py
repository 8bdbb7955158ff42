"""The execution: one running instance of a saga, its rules and its outcome. This folder does no I/O."""

from __future__ import annotations

from fsm_mediator.execution.execution import Execution
from fsm_mediator.execution.outcome import Outcome

__all__ = ["Execution", "Outcome"]
