"""Verifying: time and memory of `verify`. They should grow almost linearly with steps times attempts."""

from __future__ import annotations

import random
import time
import tracemalloc
from collections.abc import Callable

from fsm_mediator import Parallel, Report, Retry, Saga, Step, step, verify


def of_steps(steps: int, attempts: int, *, every: int = 1) -> Saga:
    """A saga of *steps* steps. One step in *every* can be compensated."""
    return Saga("verified", [made(f"s{number}", attempts, number % every == 0) for number in range(steps)])


def of_branches(branches: int) -> Saga:
    """A group of *branches* branches between two steps."""
    group = Parallel("group", [made(f"b{number}", 3, compensates=True) for number in range(branches)])
    return Saga("verified", [made("before", 3, compensates=True), group, made("after", 3, compensates=True)])


def made(name: str, attempts: int, compensates: bool) -> Step:
    """A step that does nothing."""
    one = step(name=name, retry=Retry(attempts=attempts))(lambda payload: None)
    if compensates:
        one.compensation(lambda payload: None)
    return one


def measured(saga: Saga) -> tuple[Report, float, float]:
    """The report, the seconds of CPU time of this thread (the better of two), and the peak of memory in MB."""
    seconds = []
    for _ in range(2):
        started = time.thread_time()
        report = verify(saga)
        seconds.append(time.thread_time() - started)
        report.raise_for_violations()
    tracemalloc.start()
    verify(saga)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return report, min(seconds), peak / 1e6


def table(title: str, unit: str, sizes: tuple[int, ...], make: Callable[[int], Saga], weight: int) -> list[str]:
    """A line for each size."""
    lines = [title, f"  {'':15}{'situations':>11}{'moves':>10}{'s':>8}{'a second':>10}{'MB':>7}{'us for each':>14}"]
    for size in sizes:
        report, seconds, peak = measured(make(size))
        lines.append(
            f"  {size:4} {unit:10}{report.nodes:11,}{report.moves:10,}{seconds:8.2f}{report.nodes / seconds:10,.0f}"
            f"{peak:7.1f}{seconds / size / weight * 1e6:14,.0f}"
        )
    return lines


def run() -> str:
    """Run all measurements. Returns the tables."""
    lines = table("verify, 5 attempts a step", "steps", (3, 10, 20, 40), lambda size: of_steps(size, 5), 5)
    lines += table("verify, 5 attempts, every other step compensated", "steps", (10, 20, 40), halves, 5)
    lines += table("verify, 10 steps", "attempts", (5, 10, 20), lambda size: of_steps(10, size), 10)
    lines += table("verify, steps with settings drawn at random", "steps", (30, 100), drawn, 1)
    lines += table("verify, a group of branches that are alike", "branches", (2, 4, 8), of_branches, 1)
    lines.append("us for each: of steps and attempts, their product; of branches, their number")
    return "\n".join(lines)


def drawn(size: int) -> Saga:
    """A saga whose steps have random settings."""
    chance = random.Random(1)  # noqa: S311 - a draw that can be repeated
    return Saga("verified", [drawn_step(f"s{number}", chance) for number in range(size)])


def drawn_step(name: str, chance: random.Random) -> Step:
    """A step with random attempts, errors, time-out, compensation and probe, from *chance*."""
    kinds: tuple[type[Exception], ...] = (Exception, OSError, ValueError)
    one = step(
        name=name,
        retry=Retry(attempts=chance.choice([1, 2, 3, 5, None]), on=chance.choice(kinds)),
        compensation_retry=Retry(attempts=chance.choice([1, 2, 4, None])),
        timeout=1.0 if chance.random() < 0.3 else None,
        repeatable=chance.random() < 0.8,
        in_doubt_on=(ConnectionError,) if chance.random() < 0.3 else (),
        no_effect_on=(KeyError,) if chance.random() < 0.2 else (),
    )(lambda payload: None)
    if chance.random() < 0.7:
        one.compensation(lambda payload: None)
    if chance.random() < 0.3:
        one.probing(lambda payload: None)
    return one


def halves(size: int) -> Saga:
    """A saga in which every second step can be compensated."""
    return of_steps(size, 5, every=2)
