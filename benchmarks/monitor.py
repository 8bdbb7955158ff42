"""How long each page of the monitor takes: ``python -m benchmarks.monitor [--million] [--keep DIR]``.

Real executions are made once and then copied by SQL, with a new id for each copy. One in a hundred has failed, one in a
thousand is stuck, and as many wait for a signal. Then the side store is filled, and the pages and queries are
requested.
"""

from __future__ import annotations

import argparse
import asyncio
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

from starlette.concurrency import run_in_threadpool

from fsm_mediator import Mediator, Retry, Saga, Signal, SQLiteJournal, StepRejectedError, step
from fsm_mediator.mediator.finding import count_in, filter_of, find
from fsm_mediator.mediator.numbers import numbers_in
from fsm_mediator.statistics.side_sqlite import SQLiteHome
from fsm_mediator.statistics.side_store import SideStore
from fsm_mediator.ui import Monitor, Operator
from fsm_mediator.ui.caching import Cached

A_PAGE: Final = 0.2
"""Seconds that a page may take with a million executions."""

A_LOOK_UP: Final = 0.1
"""Seconds that a look-up may take with a million executions."""

SPREAD: Final = 30 * 86400.0
"""Seconds within which the executions were accepted."""


class Shop:
    """An order: reserve, charge, wait for the parcel. The payload decides how the order ends."""

    def __init__(self, version: str) -> None:
        @step(name="reserve", retry=Retry(attempts=1), compensation_retry=Retry(attempts=1))
        def reserve(order: dict[str, str]) -> str:
            return order["end"]

        @reserve.compensation
        def release(order: dict[str, str]) -> None:
            if order["end"] == "stuck":
                raise ConnectionError("the warehouse does not answer")

        @step(name="charge", retry=Retry(attempts=1), no_effect_on=ConnectionError)
        def charge(order: dict[str, str]) -> str:
            if order["end"] in ("failed", "stuck"):
                raise StepRejectedError("the card was declined")
            return "paid"

        parts: list[Any] = [reserve, charge, Signal("parcel")] if version == "2" else [reserve, charge]
        self.saga = Saga("order", parts, version=version)


ENDS: Final = ("succeeded", "failed", "stuck", "waiting")
_COPY: Final = """
    WITH RECURSIVE n (n) AS (SELECT :first UNION ALL SELECT n + 1 FROM n WHERE n < :last)
    INSERT INTO executions (number, saga_id, definition, deadline_at, parent, epoch, driver, wake_at, attention, mail,
        ended_at, recoveries, recoveries_here, token, abandoned, failed, parked)
    SELECT n, 'order-' || n, e.definition, NULL, NULL, 1, NULL, e.wake_at, e.attention, 0,
        e.ended_at - e.at + :since + n * :apart, 0, 0, 0, 0, e.failed, e.parked
    FROM n JOIN templates e ON e.end = CASE
        WHEN n % 1000 = 11 THEN 'stuck' WHEN n % 1000 = 17 THEN 'waiting' WHEN n % 100 = 13 THEN 'failed'
        ELSE 'succeeded' END"""
_COPY_RECORDS: Final = """
    INSERT INTO records (execution, seq, event, source, target, at, details)
    SELECT n.number, r.seq, r.event, r.source, r.target, r.at - e.at + :since + n.number * :apart, r.details
    FROM executions n
        JOIN templates e ON e.end = CASE
            WHEN n.number % 1000 = 11 THEN 'stuck' WHEN n.number % 1000 = 17 THEN 'waiting'
            WHEN n.number % 100 = 13 THEN 'failed' ELSE 'succeeded' END
        JOIN records r ON r.execution = e.number
    WHERE n.number BETWEEN :first AND :last"""
PORTION: Final = 50_000


def build(path: Path, count: int) -> None:
    """A journal of *count* executions."""
    sagas = Shop("1").saga, Shop("2").saga
    with Mediator(*sagas, journal=SQLiteJournal(path, durability="normal")) as mediator:
        for end in ENDS:
            saga = sagas[end == "waiting"]
            mediator.run(saga, {"end": end}, saga_id=end, check=False)
    since, apart = time.time() - SPREAD, SPREAD / count
    with closing(sqlite3.connect(path, isolation_level=None)) as file:
        file.executescript("PRAGMA synchronous = OFF; PRAGMA cache_size = -200000;")
        file.execute(
            "CREATE TEMP TABLE templates AS SELECT e.*, e.saga_id AS end, r.at FROM executions e "
            "JOIN records r ON r.execution = e.number AND r.seq = 0"
        )
        for first in range(len(ENDS) + 1, count + 1, PORTION):
            given = {"first": first, "last": min(first + PORTION - 1, count), "since": since, "apart": apart}
            file.execute("BEGIN")
            file.execute(_COPY, given)
            file.execute(_COPY_RECORDS, given)
            file.execute(
                "INSERT INTO attributes SELECT number, 'tenant', CAST(number % 1000 AS TEXT) FROM executions "
                "WHERE number BETWEEN :first AND :last",
                given,
            )
            file.execute("COMMIT")


