"""The `Observer` protocol, `LoggingObserver` and `RecordingObserver`. An observer never changes an execution."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Protocol

from fsm_mediator.errors import DefinitionError
from fsm_mediator.records import Failure, Record
from fsm_mediator.redaction import Pattern, Redaction


class Observer(Protocol):
    """Any callable that takes a `Record`.

    The driver of an execution calls the observer with each record when the record is durable. The calls for an
    execution are in the order of its records. Each record is passed at most once: after a crash, no call is repeated.
    An observer should return quickly. Its exceptions are logged, once for each execution, and have no other effect.
    """

    def __call__(self, record: Record, /) -> object:
        """Process *record*, which is already durable. The result is ignored."""


class LoggingObserver:
    """Writes one line of standard logging for each transition.

    The record's fields are in the log record's ``extra`` as ``saga``, ``saga_id``, ``saga_seq``, ``saga_event``,
    ``saga_source``, ``saga_target``, ``saga_step``, ``saga_attempt`` and ``saga_error``.

    Args:
        logger: A logger or its name.
        level: The log level of transitions without an error.
        trouble_level: The log level of failed attempts and of steps without attempts left.
        stuck_level: The log level of executions that become stuck and wait for a person.
        redact: Patterns for the texts to hide in error messages: see `Redaction`.

    Raises:
        DefinitionError: *logger* is not a logger, a level is not a number, or a pattern cannot be used.
    """

    def __init__(
        self,
        logger: logging.Logger | str = "fsm_mediator.saga",
        *,
        level: int = logging.INFO,
        trouble_level: int = logging.WARNING,
        stuck_level: int = logging.ERROR,
        redact: Iterable[Pattern] = (),
    ) -> None:
        if not isinstance(logger, str) and not hasattr(logger, "isEnabledFor"):
            raise DefinitionError(f"LoggingObserver: logger must be a logging.Logger or its name, not {logger!r}")
        levels = {"level": level, "trouble_level": trouble_level, "stuck_level": stuck_level}
        for name, value in levels.items():
            if not isinstance(value, int):
                raise DefinitionError(f"LoggingObserver: {name} is a number, such as logging.INFO, not {value!r}")
        self.logger: logging.Logger = logging.getLogger(logger) if isinstance(logger, str) else logger
        self.level = level
        self.trouble_level = trouble_level
        self.stuck_level = stuck_level
        self._redaction = Redaction(redact)

    def __call__(self, record: Record) -> None:
        """Write one log line about *record*."""
        if record.target.startswith("stuck"):
            level = self.stuck_level
        else:
            level = self.level if record.error is None else self.trouble_level
        if not self.logger.isEnabledFor(level):
            return
        attempt = f" attempt {record.attempt}" if record.attempt else ""
        # The message is always one line, so that an error message cannot forge a log line. `extra` has the original.
        error = record.error
        if error is not None:
            error = Failure(error.type, self._redaction.field("message", error.message))
        failure = f": {error}".replace("\r", "\\r").replace("\n", "\\n") if error is not None else ""
        doubt = " (in doubt)" if record.in_doubt else ""
        self.logger.log(
            level,
            "%s %s %s%s: %s -> %s%s%s",
            *(record.saga, record.saga_id, record.event, attempt, record.source, record.target, doubt, failure),
            extra={
                "saga": record.saga,
                "saga_id": record.saga_id,
                "saga_seq": record.seq,
                "saga_event": record.event,
                "saga_source": record.source,
                "saga_target": record.target,
                "saga_step": record.step,
                "saga_attempt": record.attempt,
                "saga_error": str(error) if error is not None else None,
            },
        )


class RecordingObserver:
    """An observer that stores every record, for tests.

    Attributes:
        records: The records, in the order in which they were passed.
    """

    def __init__(self) -> None:
        self.records: list[Record] = []

    def __call__(self, record: Record) -> None:
        """Add *record* to `records`."""
        self.records.append(record)

    @property
    def events(self) -> list[tuple[str, str | None]]:
        """The event and the step of each record, in the order of `records`."""
        return [(record.event, record.step) for record in self.records]
