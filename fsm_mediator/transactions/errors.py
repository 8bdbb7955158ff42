"""The errors of transactional steps."""

from __future__ import annotations

from fsm_mediator.error_types import MediatorError, StepRejectedError


class TransactionError(StepRejectedError):
    """A transactional step tried to end its transaction, or ran inside another transaction. It had no effect."""


class AttemptOpenError(MediatorError):
    """An earlier attempt of the step still has an open transaction. It is not yet known whether it will commit."""


def conflicts(error: BaseException) -> bool:
    """Whether the database aborted the transaction because of a concurrent transaction. A retry can then help."""
    return any(
        getattr(each, "sqlstate", None) in _CONFLICTS or getattr(each, "sqlite_errorcode", None) == _BUSY_SNAPSHOT
        for each in _layers(error)
    )


def is_lock_timeout(error: BaseException) -> bool:
    """Whether *error* says that a wait for a lock timed out, because another transaction holds the lock."""
    return any(
        getattr(each, "sqlstate", None) == "55P03" or (getattr(each, "sqlite_errorcode", None) or 0) & 0xFF in _BUSY
        for each in _layers(error)
    )


def _layers(error: BaseException) -> tuple[BaseException | None, ...]:
    """*error*, and the wrapped error of the database driver: ``orig`` in SQLAlchemy, the cause in Django."""
    return error, getattr(error, "orig", None), error.__cause__


_CONFLICTS = ("40001", "40P01")
"""PostgreSQL's codes for a serialization failure and a deadlock."""

_BUSY = (5, 6)
"""SQLite's codes for a wait for a lock that timed out."""

_BUSY_SNAPSHOT = 517
"""SQLite's code for a transaction that has read data which another transaction has changed since."""
