"""Following: reads the records of all executions in a journal, in the order of their commits, after a cursor."""

from __future__ import annotations

from typing import Final, NamedTuple, Protocol, TypeGuard

from fsm_mediator.errors import JournalError
from fsm_mediator.journal.protocol import Journal
from fsm_mediator.records import Record


class Change(NamedTuple):
    """One row of a journal.

    Attributes:
        cursor: The position after this row, for the next call. The text has a meaning only for this journal.
        saga_id: The execution.
        record: The record. None if the row is the acceptance of the execution.
    """

    cursor: str
    saga_id: str
    record: Record | None


class FollowedJournal(Protocol):
    """A journal that returns the records of all executions in the order of their commits."""

    def changes(self, after: str = "", limit: int = 1000) -> list[Change]:
        """At most *limit* changes after a cursor. Empty if there are no later changes yet.

        A follower that keeps the last cursor misses no change, even if other transactions commit at the same time. If
        a transaction is still open, its rows come after all rows that are returned. The records of one execution are
        in order. Records that are pruned before they are read are not returned.

        Args:
            after: The cursor of the last change that was read. If it is empty, the changes are read from the beginning.
            limit: The maximum number of changes that are returned.

        Raises:
            JournalError: *after* is not a cursor of this journal, or the journal cannot be read.
        """


def changes_of(journal: Journal, after: str = "", limit: int = 1000) -> list[Change]:
    """The changes after a cursor: see `FollowedJournal.changes`.

    Raises:
        JournalError: *journal* cannot be followed.
    """
    if not hasattr(journal, "changes"):
        raise JournalError(
            f"a {type(journal).__name__} cannot be followed: only journals in SQLite and PostgreSQL number changes"
        )
    found: list[Change] = journal.changes(after, limit)
    return found


class Move(NamedTuple):
    """One row of a journal without the values that a cipher seals. These fields are enough to count executions.

    Attributes:
        cursor: The position after this row, as in `Change`.
        execution: The number of the execution in this journal. SQLite may use the number of a deleted execution again.
        seq: The number of the record; 0 for the acceptance of the execution, `REMOVED` for its deletion.
        saga_id: The execution. This field and all fields below are empty if the execution was deleted.
        saga: The name of the execution's saga.
        version: The version of the saga.
        is_branch: Whether the execution is a branch.
        event: The record's event.
        source: The state before the record.
        target: The state after the record.
        at: The time of the record, in seconds since the epoch.
        step: The record's step.
        error: The type of the record's error. None if it has no error.
        in_doubt: Whether the record is in doubt.
    """

    cursor: str
    execution: int
    seq: int
    saga_id: str
    saga: str
    version: str
    is_branch: int
    event: str
    source: str
    target: str
    at: float
    step: str | None
    error: str | None
    in_doubt: int


REMOVED: Final = -1
"""The `Move.seq` of a deletion."""


class CountedJournal(Protocol):
    """A journal that returns its changes, including deletions of executions, without the values of records."""

    def moves(self, after: str = "", limit: int = 1000) -> list[Move]:
        """The changes after a cursor, without values. The cursors are the same as for `FollowedJournal.changes`.

        The deletion of an execution is a change too, if it comes after the first call on this journal.

        Raises:
            JournalError: *after* is no cursor of this journal, or the journal cannot be read.
        """

    def last_change(self) -> int:
        """The number of the last change, including changes in open transactions. 0 if there is no change yet.

        A cursor begins with the number of its change.
        """

    def decided(self) -> int:
        """The number up to which `moves` returns all changes. Open transactions can only add higher numbers."""

    def is_changed(self, after: str) -> bool:
        """Whether any change follows a cursor, even if `moves` does not return the change yet."""


def is_counted(journal: object) -> TypeGuard[CountedJournal]:
    """Whether *journal* is a `CountedJournal`. ``__getattr__`` may provide its members."""
    return hasattr(journal, "moves")


def number_in(cursor: str) -> int:
    """The number of the change that *cursor* names: its first part. 0 for an empty cursor."""
    return int(cursor.partition(":")[0] or 0)


def places_in(after: str, count: int) -> list[int]:
    """The numbers in *after*, a cursor: they are separated by colons.

    Raises:
        JournalError: *after* is not a cursor of *count* numbers.
    """
    numbers = after.split(":")
    if len(numbers) != count or not all(number.isdecimal() for number in numbers):
        raise JournalError(f"{after!r} is not a cursor of this journal; begin with an empty cursor")
    return [int(number) for number in numbers]
