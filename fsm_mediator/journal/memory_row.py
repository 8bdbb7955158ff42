"""Row: one execution in a `MemoryJournal`."""

from __future__ import annotations

import math

from fsm_mediator.journal.protocol import NO_RECOVERIES, Commit
from fsm_mediator.records import CHILD, Acceptance, InboxItem, Record
from fsm_mediator.states import PENDING, is_settled, is_stuck


class Row:
    """One execution. A commit puts a new row in its place; a change of one attribute is made in the row."""

    __slots__ = (
        "acceptance",
        "awaits",
        "driver",
        "epoch",
        "mail",
        "records",
        "recoveries",
        "seen",
        "shared",
        "wake_at",
    )

    def __init__(self, acceptance: Acceptance, records: list[Record], *, dormant: bool = False) -> None:
        self.acceptance = acceptance
        self.awaits = dormant
        self.shared = False
        self.seen = 0
        self.records = records
        self.epoch = 1
        self.driver: str | None = None
        self.wake_at: float | None = math.inf if dormant else None
        self.mail: tuple[InboxItem, ...] = ()
        self.recoveries = NO_RECOVERIES

    def after(self, commit: Commit) -> Row:
        """The row that takes this one's place with *commit*."""
        row = Row(self.acceptance, [*self.records, *commit.records])
        row.epoch = self.epoch
        row.driver = commit.driver if commit.held else None
        row.wake_at = commit.wake_at
        row.awaits = commit.awaits
        row.seen = max(self.seen, commit.seen)
        row.mail = self.mail
        row.recoveries = self.recoveries if commit.recoveries is None else commit.recoveries
        if commit.taken:
            row.mail = tuple(item for item in self.mail if item.number not in commit.taken)
        return row

    @property
    def state(self) -> str:
        """Its state."""
        return self.records[-1].target if self.records else PENDING

    @property
    def changed_at(self) -> float:
        """When it entered that state, in seconds since the epoch."""
        return self.records[-1].at if self.records else self.acceptance.at

    @property
    def has_unseen_message(self) -> bool:
        """Whether an item is in the inbox that no driver has seen; if the execution is stuck, one of a branch."""
        if not self.mail or self.mail[-1].number <= self.seen:  # items are in order, and a group's inbox can be long
            return False
        stuck = is_stuck(self.state)
        return any(item.number > self.seen and (not stuck or item.kind == CHILD) for item in reversed(self.mail))

    @property
    def is_unfinished(self) -> bool:
        """Whether this branch of an ended whole can still move.

        An ended branch that a driver holds is being undone. A stuck branch was settled by a person with the whole.
        """
        return self.driver is not None or not is_settled(self.state)
