"""PartSequence: what a group or another saga may hold besides steps and waits. `Saga` is the only kind of it."""

from __future__ import annotations

from typing import Any

from fsm_mediator.retry import Retry


class PartSequence:
    """A named sequence of parts, with the settings that its steps inherit.

    Attributes:
        name: Its name.
        payload: The type of its payload; None for anything.
        contents: The parts as they were given, nested sagas whole.
        retry: For steps that set none.
        compensation_retry: For steps that set none.
        deadline: Seconds from the start within which it must have succeeded; only the outermost saga may have one.
    """

    __slots__ = ()

    name: str
    payload: Any
    contents: tuple[Any, ...]
    retry: Retry | None
    compensation_retry: Retry | None
    deadline: float | None
