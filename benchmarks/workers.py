"""Several processes, each with a daemon, drive the same backlog in one SQLite file: ``python -m benchmarks.workers``.

The figures are medians of sagas per second, and of claims per saga; see ``--help``. They show whether a process is
slower beside other processes than alone: three processes should not be slower than one.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from fsm_mediator import Mediator, Saga, SQLiteJournal, step
from fsm_mediator.journal.protocol import Commit
from fsm_mediator.records import Acceptance


@step
def reserve(order: str) -> None:
    """Do nothing."""


@step
def charge(order: str) -> None:
    """Do nothing."""


@step
def ship(order: str) -> None:
    """Do nothing."""


SAGA = Saga("three", [reserve, charge, ship])


def work(path: str) -> None:
    """Drive the executions in the file until standard input is closed."""
    with Mediator(SAGA, journal=SQLiteJournal(path)) as mediator:
        print("ready", flush=True)
        sys.stdin.readline()
        before = time.process_time()
        with mediator.daemon(poll=0.2):
            sys.stdin.read()
        print(time.process_time() - before)


class Drained(NamedTuple):
    """Sagas per second, claims per saga, and CPU microseconds per saga of all processes, for one backlog."""

    rate: float
    claims: float
    cpu: float


def drained(workers: int, sagas: int, folder: Path) -> Drained:
    """The result for *workers* processes on one new file."""
    path = str(folder / f"{workers}-{time.monotonic_ns()}.db")
    journal = SQLiteJournal(path)
    for start in range(0, sagas, 100):
        accepted = [
            Acceptance(f"s-{number}", SAGA.name, SAGA.version, SAGA.fingerprint, f"order {number}", time.time())
            for number in range(start, min(start + 100, sagas))
        ]
        journal.write_all([Commit(each.saga_id, (), held=False, acceptance=each) for each in accepted])
    command = [sys.executable, "-m", "benchmarks.workers", "--work", path]
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # noqa: S603
        for _ in range(workers)
    ]
    for process in processes:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
    began = time.time()
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    while next(journal.entries(phase="pending", limit=1), None) is not None:
        time.sleep(0.1)
    while any(entry.driver is not None for entry in journal.entries()):
        time.sleep(0.1)
    entries = list(journal.entries())
    assert all(entry.state == "succeeded" for entry in entries)
    cpu = sum(float(process.communicate(timeout=30)[0]) for process in processes)
    journal.close()
    seconds = max(entry.changed_at for entry in entries) - began
    claims = sum(entry.epoch - 1 for entry in entries)
    return Drained(sagas / seconds, claims / sagas, cpu / sagas * 1e6)


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sagas", type=int, default=1200, help="in the backlog")
    parser.add_argument("--rounds", type=int, default=5, help="of which the median is printed")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 3], help="numbers of processes")
    parser.add_argument("--folder", type=Path, default=None, help="where the files are made; a temporary folder")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(options.work)
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        rounds = [
            [drained(workers, options.sagas, Path(folder)) for workers in options.workers]
            for _ in range(options.rounds)
        ]
    for index, workers in enumerate(options.workers):
        speed, claims, cpu = (
            statistics.median(column) for column in zip(*(each[index] for each in rounds), strict=True)
        )
        name = "process " if workers == 1 else "processes"
        print(f"{workers} {name}: {speed:6.0f} sagas/s, {claims:.2f} claims and {cpu:.0f} us of CPU a saga")


if __name__ == "__main__":
    main()
