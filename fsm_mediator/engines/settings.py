"""The common settings of the mediators and workers of all engines, as types for type checkers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypedDict

from fsm_mediator.journal.plain import Types


class TurnsSettings(TypedDict, total=False):
    """The settings of `Turns`, except ``max_workers``. The arguments of `Turns` describe them."""

    max_value_bytes: int
    types: Types | None
    max_recoveries: int
    clock: Callable[[], float]
    chance: Callable[[], float]


class EngineSettings(TurnsSettings, total=False):
    """All settings of `Turns`, including ``max_workers``. The arguments of `Turns` describe them."""

    max_workers: int
