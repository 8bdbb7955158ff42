"""The ids of executions that were deleted, for a journal in memory."""

from __future__ import annotations

from collections import deque
from typing import Final

MOST_FORGOTTEN: Final = 1_000_000
"""How many ids are remembered after their executions were deleted: the ids that were deleted last."""


class ForgottenIds:
    """Digests of ids, some 70 bytes each. There are 2**64 digests, so two ids hardly ever share one.

    Attributes:
        digests: The digests. The digest of an id is its ``hash``, which differs from process to process.
    """

    __slots__ = ("_by_age", "digests")

    def __init__(self) -> None:
        self.digests: set[int] = set()
        self._by_age: deque[int] = deque()

    def add(self, saga_id: str) -> None:
        """Remember *saga_id*. If there are then too many ids, forget the oldest."""
        digest = hash(saga_id)
        if digest not in self.digests:
            self.digests.add(digest)
            self._by_age.append(digest)
            if len(self._by_age) > MOST_FORGOTTEN:
                self.digests.discard(self._by_age.popleft())
