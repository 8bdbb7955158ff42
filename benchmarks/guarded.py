"""The code whose instructions the guard counts under valgrind. Calls of ``getpriority`` mark the end of a count.

The effect of this libc function does not matter. It was chosen because no other code calls it.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

from transitions import Machine

from benchmarks.composition import bare_tasks, group, nested_and_flat, nothing_awaited
from benchmarks.floor import HandWritten
from benchmarks.in_memory import sagas
from benchmarks.peers import bare_loop, ours
from benchmarks.peers.contestant import Ready, Work
from fsm_mediator import AsyncMediator, Mediator, MemoryJournal, SQLiteJournal

Counted: TypeAlias = tuple[str, str, int, Ready]
"""The side, the label and the number of runs of a work, and the work."""

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


AT_ONCE = 256
"""The number of sagas at a time on asyncio, and of the branches of a group."""


Pair: TypeAlias = tuple[str, int, int, Callable[[], object], Callable[[], object]]
"""The label of a work, the number of runs to warm up and to count, the floor, and our side."""


def composed() -> Iterator[Pair]:
    """The works in memory that consist of several sagas."""
    flat, nested = nested_and_flat()
    plain, _ = sagas(coroutines=False)
    awaited, _ = sagas(coroutines=True)
    branches = group(nothing_awaited, AT_ONCE)
    # A table that grows would cost more in one of the works than in the other.
    mediator, runner = Mediator(flat, nested, plain, journal=MemoryJournal(keep=50)), asyncio.Runner()
    awaiting = AsyncMediator(branches, awaited, journal=MemoryJournal(keep=50))

    def in_turn() -> None:
        for _ in range(AT_ONCE):
            mediator.run(plain)

    yield "nested", 100, 100, lambda: mediator.run(flat), lambda: mediator.run(nested)
    yield f"asyncio, {AT_ONCE} at a time", 4, 2, in_turn, lambda: runner.run(at_once(awaiting))
    yield (
        f"asyncio, a group of {AT_ONCE}",
        4,
        2,
        lambda: runner.run(bare_tasks(AT_ONCE)),
        lambda: runner.run(awaited_result(awaiting.run(branches))),
    )


def on_disk() -> Iterator[Pair]:
    """The works on disk. They do not wait for the disk, because a wait takes no instructions."""
    folder = Path.cwd()
    by_hand = HandWritten(folder / "by_hand.db", "normal")
    plain, _ = sagas(coroutines=False)
    awaited, _ = sagas(coroutines=True)
    mediator = Mediator(plain, journal=quiet_journal(folder / "sagas.db"))
    in_memory = AsyncMediator(awaited)
    journaled = AsyncMediator(awaited, journal=quiet_journal(folder / "tasks.db"))
    runner = asyncio.Runner()
    yield "on disk, one at a time", 40, 100, lambda: by_hand.run(1), lambda: mediator.run(plain)
    yield (
        f"on disk, {AT_ONCE} tasks",
        4,
        2,
        lambda: runner.run(at_once(in_memory)),
        lambda: runner.run(at_once(journaled)),
    )


def quiet_journal(path: Path) -> SQLiteJournal:
    """A journal in a file, without heartbeats: their instructions would be counted in whatever runs meanwhile."""
    journal = SQLiteJournal(path, durability="normal")
    journal.heartbeat = 3600.0
    return journal


async def at_once(mediator: AsyncMediator) -> None:
    """Run `AT_ONCE` sagas at the same time."""
    await asyncio.gather(*(mediator.run("w3") for _ in range(AT_ONCE)))


async def awaited_result(work: Awaitable[Any]) -> Any:
    """The result of *work*, for a runner, which takes coroutines only."""
    return await work


def prepared() -> list[Counted]:
    """All works, after a warm-up."""
    made: list[Counted] = []
    works: list[Pair] = [(f"defining {steps}", 1, 3, *defining(steps)) for steps in RUNS]
    for steps, fails in WORKS:
        for side, prepare in (("floor", bare_loop.prepare), ("ours", ours.prepare)):
            ready = prepare(Work(steps, fails, folder=str(Path.cwd())))
            for _ in range(WARM[steps]):
                ready.run()
            made.append((side, f"W{steps} {'failure' if fails else 'success'}", RUNS[steps], ready))
    for label, warm, runs, *both in (*works, *composed(), *on_disk()):
        for side, run in zip(("floor", "ours"), both, strict=True):
            for _ in range(warm):
                run()
            made.append((side, label, runs, Ready(run)))
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
