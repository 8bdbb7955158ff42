"""RepairableJournal: what a journal offers to find damage in one execution, and to repair its row."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from fsm_mediator.journal.protocol import Journal


@runtime_checkable
class RepairableJournal(Protocol):
    """Further methods of a journal that keeps rows which are derived from its records."""

    def damage_of(self, saga_id: str | None) -> list[str]:
        """The damage in the records and the row of one execution, each fault in words; None: of every execution."""

    def repairable(self) -> list[str]:
        """The ids of executions with a row that contradicts their records or their inbox."""

    def repair(self, saga_id: str) -> None:
        """Derive the row of an execution again from its records and its inbox, which do not change.

        Its driver, if it has one, is fenced. Does nothing if the row contradicts nothing.
        """


def damage_of(journal: Journal, saga_id: str) -> list[str]:
    """The damage that *journal* finds in one execution; empty where it cannot look."""
    return journal.damage_of(saga_id) if isinstance(journal, RepairableJournal) else []
