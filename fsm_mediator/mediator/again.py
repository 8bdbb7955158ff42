"""Again: runs an ended execution once more, as a new execution with the same payload. Notes link the executions."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import msgspec

from fsm_mediator.errors import DefinitionChangedError, RefusedError, UnknownSagaError
from fsm_mediator.execution.execution import Execution
from fsm_mediator.execution.outcome import Outcome
from fsm_mediator.ids import is_branch, root_of
from fsm_mediator.journal.finding import attributes_of
from fsm_mediator.journal.notes import AGAIN, AGAIN_OF, ATTRIBUTES, Note, for_notes
from fsm_mediator.journal.protocol import Entry
from fsm_mediator.mediator.store import ExecutionStore
from fsm_mediator.mediator.verbs import outcome_by_shape
from fsm_mediator.records import Acceptance
from fsm_mediator.states import ENDED, SUCCEEDED


class Again(NamedTuple):
    """The result of `Mediator.again`: the new execution, and the versions of both executions.

    Attributes:
        saga_id: The id of the new execution.
        version: The version of its definition.
        earlier_version: The version of the earlier execution's definition.
        is_other_definition: Whether the two definitions differ in version or shape.
    """

    saga_id: str
    version: str
    earlier_version: str
    is_other_definition: bool


def id_of_next(saga_id: str) -> str:
    """The default id of a repetition of *saga_id*: ``ID~2`` for ``ID``, and ``ID~3`` for ``ID~2``."""
    numbered = re.fullmatch(r"(.+)~([1-9]\d{0,8})", saga_id)
    return f"{saga_id}~2" if numbered is None else f"{numbered[1]}~{int(numbered[2]) + 1}"


def new_again(
    store: ExecutionStore,
    saga_id: str,
    new_id: str | None,
    reason: str | None,
    actor: str | None,
    *,
    despite_leftovers: bool,
    even_if_succeeded: bool,
) -> tuple[Execution, Again]:
    """A new execution, not yet journaled, that repeats an ended execution: see `Mediator.again`.

    Raises:
        RefusedError: The execution is a branch, has not ended, has succeeded (without *even_if_succeeded*), or has left
            effects that are not compensated (without *despite_leftovers*).
        UnknownSagaError: No saga with the name of the execution's saga is registered.
    """
    for_notes(store.journal)
    entry = store.entry(saga_id)
    _check_ended(entry, even_if_succeeded=even_if_succeeded)
    if entry.state != SUCCEEDED and not despite_leftovers and (left := _outcome(store, entry).leftovers):
        raise RefusedError(
            f"execution {saga_id!r} left effects that no compensation undid: {', '.join(left)}. Undo "
            f"these by hand, then: despite_leftovers=True, or fsm-mediator again {saga_id} --despite-leftovers"
        )
    earlier = entry.acceptance
    saga = store.registry.saga(earlier.saga)
    execution = store.new_execution(saga, _payload(store, earlier), new_id or id_of_next(saga_id), None)
    opened = execution.acceptance
    is_other = (saga.version, saga.fingerprint) != (earlier.version, earlier.fingerprint)
    again = Again(opened.saga_id, saga.version, earlier.version, is_other)
    notes = [
        _note(AGAIN_OF, opened.saga_id, {"id": saga_id, "version": earlier.version}, reason, actor, opened.at),
        _note(AGAIN, saga_id, {"id": opened.saga_id, "version": saga.version}, reason, actor, opened.at),
    ]
    if known := attributes_of(store.journal, saga_id):
        notes.insert(0, Note(ATTRIBUTES, opened.saga_id, value=known, at=opened.at))
    execution.acceptance = msgspec.structs.replace(opened, notes=tuple(notes))
    return execution, again


def _note(kind: str, saga_id: str, value: Any, reason: str | None, actor: str | None, at: float) -> Note:
    return Note(kind, saga_id, value=value, actor=actor, reason=reason, at=at)


def _check_ended(entry: Entry, *, even_if_succeeded: bool) -> None:
    saga_id, state = entry.saga_id, entry.state
    if is_branch(saga_id):
        raise RefusedError(
            f"{saga_id!r} is a branch, and cannot be run again by itself: run {root_of(saga_id)!r} again"
        )
    if state not in ENDED:
        raise RefusedError(
            f"execution {saga_id!r} has not ended, but is in {state!r}: it cannot be run again at the same time"
        )
    if state == SUCCEEDED and not even_if_succeeded:
        raise RefusedError(
            f"execution {saga_id!r} has succeeded: to run it again, pass even_if_succeeded=True, or "
            f"fsm-mediator again {saga_id} --even-if-succeeded"
        )


def _outcome(store: ExecutionStore, entry: Entry) -> Outcome:
    """The outcome of an execution, even if its definition has changed or is not registered."""
    try:
        return store.load_execution(entry).outcome()
    except (UnknownSagaError, DefinitionChangedError):
        return outcome_by_shape(store, entry)


def _payload(store: ExecutionStore, acceptance: Acceptance) -> Any:
    """The payload with which an execution was started. An encoded payload is decoded as plain JSON types."""
    payload = acceptance.payload if acceptance.original is msgspec.UNSET else acceptance.original
    if not isinstance(payload, msgspec.Raw):
        return payload
    return store.journal.codec.decode(payload, Any, f"the payload of execution {acceptance.saga_id!r}")
