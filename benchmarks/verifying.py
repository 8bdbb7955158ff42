"""Verifying: how long `verify` takes with the number of steps and attempts."""

from __future__ import annotations

import tracemalloc

from fsm_mediator import Retry, Saga, step, verify


def saga(steps: int, attempts: int) -> Saga:
    """A saga of so many steps that can all be compensated."""
    made = []
    for number in range(steps):
        one = step(name=f"s{number}", retry=Retry(attempts=attempts))(lambda payload: None)
        one.compensation(lambda payload: None)
        made.append(one)
    return Saga("verified", made)


def run() -> str:
    """Measure, and tell."""
    lines = ["verify, 5 attempts a step"]
    for steps in (3, 10, 20, 40):
        tracemalloc.start()
        report = verify(saga(steps, 5))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        report.raise_for_violations()
        untraced = verify(saga(steps, 5))
        lines.append(
            f"  {steps:3} steps: {untraced.nodes:7,} situations, {untraced.moves:8,} moves, {untraced.seconds:6.2f} s, "
            f"{untraced.moves / untraced.seconds:8,.0f} moves a second, peak {peak / 1e6:.0f} MB"
        )
    return "\n".join(lines)
