"""Composition: the cost of groups, nesting and waking, each compared with bare code that does the same.

A group of n branches is compared with n bare threads and n bare tasks. A nested saga is compared with the same steps in
a row, which should cost the same. For sagas that sleep on disk, a separate process measures the time and the memory
that the daemon needs to wake all of them.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.measure import Figures, table, timings
from fsm_mediator import AsyncMediator, Execution, Mediator, Parallel, Saga, Sleep, SQLiteJournal, Step, step
from fsm_mediator.journal.protocol import Commit
from fsm_mediator.records import Acceptance, Begin

SIZES = (2, 16, 256, 1024)
BATCH = 1000


@step
def nothing(payload: Any) -> None:
    """Does nothing."""


@step
async def nothing_awaited(payload: Any) -> None:
    """Does nothing."""


def group(branch: Any, size: int) -> Saga:
    """A group of *size* branches that do nothing."""
    return Saga(f"group{size}", [Parallel("g", [branch.named(f"b{number}") for number in range(size)])])


def steps(size: int) -> list[Step]:
    """A saga of *size* steps that do nothing."""
    return [nothing.named(f"b{number}") for number in range(size)]


def bare_threads(size: int) -> None:
    """Start *size* threads that do nothing, and join them."""
    threads = [threading.Thread(target=nothing, args=(None,)) for _ in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


async def bare_tasks(size: int) -> None:
    """Start *size* tasks that do nothing, and await them."""
    await asyncio.gather(*(asyncio.create_task(nothing_awaited.execute(None)) for _ in range(size)))


def in_threads(size: int, rounds: int, figures: Figures) -> str:
    """A group in `Mediator`, compared with bare threads and with as many steps in a row."""
    saga, row = group(nothing, size), Saga("row", steps(size))
    with Mediator(saga, row) as mediator:
        contestants: dict[str, Callable[[], object]] = {
            f"{size} bare threads": lambda: bare_threads(size),
            f"{size} steps in a row": lambda: mediator.run(row),
            f"a group of {size}": lambda: mediator.run(saga),
        }
        measured = timings(contestants, rounds=rounds)
    bare, _, ours = (each.median for each in measured.values())
    figures[f"threads, branches {size}"], figures[f"threads, threads {size}"] = ours, bare
    return table(f"Mediator, a group of {size}", measured, f"{size} bare threads")


def in_tasks(size: int, rounds: int, figures: Figures) -> str:
    """A group in `AsyncMediator`, compared with bare tasks."""
    saga = group(nothing_awaited, size)
    with asyncio.Runner() as runner:
        mediator = AsyncMediator(saga)
        contestants: dict[str, Callable[[], object]] = {
            f"{size} bare tasks": lambda: runner.run(bare_tasks(size)),
            f"a group of {size}": lambda: runner.run(mediator.run(saga)),
        }
        measured = timings(contestants, rounds=rounds)
        runner.run(mediator.close())
    bare, ours = (each.median for each in measured.values())
    figures[f"asyncio, branches {size}"], figures[f"asyncio, tasks {size}"] = ours, bare
    figures[f"asyncio, a group of {size}"] = ours / bare
    return table(f"AsyncMediator, a group of {size}", measured, f"{size} bare tasks")


def nested_and_flat() -> tuple[Saga, Saga]:
    """Nine steps in a row, and the same steps in three nested sagas."""
    return Saga("flat", steps(9)), Saga("nested", [Saga(f"s{outer}", steps(3)) for outer in range(3)])


def nesting(rounds: int, figures: Figures) -> str:
    """Nine steps in a row, and the same steps in three nested sagas."""
    flat, nested = nested_and_flat()
    with Mediator(flat, nested) as mediator:
        contestants: dict[str, Callable[[], object]] = {
            "9 steps in a row": lambda: mediator.run(flat),
            "3 nested sagas of 3": lambda: mediator.run(nested),
        }
        measured = timings(contestants, rounds=rounds)
    in_a_row, ours = (each.median for each in measured.values())
    figures["nested"] = ours / in_a_row
    return table("a nested saga", measured, "9 steps in a row")


# Waking

sleeper = Saga("sleeper", [Sleep("night", 3600.0)])


def put_to_sleep(path: Path, number: int, ago: float = 3601.0) -> None:
    """Journal *number* executions that sleep for an hour, as if all of them had been started *ago* seconds ago."""
    journal = SQLiteJournal(path, durability="normal")
    at = time.time() - ago
    for first in range(0, number, BATCH):
        journal.write_all([_asleep(f"{each:032x}", at) for each in range(first, min(number, first + BATCH))])
    journal.close()


def _asleep(saga_id: str, at: float) -> Commit:
    acceptance = Acceptance(saga_id, sleeper.name, sleeper.version, sleeper.fingerprint, None, at)
    execution = Execution(sleeper, acceptance)
    record = execution.feed(Begin(), at)
    assert record is not None
    return Commit(saga_id, (record,), "", 1, False, execution.wake_at, True, acceptance=acceptance)


def wake(path: Path, kind: str) -> None:
    """Run the daemon until no execution sleeps, in a separate process. Prints the seconds and the megabytes."""
    journal = SQLiteJournal(path, durability="normal")
    before, started = _megabytes(), time.perf_counter()
    if kind == "threads":
        with Mediator(sleeper, journal=journal) as mediator, mediator.daemon():
            while _sleeping(journal):
                time.sleep(0.1)
    else:

        async def main() -> None:
            async with AsyncMediator(sleeper, journal=journal) as mediator, mediator.daemon():
                while await asyncio.to_thread(_sleeping, journal):  # noqa: ASYNC110 - nothing tells of it
                    await asyncio.sleep(0.1)

        asyncio.run(main())
    print(time.perf_counter() - started, _megabytes() - before)


def _sleeping(journal: SQLiteJournal) -> bool:
    return next(iter(journal.entries(phase="waiting", limit=1)), None) is not None


def _megabytes() -> float:
    """The peak of this process's memory, in megabytes."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return float(line.split()[1]) / 1024
    raise LookupError("this system does not tell the memory of a process")


