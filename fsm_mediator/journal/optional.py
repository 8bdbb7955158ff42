"""Optional parts of a journal. A journal without them works; each function here says what happens then."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from fsm_mediator.journal.protocol import Entry, Journal


class SlotJournal(Journal, Protocol):
    """A journal that keeps the slots of limits, so that these hold for all processes that use it.

    An attempt under a limit is announced by a commit with `Commit.slot`. In the same transaction the journal decides
    whether the attempt has a slot. The number of slots is the smallest that any living driver declares for this limit
    in `Driver.limits`. If no slot is free, or earlier attempts queue for all that are, the attempt queues: the journal
    returns `Queued`, and the execution has a ``wake_at`` even if the commit has none. A commit with a ``wake_at`` only
    queues.

    The queue is in the order of arrival. A commit with records arrives anew; a commit without any keeps the place that
    the execution has, under whatever driver.

    A slot that is free for an attempt in the queue stays free until its driver asks for it. Meanwhile a journal may let
    later attempts have other free slots, twice as many attempts as there are slots at the most.

    A slot is free again after a commit that gives it up, and once the execution has no living owner, or is claimed. A
    place in the queue counts only while the execution's owner renews its lease, so that a stopped process does not hold
    up the others.
    """

    def turns(self, driver_id: str) -> list[str]:
        """The queued executions of a driver for which a slot is free now, in the order of arrival."""
        ...


def turns_of(journal: Journal) -> Callable[[str], list[str]] | None:
    """The journal's `SlotJournal.turns`; None: it keeps no slots, and limits hold within a process."""
    turns: Callable[[str], list[str]] | None = getattr(journal, "turns", None)
    return turns


def patience_of(journal: Journal) -> float | None:
    """The seconds for which a driver tries a commit on that the journal could not make; None: without limit."""
    patience: float | None = getattr(journal, "patience", 0.0)
    return patience


def claim_some(
    journal: Journal, driver_id: str, at: float, limit: int, skip: Sequence[str] = (), leave: Sequence[str] = ()
) -> list[Entry]:
    """As `Journal.claim_some`; one by one, oldest first, in a journal that has no such method."""
    if hasattr(journal, "claim_some"):
        return journal.claim_some(driver_id, at, limit, skip, leave)
    found = [saga_id for saga_id in journal.claimable(at, limit + len(leave), skip) if saga_id not in leave]
    claims = (journal.claim(saga_id, driver_id) for saga_id in found[:limit])
    return [claimed for claimed in claims if claimed is not None]