class Browser:
    """Requests pages from a monitor, as a server would."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._loop = asyncio.new_event_loop()

    def get(self, path: str) -> str:
        """The page at *path*."""
        return self._loop.run_until_complete(self._get(path))

    async def _get(self, path: str) -> str:
        where, _, query = path.partition("?")
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "method": "GET",
            "path": where,
            "raw_path": where.encode(),
            "query_string": query.encode(),
            "headers": [],
            "root_path": "",
            "scheme": "http",
            "server": ("localhost", 80),
            "http_version": "1.1",
        }
        await self._app(scope, receive, send)
        if sent[0]["status"] != 200:
            raise AssertionError(f"{path}: {sent[0]['status']} {sent[1]['body'][-800:].decode()}")
        return b"".join(message.get("body", b"") for message in sent[1:]).decode()

    def close(self) -> None:
        """Close the event loop."""
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()


def measured(name: str, ask: Callable[[], Any], most: float, rounds: int) -> bool:
    """Call *ask* several times and print the times. Returns whether the median is above *most*."""
    taken, used = [], []
    for _ in range(rounds):
        began, used_before = time.perf_counter(), time.process_time()
        ask()
        taken.append(time.perf_counter() - began)
        used.append(time.process_time() - used_before)
    median = statistics.median(taken)
    late = " TOO LONG" if median > most else ""
    first, middle, cpu = (f"{1000 * seconds:7.1f}" for seconds in (taken[0], median, statistics.median(used)))
    print(f"{name:44} first {first}   median {middle}   of the processor {cpu}{late}")
    return bool(late)


def pages(count: int) -> Iterator[str]:
    """The addresses of all pages."""
    yield from ("/", "/runs", "/runs?state=failed", "/runs?state=succeeded", "/runs?saga=order&version=2")
    yield from ("/runs?having=tenant%3D7", "/runs?state=failed&error=StepRejectedError", f"/runs?text=er-{count // 2}")
    yield from (f"/runs?after={count // 2}", f"/runs/order-{count // 2}", "/stuck", "/machines", "/audit")
    yield from ("/machines/order/1", "/machines/order/1?show=p95", "/machines/order/2", "/bulk?verb=again&state=failed")


async def computed(_cached: Cached, _key: Any, compute: Callable[[], Any], *, seconds: float) -> tuple[Any, float]:
    """Like `Cached.get` of a cache that stores nothing."""
    del seconds
    return await run_in_threadpool(compute), 0.0


def main(count: int, folder: Path, rounds: int, *, without_store: bool) -> int:
    """Create the journal, fill the store, request the pages and print the times. Returns 1 if a page took too long."""
    path = folder / "sagas.db"
    if not path.exists():
        began = time.perf_counter()
        build(path, count)
        print(f"built {count:,} executions in {time.perf_counter() - began:.0f} s, {path.stat().st_size / 1e6:,.0f} MB")
    slow = 0
    print("milliseconds: of the first request, the median, and the median of the processor's time")
    with Mediator(Shop("1").saga, Shop("2").saga, journal=str(path)) as mediator:
        journal: Any = mediator.journal
        store = SideStore(journal, SQLiteHome(journal.path))
        if not without_store:
            began = time.perf_counter()
            changes = store.refresh()
            took = time.perf_counter() - began
            size = Path(store.home.name).stat().st_size / 1e6
            print(f"the side store: {changes:,} changes in {took:.0f} s, {size:,.0f} MB")
        monitor = Monitor(mediator, authorize=lambda _: Operator.acting("anna"))
        with closing(Browser(monitor)) as browser, patch.object(Cached, "get", computed):
            for address in pages(count):
                slow += measured(address, partial(browser.get, address), A_PAGE, rounds)
        looks: dict[str, Callable[[], Any]] = {
            "by id": lambda: journal.find(f"order-{count // 2}"),
            "page of a saga": lambda: find(journal, filter_of(saga="order"), str(count // 2), 100),
            "page of failed": lambda: find(journal, filter_of(state="failed"), None, 100),
            "page of an attribute": lambda: find(journal, filter_of(attributes={"tenant": 7}), None, 100),
            "page of a time": lambda: find(journal, filter_of(since=time.time() - 86400), None, 100),
            "page of a text": lambda: find(journal, filter_of(text=f"r-{count // 3}"), None, 100),
            "count": lambda: count_in(journal, filter_of(), None),
            "count by state": lambda: count_in(journal, filter_of(), "state"),
            "count by error, of failed since a day": lambda: count_in(
                journal, filter_of(state="failed", since=time.time() - 86400), "error"
            ),
            "stats": lambda: numbers_in(journal, "order", None, None),
            "stats since a week": lambda: numbers_in(journal, "order", "1", time.time() - 7 * 86400),
        }
        for name, look in looks.items():
            slow += measured(name, look, A_LOOK_UP, rounds)
    return int(slow > 0)


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--executions", type=int, default=20_000)
    options.add_argument("--million", action="store_true", help="with 1,000,000 executions")
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--keep", type=Path, help="build the journal in this folder, or use the one that is there")
    options.add_argument("--without-store", action="store_true", help="fill no side store")
    chosen = options.parse_args()
    size = 1_000_000 if chosen.million else chosen.executions
    with tempfile.TemporaryDirectory() as made:
        kept = chosen.keep or Path(made)
        sys.exit(main(size, kept, chosen.rounds, without_store=chosen.without_store))
