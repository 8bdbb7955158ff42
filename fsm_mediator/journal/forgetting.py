"""ForgottenIds: remembers the ids of deleted executions, for a journal in memory."""

from __future__ import annotations

from collections import deque
from typing import Final

MOST_FORGOTTEN: Final = 1_000_000
"""The maximum number of deleted ids that are remembered. If there are more, the ids that were deleted first are
forgotten.
"""


class ForgottenIds:
    """Digests of deleted ids. A digest takes some 70 bytes. It has 64 bits, so two ids hardly ever share one.

    Attributes:
        digests: The digests. The digest of an id is the result of ``hash``, which differs from process to process.
    """

    __slots__ = ("_by_age", "digests")

    def __init__(self) -> None:
        self.digests: set[int] = set()
        self._by_age: deque[int] = deque()

    def add(self, saga_id: str) -> None:
        """Remember *saga_id*. If there are then too many ids, forget the oldest."""
        digest, digests, by_age = hash(saga_id), self.digests, self._by_age
        if digest not in digests:
            digests.add(digest)
            by_age.append(digest)
            if len(by_age) > MOST_FORGOTTEN:
                digests.discard(by_age.popleft())
