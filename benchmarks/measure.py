"""Measuring: interleaved repetitions, medians and spreads, and ratios to a floor that ran in the same minute."""

from __future__ import annotations

import gc
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import metadata
from typing import NamedTuple, TypeAlias

Figures: TypeAlias = dict[str, float]
"""What a benchmark found, by the name of the figure: what `benchmarks.marks` compares with the goals."""


class Timing(NamedTuple):
    """The result of measuring one contestant, in microseconds for one call."""

    median: float
    least: float
    most: float


def pin_to_one_core() -> str:
    """Pin this process to one core, if the system allows it. Returns whether the process is pinned."""
    try:
        core = min(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {core})
    except (AttributeError, OSError):
        return "not pinned"
    return f"pinned to core {core}"


@contextmanager
def on_every_core() -> Iterator[None]:
    """Inside of the ``with`` block, let this process use every core, like a program that is not pinned."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, range(os.cpu_count() or 1))
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def timings(contestants: dict[str, Callable[[], object]], *, rounds: int, seconds: float = 0.05) -> dict[str, Timing]:
    """The microseconds for one call of each contestant.

    They are measured in turn, so a slow phase of the machine affects all alike.
    """
    counts = {}
    for name, call in contestants.items():
        call()
        started = time.perf_counter()
        for _ in range(20):
            call()
        counts[name] = max(1, int(seconds / max(1e-9, (time.perf_counter() - started) / 20)))
    samples: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, call in contestants.items():
            gc.collect()
            numbers = range(counts[name])
            started = time.perf_counter()
            for _ in numbers:
                call()
            samples[name].append((time.perf_counter() - started) / counts[name] * 1e6)
    return {name: Timing(statistics.median(taken), min(taken), max(taken)) for name, taken in samples.items()}


def table(title: str, measured: dict[str, Timing], floor: str) -> str:
    """The timings as text, each with its ratio to *floor*."""
    base = measured[floor].median
    lines = [title, f"  {'':44}{'us':>10}{'least':>10}{'most':>10}{'ratio':>9}"]
    for name, timing in measured.items():
        ratio = f"{timing.median / base:8.1f}x"
        lines.append(f"  {name:44}{timing.median:10.2f}{timing.least:10.2f}{timing.most:10.2f}{ratio}")
    return "\n".join(lines)


def machine() -> str:
    """The machine on which the figures were measured."""
    packages = ", ".join(f"{name} {metadata.version(name)}" for name in ("transitions", "msgspec", "attrs"))
    return f"Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores, {packages}"
