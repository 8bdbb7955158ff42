"""Floors: for cases in which this library is far slower than a loop, the least code that does the same work.

Each figure is compared with this least code: the SQL statements alone, threads that only share commits, tasks that only
wait, or an execution without a mediator. Our code cannot become faster than this least code unless it promises less;
docs/costs.md explains the figures.

``python -m benchmarks.floors`` takes a minute.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import itertools
import statistics
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

from benchmarks import floors_in_memory
from benchmarks.durable import Runs, check_records, in_threads, on_a_loop, one
from benchmarks.floor import INSERT, Durability, HandWritten, Ratios, one_table, scratch
from benchmarks.in_memory import sagas
from benchmarks.measure import Figures, machine, pin_to_one_core
from fsm_mediator import AsyncMediator, Execution, Mediator, Saga, SQLiteJournal
from fsm_mediator.journal.codec import Codec
from fsm_mediator.journal.group_commit import GroupCommit, Waiter
from fsm_mediator.journal.liveness import this_driver
from fsm_mediator.journal.rows import Row, acceptance_row, record_rows
from fsm_mediator.journal.sqlite import sql
from fsm_mediator.records import Acceptance, Record

Written = tuple[str, Row, list[Row]]
"""One saga of three steps as the rows that its journal is given: its id, its acceptance, its four records."""


# On disk


class Statements:
    """Only the SQL statements that a journal executes for a run of three steps.

    Their rows are made beforehand: no machine, no mediator, no encoding, no sharing of commits.
    """

    def __init__(self, path: Path, durability: Durability) -> None:
        self._journal = SQLiteJournal(path, durability=durability)
        good, _ = sagas(coroutines=False)
        with Mediator(good, journal=self._journal) as mediator:
            mediator.run("w3")  # the definition is known from now on
        driver = this_driver()
        self._journal.enlist(driver)
        self._cursor = self._journal._connections.writer()
        ((self._driver,),) = self._cursor.execute(sql.DRIVER, (driver.id,)).fetchall()
        (self._definition,) = self._cursor.execute("SELECT max(number) FROM definitions").fetchone()
        self._made = (written(good, f"{number:032x}") for number in itertools.count())
        self._ready: list[Written] = []

    def one(self) -> float:
        """Write one saga. Returns its microseconds."""
        saga_id, accepted, rows = next(self._made)
        execute = self._cursor.execute
        started = time.perf_counter()
        execute("BEGIN IMMEDIATE")
        number = execute(sql.OPEN_HELD, (saga_id, self._definition, self._driver)).lastrowid
        execute(sql.RECORD[2], (number, *accepted, number, *rows[0]))
        execute("COMMIT")
        for row in rows[1:]:
            execute(sql.APPEND, (*row, number, saga_id, 1, self._driver))
        return (time.perf_counter() - started) * 1e6

    def prepare(self, number: int) -> None:
        """Make the rows of *number* sagas."""
        self._ready = [next(self._made) for _ in range(number)]

    def many(self, number: int) -> None:
        """Write *number* prepared sagas side by side. Each of the four commits has a record of every saga."""
        made, self._ready = self._ready[:number], self._ready[number:]
        execute = self._cursor.execute
        execute("BEGIN IMMEDIATE")
        numbers = []
        for saga_id, accepted, rows in made:
            numbers.append(execute(sql.OPEN_HELD, (saga_id, self._definition, self._driver)).lastrowid)
            execute(sql.RECORD[2], (numbers[-1], *accepted, numbers[-1], *rows[0]))
        execute("COMMIT")
        for later in (1, 2, 3):
            execute("BEGIN IMMEDIATE")
            for at, (saga_id, _, rows) in zip(numbers, made, strict=True):
                execute(sql.APPEND, (*rows[later], at, saga_id, 1, self._driver))
            execute("COMMIT")

    def close(self) -> None:
        """Close the file, once what was written last is seen to be a whole execution."""
        newest = next(iter(self._journal.entries(limit=1)))
        check_records(self._journal, newest.saga_id)
        self._journal.close()


def written(saga: Saga, saga_id: str) -> Written:
    """The rows that a succeeding run writes."""
    acceptance = Acceptance(saga_id, saga.name, saga.version, saga.fingerprint, None, time.time())
    execution = Execution(saga, acceptance)
    records: list[Record] = [execution.begin(time.time())]
    while execution.effect is not None:
        records.append(execution.succeed(None, time.time()))
    codec = Codec()
    return saga_id, acceptance_row(acceptance, codec.encode, None), record_rows(records, saga_id, codec)


class Sharing:
    """Threads that only share commits, as in a journal: one row for each transition, in the loop's table."""

    def __init__(self, path: Path, durability: Durability) -> None:
        self._connection = one_table(path, durability, threads=True)
        self._group: GroupCommit[Row] = GroupCommit(self._commit, lambda job: None)
        self._numbers = itertools.count()

    def run(self, _name: str) -> None:
        """Make four transitions. Each is on disk before the next."""
        saga_id = f"{next(self._numbers):032x}"
        for seq in range(1, 5):
            self._group.perform([(saga_id, seq, "executed", "executing.b", time.time(), "null")])

    def _commit(self, tickets: Sequence[Waiter[Row]]) -> None:
        rows = [ticket.jobs[0] for ticket in tickets if ticket.jobs]
        self._connection.execute("begin immediate")
        self._connection.executemany(INSERT, rows)
        self._connection.execute("commit")
        for ticket in tickets:
            ticket.results = [()]

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