def waking(number: int, figures: Figures) -> str:
    """The seconds and the memory that the daemon needs to wake *number* executions."""
    lines = [f"{number:,} sagas that sleep on disk, all due: until the daemon has woken and ended them all"]
    for kind in ("threads", "asyncio"):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "sagas.db"
            put_to_sleep(path, number)
            size = path.stat().st_size / 1e6
            command = [sys.executable, "-m", "benchmarks.composition", "--wake", str(path), "--kind", kind]
            told = subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603 - our own
            seconds, megabytes = map(float, told.split())
        figures[f"waking, {kind}"] = seconds
        lines.append(
            f"  {kind:10}{seconds:8.1f} s, {seconds / number * 1e6:6.0f} us each; at most {megabytes:.0f} MB of memory "
            f"more; {size / number * 1e6:.0f} bytes each on disk while they sleep"
        )
    return "\n".join(lines)


def run(figures: Figures, *, rounds: int = 11, parked: int = 100_000) -> str:
    """Run all measurements. *figures* receives the values that are compared with a goal or plotted by size."""
    told = [nesting(rounds, figures)]
    for size in SIZES:
        told += [in_threads(size, rounds, figures), in_tasks(size, rounds, figures)]
    return "\n\n".join([*told, waking(parked, figures)])


def main() -> None:
    """Measure, and print the results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.composition", description=__doc__)
    parser.add_argument("--rounds", type=int, default=11, help="repetitions of each measurement (default: 11)")
    parser.add_argument("--parked", type=int, default=100_000, help="how many sleep (default: 100000)")
    parser.add_argument("--wake", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--kind", default="threads", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.wake:
        wake(arguments.wake, arguments.kind)
    else:
        print(run({}, rounds=arguments.rounds, parked=arguments.parked))


if __name__ == "__main__":
    main()
