"""EffectLedger: the effects that really happened. It stores and judges nothing."""

from __future__ import annotations

from typing import NamedTuple


class EffectLedger(NamedTuple):
    """The effects that really happened; no execution can read it.

    Attributes:
        effects: For each part, whether it has an effect now. A signal has one once it has come, a group while a branch
            runs or is to be undone.
        known: For each part, whether its effect is known to the saga, by an answer or a person.
        undoing: Whether a compensation has begun.
        suspect: Whether the effect of the current part is in doubt.
        running: The index of the part whose abandoned thread may still be running; None: there is none.
        branches: For each part that is a group, how its branches stand, as `Status` says; empty where no part is one.
    """

    effects: tuple[bool, ...]
    known: tuple[bool, ...]
    undoing: bool = False
    running: int | None = None
    branches: tuple[tuple[str, ...], ...] = ()
    suspect: bool = False

    def with_(self, at: int, *, effect: bool, known: bool | None = None) -> EffectLedger:
        """A copy with other values for one part."""
        effects = (*self.effects[:at], effect, *self.effects[at + 1 :])
        is_known = self.known[at] if known is None else known
        return self._replace(effects=effects, known=(*self.known[:at], is_known, *self.known[at + 1 :]))

    def with_branches(self, at: int, statuses: tuple[str, ...]) -> EffectLedger:
        """A copy with other statuses for the branches of one group."""
        return self._replace(branches=(*self.branches[:at], statuses, *self.branches[at + 1 :]))
