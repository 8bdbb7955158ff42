"""PartSequence: the base class of `Saga`, for modules that `Saga` itself imports."""

from __future__ import annotations

from typing import Any

from fsm_mediator.retry import Retry


class PartSequence:
    """A named sequence of parts, with the settings that its steps inherit.

    Attributes:
        name: The name of the sequence.
        payload: The type of the payload. None if any value is allowed.
        contents: The parts as they were given, without inlining nested sagas.
        retry: The `retry` of each step that does not set its own.
        compensation_retry: The `compensation_retry` of each step that does not set its own.
        deadline: The seconds from the start within which the saga must succeed. None if there is no deadline.
            Only the outermost saga may have a deadline.
    """

    __slots__ = ()

    name: str
    payload: Any
    contents: tuple[Any, ...]
    retry: Retry | None
    compensation_retry: Retry | None
    deadline: float | None
