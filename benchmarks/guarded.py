"""The code whose instructions the guard counts under valgrind. Calls of ``getpriority`` mark the end of a count.

The effect of this libc function does not matter. It was chosen because no other code calls it.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable
from pathlib import Path

from transitions import Machine

from benchmarks.peers import bare_loop, ours
from benchmarks.peers.contestant import Ready, Work

RUNS = {3: 40, 100: 3}
WARM = {3: 40, 100: 1}  # the interpreter specialises what it has run a few times
WORKS = tuple((steps, fails) for steps in RUNS for fails in (False, True))


def defining(steps: int) -> tuple[Callable[[], object], Callable[[], object]]:
    """Create the plain machine of a saga's states and transitions, and define the saga."""
    work = Work(steps, folder=str(Path.cwd()))
    machine = ours.saga_of(work).machine
    states = list(machine.states)
    rows = [[move.event, move.source, move.target] for move in machine.moves()]
    return (
        lambda: Machine(states=states, transitions=rows, initial="pending", auto_transitions=False),
        lambda: ours.saga_of(work),
    )


def prepared() -> list[tuple[str, str, int, Ready]]:
    """The side, the label and the number of runs of each work, after a warm-up."""
    made = []
    for steps, fails in WORKS:
        for side, prepare in (("floor", bare_loop.prepare), ("ours", ours.prepare)):
            ready = prepare(Work(steps, fails, folder=str(Path.cwd())))
            for _ in range(WARM[steps]):
                ready.run()
            made.append((side, f"W{steps} {'failure' if fails else 'success'}", RUNS[steps], ready))
    for steps in RUNS:
        for side, define in zip(("floor", "ours"), defining(steps), strict=True):
            define()
            made.append((side, f"defining {steps}", 3, Ready(define)))
    return made


def main() -> None:
    """Warm up, then mark, run, mark."""
    works = prepared()
    gc.collect()
    gc.disable()  # it runs when it likes, and would be counted where it does
    os.getpriority(os.PRIO_PROCESS, 0)
    for side, label, runs, ready in works:
        numbers = range(runs)
        for _ in numbers:
            ready.run()
        os.getpriority(os.PRIO_PROCESS, 0)
        sys.stdout.write(f"{side}\t{label}\t{runs}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
