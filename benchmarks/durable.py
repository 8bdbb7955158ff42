"""Durable: the same saga of three steps, every move on disk, beside a hand-written loop with the same durability.

The loop inserts and commits one row a transition: n steps, n + 1 rows. It has no retries, no leases, no recovery and no
state machine; it is what the disk costs. Sagas run one at a time, and 16 and 256 at a time, in threads and on asyncio.
"""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
import sqlite3
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from benchmarks.in_memory import sagas
from fsm_mediator import AsyncMediator, Mediator, Retry, RetryAfterError, SQLiteJournal, step
from fsm_mediator.saga import Saga

Durability = Literal["full", "normal"]


class HandWritten:
    """The floor: one table, one insert and one commit a transition."""

    def __init__(self, path: Path, durability: Durability) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._connection.execute("pragma journal_mode = wal")
        self._connection.execute(f"pragma synchronous = {durability}")
        self._connection.execute(
            "create table records (saga_id text, seq int, event text, target text, at real, value)"
        )
        self._number = 0

    def run(self, number: int) -> None:
        """So many sagas of three steps that do nothing, four rows each."""
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
            self._connection.execute(
                "insert into records values (?, ?, ?, ?, ?, ?)", (saga_id, seq, event, target, time.time(), "null")
            )

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


def microseconds(call: Callable[[], object], number: int) -> float:
    """Microseconds for each of *number* that *call* does in one go."""
    started = time.perf_counter()
    call()
    return (time.perf_counter() - started) / number * 1e6


