"""Durations: stores any number of durations as a few hundred counts, and computes percentiles from the counts.

Source: "DDSketch: A Fast and Fully-Mergeable Quantile Sketch with Relative-Error Guarantees" (Masson, Rim and Lee,
VLDB 2019).
"""

from __future__ import annotations

import math
from typing import Final

import msgspec

ERROR: Final = 0.01
"""A percentile is at most so far from a duration of that rank, relative to the duration."""

SHORTEST: Final = 1e-6
"""Seconds; a shorter duration counts as this one."""

_GROWTH: Final = math.log((1 + ERROR) / (1 - ERROR))


def size_of(seconds: float) -> int:
    """The number of the size class of a duration. Durations below `SHORTEST`, even negative, count as `SHORTEST`."""
    return math.ceil(math.log(max(seconds, SHORTEST)) / _GROWTH)


class Durations(msgspec.Struct):
    """Durations in seconds, counted by size class.

    Attributes:
        counts: The number of durations in each size class. Each size is two per cent larger than the previous size.
    """

    counts: dict[int, int] = {}

    def add(self, seconds: float) -> None:
        """Count one duration."""
        self.count(size_of(seconds), 1)

    def count(self, size: int, count: int) -> None:
        """Count *count* durations of one size class: see `size_of`."""
        self.counts[size] = self.counts.get(size, 0) + count

    @property
    def samples(self) -> int:
        """The number of added durations."""
        return sum(self.counts.values())

    def percentile(self, percent: float) -> float | None:
        """The *percent*-th percentile of the durations, within one per cent. None if there are no durations."""
        rank = max(math.ceil(self.samples * percent / 100), 1)
        for size in sorted(self.counts):
            rank -= self.counts[size]
            if rank <= 0:
                return math.exp(size * _GROWTH) * (1 - ERROR)
        return None
