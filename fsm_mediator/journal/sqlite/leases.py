"""Holding: who holds which execution, and what others put into its inbox.

All within a transaction that somebody else began. Whatever is refused here is refused before anything is changed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from sqlite3 import Cursor

from fsm_mediator.errors import LeaseLostError, UnknownExecutionError
from fsm_mediator.journal.sqlite import queries
from fsm_mediator.journal.sqlite.rows import NOW, Row, is_text, standing_row
from fsm_mediator.records import CHILD, Acceptance
from fsm_mediator.states import ENDED


class IdCache:
    """What is asked for again and again.

    Attributes:
        standing: The number of each execution that was last written to from here, and is held; and at which record it
            stands.
        drivers: The numbers of drivers. A driver that was dismissed has none, and another one if it enlists again: who
            is given something to hold is looked up anew.
    """

    __slots__ = ("definitions", "drivers", "standing")

    def __init__(self) -> None:
        self.standing: dict[str, tuple[int, int]] = {}
        self.drivers: dict[str | None, int] = {}
        self.definitions: dict[tuple[str, str, str], int] = {}

    def forget(self) -> None:
        """Look everything up anew."""
        self.standing.clear()
        self.drivers.clear()
        self.definitions.clear()

    def driver(self, cursor: Cursor, driver_id: str | None) -> int | None:
        """The driver's number; None: there is no such driver."""
        if driver_id is None:
            return None
        number = self.drivers.get(driver_id)
        if number is None:
            row = cursor.execute(queries.DRIVER, (driver_id,)).fetchone() if is_text(driver_id) else None
            if row is None:
                return None
            self.drivers[driver_id] = number = row[0]
        return number

    def definition(self, cursor: Cursor, acceptance: Acceptance) -> int:
        """The number of the definition that opened an execution; a new one, if need be."""
        key = (acceptance.saga, acceptance.version, acceptance.fingerprint)
        number = self.definitions.get(key)
        if number is None:
            row = cursor.execute(queries.DEFINITION, key).fetchone()
            if row is None:
                number = cursor.execute(queries.DEFINE, key).lastrowid
                assert number is not None
            else:
                number = row[0]
            self.definitions[key] = number
        return number


def post(cursor: Cursor, saga_id: str, row: Row) -> bool:
    """Put an inbox item, as a row, into an execution's inbox; False: it has ended, or is unknown."""
    found = cursor.execute(queries.STANDING, (saga_id,)).fetchone() if is_text(saga_id) else None
    if found is None:
        return False
    number, _, driver, mail, wake_at, state, at = found
    if state in ENDED:
        return False
    cursor.execute(queries.POST, (number, *row))
    awaits = row[0] == CHILD or _is_called_by_branch(cursor, number, mail)
    _stand(cursor, number, driver, state, at, mail + 1, wake_at, awaits=awaits)
    return True


def claim(
    cursor: Cursor, known: IdCache, saga_id: str, driver_id: str, lives: Callable[[int, Sequence[object]], bool]
) -> bool:
    """Take an execution for a driver; False: somebody holds it.

    Args:
        cursor: Within a transaction.
        known: Numbers of drivers.
        saga_id: The execution.
        driver_id: Who takes it.
        lives: Whether the driver of this number lives, by its row.

    Raises:
        UnknownExecutionError: There is no such execution.
        LeaseLostError: There is no such driver.
    """
    found = cursor.execute(queries.STANDING, (saga_id,)).fetchone() if is_text(saga_id) else None
    if found is None:
        raise UnknownExecutionError(f"the journal knows no execution {saga_id!r}")
    number, _, holder, mail, *_ = found
    known.drivers.pop(driver_id, None)
    own = known.driver(cursor, driver_id)
    if own is None:
        raise unknown_driver(driver_id)
    if holder is not None:
        seen = cursor.execute(queries.SEEN, (holder,)).fetchone()
        if holder == own or (seen is not None and lives(holder, seen)):
            return False
    cursor.execute(queries.CLAIM, (own, NOW if mail else None, number))
    return True


def release(cursor: Cursor, known: IdCache, saga_id: str, epoch: int) -> None:
    """Have an execution held by nobody, if its epoch is this one."""
    found = cursor.execute(queries.STANDING, (saga_id,)).fetchone() if is_text(saga_id) else None
    if found is not None and found[1] == epoch and found[2] is not None:
        known.standing.pop(saga_id, None)
        number, _, _, mail, wake_at, state, at = found
        called = _is_called_by_branch(cursor, number, mail)
        _stand(cursor, number, None, state, at, mail, wake_at, awaits=called)


def dismiss(cursor: Cursor, known: IdCache, driver_id: str) -> None:
    """Forget a driver, and have what it holds held by nobody."""
    known.forget()
    own = known.driver(cursor, driver_id)
    if own is not None:
        known.forget()
        for number, _, _, mail, wake_at, state, at in cursor.execute(queries.HELD_BY, (own,)).fetchall():
            called = _is_called_by_branch(cursor, number, mail)
            _stand(cursor, number, None, state, at, mail, wake_at, awaits=called)
        cursor.execute(queries.DISMISS, (own,))


def book(cursor: Cursor, numbers: Sequence[int], driver: int, *, dead: bool) -> None:
    """Bring the rows up to date of executions that have ended under a driver: see ``schema``."""
    cursor.execute(queries.BOOK, (queries.as_json(numbers), driver, dead))


def prune(cursor: Cursor, numbers: Sequence[int]) -> int:
    """Delete executions with their branches, unless one of a family was taken up again; how many."""
    deleted = 0
    for number in numbers:
        family = cursor.execute(queries.FAMILY, (number,)).fetchall()
        if not any(goes_on for _, goes_on in family):
            cursor.executemany(queries.PRUNE, [(each,) for each, _ in family])
            deleted += len(family)
    return deleted


def unknown_driver(driver_id: str | None) -> LeaseLostError:
    """The error of a driver that can hold nothing, for the journal does not know it."""
    return LeaseLostError(
        f"the journal does not know the driver {driver_id!r}: it was never enlisted, or was dismissed, and can hold "
        f"nothing. Enlist it; nothing was written"
    )


def _is_called_by_branch(cursor: Cursor, number: int, mail: int) -> bool:
    """Whether a branch has something to say: for that a stuck execution is looked at, whatever else has come."""
    return mail > 0 and cursor.execute(queries.CALLED_BY_BRANCH, (number,)).fetchone() is not None


def _stand(
    cursor: Cursor,
    number: int,
    driver: int | None,
    state: str,
    at: float,
    mail: int,
    wake_at: float | None,
    *,
    awaits: bool = False,
) -> None:
    queries.many(cursor, queries.STAND, [standing_row(number, driver, state, at, mail, wake_at, awaits=awaits)])