def in_threads(mediator: Mediator, number: int, at_once: int) -> None:
    """Run sagas in so many threads at once."""
    each = number // at_once
    start = threading.Barrier(at_once)

    def work() -> None:
        start.wait()
        for _ in range(each):
            mediator.run("w3")

    threads = [threading.Thread(target=work) for _ in range(at_once)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def run(*, rounds: int, ended: tuple[int, ...] = (1_000, 100_000)) -> str:
    """Measure both durabilities, and what many ended executions and an interruption of many cost."""
    told = [one_durability("full", rounds), one_durability("normal", rounds)]
    told.append(growth(ended))
    told.append(recovery())
    told.append(waiting())
    return "\n\n".join(told)


def one_durability(durability: Durability, rounds: int) -> str:
    """The table for one durability."""
    folder = Path(tempfile.mkdtemp(dir=Path.cwd(), prefix=".bench-"))
    try:
        by_hand = HandWritten(folder / "by_hand.db", durability)
        good, _ = sagas(coroutines=False)
        good_async, _ = sagas(coroutines=True)
        journal = SQLiteJournal(folder / "sagas.db", durability=durability)
        journal_async = SQLiteJournal(folder / "async.db", durability=durability)
        mediator = Mediator(good, journal=journal)
        samples: dict[str, list[float]] = {}

        def add(name: str, call: Callable[[], object], number: int) -> None:
            samples.setdefault(name, []).append(microseconds(call, number))

        async def at_once(number: int, width: int) -> None:
            async with AsyncMediator(good_async, journal=journal_async) as async_mediator:
                await async_mediator.run("w3")
                started = time.perf_counter()
                for _ in range(number // width):
                    await asyncio.gather(*(async_mediator.run("w3") for _ in range(width)))
                took = (time.perf_counter() - started) / number * 1e6
            samples.setdefault(f"fsm_mediator, asyncio, {width} at a time", []).append(took)

        mediator.run("w3")
        for _ in range(rounds):
            add("by hand, one at a time", lambda: by_hand.run(200), 200)
            add("fsm_mediator, one at a time", lambda: [mediator.run("w3") for _ in range(200)], 200)
            for width in (16, 256):
                number = 1024
                name = f"fsm_mediator, threads, {width} at a time"
                add(name, lambda number=number, width=width: in_threads(mediator, number, width), number)  # type: ignore[misc]
                asyncio.run(at_once(number, width))
        mediator.close()
        by_hand.close()
        floor = statistics.median(samples["by hand, one at a time"])
        lines = [
            f"3 steps on disk, durability {durability}",
            f"  {'':40}{'us a saga':>10}{'ratio':>9}{'throughput':>12}",
        ]
        for name, taken in samples.items():
            median = statistics.median(taken)
            lines.append(f"  {name:40}{median:10.1f}{median / floor:8.2f}x{floor / median:11.1f}x")
        return "\n".join(lines)
    finally:
        shutil.rmtree(folder)


def growth(counts: tuple[int, ...]) -> str:
    """Whether running and recovering get slower with the number of executions that have ended."""
    folder = Path(tempfile.mkdtemp(dir=Path.cwd(), prefix=".bench-"))
    lines = ["executions that have ended in the journal, and what one more costs (durability normal)"]
    try:
        good, _ = sagas(coroutines=False)
        mediator = Mediator(good, journal=SQLiteJournal(folder / "sagas.db", durability="normal"))
        filled = 0
        for count in counts:
            fill(folder / "sagas.db", mediator, count - filled)
            filled = count
            run_us = statistics.median(microseconds(lambda: mediator.run("w3"), 1) for _ in range(500))
            recover_us = statistics.median(microseconds(mediator.recover, 1) for _ in range(50))
            lines.append(f"  {count:>9,} ended: run {run_us:8.0f} us   recover {recover_us:8.0f} us")
        mediator.close()
        return "\n".join(lines)
    finally:
        shutil.rmtree(folder)


def fill(path: Path, mediator: Mediator, number: int) -> None:
    """Have so many executions end, many at a time."""

    async def main() -> None:
        good, _ = sagas(coroutines=True)
        async with AsyncMediator(good, journal=SQLiteJournal(path, durability="normal")) as filler:
            for _ in range(number // 500):
                await asyncio.gather(*(filler.run("w3") for _ in range(500)))

    asyncio.run(main())


def waiting(number: int = 100_000) -> str:
    """What a process holds while so many executions wait, parked, for hours."""
    folder = Path(tempfile.mkdtemp(dir=Path.cwd(), prefix=".bench-"))
    try:
        patient = Retry(attempts=None, wait_initial=36_000.0, wait_max=36_000.0, wait_jitter=0.0)

        @step(retry=patient)
        async def wait(payload: object) -> None:
            """Asks to be tried again in ten hours."""
            raise RetryAfterError(36_000.0)

        journal = SQLiteJournal(folder / "sagas.db", durability="normal")

        async def main() -> tuple[float, float]:
            async with AsyncMediator(Saga("waits", [wait]), journal=journal) as mediator:
                for _ in range(number // 1000):
                    ids = await asyncio.gather(*(mediator.start("waits") for _ in range(1000)))
                    assert len(ids) == 1000
                while len(await mediator.executions(state="retrying", limit=number)) < number:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
                gc.collect()
                return resident(), size_of(folder)

        before = resident()
        after, on_disk = asyncio.run(main())
        journal.close()
        return (
            f"{number:,} executions waiting, held by nobody: {after - before:.0f} MB of memory, "
            f"{(after - before) / number * 1e6:.0f} bytes each; {on_disk:.0f} MB on disk"
        )
    finally:
        shutil.rmtree(folder)


def size_of(folder: Path) -> float:
    """What a folder's files take on disk, in MB."""
    return sum(file.stat().st_size for file in folder.iterdir()) / 1e6


def resident() -> float:
    """This process's memory in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def recovery(number: int = 10_000) -> str:
    """How long it takes to take up executions that were interrupted in the midst of their second step."""
    folder = Path(tempfile.mkdtemp(dir=Path.cwd(), prefix=".bench-"))
    try:

        class PowerCut(BaseException):
            """Ends a run where it stands, as a crash would."""

        @step
        def first(payload: object) -> None:
            """Does nothing."""

        @step
        def second(payload: object) -> None:
            """Ends the run."""
            raise PowerCut

        @step(name="second")
        def second_mended(payload: object) -> None:
            """Does nothing."""

        journal = SQLiteJournal(folder / "sagas.db", durability="normal")
        interrupted = Mediator(Saga("cut", [first, second]), journal=journal)
        for _ in range(number):
            try:
                interrupted.run("cut")
            except PowerCut:
                continue
        interrupted.close()
        full = SQLiteJournal(folder / "sagas.db")
        started = time.perf_counter()
        with Mediator(Saga("cut", [first, second_mended]), journal=full) as mediator:
            taken_up = mediator.recover()
        took = time.perf_counter() - started
        if len(taken_up) != number or not all(outcome.succeeded for outcome in taken_up):
            raise AssertionError(f"recovered {len(taken_up)} of {number}")
        return f"recovery of {number:,} interrupted executions (durability full): {took:.1f} s"
    finally:
        shutil.rmtree(folder)
