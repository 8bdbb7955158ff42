"""Bulk: gives one verb to many executions. Their ids are written to the journal before the first verb is given.

An interrupted batch is resumed by its name. The batch then handles only the ids without a result. Its filter is not
applied again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from msgspec.structs import replace

from fsm_mediator.errors import DefinitionError, RefusedError
from fsm_mediator.journal.finding import Filter
from fsm_mediator.journal.notes import BATCH, BATCH_RESULT, Note, NotesJournal, for_notes
from fsm_mediator.journal.protocol import Journal, new_token
from fsm_mediator.mediator.bulk_arguments import arguments_of, check_arguments, kept_arguments
from fsm_mediator.mediator.core import Core
from fsm_mediator.mediator.finding import executions, filter_of
from fsm_mediator.mediator.store import uuid7_hex
from fsm_mediator.records import CANCEL, RESOLVE, RETRY, SIGNAL, UNDO
from fsm_mediator.states import ENDED

PRUNE: Final = "prune"
"""The verb that deletes ended executions with their branches. Unlike the other verbs, it is not a method of mediators.
"""

VERBS_IN_BULK: Final = (RETRY, RESOLVE, CANCEL, UNDO, SIGNAL, "again", "hold", "unhold", "acknowledge", PRUNE)
"""The verbs that can be given to many executions at once."""

CHUNK: Final = 1000
"""The maximum number of execution ids in one note. A batch with more ids has several notes."""


class BulkResult(NamedTuple):
    """The result of a verb for one execution of a batch.

    Attributes:
        saga_id: The execution.
        done: Whether the verb was accepted.
        message: The state of the execution after the verb, or the reason of the refusal.
    """

    saga_id: str
    done: bool
    message: str


class Batch:
    """A verb for many executions, as it is stored in the journal.

    Args:
        journal: The journal.
        name: The batch's name.

    Attributes:
        name: The batch's name.
        verb: The verb.
        ids: The ids of the executions, in the order in which they are given the verb.
        reason: The actor's reason for the batch, or None.
        actor: The name of the person or program that confirmed the batch.
        at: When the batch was confirmed, in seconds since the epoch.

    Raises:
        RefusedError: There is no such batch, or it was never confirmed.
    """

    def __init__(self, journal: Journal, name: str) -> None:
        self._notes: NotesJournal = for_notes(journal)
        kept = [note for note in self._notes.notes(kind=BATCH) if note.value["batch"] == name]
        if not kept or not kept[-1].value["last"]:
            raise RefusedError(f"there is no batch {name!r}, or it was interrupted before confirmation; begin again")
        self.name: str = name
        self._first = kept[0].number
        self.verb: str = kept[0].value["verb"]
        self._journal, self._arguments = journal, kept[0].value["arguments"]
        self.ids: list[Any] = [saga_id for note in kept for saga_id in note.value["ids"]]
        self.reason: str | None = kept[0].reason
        self.actor: str | None = kept[0].actor
        self.at: float = kept[-1].at

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments of the verb. They are the same for all executions.

        Raises:
            JournalError: The arguments are sealed, and the journal's cipher cannot open them.
        """
        return arguments_of(self._journal, self.name, self._arguments)

    @property
    def number(self) -> int:
        """The number of the batch's first note. All other notes about the batch have higher numbers."""
        return self._first

    def results(self) -> list[BulkResult]:
        """The results of the executions that have been given the verb so far, in the order of writing."""
        notes = self._notes.notes(kind=BATCH_RESULT, after=self._first)
        own = (note for note in notes if note.value["batch"] == self.name)
        return [BulkResult(note.value["id"], note.value["done"], note.reason or "") for note in own]

    def left(self) -> list[str]:
        """The ids of the executions without a result, in order."""
        done = {result.saga_id for result in self.results()}
        return [saga_id for saga_id in self.ids if saga_id not in done]

    def words(self) -> dict[str, Any]:
        """The keyword arguments with which the verb's method is called."""
        words = {**self.arguments, "actor": self.actor}
        return words if self.verb == SIGNAL else {**words, "reason": self.reason}

    def keep(self, result: BulkResult, at: float) -> None:
        """Write the result for one execution."""
        value = {"batch": self.name, "verb": self.verb, "done": result.done, "id": result.saga_id}
        note = Note(BATCH_RESULT, result.saga_id, None, None, value, self.actor, result.message, at)
        if not self._notes.add_note(note):  # the execution was deleted: the note names no execution
            self._notes.add_note(Note(BATCH_RESULT, None, None, None, value, self.actor, result.message, at))


def freeze(
    journal: Journal,
    verb: str,
    ids: Iterable[str],
    arguments: Mapping[str, Any],
    reason: str | None,
    actor: str | None,
    at: float,
) -> Batch:
    """Confirm a batch: store its verb and the ids of its executions. Returns the batch. The ids never change.

    Raises:
        DefinitionError: The verb cannot be given to many executions, or does not take these arguments.
        JournalError: The journal keeps no notes, or the verb is `PRUNE` and the journal cannot delete by id.
        PayloadError: The arguments cannot be encoded as JSON.
    """
    if verb not in VERBS_IN_BULK:
        raise DefinitionError(f"bulk({verb!r}): the verbs for many are {', '.join(VERBS_IN_BULK)}")
    check_arguments(verb, arguments, reason)
    if verb == PRUNE:
        from fsm_mediator.journal.retention import for_retention  # loaded when it is used

        for_retention(journal)
    notes, name, each = for_notes(journal), uuid7_hex(at), list(ids)
    kept = kept_arguments(journal, name, arguments)
    for start in range(0, max(1, len(each)), CHUNK):
        value: dict[str, Any] = {
            "batch": name,
            "verb": verb,
            "arguments": kept,
            "ids": each[start : start + CHUNK],
        }
        value["last"] = start + CHUNK >= len(each)
        note = Note(BATCH, None, None, None, value, actor, reason, at)
        notes.add_note(note, token=new_token())
    return Batch(journal, name)


def fitting(verb: str | None, chosen: Filter) -> Filter:
    """The filter of a batch: *chosen*, if the verb is not `PRUNE`.

    For `PRUNE`, the filter also excludes branches. If *chosen* names no state, the filter has only ended executions.
    """
    if verb != PRUNE:
        return chosen
    return replace(chosen, roots=True, states=chosen.states or tuple(sorted(ENDED)))


def batch_for(
    core: Core,
    verb: str,
    name: str | None,
    arguments: Mapping[str, Any] | None,
    reason: str | None,
    actor: str | None,
    **asked: Any,
) -> Batch:
    """The batch with this *name*. If *name* is None, a new batch of all executions that match the filter *asked*.

    Raises:
        DefinitionError: The verb cannot be given to many executions, or the filter can match nothing.
        RefusedError: There is no such batch.
    """
    if name is not None:
        return Batch(core.journal, name)
    ids = [entry.saga_id for entry in executions(core, fitting(verb, filter_of(**asked)), None, None)]
    return freeze(core.journal, verb, ids, arguments or {}, reason, actor, core.clock())


def result_of(saga_id: str, answer: Any) -> BulkResult:
    """The result of a verb for an execution.

    *answer* is the return value of the verb's method: an outcome, an `Again` or None.
    """
    message = getattr(answer, "state", None) or getattr(answer, "saga_id", None) or "accepted"
    return BulkResult(saga_id, done=True, message=str(message))
