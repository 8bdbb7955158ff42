"""Copying: all that one journal keeps, into another, empty one, as rows of plain data.

Drivers are not copied: none may be alive. Executions that a dead driver owned are free in the copy. Nothing is written
to the journal that is copied, and the copy is one transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, Protocol, TypeAlias

from fsm_mediator.errors import DefinitionError, RefusedError
from fsm_mediator.journal.protocol import Driver, Journal
from fsm_mediator.journal.rows import Row, execution_row, has_driver_look

TABLES: Final = {
    "shapes": ("fingerprint", "shape"),
    "forgotten": ("saga_id", "saga", "state", "ended_at"),
    "executions": (
        *("number", "saga_id", "saga", "version", "fingerprint", "deadline_at", "parent", "state", "changed_at", "seq"),
        *("epoch", "wake_at", "mail", "attention", "ended_at", "recoveries", "recoveries_here"),
    ),
    "records": ("execution", "seq", "event", "source", "target", "at", "details"),
    "planned": (
        *("execution", "number", "saga_id", "saga", "version", "fingerprint", "deadline_at", "dormant", "at"),
        *("details", "ended"),
    ),
    "inbox": ("number", "execution", "kind", "name", "value", "reason", "actor", "carrier", "at"),
    "attributes": ("execution", "name", "value"),
    "answers": ("number", "name", "seq", "refusal", "at"),
    "notes": ("number", "execution", "saga", "step", "kind", "value", "actor", "reason", "at"),
}
"""The tables of a copy and their columns, in the order in which they are written. Texts may hold NUL."""

Kept: TypeAlias = Iterable[tuple[str, Iterator[Row]]]
"""The rows of each table of `TABLES`."""


class CopyableJournal(Protocol):
    """A journal that can be copied, and can become the copy of another one."""

    def hand_over(self, take: Callable[[Kept], object]) -> None:
        """Call *take* with every row, in a transaction that keeps writers out.

        Raises:
            RefusedError: A living driver is enlisted.
        """

    def fill(self, kept: Kept) -> dict[str, int]:
        """Keep all of *kept*, in one transaction. Returns how many rows there are of each table.

        Raises:
            RefusedError: The journal keeps something already.
        """


def copy(old: Journal, new: Journal) -> dict[str, int]:
    """Copy a journal, whole or not at all. Returns how many rows were written, by table.

    Args:
        old: The journal that is copied. It stays as it is, and must not be driven afterwards.
        new: An empty one.

    Raises:
        DefinitionError: One of the two cannot be copied.
        RefusedError: A living driver is enlisted in *old*, or *new* is not empty.
        JournalError: One cannot be read, or the other not written.
    """
    written: dict[str, int] = {}
    copied = _copyable(new)
    _copyable(old).hand_over(lambda kept: written.update(copied.fill(kept)))
    return written


def _copyable(journal: Any) -> CopyableJournal:
    if not hasattr(journal, "hand_over") or not hasattr(journal, "fill"):
        raise DefinitionError(
            f"a {type(journal).__name__} cannot be copied: only journals in SQLite and PostgreSQL can"
        )
    return journal  # type: ignore[no-any-return]


def check_undriven(drivers: Iterable[Driver], shown: str) -> None:
    """Refuse to copy a journal with living *drivers*.

    Raises:
        RefusedError: Names one of them.
    """
    for driver in drivers:
        raise RefusedError(
            f"the journal {shown!r} is in use by {driver}; nothing was copied. Stop every process that drives or "
            f"starts sagas there, then copy it"
        )


def check_empty(counts: Iterable[int], shown: str) -> None:
    """Refuse to write a copy over something.

    Raises:
        RefusedError: One of *counts* is not 0.
    """
    if any(counts):
        raise RefusedError(f"the journal {shown!r} is not empty; nothing was copied. Name a new one")


def freed(row: Row) -> Row:
    """A row of ``executions`` as it is without an owner, from one with two more columns: owner, kinds of its items."""
    *kept, driver, kinds = row
    if driver is not None:
        state, changed_at, wake_at, mail = kept[7], kept[8], kept[11], kept[12]
        unseen = any(has_driver_look(kind, state) for kind in (kinds or "").split())
        _, _, kept[13], _, kept[14], *_ = execution_row(kept[0], None, state, changed_at, mail, wake_at, unseen=unseen)
    return tuple(kept)
