"""Retention: how long executions are kept after they ended, and where they are archived before they are deleted.

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
"""Executions, without their branches, that are archived in one file and deleted at a time."""

_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800, "y": 365 * 86400}


class RetainingJournal(Protocol):
    """A journal that deletes executions by id. Without it only `Journal.prune` deletes."""

    def prune_these(self, saga_ids: Sequence[str], before: float) -> int:
        """Delete these executions, each with its branches, if it ended before that time and none of them can move.

        A branch is not deleted by itself. Ids stay known, see `Journal.forgotten`. The same call again deletes no more.

        Returns:
            The number of executions that were deleted, branches included.
        """


def for_retention(journal: Any) -> RetainingJournal:
    """*journal*, as a `RetainingJournal`.

    Raises:
        JournalError: It is none.
    """
    if not hasattr(journal, "prune_these"):
        raise JournalError(
            f"a {type(journal).__name__} deletes no executions by id: it lacks prune_these. Use Journal.prune"
        )
    return journal  # type: ignore[no-any-return]


class Retention:
    """How long a daemon keeps what has ended.

    Args:
        kept: By the state it ended in, ``succeeded`` or ``failed``: for how long, as ``"90s"``, ``"12h"``, ``"30d"``,
            ``"4w"``, ``"1y"`` or seconds. Executions in a state that is left out are never deleted.
        archive: A folder, into which they are written before they are deleted; None: nowhere. See `Archive`.
        every: Seconds between two looks at the journal.
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
        """Sweep the mediator's journal, if it is time; return how many executions were deleted. A daemon calls it."""
        now = self._clock()
        if now < self._next:
            return 0
        deleted: int = await off_loop(self.sweep, mediator.journal)
        self._next = now + self._every
        return deleted

    def sweep(self, journal: Journal, *, saga: str | None = None, advance: Callable[[int], object] = int) -> int:
        """Archive and delete all that was kept for long enough; return how many executions were deleted.

        They are in the archive before they are deleted. After a crash in between they are archived once more.

        Args:
            journal: The journal.
            saga: Only executions of the saga of this name.
            advance: Called with each number of executions that were deleted.

        Raises:
            JournalError: The journal cannot do it, or the archive cannot be written.
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
    """The execution, its branches, and theirs."""
    whole = [entry]
    for each in whole:  # it grows meanwhile
        whole += journal.entries(parent=each.saga_id)
    return whole


def _rests(entry: Entry) -> bool:
    """Whether an execution, or a branch of an ended execution, cannot move any more."""
    return entry.driver is None and (entry.state in ENDED or entry.state.startswith("stuck"))


def _seconds(state: str, duration: Any) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdwy])", duration.strip()) if isinstance(duration, str) else None
    if found is not None:
        return float(found[1]) * _SECONDS[found[2]]
    if isinstance(duration, str):
        raise DefinitionError(
            f"retention of {state!r}: {duration!r} is no duration; write 90s, 15m, 12h, 30d, 4w or 1y"
        )
    check_number(f"retention of {state!r} (seconds)", duration)
    return float(duration)
