"""Durable: the same saga of three steps with every transition on disk, compared with a hand-written loop.

The loop has the same durability. It inserts and commits one row for each transition: n + 1 rows for n steps. It has no
retries, no leases, no recovery and no state machine, so it shows the cost of the disk. The loop runs directly before
each sample of ours, and each ratio is from such a pair, so a slow phase of the disk or the machine affects both. The
table shows the medians of the ratios, with their minimum and maximum.

``python -m benchmarks.durable --help`` explains how to run one part alone. ``long_run`` measures the cost of many
executions that have ended, were interrupted, or wait.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import threading
import time
from collections.abc import Callable
from typing import Protocol

from benchmarks import long_run
from benchmarks.floor import Durability, HandWritten, Ratios, scratch
from benchmarks.in_memory import sagas
from benchmarks.measure import Figures, machine, pin_to_one_core
from fsm_mediator import AsyncMediator, Journal, Mediator, SQLiteJournal

WIDTHS = (1, 16, 256, 1024)
"""How many sagas at a time."""


class Runs(Protocol):
    """An object that can run sagas in many threads at a time."""

    def run(self, saga: str, /) -> object:
        """Run one saga."""


def in_threads(mediator: Runs, number: int, width: int) -> float:
    """Run sagas in *width* threads at a time.

    Returns the microseconds for each saga, measured after all threads have started.
    """
    start = threading.Barrier(width + 1)

    def work() -> None:
        start.wait()
        for _ in range(number // width):
            mediator.run("w3")

    threads = [threading.Thread(target=work) for _ in range(width)]
    for thread in threads:
        thread.start()
    start.wait()
    started = time.perf_counter()
    for thread in threads:
        thread.join()
    return (time.perf_counter() - started) / (number // width * width) * 1e6


def one(mediator: Mediator) -> float:
    """Run one saga in this thread. Returns its microseconds."""
    started = time.perf_counter()
    mediator.run("w3")
    return (time.perf_counter() - started) * 1e6


def in_the_background(mediator: Mediator, number: int, starters: int) -> float:
    """Start sagas in *starters* threads, and wait until the mediator's own threads have run them.

    Returns the microseconds for each.
    """
    started = time.perf_counter()
    ids: list[str] = []
    threads = [
        threading.Thread(target=lambda: ids.extend([mediator.start("w3") for _ in range(number // starters)]))
        for _ in range(starters)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for saga_id in ids:
        mediator.wait(saga_id)
    return (time.perf_counter() - started) / len(ids) * 1e6


def on_a_loop(journal: SQLiteJournal, number: int, width: int) -> float:
    """Run sagas in *width* tasks at a time. Returns the microseconds for each."""
    good, _ = sagas(coroutines=True)

    async def main() -> float:
        async with AsyncMediator(good, journal=journal) as mediator:

            async def work() -> None:
                for _ in range(number // width):
                    await mediator.run("w3")

            await mediator.run("w3")
            started = time.perf_counter()
            await asyncio.gather(*(work() for _ in range(width)))
            return (time.perf_counter() - started) / (number // width * width) * 1e6

    return asyncio.run(main())


def throughput(durability: Durability, rounds: int, widths: tuple[int, ...] = WIDTHS) -> str:
    """The table for one durability."""
    with scratch() as folder:
        by_hand = HandWritten(folder / "by_hand.db", durability)
        good, _ = sagas(coroutines=False)
        journal = SQLiteJournal(folder / "sagas.db", durability=durability)
        mediator = Mediator(good, journal=journal)
        background = Mediator(good, journal=journal, max_workers=256)
        check(mediator)
        ratios = Ratios(by_hand, 100)
        for _ in range(rounds):
            for width in widths:
                number = max(100 if width == 1 else 1024, 2 * width)
                if width == 1:
                    ratios.add_in_turn("one at a time", functools.partial(one, mediator), number)
                else:
                    ratios.add(f"{width:,} threads", functools.partial(in_threads, mediator, number, width))
                name = "asyncio, one at a time" if width == 1 else f"asyncio, {width:,} tasks"
                ratios.add(name, functools.partial(on_a_loop, journal, number, width))
            if 256 in widths:
                name = "start() from 64 threads, 256 workers"
                ratios.add(name, functools.partial(in_the_background, background, 1024, 64))
        mediator.close()
        background.close()
        by_hand.close()
        return ratios.table(f"3 steps on disk, durability {durability}")


def check(mediator: Mediator) -> None:
    """Check that a run leaves the right rows on disk: the acceptance, and one record for each transition."""
    check_records(mediator.journal, mediator.run("w3").saga_id)


def check_records(journal: Journal, saga_id: str) -> None:
    """Check that there is a record for each transition of a succeeded saga of three steps."""
    states = [record.target for record in journal.records(saga_id)]
    if states != ["executing.a", "executing.b", "executing.c", "succeeded"]:
        raise AssertionError(f"not what was to be measured: {states}")


def run(*, rounds: int, figures: Figures, ended: tuple[int, ...] = (1_000, 100_000)) -> str:
    """Run all measurements. *figures* receives the values that are compared with a goal or plotted by size."""
    by_width = [throughput("full", rounds), throughput("normal", rounds)]
    return "\n\n".join([*by_width, long_run.growth(ended, figures), long_run.recovery(figures), long_run.waiting()])


PARTS: dict[str, Callable[[argparse.Namespace], str]] = {
    "full": lambda arguments: throughput("full", arguments.rounds, tuple(arguments.widths)),
    "normal": lambda arguments: throughput("normal", arguments.rounds, tuple(arguments.widths)),
    "growth": lambda arguments: long_run.growth(tuple(arguments.ended), {}),
    "recovery": lambda arguments: long_run.recovery({}, arguments.interrupted),
    "waiting": lambda arguments: long_run.waiting(arguments.waiting),
}


def main() -> None:
    """Run the selected measurements, and print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.durable", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help=f"of {', '.join(PARTS)}; default: all")
    parser.add_argument("--rounds", type=int, default=7, help="repetitions of each measurement (default: 7)")
    parser.add_argument(
        "--widths", type=int, nargs="+", default=WIDTHS, help="sagas at a time (default: 1 16 256 1024)"
    )
    parser.add_argument("--ended", type=int, nargs="+", default=(1_000, 100_000, 1_000_000), help="for growth")
    parser.add_argument("--interrupted", type=int, default=10_000, help="for recovery (default: 10000)")
    parser.add_argument("--waiting", type=int, default=100_000, help="for waiting (default: 100000)")
    parser.add_argument("--all-cores", action="store_true", help="do not keep the process on one core")
    arguments = parser.parse_args()
    print(f"{machine()}, {'not pinned' if arguments.all_cores else pin_to_one_core()}")
    for part in arguments.parts or PARTS:
        print("\n" + PARTS[part](arguments), flush=True)


if __name__ == "__main__":
    main()
