"""The cost on PostgreSQL: three steps, compared with a hand-written loop and with DBOS on the same server.

The steps do nothing. The CPU time of the client and of the server's processes is measured for each saga, with 1, 16 and
64 sagas at a time. On a machine that other programs use too, CPU time is more accurate than wall-clock time. The server
writes to the disk with its default settings (``fsync`` is on).
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import itertools
import json
import queue
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import psycopg

from benchmarks import environments
from benchmarks.measure import Figures
from benchmarks.roster import ROSTER
from benchmarks.server_time import server_seconds
from fsm_mediator import AsyncMediator, Mediator, Saga, step
from fsm_mediator.cli.embedded import EmbeddedServer
from fsm_mediator.journal.postgres import PostgresJournal

AT_ONCE = (1, 16, 64)
CONNECTIONS = 16
HAND = "by hand, in threads"

_numbers = itertools.count()


class Spent(NamedTuple):
    """A measurement: sagas per second, and milliseconds of CPU time for each saga, of the client and of the server."""

    rate: float
    client: float
    server: float

    @property
    def total(self) -> float:
        """The CPU time of both."""
        return self.client + self.server


def measured(postmaster: int, number: int, work: Callable[[], object]) -> Spent:
    """Measure *work*, which runs *number* sagas."""
    before = time.perf_counter(), time.process_time(), server_seconds(postmaster)
    work()
    seconds, client, server = (
        after - earlier
        for after, earlier in zip(
            (time.perf_counter(), time.process_time(), server_seconds(postmaster)), before, strict=True
        )
    )
    return Spent(number / seconds, 1000 * client / number, 1000 * server / number)


def in_threads(call: Callable[[str], object], at_once: int, number: int) -> None:
    """Call *call* *number* times with new ids, from *at_once* threads."""
    with ThreadPoolExecutor(at_once) as pool:
        for _ in pool.map(call, [f"b-{next(_numbers)}" for _ in range(number)]):
            pass


async def in_tasks(call: Callable[[str], Coroutine[Any, Any, object]], at_once: int, number: int) -> None:
    """Like `in_threads`, with tasks."""
    ids = iter([f"b-{next(_numbers)}" for _ in range(number)])

    async def work() -> None:
        for saga_id in ids:
            await call(saga_id)

    await asyncio.gather(*(work() for _ in range(at_once)))


OPEN = b"""
    WITH opened AS (INSERT INTO by_hand VALUES (%(id)s, 1, 'a'))
    INSERT INTO by_hand_log VALUES (%(id)s, 1, 'a', '{}')"""
GO_ON = b"""
    WITH moved AS (UPDATE by_hand SET seq = %(seq)s, state = %(state)s WHERE id = %(id)s AND seq = %(seq)s - 1
        RETURNING id)
    INSERT INTO by_hand_log SELECT id, %(seq)s, %(state)s, '{}' FROM moved"""
TABLES = b"""
    CREATE TABLE by_hand (id text PRIMARY KEY, seq int, state text) WITH (fillfactor = 70);
    CREATE TABLE by_hand_log (id text, seq int, state text, details text, PRIMARY KEY (id, seq))"""


class ByHand:
    """A loop that a user would write for one flow: a row with the state, a log, and one statement for each step."""

    def __init__(self, url: str) -> None:
        self._idle: queue.SimpleQueue[psycopg.Connection[Any]] = queue.SimpleQueue()
        for _ in range(CONNECTIONS):
            self._idle.put(psycopg.connect(url, autocommit=True))

    def run(self, saga_id: str) -> None:
        """Run one saga: an opening, and a commit after each of three steps."""
        self._execute(OPEN, {"id": saga_id})
        for seq, state in ((2, "b"), (3, "c"), (4, "done")):
            self._execute(GO_ON, {"id": saga_id, "seq": seq, "state": state})

    def _execute(self, statement: bytes, parameters: dict[str, Any]) -> None:
        connection = self._idle.get()
        connection.execute(statement, parameters)
        self._idle.put(connection)

    def close(self) -> None:
        """Close all connections."""
        while not self._idle.empty():
            self._idle.get().close()


@step
def nothing(payload: Any) -> None:
    """Does nothing."""


@step
async def nothing_awaited(payload: Any) -> None:
    """Does nothing."""


def three(of: Any) -> Saga:
    """A saga of three steps."""
    return Saga("three", [of.named(name) for name in "abc"])


Work = Callable[[int, int], object]
"""Runs sagas: how many at a time, and how many in all."""


@contextmanager
def by_hand(url: str) -> Iterator[Work]:
    """The hand-written loop."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(TABLES)
    loop = ByHand(url)
    yield lambda at_once, count: in_threads(loop.run, at_once, count)
    loop.close()


