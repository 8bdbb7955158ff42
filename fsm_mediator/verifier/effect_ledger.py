"""EffectLedger: the effects that really happened, as plain data without rules."""

from __future__ import annotations

from typing import NamedTuple


class EffectLedger(NamedTuple):
    """The effects that really happened. No execution can read the ledger.

    Attributes:
        effects: For each part, whether it has an effect now. A signal has an effect after it has arrived. A group has
            an effect while a branch runs or must be undone.
        known: For each part, whether the saga knows its effect, from an answer or a person.
        undoing: Whether compensation has begun.
        running: The index of the part with an abandoned thread that may still be running. None if there is none.
        branches: For each part, the `Status` of each branch, in order. Empty for a part without started branches, and
            empty as a whole if no part is a group.
        suspect: Whether the effect of the current part is in doubt.
    """

    effects: tuple[bool, ...]
    known: tuple[bool, ...]
    undoing: bool = False
    running: int | None = None
    branches: tuple[tuple[str, ...], ...] = ()
    suspect: bool = False

    def with_(self, at: int, *, effect: bool, known: bool | None = None) -> EffectLedger:
        """A copy with new values for the part at index *at*. If *known* is None, the old value of `known` stays."""
        effects = (*self.effects[:at], effect, *self.effects[at + 1 :])
        is_known = self.known[at] if known is None else known
        return self._replace(effects=effects, known=(*self.known[:at], is_known, *self.known[at + 1 :]))

    def with_branches(self, at: int, statuses: tuple[str, ...]) -> EffectLedger:
        """A copy with new *statuses* of the branches, for the group at index *at*."""
        return self._replace(branches=(*self.branches[:at], statuses, *self.branches[at + 1 :]))
