"""Logs: add the id of the execution and the path of the step to each log record that a step writes. Needs no extra."""

from __future__ import annotations

import contextlib
import contextvars
import logging
from collections.abc import Iterator

from fsm_mediator.definition.steps import Context

_attempt: contextvars.ContextVar[Context | None] = contextvars.ContextVar("fsm_mediator_attempt", default=None)
"""The attempt in which the current code runs. None outside of an attempt."""


@contextlib.contextmanager
def log_context(context: Context) -> Iterator[None]:
    """Let `SagaFilter` know the current attempt. Pass this function to a mediator as ``around=[log_context]``.

    A mediator with `Telemetry` does not need this function, because `Telemetry` does the same.
    """
    token = _attempt.set(context)
    try:
        yield
    finally:
        _attempt.reset(token)


class SagaFilter(logging.Filter):
    """Adds the fields ``saga_id`` and ``step`` (the step's path) to log records. Outside of an attempt, both are None.

    Add this filter to a handler, not to a logger: a logger's filter does not see the records of its child loggers. The
    filter lets every record pass, and does not overwrite existing fields.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the fields to *record*. Always returns True. See `logging.Filter.filter`."""
        attempt = _attempt.get()
        fields = vars(record)
        fields.setdefault("saga_id", None if attempt is None else attempt.saga_id)
        fields.setdefault("step", None if attempt is None else attempt.step)
        return True
