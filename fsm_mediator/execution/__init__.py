"""The execution: one running instance of a saga, free of I/O. Records, the rules, the outcome."""

from __future__ import annotations

from fsm_mediator.execution.execution import Execution
from fsm_mediator.execution.outcome import Outcome

__all__ = ["Execution", "Outcome"]
