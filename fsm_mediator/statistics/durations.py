"""Durations: any number of lengths of time in a few hundred counts, from which percentiles are read.

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
    """The number of the size of a duration. A clock that was set back makes none shorter than `SHORTEST`."""
    return math.ceil(math.log(max(seconds, SHORTEST)) / _GROWTH)


class Durations(msgspec.Struct):
    """Durations in seconds, counted by size.

    Attributes:
        counts: How many there are, by the number of their size. Each size is two per cent above the one before.
    """

    counts: dict[int, int] = {}

    def add(self, seconds: float) -> None:
        """Count one duration."""
        self.count(size_of(seconds), 1)

    def count(self, size: int, count: int) -> None:
        """Count *count* durations of one size: see `size_of`."""
        self.counts[size] = self.counts.get(size, 0) + count

    @property
    def samples(self) -> int:
        """How many durations were added."""
        return sum(self.counts.values())

    def percentile(self, percent: float) -> float | None:
        """The seconds that *percent* per cent of them do not exceed, within one per cent; None: there are none."""
        rank = max(math.ceil(self.samples * percent / 100), 1)
        for size in sorted(self.counts):
            rank -= self.counts[size]
            if rank <= 0:
                return math.exp(size * _GROWTH) * (1 - ERROR)
        return None
