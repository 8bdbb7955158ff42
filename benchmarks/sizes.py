"""Cost against size: the cost of a saga by the number of steps, branches, workers, and other executions in the journal.

This module measures waiting executions and worker processes. `benchmarks.compare` measures the steps,
`benchmarks.composition` the branches, and `benchmarks.long_run` the ended executions. The slope of a curve is the power
of the size by which the cost grows. It is computed by least squares on two logarithmic scales: 0 is a constant cost,
and 1 is a cost that is proportional to the size.
"""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Mapping
from typing import Any, NamedTuple

from benchmarks import workers
from benchmarks.composition import put_to_sleep, sleeper
from benchmarks.floor import HandWritten, scratch
from benchmarks.in_memory import sagas
from benchmarks.long_run import median_us
from benchmarks.measure import Figures, on_every_core
from benchmarks.roster import FLOOR, OURS
from fsm_mediator import Mediator, SQLiteJournal

PARKED = (100, 1_000, 10_000, 100_000)
WORKERS = (1, 2, 4, 8)
BACKLOG = 1_200


class Curve(NamedTuple):
    """The cost for each size.

    Attributes:
        name: The name in the plot.
        points: The cost at each size, in microseconds.
        ours: Whether the cost is that of this library. Otherwise it is the cost of the code that this library is
            compared with.
    """

    name: str
    points: Mapping[int, float]
    ours: bool = True

    @property
    def slope(self) -> float:
        """The power of the size by which the cost grows, over the larger half of the sizes.

        With small sizes the fixed part of a cost hides how it grows.

        Source: ordinary least squares on the logarithms.
        """
        larger = sorted(self.points)[len(self.points) // 2 - 1 :]
        across = [math.log(size) for size in larger]
        up = [math.log(self.points[size]) for size in larger]
        return statistics.linear_regression(across, up).slope


class Panel(NamedTuple):
    """The curves of one size.

    Attributes:
        title: The name of the measured cost.
        size: The unit of the size on the axis.
        must: The slope that the work itself requires: 1 if each unit adds work, 0 if it should add none.
    """

    title: str
    size: str
    must: int
    curves: tuple[Curve, ...]


def panels(results: Mapping[str, Any]) -> list[Panel]:
    """Every panel whose sizes were measured in a run."""
    figures, samples = results.get("figures", {}), results["samples"]

    def found(pattern: str) -> dict[int, float]:
        matches = ((re.fullmatch(pattern, name), cost) for name, cost in figures.items())
        return dict(sorted((int(match[1]), cost) for match, cost in matches if match))

    def of_steps(name: str, ending: str) -> dict[int, float]:
        matches = ((re.fullmatch(rf"W(\d+) {ending}", label), sample) for label, sample in samples.items())
        medians = ((int(match[1]), statistics.median(sample[name])) for match, sample in matches if match)
        return dict(sorted(medians))

    all_of_them = [
        Panel(
            "A saga in memory",
            "steps",
            1,
            (
                Curve("succeeds", of_steps(OURS, "success")),
                Curve("fails", of_steps(OURS, "failure")),
                Curve("a loop, succeeds", of_steps(FLOOR, "success"), ours=False),
            ),
        ),
        Panel(
            "A group in memory",
            "branches",
            1,
            (
                Curve("in threads", found(r"threads, branches (\d+)")),
                Curve("on asyncio", found(r"asyncio, branches (\d+)")),
                Curve("bare tasks", found(r"asyncio, tasks (\d+)"), ours=False),
            ),
        ),
        Panel(
            "A saga on disk",
            "ended executions in the journal",
            0,
            (
                Curve("a saga", found(r"ended (\d+)")),
                Curve("a loop", found(r"ended (\d+): the loop"), ours=False),
            ),
        ),
        Panel(
            "A saga on disk",
            "waiting executions in the journal",
            0,
            (
                Curve("a saga", found(r"parked (\d+)")),
                Curve("recover()", found(r"parked (\d+): recover")),
                Curve("a loop", found(r"parked (\d+): the loop"), ours=False),
            ),
        ),
        Panel("CPU of a saga on disk", "worker processes", 0, (Curve("a saga", found(r"workers (\d+)")),)),
    ]
    return [panel for panel in all_of_them if all(len(curve.points) > 1 for curve in panel.curves)]


def parked(figures: Figures) -> None:
    """The cost of one more saga, and of a search for executions to recover, beside executions that wait for an hour."""
    good, _ = sagas(coroutines=False)
    with scratch() as folder:
        by_hand = HandWritten(folder / "by_hand.db", "normal")
        for count in PARKED:
            path = folder / f"{count}.db"
            put_to_sleep(path, count, ago=0.0)
            with Mediator(good, sleeper, journal=SQLiteJournal(path, durability="normal")) as mediator:
                pairs = [
                    (median_us(lambda: by_hand.run(1), 20), median_us(lambda: mediator.run("w3"), 20))
                    for _ in range(25)
                ]
                figures[f"parked {count}: recover"] = median_us(mediator.recover, 50)
            figures[f"parked {count}: the loop"], figures[f"parked {count}"] = (
                statistics.median(column) for column in zip(*pairs, strict=True)
            )
        by_hand.close()


def by_workers(figures: Figures, rounds: int) -> None:
    """The CPU time of a saga, by the number of processes that drive its backlog."""
    with scratch() as folder, on_every_core():
        taken = [[workers.drained(count, BACKLOG, folder).cpu for count in WORKERS] for _ in range(rounds)]
    for count, costs in zip(WORKERS, zip(*taken, strict=True), strict=True):
        figures[f"workers {count}"] = statistics.median(costs)


def run(figures: Figures, *, rounds: int = 3) -> None:
    """Measure the sizes that no other module measures."""
    parked(figures)
    by_workers(figures, rounds)
