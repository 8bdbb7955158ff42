"""The floor of the measurements on disk: a hand-written loop, and the ratios of other code to this loop."""

from __future__ import annotations

import shutil
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, TypeAlias

Durability: TypeAlias = Literal["full", "normal"]


INSERT = "insert into records values (?, ?, ?, ?, ?, ?)"


def one_table(path: Path, durability: Durability, *, threads: bool = False) -> sqlite3.Connection:
    """A new file with the loop's table.

    *threads*: whether several threads use the file; they must do their own locking.
    """
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=not threads)
    connection.execute("pragma journal_mode = wal")
    connection.execute(f"pragma synchronous = {durability}")
    connection.execute("create table records (saga_id text, seq int, event text, target text, at real, value)")
    return connection


class HandWritten:
    """The floor: one table, with one insert and one commit for each transition."""

    def __init__(self, path: Path, durability: Durability) -> None:
        self._connection = one_table(path, durability)
        self._number = 0

    def run(self, number: int) -> None:
        """Run *number* sagas of three steps that do nothing, with four rows each."""
        for _ in range(number):
            self._run()

    def _run(self) -> None:
        self._number += 1
        saga_id = f"{self._number:032x}"
        for seq, event, target in (
            (1, "start", "executing.a"),
            (2, "executed", "executing.b"),
            (3, "executed", "executing.c"),
            (4, "executed", "succeeded"),
        ):
            self._connection.execute(INSERT, (saga_id, seq, event, target, time.time(), "null"))

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


class Ratios:
    """Samples of contestants. Each sample is measured directly after a sample of the loop."""

    def __init__(self, by_hand: HandWritten, floor_sagas: int) -> None:
        self._by_hand = by_hand
        self._floor_sagas = floor_sagas
        self._samples: dict[str, list[tuple[float, float]]] = {}
        by_hand.run(20)

    def add(self, name: str, call: Callable[[], float]) -> None:
        """Add one sample: *call* returns the microseconds of one saga. The loop runs before and after the call."""
        before = self._floor(self._floor_sagas // 2)
        ours = call()
        after = self._floor(self._floor_sagas // 2)
        self._samples.setdefault(name, []).append(((before + after) / 2, ours))

    def add_in_turn(self, name: str, call: Callable[[], float], number: int) -> None:
        """Like `add`, if *call* runs only one saga: *number* calls, in turn with the loop."""
        pairs = [(self._floor(1), call()) for _ in range(number)]
        floors, ours = zip(*pairs, strict=True)
        self._samples.setdefault(name, []).append((sum(floors) / number, sum(ours) / number))

    def _floor(self, sagas: int) -> float:
        started = time.perf_counter()
        self._by_hand.run(sagas)
        return (time.perf_counter() - started) / sagas * 1e6

    def ratio(self, name: str) -> float:
        """The time of a contestant, divided by the time of the loop: the median of the samples."""
        return statistics.median(own / floor for floor, own in self._samples[name])

    def table(self, title: str) -> str:
        """The samples as text."""
        floors = [floor for samples in self._samples.values() for floor, _ in samples]
        lines = [
            title,
            f"  {'':34}{'us a saga':>10}{'its time':>10}{'throughput':>12}   least to most",
            f"  {'the hand-written loop':34}{statistics.median(floors):10.1f}{'1x':>10}{'1x':>12}",
        ]
        for name, samples in self._samples.items():
            ours = statistics.median(own for _, own in samples)
            times = sorted(floor / own for floor, own in samples)
            median = statistics.median(times)
            lines.append(
                f"  {name:34}{ours:10.1f}{1 / median:9.2f}x{median:11.1f}x   {times[0]:.1f}x to {times[-1]:.1f}x"
            )
        return "\n".join(lines)


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder beside the sources. The benchmarks measure a disk, and ``/tmp`` may not be on a disk."""
    folder = Path(tempfile.mkdtemp(dir=Path.cwd(), prefix=".bench-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
