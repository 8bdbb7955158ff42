"""RepairableJournal: optional methods of a journal that find damage in an execution, and repair its row."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from fsm_mediator.journal.protocol import Journal


@runtime_checkable
class RepairableJournal(Protocol):
    """Optional methods of a journal that derives the rows of executions from their records."""

    def damage_of(self, saga_id: str | None) -> list[str]:
        """A description of each fault in the records and the row of an execution.

        If *saga_id* is None, the faults of all executions are described.
        """

    def repairable(self) -> list[str]:
        """The ids of executions with a row that contradicts the records or the inbox."""

    def repair(self, saga_id: str) -> None:
        """Derive the row of an execution again from its records and its inbox, which do not change.

        If the execution has a driver, the driver is fenced. Does nothing if the row is correct.
        """


def damage_of(journal: Journal, saga_id: str) -> list[str]:
    """The damage that *journal* finds in one execution. Empty if the journal is not a `RepairableJournal`."""
    return journal.damage_of(saga_id) if isinstance(journal, RepairableJournal) else []
