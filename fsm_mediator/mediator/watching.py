"""Watching: reads the records of one or many executions after any process has committed them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from fsm_mediator.error_types import safe_repr
from fsm_mediator.errors import DefinitionError
from fsm_mediator.execution.outcome import Outcome
from fsm_mediator.journal.finding import for_finding
from fsm_mediator.journal.following import changes_of
from fsm_mediator.mediator.driving import ExecutionDriver
from fsm_mediator.mediator.finding import filter_of
from fsm_mediator.mediator.validation import check_id_argument, check_seconds
from fsm_mediator.records import Record


class Moment(msgspec.Struct, frozen=True):
    """A moment in the life of an execution.

    Attributes:
        saga_id: The execution.
        record: The record. None if the moment is the acceptance of the execution, or the end of the watch.
        outcome: The outcome, in the last moment of a watch of one execution. None if the execution continues.
        cursor: The position after this moment, from which a watch of many executions can continue. Empty in a watch of
            one.
    """

    saga_id: str
    record: Record | None = None
    outcome: Outcome | None = None
    cursor: str = ""


class WatchOfOne:
    """Reads one execution repeatedly.

    Args:
        core: The mediator's driver.
        saga_id: The execution.
        from_seq: The number of the first record that is yielded.
    """

    def __init__(self, core: ExecutionDriver, saga_id: str, from_seq: int) -> None:
        self._core = core
        self._saga_id = saga_id
        self._next = from_seq
        self._seen = 0
        self.ended: bool = False

    def look(self) -> list[Moment]:
        """The moments of the execution since the last call, in order. Empty if nothing has happened.

        Raises:
            UnknownExecutionError: There is no such execution.
        """
        entry = self._core.store.entry(self._saga_id)
        if entry.seq == self._seen and entry.seq:
            return []
        outcome = self._core.store.outcome(self._saga_id)
        records = [record for record in outcome.history if record.seq >= self._next]
        self._seen = len(outcome.history)
        self._next = max(self._next, self._seen + 1)
        self.ended = outcome.ended
        moments = [Moment(self._saga_id, record) for record in records]
        return [*moments, Moment(self._saga_id, outcome=outcome)] if self.ended else moments


class WatchOfMany:
    """Follows the records of all executions in a journal.

    Args:
        core: The mediator's driver.
        attributes: Only executions with all these attributes.
        cursor: The position after which the watch begins. Empty for the beginning of the journal.

    Raises:
        JournalError: The journal cannot be followed.
        PayloadError: An attribute is not allowed.
    """

    ended = False

    def __init__(self, core: ExecutionDriver, attributes: Mapping[str, Any], cursor: str) -> None:
        self._journal = core.journal
        self._cursor = cursor
        self._chosen = filter_of(attributes=attributes)
        if self._chosen.attributes:
            for_finding(self._journal)
        changes_of(self._journal, cursor, 1)

    def look(self) -> list[Moment]:
        """The moments of the watched executions since the last call, in the order of the commits."""
        changes = changes_of(self._journal, self._cursor)
        if not changes:
            return []
        self._cursor = changes[-1].cursor
        wanted = self._wanted({change.saga_id for change in changes})
        return [
            Moment(change.saga_id, change.record, cursor=change.cursor)
            for change in changes
            if change.saga_id in wanted
        ]

    def _wanted(self, saga_ids: set[str]) -> set[str]:
        if not self._chosen.attributes:
            return saga_ids
        known = for_finding(self._journal).attributes(sorted(saga_ids))
        return {saga_id for saga_id, kept in known.items() if self._chosen.fits_attributes(kept)}


def watch_of(
    core: ExecutionDriver,
    saga_id: str | None,
    attributes: Mapping[str, Any] | None,
    from_seq: int,
    cursor: str,
    poll: float,
) -> WatchOfOne | WatchOfMany:
    """The watch that the arguments of `Mediator.watch` describe.

    Raises:
        DefinitionError: The arguments cannot be combined.
    """
    check_seconds("poll (seconds)", poll)
    if saga_id is None:
        if from_seq != 1:
            raise DefinitionError(
                f"from_seq={safe_repr(from_seq)} counts the records of one execution; for many executions use cursor="
            )
        return WatchOfMany(core, attributes or {}, cursor)
    check_id_argument(saga_id)
    if attributes is not None or cursor:
        raise DefinitionError("attributes= and cursor= watch many executions; name one execution by its id")
    if type(from_seq) is not int or from_seq < 1:
        raise DefinitionError(f"from_seq={safe_repr(from_seq)} must be the number of a record, from 1")
    return WatchOfOne(core, saga_id, from_seq)
