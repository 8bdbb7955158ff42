"""Logs: every log record that a step makes, with whatever logger, gets the execution and the step. No extra needed."""

from __future__ import annotations

import contextlib
import contextvars
import logging
from collections.abc import Iterator

from fsm_mediator.definition.steps import Context

_attempt: contextvars.ContextVar[Context | None] = contextvars.ContextVar("fsm_mediator_attempt", default=None)
"""The attempt that this code runs in."""


@contextlib.contextmanager
def log_context(context: Context) -> Iterator[None]:
    """For ``around=`` of a mediator: `SagaFilter` finds the attempt. `Telemetry` does the same."""
    token = _attempt.set(context)
    try:
        yield
    finally:
        _attempt.reset(token)


class SagaFilter(logging.Filter):
    """Gives log records ``saga_id`` and ``step``, the step's path; outside of an attempt both are None.

    Add it to a handler: a filter of a logger does not see what other loggers hand up. It lets every record pass, and
    keeps fields that are there already.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """See `logging.Filter.filter`."""
        attempt = _attempt.get()
        fields = vars(record)
        fields.setdefault("saga_id", None if attempt is None else attempt.saga_id)
        fields.setdefault("step", None if attempt is None else attempt.step)
        return True
