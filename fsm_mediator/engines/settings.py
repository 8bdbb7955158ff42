"""The common settings of the mediators and workers of all engines, as types for type checkers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypedDict

from fsm_mediator.journal.plain import Types


class TurnsSettings(TypedDict, total=False):
    """The settings of `Turns`, except the number of threads."""

    max_value_bytes: int
    types: Types | None
    max_recoveries: int
    clock: Callable[[], float]
    chance: Callable[[], float]


class EngineSettings(TurnsSettings, total=False):
    """All settings of `Turns`."""

    max_workers: int
