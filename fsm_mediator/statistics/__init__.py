"""Statistics: what a journal knows of many executions, as numbers on a saga's steps. It drives nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fsm_mediator.lazy import lazy_names as _lazy_names
from fsm_mediator.statistics.machines import StepStatistics
from fsm_mediator.statistics.numbers import FailureGroup, SagaNumbers, StateNumbers, StepNumbers

if TYPE_CHECKING:
    from fsm_mediator.statistics.statistics import Statistics

__all__ = ["FailureGroup", "SagaNumbers", "StateNumbers", "Statistics", "StepNumbers", "StepStatistics"]

# It loads what draws, and a mediator that counts needs none of that.
if not TYPE_CHECKING:  # else a name that is not here would be any name
    __getattr__, __dir__ = _lazy_names(__name__, globals(), {"Statistics": "fsm_mediator.statistics.statistics"})
