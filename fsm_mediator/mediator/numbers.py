"""Numbers: the method of a mediator that returns the statistics of a saga's executions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fsm_mediator.error_types import safe_repr
from fsm_mediator.errors import DefinitionError
from fsm_mediator.journal.protocol import Journal
from fsm_mediator.mediator import requests
from fsm_mediator.mediator.driving import ExecutionDriver
from fsm_mediator.mediator.threads import run_blocking

if TYPE_CHECKING:
    from fsm_mediator.statistics.numbers import SagaNumbers


def numbers_in(journal: Journal, saga: str, version: str | None, since: float | None) -> SagaNumbers:
    """The statistics of a saga's executions: see `Mediator.stats`."""
    from fsm_mediator.statistics.numbers import first_span, read_numbers  # loaded at the first call
    from fsm_mediator.statistics.side_store import filled_store_of

    if not isinstance(saga, str) or not isinstance(version, (str, type(None))):
        raise DefinitionError(f"stats({safe_repr(saga)}, version={safe_repr(version)}): give names, as texts")
    first, store = first_span(since), filled_store_of(journal)
    return read_numbers(journal, saga, version, first) if store is None else store.numbers(saga, version, first)


class NumbersOperations:
    """The method of `Mediator` that returns statistics of a saga's executions."""

    _core: ExecutionDriver

    def stats(self, saga: str, *, version: str | None = None, since: float | None = None) -> SagaNumbers:
        """The statistics of a saga's executions, from their records: durations, counts, failures, and present states.

        If there is a side store, the statistics come from it. Otherwise they are computed from all records, which may
        take minutes in a large journal. The results are the same, except for changes of the last `SagaNumbers.age`
        seconds.

        Args:
            saga: The name of the saga, or of a branch.
            version: Only executions of this version. None for all versions.
            since: Only records from this time on, in seconds since the epoch. The time is rounded down to a full hour
                in UTC.

        Raises:
            DefinitionError: *since* is not a time, or *saga* or *version* is not a text.
            JournalError: The journal or its side store cannot be read.
        """
        core = self._core
        found: SagaNumbers = run_blocking(requests.ask, core, numbers_in, core.journal, saga, version, since)
        return found


class AsyncNumbersOperations:
    """The method of `AsyncMediator` that returns statistics of a saga's executions."""

    _core: ExecutionDriver

    async def stats(self, saga: str, *, version: str | None = None, since: float | None = None) -> SagaNumbers:
        """The statistics of a saga's executions, from their records: durations, counts, failures, and present states.

        If there is a side store, the statistics come from it. Otherwise they are computed from all records, which may
        take minutes in a large journal. The results are the same, except for changes of the last `SagaNumbers.age`
        seconds.

        Args:
            saga: The name of the saga, or of a branch.
            version: Only executions of this version. None for all versions.
            since: Only records from this time on, in seconds since the epoch. The time is rounded down to a full hour
                in UTC.

        Raises:
            DefinitionError: *since* is not a time, or *saga* or *version* is not a text.
            JournalError: The journal or its side store cannot be read.
        """
        found: SagaNumbers = await requests.ask(self._core, numbers_in, self._core.journal, saga, version, since)
        return found
