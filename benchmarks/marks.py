"""The goals, for each case in which services notice the cost: our figure, the floor of the same run, and our goal."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from benchmarks.measure import Figures
from benchmarks.roster import FLOOR, OURS

TIMES, SECONDS, MILLISECONDS = "times", "s", "ms"


class Mark(NamedTuple):
    """One goal.

    Attributes:
        case: The measured case, in words.
        beside: What the figure is divided by. Empty if the figure is not a ratio.
        ours: The name of our figure.
        floor: The name of the figure of the least code that does the same work. May be empty.
        goal: The highest allowed figure. With *at_least*, the lowest allowed figure.
        unit: The unit of the two figures and the goal.
        short: Whether the README shows the goal.
    """

    case: str
    beside: str
    ours: str
    floor: str
    goal: float
    unit: str = TIMES
    at_least: bool = False
    short: bool = False

    def met(self, figure: float) -> bool:
        """Whether *figure*, rounded as in the table, reaches the goal."""
        shown = float(shown_as(figure))
        return shown >= self.goal if self.at_least else shown <= self.goal


LOOP, DISK = "the loop", "the loop on disk"

MARKS = (
    Mark("3 steps in memory, the last fails", LOOP, "failure", "failure: an execution that is kept", 13, short=True),
    Mark("3 steps in memory succeed, pinned to a core", LOOP, "success", "success, not pinned: an execution", 14),
    Mark("the same, not pinned", "an execution without a mediator", "success, not pinned, to the floor", "", 1.2),
    Mark(
        "1,000 at a time on asyncio",
        "one after the other",
        "1,000 at a time",
        "1,000 at a time: tasks",
        1.9,
        short=True,
    ),
    Mark(
        "on disk, *normal*, one at a time",
        DISK,
        "normal, one at a time: fsm_mediator",
        "normal, one at a time: the statements",
        2.1,
        short=True,
    ),
    Mark(
        "on disk, *full*, one at a time",
        DISK,
        "full, one at a time: fsm_mediator",
        "full, one at a time: the statements",
        1.25,
        short=True,
    ),
    Mark(
        "on disk, *full*, 256 threads: throughput",
        DISK,
        "full, 256 threads: fsm_mediator",
        "full, 256 threads: sharing commits",
        7,
        at_least=True,
        short=True,
    ),
    Mark(
        "on disk, *full*, 256 tasks: CPU",
        "256 tasks in memory",
        "256 tasks on disk, CPU",
        "256 tasks: the statements, CPU",
        2.2,
    ),
    *(
        Mark(
            f"on PostgreSQL, `{name}`, {width} at a time: CPU",
            "a loop by hand",
            f"PostgreSQL, {name}, {width} at a time",
            f"PostgreSQL, by hand, in threads, {width} at a time",
            1.7,
            short=name == "Mediator",
        )
        for width, name in ((1, "Mediator"), (16, "Mediator"), (64, "Mediator"), (64, "AsyncMediator"))
    ),
    Mark("a group of 256 branches on asyncio", "256 bare tasks", "asyncio, a group of 256", "", 8, short=True),
    Mark("3 nested sagas of 3 steps", "9 steps in a row", "nested", "", 1.1, short=True),
    Mark("100,000 sleeping sagas wake on disk, threads", "", "waking, threads", "", 40, SECONDS),
    Mark("100,000 sleeping sagas wake on disk, asyncio", "", "waking, asyncio", "", 40, SECONDS),
    Mark("recovery of 10,000, *full*, threads", "", "recovery, threads", "", 4, SECONDS),
    Mark("recovery of 10,000, *full*, asyncio", "", "recovery, asyncio", "", 4, SECONDS, short=True),
    Mark("the SVG of a run of 40 steps", "", "drawing a run of 40 steps", "", 100, MILLISECONDS),
    Mark("the SVG of a group over 1,000 items", "", "drawing a group over 1,000 items", "", 100, MILLISECONDS),
    Mark(
        "the SVG of a group of 1,000 different branches",
        "",
        "drawing a group of 1,000 different branches",
        "",
        100,
        MILLISECONDS,
    ),
    Mark("import", "", "import", "import of transitions", 45, MILLISECONDS, short=True),
)


class Row(NamedTuple):
    """A goal with its figures from a run."""

    mark: Mark
    ours: float
    floor: float | None


def rows(results: Mapping[str, Any]) -> Iterator[Row]:
    """The goals for which a run has figures."""
    figures = all_figures(results)
    for mark in MARKS:
        if mark.ours in figures:
            yield Row(mark, figures[mark.ours], figures.get(mark.floor))


def all_figures(results: Mapping[str, Any]) -> Figures:
    """All figures of a run, including those that are computed from its samples and from other figures."""
    found: Figures = dict(results.get("figures", {}))
    sample = results["samples"].get("W3 success", {})
    if OURS in sample and FLOOR in sample:
        found["success"] = statistics.median(sample[OURS]) / statistics.median(sample[FLOOR])
    if "success, not pinned" in found:
        found["success, not pinned, to the floor"] = (
            found["success, not pinned"] / found["success, not pinned: an execution"]
        )
    for name, who in (("import", OURS), ("import of transitions", "transitions, by hand")):
        if taken := results.get("import", {}).get(who):
            found[name] = statistics.median(taken)
    return found


def shown_as(figure: float) -> str:
    """A figure as the table shows it: with three digits, or as a whole number."""
    return f"{figure:.0f}" if figure >= 100 else f"{figure:.1f}" if figure >= 10 else f"{figure:.2f}"
