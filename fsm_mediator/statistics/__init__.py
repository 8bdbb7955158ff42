"""Statistics about many executions in a journal, such as the durations and failure rates of a saga's steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fsm_mediator.lazy import lazy_names as _lazy_names
from fsm_mediator.statistics.machines import StepStatistics
from fsm_mediator.statistics.numbers import FailureGroup, SagaNumbers, StateNumbers, StepNumbers

if TYPE_CHECKING:
    from fsm_mediator.statistics.statistics import Statistics

__all__ = ["FailureGroup", "SagaNumbers", "StateNumbers", "Statistics", "StepNumbers", "StepStatistics"]

# These names are imported at their first use, because they load the drawing code, which counting does not need.
if not TYPE_CHECKING:  # hidden from type checkers: a module with __getattr__ accepts every name
    __getattr__, __dir__ = _lazy_names(__name__, globals(), {"Statistics": "fsm_mediator.statistics.statistics"})
