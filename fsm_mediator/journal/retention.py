"""Retention: archives and deletes ended executions after a certain time.

An execution is archived and deleted together with all its branches.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from os import PathLike
from typing import Any, Final, Protocol

from fsm_mediator.errors import DefinitionError, JournalError
from fsm_mediator.journal.archive import Archive
from fsm_mediator.journal.protocol import Entry, Journal
from fsm_mediator.off_loop import off_loop
from fsm_mediator.retry import check_number
from fsm_mediator.states import ENDED

BATCH: Final = 100
"""The number of executions that are archived in one file and then deleted together. Branches are not counted."""

_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800, "y": 365 * 86400}


class RetainingJournal(Protocol):
    """A journal that can delete executions by id. Other journals delete only by `Journal.prune`."""

    def prune_these(self, saga_ids: Sequence[str], before: float) -> int:
        """Delete each of these executions that ended before time *before* and has no branch that can still change.

        Branches are deleted together with their parent, and never without it. Rows of the deleted ids are kept: see
        `Journal.forgotten`. A repetition of the call has no effect.

        Returns:
            The number of deleted executions, branches included.
        """


def for_retention(journal: Any) -> RetainingJournal:
    """Return *journal* as a `RetainingJournal`.

    Raises:
        JournalError: *journal* is not a `RetainingJournal`.
    """
    if not hasattr(journal, "prune_these"):
        raise JournalError(
            f"a {type(journal).__name__} deletes no executions by id: it lacks prune_these. Use Journal.prune"
        )
    return journal  # type: ignore[no-any-return]


class Retention:
    """How long a daemon keeps executions that have ended.

    Args:
        kept: The time for which executions are kept, by the state in which they ended: ``succeeded`` or ``failed``. A
            time is ``"90s"``, ``"12h"``, ``"30d"``, ``"4w"``, ``"1y"`` or a number of seconds. If a state is not in
            *kept*, executions in that state are never deleted.
        archive: The folder of an `Archive`. Executions are written into it before they are deleted. None for no
            archive.
        every: Seconds between two sweeps of the journal.
        clock: Returns the time, in seconds since the epoch.

    Raises:
        DefinitionError: A state or a time cannot be used.
    """

    def __init__(
        self,
        kept: Mapping[str, str | float],
        *,
        archive: str | PathLike[str] | Archive | None = None,
        every: float = 3600.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if not isinstance(kept, Mapping) or not set(kept) <= set(ENDED):
            raise DefinitionError(
                f"retention is how long to keep what has ended, by state, such as {{'succeeded': '30d', 'failed': "
                f"'1y'}}, not {kept!r}"
            )
        check_number("retention: every (seconds)", every, above=True)
        self.kept: Final = {state: _seconds(state, duration) for state, duration in kept.items()}
        self.archive: Final = archive if archive is None or isinstance(archive, Archive) else Archive(archive)
        self._every = every
        self._clock = clock
        self._next = 0.0

    async def pass_on(self, mediator: Any) -> int:
        """Sweep the mediator's journal if a sweep is due. Returns the number of deleted executions.

        Daemons call this method.
        """
        now = self._clock()
        if now < self._next:
            return 0
        deleted: int = await off_loop(self.sweep, mediator.journal)
        self._next = now + self._every
        return deleted

    def sweep(self, journal: Journal, *, saga: str | None = None, advance: Callable[[int], object] = int) -> int:
        """Archive and delete all executions that were kept long enough. Returns the number of deleted executions.

        Executions are archived before they are deleted. After a crash between the two, they are archived a second time.

        Args:
            journal: The journal.
            saga: Only executions of the saga with this name.
            advance: Called after each batch, with the number of executions that the batch deleted.

        Raises:
            JournalError: The journal cannot delete executions by id, or the archive cannot be written.
        """
        prune_these, deleted = for_retention(journal).prune_these, 0
        for state, seconds in self.kept.items():
            before = self._clock() - seconds
            entries = journal.entries(phase=state, saga=saga, before=before)
            roots = (entry for entry in entries if entry.acceptance.parent is None)
            while batch := [with_branches(journal, root) for root in islice(roots, BATCH)]:
                resting = [whole for whole in batch if all(map(_rests, whole))]
                if self.archive is not None and resting:
                    self.archive.add(journal, [entry for whole in resting for entry in whole])
                count = prune_these([whole[0].saga_id for whole in resting], before)
                deleted += count
                advance(count)
        return deleted


def with_branches(journal: Journal, entry: Entry) -> list[Entry]:
    """The entries of an execution and of all its branches, at any depth."""
    whole = [entry]
    for each in whole:  # the list grows during the loop
        whole += journal.entries(parent=each.saga_id)
    return whole


def _rests(entry: Entry) -> bool:
    """Whether an ended execution, or a branch of an ended execution, can no longer change."""
    return entry.driver is None and (entry.state in ENDED or entry.state.startswith("stuck"))


def _seconds(state: str, duration: Any) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdwy])", duration.strip()) if isinstance(duration, str) else None
    if found is not None:
        return float(found[1]) * _SECONDS[found[2]]
    if isinstance(duration, str):
        raise DefinitionError(
            f"retention of {state!r}: {duration!r} is not a duration; write 90s, 15m, 12h, 30d, 4w or 1y"
        )
    check_number(f"retention of {state!r} (seconds)", duration)
    return float(duration)
