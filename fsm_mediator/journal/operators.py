"""OperatorJournal: optional methods of a journal, for operators. Drivability: says which executions can be driven.

A feature that needs the optional methods reports an error if the journal lacks them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, Protocol

import msgspec

from fsm_mediator.errors import JournalError, MediatorError
from fsm_mediator.journal.protocol import Entry, Journal
from fsm_mediator.records import Failure, VerbAnswer
from fsm_mediator.states import ENDED


class Fault(msgspec.Struct, frozen=True):
    """The reason why a driver could not decode an execution although the driver knows the definition.

    Attributes:
        type: The name of the type as which a value could not be decoded. Empty if a record is damaged.
        field: The field, as a path from the value, such as ``$.currency``.
        message: The error, as text.
    """

    type: str
    field: str
    message: str

    @classmethod
    def of(cls, error: MediatorError) -> Fault:
        """The fault for an error that decoding raised."""
        why = Failure.of(error.__cause__ or error).message
        at, missing = re.search(r"at `(\$[^`]*)`", why), re.search(r"required field `([^`]*)`", why)
        field = (at[1] if at else "$") + (f".{missing[1]}" if missing else "")
        return cls(getattr(error, "type", ""), field, str(error))


class OperatorJournal(Protocol):
    """A journal that keeps the answers to verbs, and knows the definitions that living drivers can drive.

    A verb is an operator's command to an execution: ``retry``, ``resolve`` or ``undo``. The execution's driver answers
    the verb.
    """

    def answer(self, name: str) -> VerbAnswer | None:
        """The answer to the verb with this name. None if there is no answer yet, or if the answer was deleted."""

    def forget_answer(self, name: str) -> None:
        """Delete the answer to the verb with this name. Does nothing if there is no answer."""

    def known(self) -> frozenset[str]:
        """The fingerprints of all definitions that living drivers know."""

    def shape(self, fingerprint: str) -> str | None:
        """The shape with this fingerprint, as JSON. None if no driver has enlisted with it."""

    def note_fault(self, saga_id: str, epoch: int, fault: Fault) -> None:
        """Store *fault*, the reason why a driver could not decode the execution.

        The fault is valid until the execution has another epoch.
        """

    def faults(self) -> Mapping[str, Fault]:
        """The faults of executions that have not ended, by id."""


_MEMBERS: Final = tuple(name for name in vars(OperatorJournal) if not name.startswith("_"))


def has_operators(journal: Journal) -> bool:
    """Whether *journal* is an `OperatorJournal`."""
    return all(hasattr(journal, name) for name in _MEMBERS)


def for_operators(journal: Journal) -> OperatorJournal:
    """Return *journal* as an `OperatorJournal`.

    Raises:
        JournalError: *journal* lacks a method of `OperatorJournal`.
    """
    if not has_operators(journal):
        raise JournalError(
            f"the journal {type(journal).__name__} takes no verbs for other drivers: it lacks one of "
            f"{', '.join(_MEMBERS)}. Give the verb in a process that can drive the execution, while no driver owns it"
        )
    found: Any = journal
    return found  # type: ignore[no-any-return]


class Drivability:
    """Says which executions can be driven. The information is read from the journal once, when the object is made.

    Attributes:
        known: The fingerprints of the definitions that living drivers know. None if the journal does not keep them.
        faults: The faults of executions that a driver could not decode, by id.
    """

    def __init__(self, journal: Journal) -> None:
        operators = for_operators(journal) if has_operators(journal) else None
        self.known: frozenset[str] | None = None if operators is None else operators.known()
        self.faults: Mapping[str, Fault] = {} if operators is None else operators.faults()

    def why_not(self, entry: Entry) -> str | None:
        """The reason why an execution is undrivable, as text. None if no reason is known."""
        if entry.state in ENDED or self.known is None:
            return None
        fault = self.faults.get(entry.saga_id)
        if fault is not None:
            where = f" (type {fault.type}, field {fault.field})" if fault.type else ""
            return f"a driver could not decode it: {fault.message}{where}"
        if entry.acceptance.fingerprint in self.known or entry.driver_alive:
            return None
        return "no living driver knows its definition"

    def is_undrivable(self, entry: Entry) -> bool:
        """Whether an execution should be marked and counted as undrivable.

        If no driver is alive, only executions that a driver could not decode count as undrivable.
        """
        return bool(self.known or entry.saga_id in self.faults) and self.why_not(entry) is not None


def next_moves(saga_id: str) -> str:
    """The next moves of an operator for an undrivable execution, as text."""
    return (
        f"Register the version that wrote it as well, under its version; or give it up, which undoes nothing: "
        f"fsm-mediator abandon {saga_id} --reason ..."
    )
