"""Statistics: what a journal knows of many executions, as numbers on a saga's steps. It drives nothing."""

from __future__ import annotations

from fsm_mediator.statistics.machines import StepStatistics
from fsm_mediator.statistics.statistics import Statistics

__all__ = ["Statistics", "StepStatistics"]
