"""The ids of executions that were deleted, for a journal in memory."""

from __future__ import annotations

from collections import deque
from typing import Final

MOST_FORGOTTEN: Final = 1_000_000
"""How many ids are known after their executions were deleted: those deleted last."""


class ForgottenIds:
    """Digests of ids, some 70 bytes each. There are 2**64 digests, so two ids hardly ever share one.

    Attributes:
        digests: The digests: of an id, its ``hash``, which is another in each process.
    """

    __slots__ = ("_by_age", "digests")

    def __init__(self) -> None:
        self.digests: set[int] = set()
        self._by_age: deque[int] = deque()

    def add(self, saga_id: str) -> None:
        """Know *saga_id* from now on, and no more the oldest id, if there are too many."""
        digest = hash(saga_id)
        if digest not in self.digests:
            self.digests.add(digest)
            self._by_age.append(digest)
            if len(self._by_age) > MOST_FORGOTTEN:
                self.digests.discard(self._by_age.popleft())
