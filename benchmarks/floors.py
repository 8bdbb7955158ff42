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
import tracemalloc
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from benchmarks.durable import Runs, check_records, in_threads, on_a_loop, one
from benchmarks.floor import INSERT, Durability, HandWritten, Ratios, one_table, scratch
from benchmarks.in_memory import bytes_of_an_execution, nothing, refuse, sagas
from benchmarks.measure import machine, pin_to_one_core, table, timings
from benchmarks.peers.bare_loop import by_hand, by_hand_async
from fsm_mediator import AsyncMediator, Execution, Mediator, Saga, SQLiteJournal, step
from fsm_mediator.journal.codec import Codec
from fsm_mediator.journal.group_commit import GroupCommit, Waiter
from fsm_mediator.journal.liveness import this_driver
from fsm_mediator.journal.rows import Row, acceptance_row, record_rows
from fsm_mediator.journal.sqlite import sql
from fsm_mediator.records import Acceptance, Raised, Record

AT_ONCE = 1_000
"""Runs at a time on asyncio."""

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
        """Four moves, each on disk before the next."""
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
        """Wait for one's turn and hand it on, four times."""
        place = getattr(self._mine, "place", None)
        if place is None:
            place = self._mine.place = next(self._numbers) % len(self._locks)
        for _ in range(4):
            self._locks[place].acquire()
            self._locks[(place + 1) % len(self._locks)].release()


def on_disk(durability: Durability, rounds: int) -> str:
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
        return ratios.table(f"3 steps on disk, durability {durability}")


# A failure


def failing(rounds: int) -> str:
    """A saga whose third step fails at each of three attempts, and is compensated."""
    _, bad = sagas(coroutines=False)

    kept: list[Execution] = []
    mediator = Mediator(bad)
    measured = timings(
        {
            "a loop": lambda: by_hand(((nothing, nothing), (nothing, nothing), (refuse, nothing))),
            "an execution, without a mediator": lambda: executed(bad),
            "the same, kept": lambda: kept.append(executed(bad)),
            "fsm_mediator, which keeps it": lambda: mediator.run("w3_failing", check=False),
        },
        rounds=rounds,
    )
    mediator.close()
    return table("3 steps in memory, the last fails (microseconds)", measured, "a loop")


def executed(saga: Saga) -> Execution:
    """Run a saga on its machine, with its callbacks and records: no mediator, no journal, no observers, no id."""
    execution = Execution(saga, Acceptance("", saga.name, saga.version, saga.fingerprint, None, 0.0))
    execution.begin(time.time())
    while (effect := execution.effect) is not None:
        if effect.callback is None:
            execution.advance(time.time())
            continue
        try:
            value = effect.callback.function(None)
        except Exception as error:
            execution.feed(Raised(error), time.time())
        else:
            execution.succeed(value, time.time())
    if execution.state != "failed":
        raise AssertionError(f"not what was to be measured: {execution.state}")
    return execution


# On asyncio


def at_once(rounds: int) -> str:
    """A thousand runs at a time on asyncio, compared with runs one after the other in a thread."""
    plain, _ = sagas(coroutines=False)
    good, _ = sagas(coroutines=True)
    mediator = Mediator(plain)

    async def does_nothing() -> None:
        pass

    async def three() -> None:
        for _ in range(3):
            await does_nothing()

    async def task_of_its_own() -> None:
        await asyncio.shield(asyncio.ensure_future(three()))

    async def ours() -> float:
        async with AsyncMediator(good) as awaiting:

            async def run() -> None:
                await awaiting.run("w3")

            return await each_of(run)

    contestants: dict[str, Callable[[], float]] = {
        "one after the other in a thread: fsm_mediator": lambda: in_turn(mediator),
        "at once: three calls of a coroutine, no saga": lambda: asyncio.run(each_of(three)),
        "at once: the same in a task of its own": lambda: asyncio.run(each_of(task_of_its_own)),
        "at once: fsm_mediator": lambda: asyncio.run(ours()),
    }
    taken = [[call() for call in contestants.values()] for _ in range(rounds)]
    mediator.close()
    medians = {
        name: statistics.median(samples) for name, samples in zip(contestants, zip(*taken, strict=True), strict=True)
    }
    base = next(iter(medians.values()))
    lines = [f"3 steps in memory, {AT_ONCE:,} at a time (microseconds a saga)"]
    lines += [f"  {name:48}{median:8.2f}{median / base:8.2f}x" for name, median in medians.items()]
    return "\n".join(lines)


def in_turn(mediator: Mediator) -> float:
    """Run `AT_ONCE` sagas, one after the other. Returns the microseconds for each."""
    started = time.perf_counter()
    for _ in range(AT_ONCE):
        mediator.run("w3")
    return (time.perf_counter() - started) / AT_ONCE * 1e6


async def each_of(call: Callable[[], Awaitable[object]]) -> float:
    """Await `AT_ONCE` calls at the same time. Returns the microseconds for each."""
    started = time.perf_counter()
    await asyncio.gather(*(call() for _ in range(AT_ONCE)))
    return (time.perf_counter() - started) / AT_ONCE * 1e6


def waiting() -> str:
    """The memory of one of many runs that wait in a step on asyncio."""
    waits_for: list[asyncio.Future[None]] = []

    async def waits(payload: object = None) -> None:
        await waits_for[0]

    async def loop() -> None:
        await by_hand_async(((waits, waits),))

    async def in_a_task_of_its_own() -> None:
        await asyncio.shield(asyncio.ensure_future(loop()))

    async def size_of(run: Callable[[], Awaitable[object]]) -> int:
        waits_for[:] = [asyncio.get_running_loop().create_future()]
        tracemalloc.start()
        try:
            tasks = [asyncio.ensure_future(run()) for _ in range(AT_ONCE)]
            await asyncio.sleep(0.2)
            size, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        waits_for[0].set_result(None)
        await asyncio.gather(*tasks)
        return size // AT_ONCE

    async def ours() -> int:
        async with AsyncMediator(Saga("waits", [step(name="a")(waits)])) as mediator:
            await mediator.start("waits", saga_id="the first")
            return await size_of(lambda: mediator.run("waits"))

    sizes = {
        "a loop, in a task": asyncio.run(size_of(loop)),
        "a task that waits for the loop's, as run does": asyncio.run(size_of(in_a_task_of_its_own)),
        "fsm_mediator": asyncio.run(ours()),
        "of these, the execution alone": bytes_of_an_execution(AT_ONCE),
    }
    base = next(iter(sizes.values()))
    lines = [f"what a run holds that waits on asyncio (bytes, each of {AT_ONCE:,})"]
    lines += [f"  {name:54}{size:8,}{size / base:8.2f}x" for name, size in sizes.items()]
    return "\n".join(lines)


PARTS: dict[str, Callable[[int], str]] = {
    "full": lambda rounds: on_disk("full", rounds),
    "normal": lambda rounds: on_disk("normal", rounds),
    "failing": failing,
    "at_once": at_once,
    "waiting": lambda rounds: waiting(),
}


def run(rounds: int) -> str:
    """Measure all of it."""
    return "\n\n".join(part(rounds) for part in PARTS.values())


def main() -> None:
    """Run the selected measurements, and print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.floors", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help=f"of {', '.join(PARTS)}; default: all")
    parser.add_argument("--rounds", type=int, default=7, help="repetitions of each measurement (default: 7)")
    arguments = parser.parse_args()
    print(f"{machine()}, {pin_to_one_core()}")
    for part in arguments.parts or PARTS:
        print("\n" + PARTS[part](arguments.rounds), flush=True)


if __name__ == "__main__":
    main()
