"""The errors of transactional steps."""

from __future__ import annotations

from fsm_mediator.error_types import MediatorError, StepRejectedError


class TransactionError(StepRejectedError):
    """A transactional step tried to end its transaction, or ran inside another transaction. The step had no effect."""


class AttemptOpenError(MediatorError):
    """An earlier attempt of the step still has an open transaction. Whether it will commit is not known yet."""


def conflicts(error: BaseException) -> bool:
    """Whether *error* says that a concurrent transaction made the database abort the transaction. A retry can help."""
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
"""The SQLSTATE codes of PostgreSQL for a serialization failure and for a deadlock."""

_BUSY = (5, 6)
"""The primary result codes of SQLite for a wait for a lock that timed out."""

_BUSY_SNAPSHOT = 517
"""SQLite's code for a transaction that cannot write, because another transaction has changed data that it has read."""