@contextmanager
def with_threads(url: str) -> Iterator[Work]:
    """`Mediator`, with as many connections as the hand-written loop."""
    journal = PostgresJournal(url, schema="threads", most_connections=CONNECTIONS)
    with Mediator(three(nothing), journal=journal) as mediator:
        yield lambda at_once, count: in_threads(lambda saga_id: mediator.run("three", saga_id=saga_id), at_once, count)


@contextmanager
def with_tasks(url: str) -> Iterator[Work]:
    """`AsyncMediator`, with as many connections."""
    journal = PostgresJournal(url, schema="tasks", most_connections=CONNECTIONS)
    mediator = AsyncMediator(three(nothing_awaited), journal=journal)
    with asyncio.Runner() as runner:
        yield lambda at_once, count: runner.run(
            in_tasks(lambda saga_id: mediator.run("three", saga_id=saga_id), at_once, count)
        )
        runner.run(mediator.close())


def over_all(postmaster: int, number: int, rounds: int, work: dict[str, Work]) -> dict[str, dict[int, Spent]]:
    """Measure at each number in `AT_ONCE`, in turn. Returns the medians of the rounds after a warm-up round."""
    found: dict[str, dict[int, Spent]] = {name: {} for name in work}
    for at_once in AT_ONCE:
        for run_all in work.values():
            run_all(at_once, max(at_once, number // 10))
        samples: dict[str, list[Spent]] = {name: [] for name in work}
        for _ in range(rounds):
            for name, run_all in work.items():
                samples[name].append(measured(postmaster, number, functools.partial(run_all, at_once, number)))
        print(f"    {at_once} at a time", file=sys.stderr, flush=True)
        for name, all_of in samples.items():
            found[name][at_once] = Spent(*(statistics.median(column) for column in zip(*all_of, strict=True)))
    return found


def with_dbos(url: str, postmaster: int, number: int) -> dict[int, Spent] | str:
    """DBOS in its own environment and database, on the same server. Returns a text with the reason if it cannot run."""
    contestant = next(each for each in ROSTER if each.module == "dbos")
    try:
        python = environments.interpreter(contestant)
    except environments.NotToBeHadError as error:
        return f"not compared: {error}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE dbos")
    command = [str(python), "-m", "benchmarks.peers.dbos_postgres", url.replace("/postgres?", "/dbos?")]
    done = subprocess.run(  # noqa: S603 - our own
        [*command, str(postmaster), str(number)],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        return f"not compared: {done.stderr.strip()[-500:]}"
    return {int(at_once): Spent(*spent) for at_once, spent in json.loads(done.stdout.splitlines()[-1]).items()}


def run(figures: Figures, *, number: int = 400, rounds: int = 5, dbos_number: int = 200) -> str:
    """Run all measurements. Returns a table. *figures* receives the ratios to the hand-written loop."""
    with EmbeddedServer() as server, ExitStack() as stack:
        postmaster = int((server.folder / "data" / "postmaster.pid").read_text().split()[0])
        contestants = {HAND: by_hand, "Mediator": with_threads, "AsyncMediator": with_tasks}
        work = {name: stack.enter_context(make(server.url)) for name, make in contestants.items()}
        found: dict[str, dict[int, Spent] | str] = {**over_all(postmaster, number, rounds, work)}
        found["DBOS"] = with_dbos(server.url, postmaster, dbos_number)
        with psycopg.connect(server.url) as connection:
            version = connection.info.server_version // 10000
    base = found[HAND]
    assert not isinstance(base, str)
    title = f"3 steps on PostgreSQL {version}, {CONNECTIONS} connections: sagas a second, ms of CPU (client + server)"
    lines = [title, "  " + "".join([f"{'':22}", *(f"{f'{at_once} at a time':>34}" for at_once in AT_ONCE)])]
    for name, each in found.items():
        if isinstance(each, str):
            lines.append(f"  {name:22}{each}")
            continue
        cells = []
        for at_once, spent in each.items():
            ratio = spent.total / base[at_once].total
            figures[f"PostgreSQL, {name}, {at_once} at a time"] = ratio
            cells.append(f"{spent.rate:7.0f}/s {spent.client:6.2f} +{spent.server:6.2f} {ratio:6.1f}x".rjust(34))
        lines.append(f"  {name:22}{''.join(cells)}")
    return "\n".join(lines)


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.postgres", description=__doc__)
    parser.add_argument("--number", type=int, default=400, help="sagas for each measurement (default: 400)")
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each, by turns (default: 5)")
    parser.add_argument("--dbos", type=int, default=200, help="of DBOS (default: 200)")
    arguments = parser.parse_args()
    print(run({}, number=arguments.number, rounds=arguments.rounds, dbos_number=arguments.dbos))


if __name__ == "__main__":
    main()
