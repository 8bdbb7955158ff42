"""Copying: copies a whole journal into an empty journal, as rows of plain data.

Drivers are not copied, and no driver may be alive. Executions that a dead driver owned have no owner in the copy. The
old journal is not changed, and the copy is written in one transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, Protocol, TypeAlias

from fsm_mediator.errors import DefinitionError, RefusedError
from fsm_mediator.journal.attention import has_driver_look
from fsm_mediator.journal.protocol import Driver, Journal
from fsm_mediator.journal.rows import Row, execution_row

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
"""The tables of a copy and their columns, in the order in which they are written. Texts may contain NUL characters."""

Kept: TypeAlias = Iterable[tuple[str, Iterator[Row]]]
"""For each table of `TABLES`, in this order: its name, and its rows."""


class CopyableJournal(Protocol):
    """A journal that can be copied, and can become the copy of another journal."""

    def hand_over(self, take: Callable[[Kept], object]) -> None:
        """Call *take* once, with the rows of all tables, in a transaction that locks out writers.

        Raises:
            RefusedError: A living driver is enlisted.
        """

    def fill(self, kept: Kept) -> dict[str, int]:
        """Write the rows of all tables, *kept*, in one transaction. Returns the number of rows of each table.

        Raises:
            RefusedError: The journal is not empty.
        """


def copy(old: Journal, new: Journal) -> dict[str, int]:
    """Copy a journal completely, or not at all. Returns the number of rows written to each table.

    Args:
        old: The journal to copy. It is not changed, and must not be driven afterwards.
        new: An empty journal, which becomes the copy.

    Raises:
        DefinitionError: One of the two journals is not a `CopyableJournal`.
        RefusedError: A living driver is enlisted in *old*, or *new* is not empty.
        JournalError: *old* cannot be read, or *new* cannot be written.
    """
    written: dict[str, int] = {}
    copied = _copyable(new)
    _copyable(old).hand_over(lambda kept: written.update(copied.fill(kept)))
    return written


def _copyable(journal: Any) -> CopyableJournal:
    if not hasattr(journal, "hand_over") or not hasattr(journal, "fill"):
        raise DefinitionError(
            f"a {type(journal).__name__} cannot be copied: only journals in SQLite and PostgreSQL can be copied"
        )
    return journal  # type: ignore[no-any-return]


def check_undriven(drivers: Iterable[Driver], shown: str) -> None:
    """Refuse to copy a journal that has living *drivers*. *shown* is the name of the journal in the message.

    Raises:
        RefusedError: There is a living driver. The message names the first one.
    """
    for driver in drivers:
        raise RefusedError(
            f"the journal {shown!r} is in use by {driver}; nothing was copied. Stop every process that drives or "
            f"starts sagas there, then copy it"
        )


def check_empty(counts: Iterable[int], shown: str) -> None:
    """Refuse to write a copy into a journal that is not empty. *shown* is the name of the journal in the message.

    Raises:
        RefusedError: One of *counts*, the numbers of rows, is not 0.
    """
    if any(counts):
        raise RefusedError(f"the journal {shown!r} is not empty; nothing was copied. Name a new one")


def freed(row: Row) -> Row:
    """A row of the table ``executions``, changed so that the execution has no owner.

    *row* has two more columns than the result: the owner, and the kinds of the items in the execution's inbox.
    """
    *kept, driver, kinds = row
    if driver is not None:
        state, changed_at, wake_at, mail = kept[7], kept[8], kept[11], kept[12]
        unseen = any(has_driver_look(kind, state) for kind in (kinds or "").split())
        _, _, kept[13], _, kept[14], *_ = execution_row(kept[0], None, state, changed_at, mail, wake_at, unseen=unseen)
    return tuple(kept)
