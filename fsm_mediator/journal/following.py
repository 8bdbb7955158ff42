"""Following: all records of a journal, of all executions, in the order of their commits, from a cursor on."""

from __future__ import annotations

from typing import Final, NamedTuple, Protocol, TypeGuard

from fsm_mediator.errors import JournalError
from fsm_mediator.journal.protocol import Journal
from fsm_mediator.records import Record


class Change(NamedTuple):
    """One row of a journal.

    Attributes:
        cursor: The place after it, for the next call; a text that only this journal understands.
        saga_id: The execution.
        record: Its record; None: the execution was accepted.
    """

    cursor: str
    saga_id: str
    record: Record | None


class FollowedJournal(Protocol):
    """A journal that can be followed."""

    def changes(self, after: str = "", limit: int = 1000) -> list[Change]:
        """The changes after a cursor, at most *limit*; empty: there are none yet.

        A follower that keeps the last cursor misses nothing, whatever commits at the same time: what an open
        transaction may still add comes later than all that is returned. The records of one execution come in their
        order. Records that are pruned before they were read do not come.

        Args:
            after: The cursor of the last change that was read; empty: from the beginning.
            limit: At most so many.

        Raises:
            JournalError: *after* is no cursor of this journal, or the journal cannot be read.
        """


def changes_of(journal: Journal, after: str = "", limit: int = 1000) -> list[Change]:
    """As `FollowedJournal.changes`.

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
    """One row of a journal without what a cipher seals: enough to count executions by.

    Attributes:
        cursor: The place after it, as in `Change`.
        execution: The number of the execution in this journal; a deleted execution's may be given again.
        seq: The number of the record; 0 if the execution was accepted, `REMOVED` if it was deleted.
        saga_id: The execution; empty if it was deleted, like all that follows.
        saga: The name of its saga.
        version: The saga's version.
        is_branch: Whether it is a branch.
        event: The record's event.
        source: The state before it.
        target: The state after it.
        at: The time, in seconds since the epoch.
        step: The record's step.
        error: The type of the record's error; None: it has none.
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
"""The `Move.seq` of an execution that was deleted."""


class CountedJournal(Protocol):
    """A journal that gives its changes without their values, deletions included."""

    def moves(self, after: str = "", limit: int = 1000) -> list[Move]:
        """As `FollowedJournal.changes`, with the same cursors, and with deletions since the first call of all.

        Raises:
            JournalError: *after* is no cursor of this journal, or the journal cannot be read.
        """

    def last_change(self) -> int:
        """The number of the last change; 0: there is none yet."""


def is_counted(journal: object) -> TypeGuard[CountedJournal]:
    """Whether *journal* is a `CountedJournal`, if only through ``__getattr__``."""
    return hasattr(journal, "moves")


def places_in(after: str, count: int) -> list[int]:
    """The numbers that a cursor is made of.

    Raises:
        JournalError: It is none of *count* numbers.
    """
    numbers = after.split(":")
    if len(numbers) != count or not all(number.isdecimal() for number in numbers):
        raise JournalError(f"{after!r} is no cursor of this journal; begin with an empty one")
    return [int(number) for number in numbers]
