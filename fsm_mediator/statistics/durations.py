"""Durations: store any number of durations as a few hundred counts, and compute percentiles from the counts.

Source: "DDSketch: A Fast and Fully-Mergeable Quantile Sketch with Relative-Error Guarantees" (Masson, Rim and Lee,
VLDB 2019).
"""

from __future__ import annotations

import math
from typing import Final

import msgspec

ERROR: Final = 0.01
"""The maximum relative difference between a percentile and the real duration of that rank."""

SHORTEST: Final = 1e-6
"""The shortest duration that is distinguished, in seconds. A shorter duration counts as this duration."""

_GROWTH: Final = math.log((1 + ERROR) / (1 - ERROR))


def size_of(seconds: float) -> int:
    """The number of the size class of a duration. A higher class has longer durations.

    Durations below `SHORTEST`, even negative ones, count as `SHORTEST`.
    """
    return math.ceil(math.log(max(seconds, SHORTEST)) / _GROWTH)


class Durations(msgspec.Struct):
    """Durations in seconds, counted by size class.

    Attributes:
        counts: The number of durations in each size class, by the number of the class. The durations in a class are two
            per cent longer than the durations in the class before.
    """

    counts: dict[int, int] = {}

    def add(self, seconds: float) -> None:
        """Count one duration of *seconds* seconds."""
        self.count(size_of(seconds), 1)

    def count(self, size: int, count: int) -> None:
        """Count *count* durations of the size class *size*: see `size_of`."""
        self.counts[size] = self.counts.get(size, 0) + count

    @property
    def samples(self) -> int:
        """The number of all counted durations."""
        return sum(self.counts.values())

    def percentile(self, percent: float) -> float | None:
        """The *percent*-th percentile of the durations, in seconds, with an error of at most one per cent.

        None if there are no durations.
        """
        rank = max(math.ceil(self.samples * percent / 100), 1)
        for size in sorted(self.counts):
            rank -= self.counts[size]
            if rank <= 0:
                return math.exp(size * _GROWTH) * (1 - ERROR)
        return None
