"""Leases: functions that change drivers, the owner of an execution, and the items in an execution's inbox.

Every function works in a transaction that the caller began. A function that refuses has changed nothing.
"""

from __future__ import annotations

from sqlite3 import Cursor
from typing import Final

from fsm_mediator.errors import LeaseLostError
from fsm_mediator.journal.attention import is_too_late, takes
from fsm_mediator.journal.rows import Row, execution_row
from fsm_mediator.journal.sqlite import sql
from fsm_mediator.journal.storable import is_text
from fsm_mediator.records import CHILD, VERBS, Acceptance, InboxItem
from fsm_mediator.states import ENDED, STUCK_PHASES, is_settled

SETTLED: Final = (sql.as_json(sorted((*STUCK_PHASES, *ENDED))), sql.as_json(sorted(STUCK_PHASES)))
"""Two lists of phases, as JSON. In a phase of the first list, an execution of a dead driver is claimed only if its
inbox has a verb. In a phase of the second list, it is also claimed if its inbox has a message of a branch.
"""


class IdCache:
    """The numbers of rows that commits need, so that a commit need not look them up.

    Attributes:
        last_written: By an execution's id: the number of the execution, and the number of its last record. The
            dictionary has an execution if this journal object wrote the execution's last commit, and the same driver
            still owns the execution.
        drivers: The numbers of drivers, by the driver's id. A driver that was dismissed and enlists again gets another
            number. Therefore the number is looked up again before the driver gets an execution.
        definitions: The numbers of definitions, by saga, version and fingerprint.
    """

    __slots__ = ("definitions", "drivers", "last_written")

    def __init__(self) -> None:
        self.last_written: dict[str, tuple[int, int]] = {}
        self.drivers: dict[str | None, int] = {}
        self.definitions: dict[tuple[str, str, str], int] = {}

    def clear(self) -> None:
        """Forget all numbers."""
        self.last_written.clear()
        self.drivers.clear()
        self.definitions.clear()

    def driver(self, cursor: Cursor, driver_id: str | None) -> int | None:
        """The number of the driver with this id. None if there is no such driver."""
        number = None if driver_id is None else self.drivers.get(driver_id)
        if number is None and driver_id is not None and is_text(driver_id):
            row = cursor.execute(sql.DRIVER, (driver_id,)).fetchone()
            if row is not None:
                self.drivers[driver_id] = number = row[0]
        return number

    def definition(self, cursor: Cursor, acceptance: Acceptance) -> int:
        """The number of the definition in *acceptance*: of the saga's name, version and fingerprint.

        If the journal does not have the definition yet, it is added and gets a number.
        """
        key = (acceptance.saga, acceptance.version, acceptance.fingerprint)
        number = self.definitions.get(key)
        if number is None:
            row = cursor.execute(sql.DEFINITION, key).fetchone()
            number = cursor.execute(sql.DEFINE, key).lastrowid if row is None else row[0]
            assert number is not None
            self.definitions[key] = number
        return number


def post(cursor: Cursor, saga_id: str, item: Row, token: int = 0) -> bool:
    """Put an item into an execution's inbox. Returns False if the execution has ended or is unknown."""
    found = _execution(cursor, saga_id)
    if found is None:
        return False
    number, _, driver, mail, wake_at, state, at = found
    kind, name = item[:2]
    if kind in VERBS and cursor.execute(sql.VERB_IN, (number, name, name)).fetchone() is not None:
        return True  # the answer to the first call was lost, and the verb is posted again
    if not takes(kind, state):
        return False
    cursor.execute(sql.POST, (number, *item))
    if token:
        cursor.execute(sql.KEEP_POST, (token, number))
    mail += 1
    unseen = has_unseen(cursor, number, mail, state, held=driver is not None)
    cursor.execute(sql.UPDATE_ROW[1], execution_row(number, driver, state, at, mail, wake_at, unseen=unseen))
    return True


def has_unseen(cursor: Cursor, number: int, mail: int, state: str, seen: int = 0, *, held: bool = False) -> bool:
    """Whether an execution has an inbox item with a number above *seen* for which a driver must claim the execution.

    The kinds of items that count depend on the *state* of the execution, and on whether a driver owns it (*held*).
    *mail* is the number of all items in the inbox.
    """
    if not mail:
        return False
    kinds = "*" if held or not is_settled(state) else "" if state in ENDED else CHILD
    return bool(cursor.execute(sql.UNSEEN, (number, seen, kinds)).fetchone()[0])


def is_posted(cursor: Cursor, token: int) -> bool:
    """Whether an item was posted under this token."""
    return bool(token) and cursor.execute(sql.POSTED, (token,)).fetchone() is not None


def is_past_its_wait(cursor: Cursor, saga_id: str, item: InboxItem) -> bool:
    """Whether the execution is still in the wait for the signal *item*, but *item* was sent after the wait's end."""
    found = cursor.execute(sql.DUE_AT, (saga_id,)).fetchone()
    return found is not None and is_too_late(item, *found)


def release(cursor: Cursor, ids: IdCache, saga_id: str, epoch: int) -> None:
    """Free an execution from its driver, if the execution has this epoch."""
    found = _execution(cursor, saga_id)
    if found is not None and found[1] == epoch and found[2] is not None:
        ids.last_written.pop(saga_id, None)
        _free(cursor, found)


def unregister_driver(cursor: Cursor, ids: IdCache, driver_id: str) -> None:
    """Delete a driver, and free its executions."""
    ids.clear()
    own = ids.driver(cursor, driver_id)
    if own is not None:
        for found in cursor.execute(sql.OWNED_BY, (own,)).fetchall():
            _free(cursor, found)
        cursor.execute(sql.DELETE_DRIVER, (own,))
        ids.drivers.clear()


def unknown_driver(driver_id: str | None) -> LeaseLostError:
    """The error for a driver that the journal does not know. Such a driver cannot own executions."""
    return LeaseLostError(
        f"the journal does not know the driver {driver_id!r}: it was never enlisted, or was dismissed, and can hold "
        f"nothing. Enlist it; nothing was written"
    )


def _execution(cursor: Cursor, saga_id: str) -> Row | None:
    found: Row | None = cursor.execute(sql.EXECUTION, (saga_id,)).fetchone() if is_text(saga_id) else None
    return found


def _free(cursor: Cursor, found: Row) -> None:
    number, _, _, mail, wake_at, state, at = found
    unseen = has_unseen(cursor, number, mail, state)
    cursor.execute(sql.UPDATE_ROW[1], execution_row(number, None, state, at, mail, wake_at, unseen=unseen))
