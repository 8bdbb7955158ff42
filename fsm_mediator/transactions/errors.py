"""The errors of transactional steps."""

from __future__ import annotations

from fsm_mediator.error_types import MediatorError, StepRejectedError


class TransactionError(StepRejectedError):
    """A transactional step tried to end its transaction, or is part of another one. It took no effect."""


class AttemptOpenError(MediatorError):
    """An earlier attempt of the step holds its transaction open: it is unknown yet whether it commits."""


def conflicts(error: BaseException) -> bool:
    """Whether the database ended the transaction because of another one: it is worth repeating at once."""
    return any(
        getattr(each, "sqlstate", None) in _CONFLICTS or getattr(each, "sqlite_errorcode", None) == _BUSY_SNAPSHOT
        for each in _layers(error)
    )


def is_lock_timeout(error: BaseException) -> bool:
    """Whether a lock was not had in time: another transaction has it."""
    return any(
        getattr(each, "sqlstate", None) == "55P03" or (getattr(each, "sqlite_errorcode", None) or 0) & 0xFF in _BUSY
        for each in _layers(error)
    )


def _layers(error: BaseException) -> tuple[BaseException | None, ...]:
    """*error*, and the driver's own error in it: SQLAlchemy has it as ``orig``, Django as the cause."""
    return error, getattr(error, "orig", None), error.__cause__


_CONFLICTS = ("40001", "40P01")
"""PostgreSQL's codes for a serialization failure and a deadlock."""

_BUSY = (5, 6)
"""SQLite's codes for a lock that was not had in time."""

_BUSY_SNAPSHOT = 517
"""SQLite's code for a transaction that read what another one has changed since."""
