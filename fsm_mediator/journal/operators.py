"""OperatorJournal: what a journal can do for operators besides the `Journal` protocol.

A journal without it works; what needs it says so.
"""

from __future__ import annotations

from typing import Any, Final, Protocol

from fsm_mediator.errors import JournalError
from fsm_mediator.journal.protocol import Journal
from fsm_mediator.records import VerbAnswer


class OperatorJournal(Protocol):
    """A journal that answers verbs in inboxes, and knows which definitions living drivers know."""

    def answer(self, name: str) -> VerbAnswer | None:
        """What became of the verb of this name; None: it was not judged yet, or the answer is forgotten."""

    def forget_answer(self, name: str) -> None:
        """Delete the answer to the verb of this name; harmless if there is none."""

    def known(self) -> frozenset[str]:
        """The fingerprints of all definitions that living drivers know."""

    def shape(self, fingerprint: str) -> str | None:
        """The shape with this fingerprint, as JSON; None: no driver has enlisted with it."""


_MEMBERS: Final = tuple(name for name in vars(OperatorJournal) if not name.startswith("_"))


def has_operators(journal: Journal) -> bool:
    """Whether *journal* is an `OperatorJournal`."""
    return all(hasattr(journal, name) for name in _MEMBERS)


def for_operators(journal: Journal) -> OperatorJournal:
    """*journal*, as an `OperatorJournal`.

    Raises:
        JournalError: It is none.
    """
    if not has_operators(journal):
        raise JournalError(
            f"the journal {type(journal).__name__} takes no verbs for other drivers: it lacks one of "
            f"{', '.join(_MEMBERS)}. Give the verb in the process that can drive the execution, when nothing drives it"
        )
    found: Any = journal
    return found  # type: ignore[no-any-return]