class Passing:
    """Threads that their neighbours wake four times for each saga. They use no disk and no SQL."""

    def __init__(self, width: int) -> None:
        self._locks = [threading.Lock() for _ in range(width)]
        for lock in self._locks[1:]:
            lock.acquire()
        self._mine = threading.local()
        self._numbers = itertools.count()

    def run(self, _name: str) -> None:
        """Wait for the turn of this thread, and wake the next thread. Repeat this four times."""
        place = getattr(self._mine, "place", None)
        if place is None:
            place = self._mine.place = next(self._numbers) % len(self._locks)
        for _ in range(4):
            self._locks[place].acquire()
            self._locks[(place + 1) % len(self._locks)].release()


def on_disk(durability: Durability, rounds: int, figures: Figures) -> str:
    """The table for one saga at a time, and for 256 threads."""
    good, _ = sagas(coroutines=False)
    with scratch() as folder:
        by_hand_on_disk = HandWritten(folder / "by_hand.db", durability)
        ratios = Ratios(by_hand_on_disk, 100)
        statements = Statements(folder / "statements.db", durability)
        journal = SQLiteJournal(folder / "sagas.db", durability=durability)
        mediator = Mediator(good, journal=journal)
        sharing = Sharing(folder / "sharing.db", durability)
        for _ in range(rounds):
            ratios.add_in_turn("one at a time: the statements", statements.one, 100)
            ratios.add_in_turn("one at a time: fsm_mediator", functools.partial(one, mediator), 100)
            contestants: tuple[tuple[str, Runs], ...] = (
                ("256 threads: waking each other", Passing(256)),
                ("256 threads: sharing commits", sharing),
                ("256 threads: fsm_mediator", mediator),
            )
            for name, what in contestants:
                ratios.add(name, functools.partial(in_threads, what, 1024, 256))
            ratios.add("256 tasks: fsm_mediator", functools.partial(on_a_loop, journal, 1024, 256))
        mediator.close()
        journal.close()
        sharing.close()
        statements.close()
        by_hand_on_disk.close()
    for name in ("one at a time: the statements", "one at a time: fsm_mediator"):
        figures[f"{durability}, {name}"] = ratios.ratio(name)
    for name in ("256 threads: sharing commits", "256 threads: fsm_mediator"):
        figures[f"{durability}, {name}"] = 1 / ratios.ratio(name)
    return ratios.table(f"3 steps on disk, durability {durability}")


def cpu_of_tasks(rounds: int, figures: Figures) -> str:
    """The CPU time of 256 tasks on disk, compared with the same tasks in memory."""
    good, _ = sagas(coroutines=True)

    async def in_memory() -> None:
        async with AsyncMediator(good) as mediator:
            await run_in_tasks(mediator)

    async def on_disk(path: Path) -> None:
        async with AsyncMediator(good, journal=SQLiteJournal(path)) as mediator:
            await run_in_tasks(mediator)

    with scratch() as folder:
        statements = Statements(folder / "statements.db", "full")
        contestants: dict[str, Callable[[], float]] = {
            "in memory": lambda: cpu_seconds(in_memory),
            "on disk, full": lambda: cpu_seconds(functools.partial(on_disk, folder / "sagas.db")),
            "the statements alone, full": lambda: cpu_of_statements(statements),
        }
        taken = [[call() for call in contestants.values()] for _ in range(rounds)]
        statements.close()
    medians = [statistics.median(samples) / (TASKS * 4) * 1e6 for samples in zip(*taken, strict=True)]
    figures["256 tasks on disk, CPU"] = statistics.median(disk / memory for memory, disk, _ in taken)
    figures["256 tasks: the statements, CPU"] = statistics.median(
        (memory + alone) / memory for memory, _, alone in taken
    )
    lines = [f"3 steps in {TASKS} tasks (microseconds of CPU a saga)"]
    lines += [
        f"  {name:48}{each:8.2f}{each / medians[0]:8.2f}x" for name, each in zip(contestants, medians, strict=True)
    ]
    return "\n".join(lines)


def cpu_of_statements(statements: Statements) -> float:
    """The CPU time of the SQL statements of as many sagas, without the time for making their rows."""
    statements.prepare(TASKS * 4)
    started = time.process_time()
    for _ in range(4):
        statements.many(TASKS)
    return time.process_time() - started


TASKS = 256


async def run_in_tasks(mediator: AsyncMediator) -> None:
    """Run many tasks. Each task runs four sagas."""

    async def work() -> None:
        for _ in range(4):
            await mediator.run("w3")

    await asyncio.gather(*(work() for _ in range(TASKS)))


def cpu_seconds(call: Callable[[], Coroutine[Any, Any, None]]) -> float:
    """The CPU time of a coroutine that runs on a separate event loop."""
    started = time.process_time()
    asyncio.run(call())
    return time.process_time() - started


PARTS: dict[str, Callable[[int, Figures], str]] = {
    "full": functools.partial(on_disk, "full"),
    "normal": functools.partial(on_disk, "normal"),
    "cpu_of_tasks": cpu_of_tasks,
    "succeeding": floors_in_memory.succeeding,
    "failing": floors_in_memory.failing,
    "at_once": floors_in_memory.at_once,
    "waiting": lambda rounds, figures: floors_in_memory.waiting(),
}


def run(rounds: int, figures: Figures) -> str:
    """Run all measurements. *figures* receives the values that are compared with a goal."""
    return "\n\n".join(part(rounds, figures) for part in PARTS.values())


def main() -> None:
    """Run the selected measurements, and print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.floors", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help=f"of {', '.join(PARTS)}; default: all")
    parser.add_argument("--rounds", type=int, default=7, help="repetitions of each measurement (default: 7)")
    arguments = parser.parse_args()
    print(f"{machine()}, {pin_to_one_core()}")
    for part in arguments.parts or PARTS:
        print("\n" + PARTS[part](arguments.rounds, {}), flush=True)


if __name__ == "__main__":
    main()
