"""The long run: the cost of many executions that have ended, were interrupted, or wait."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.floor import HandWritten, scratch
from benchmarks.in_memory import sagas
from benchmarks.measure import Figures
from fsm_mediator import AsyncMediator, Mediator, Outcome, Retry, RetryAfterError, Saga, SQLiteJournal, step
from fsm_mediator.journal.liveness import this_driver
from fsm_mediator.journal.protocol import Commit, Driver
from fsm_mediator.records import Acceptance, Record

_ids = random.Random(7)  # noqa: S311 - as random as real ones, and the same in every run


# Ended


def growth(counts: tuple[int, ...], figures: Figures) -> str:
    """Measure whether anything becomes slower with the number of ended executions."""
    lines = [
        "executions that have ended in the journal, and what one more costs (durability normal; microseconds)",
        f"  {'':>16}{'run':>8}{'to the loop':>13}{'recover':>10}{'list 20':>10}{'open':>8}",
    ]
    with scratch() as folder:
        by_hand = HandWritten(folder / "by_hand.db", "normal")
        good, _ = sagas(coroutines=False)
        filled = 0
        for count in counts:
            journal = SQLiteJournal(folder / "sagas.db", durability="normal")
            took = fill(journal, good, count - filled)
            filled = count
            print(f"  ... {count:,} ended; the last ones were written in {took:.0f} s", file=sys.stderr, flush=True)
            journal.close()
            opening = median_us(lambda: opened_and_closed(folder / "sagas.db"), 15)
            with Mediator(good, journal=journal) as mediator:
                pairs = [
                    (median_us(lambda: by_hand.run(1), 20), median_us(lambda: mediator.run("w3"), 20))
                    for _ in range(25)
                ]
                recover = median_us(mediator.recover, 50)
                listing = median_us(lambda: mediator.executions(limit=20), 50)
            ours = statistics.median(own for _, own in pairs)
            ratio = statistics.median(own / floor for floor, own in pairs)
            figures[f"ended {count}"], figures[f"ended {count}: the loop"] = ours, ours / ratio
            lines.append(f"  {count:>10,} ended{ours:8.0f}{ratio:12.1f}x{recover:10.0f}{listing:10.0f}{opening:8.0f}")
        by_hand.close()
    return "\n".join(lines)


def opened_and_closed(path: Path) -> None:
    """The work of a process before its first saga and after its last saga."""
    journal = SQLiteJournal(path, durability="normal")
    driver = this_driver()
    journal.enlist(driver)
    journal.dismiss(driver.id)
    journal.close()


def median_us(call: Callable[[], object], number: int) -> float:
    """The median of *number* calls, in microseconds."""
    taken = []
    for _ in range(number):
        started = time.perf_counter()
        call()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken) * 1e6


def fill(journal: SQLiteJournal, saga: Saga, number: int) -> float:
    """Write *number* succeeded executions of *saga*, many in each commit. Returns the seconds."""
    started = time.perf_counter()
    for setting in ("synchronous=OFF", "cache_size=-200000"):  # filling is not what is measured
        journal._connections.writer().execute(f"PRAGMA {setting}")
    at = time.time() - number
    steps = [part.path for part in saga.parts]
    for start in range(0, number, 20_000):
        commits = []
        for each in range(start, min(start + 20_000, number)):
            acceptance = new(saga, at + each)
            records = list(succeeding(acceptance, steps))
            commits.append(Commit(acceptance.saga_id, tuple(records), held=False, acceptance=acceptance))
        for written in journal.write_all(commits):
            if written != ():
                raise AssertionError(written)
    return time.perf_counter() - started


def new(saga: Saga, at: float) -> Acceptance:
    """The acceptance of a new execution of *saga*."""
    return Acceptance(f"{_ids.getrandbits(128):032x}", saga.name, saga.version, saga.fingerprint, None, at)


def succeeding(acceptance: Acceptance, steps: list[str]) -> Iterator[Record]:
    """The records of an execution whose steps all returned nothing."""
    source, before = "pending", None
    for seq, path in enumerate([*steps, None], 1):
        target = "succeeded" if path is None else f"executing.{path}"
        event, attempt = ("start", 0) if before is None else ("executed", 1)
        at = acceptance.at + seq / 1000
        yield Record(acceptance.saga_id, acceptance.saga, seq, event, source, target, at, before, attempt)
        source, before = target, path


# Interrupted


@step
def first(payload: object) -> None:
    """Does nothing."""


@step
def second(payload: object) -> None:
    """Does nothing."""


@step(name="first")
async def first_awaited(payload: object) -> None:
    """Does nothing."""


@step(name="second")
async def second_awaited(payload: object) -> None:
    """Does nothing."""


def recovery(figures: Figures, number: int = 10_000) -> str:
    """How long it takes to recover executions whose process died during their second step."""
    lines = [f"recovery of {number:,} interrupted executions (durability full)"]
    with scratch() as folder:
        by_hand = HandWritten(folder / "by_hand.db", "full")
        by_hand.run(20)
        for name in ("threads", "asyncio"):
            path = folder / f"{name}.db"
            saga = Saga("cut", [first, second] if name == "threads" else [first_awaited, second_awaited])
            interrupt(path, saga, number)
            started = time.perf_counter()
            by_hand.run(200)
            floor = (time.perf_counter() - started) / 200
            started = time.perf_counter()
            if name == "threads":
                with Mediator(saga, journal=SQLiteJournal(path)) as mediator:
                    outcomes = mediator.recover()
            else:
                outcomes = asyncio.run(recovered_on_a_loop(saga, path))
            took = time.perf_counter() - started
            if len(outcomes) != number or not all(outcome.succeeded for outcome in outcomes):
                raise AssertionError(f"recovered {len(outcomes)} of {number}")
            figures[f"recovery, {name}"] = took
            lines.append(
                f"  {name:10}{took:7.1f} s, {took / number * 1e6:5.0f} us each: {took / number / floor:.2f}x of what a "
                f"saga takes the hand-written loop"
            )
        by_hand.close()
    return "\n".join(lines)


async def recovered_on_a_loop(saga: Saga, path: Path) -> list[Outcome]:
    """Recover like `Mediator.recover`, on an event loop."""
    async with AsyncMediator(saga, journal=SQLiteJournal(path)) as mediator:
        return list(await mediator.recover())


def interrupt(path: Path, saga: Saga, number: int) -> None:
    """Leave a journal like a process that dies while *number* executions run their second step."""
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        gone = this_driver()
        gone = Driver("gone", gone.host, gone.boot_id, gone.pid_namespace, child.pid, "0")
    journal = SQLiteJournal(path, durability="normal")
    journal.enlist(gone)
    commits = []
    for _ in range(number):
        acceptance = new(saga, time.time())
        records = list(succeeding(acceptance, ["first", "second"]))[:-1]
        commits.append(Commit(acceptance.saga_id, tuple(records), "gone", acceptance=acceptance))
    if set(journal.write_all(commits)) != {()}:
        raise AssertionError("not all were written")
    journal.close()


# Waiting

PATIENT = Retry(attempts=None, wait_initial=36_000.0, wait_max=36_000.0, wait_jitter=0.0)


@step(retry=PATIENT)
def wait(payload: object) -> None:
    """Asks for another attempt in ten hours."""
    raise RetryAfterError(36_000.0)


@step(name="wait", retry=PATIENT)
async def wait_awaited(payload: object) -> None:
    """Asks for another attempt in ten hours."""
    raise RetryAfterError(36_000.0)


def waiting(number: int = 100_000) -> str:
    """The memory of a process in which *number* executions wait for hours, and that does nothing else."""
    lines = [f"{number:,} executions that wait for ten hours, started by one process"]
    for name in ("asyncio", "threads"):
        with scratch() as folder:
            command = [sys.executable, "-m", "benchmarks.long_run", name, str(folder / "sagas.db"), str(number)]
            told = subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603 - our own
            megabytes = float(told)
            lines.append(
                f"  {name:10}{megabytes:6.0f} MB of memory more, {megabytes / number * 1e6:.0f} bytes each; "
                f"{size_of(folder):.0f} MB on disk"
            )
    return "\n".join(lines)


def wait_in_threads(path: Path, number: int) -> float:
    """The megabytes of memory that `Mediator` needs for *number* executions."""
    with Mediator(Saga("waits", [wait]), journal=SQLiteJournal(path, durability="normal")) as mediator:

        def start(count: int) -> None:
            starters = [
                threading.Thread(target=lambda: [mediator.start("waits") for _ in range(count // 50)])
                for _ in range(50)
            ]
            for starter in starters:
                starter.start()
            for starter in starters:
                starter.join()
            while mediator._core.owned:
                time.sleep(0.05)

        start(1000)
        before = resident()
        start(number)
        return resident() - before


async def wait_on_a_loop(path: Path, number: int) -> float:
    """The megabytes of memory that `AsyncMediator` needs for *number* executions."""
    journal = SQLiteJournal(path, durability="normal")
    async with AsyncMediator(Saga("waits", [wait_awaited]), journal=journal) as mediator:

        async def start(count: int) -> None:
            for _ in range(count // 500):
                await asyncio.gather(*(mediator.start("waits") for _ in range(500)))
            while mediator._core.owned:  # noqa: ASYNC110
                await asyncio.sleep(0.05)

        await start(1000)
        before = resident()
        await start(number)
        return resident() - before


def size_of(folder: Path) -> float:
    """The size of the files of a folder on disk, in megabytes."""
    return sum(file.stat().st_size for file in folder.iterdir()) / 1e6


def resident() -> float:
    """The memory of this process, in megabytes."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def main() -> None:
    """In a child process: start executions that wait, and print their cost."""
    name, path, number = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    print(wait_in_threads(path, number) if name == "threads" else asyncio.run(wait_on_a_loop(path, number)))


if __name__ == "__main__":
    main()
