"""Commits to write to a journal, and a journal to write them to; shared by the tests of the SQLite journal."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from fsm_mediator import JournalError, SQLiteJournal
from fsm_mediator.journal.group_commit import GroupCommit
from fsm_mediator.journal.protocol import Commit, Driver, Entry, Journal
from fsm_mediator.journal.sqlite.connections import Connections
from fsm_mediator.records import Acceptance, Record

ROOT = Path(__file__).parent.parent
DRIVER = Driver("d-1")
OTHER = Driver("d-2")


class Clock:
    """A clock that is set by hand."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        """The time it was set to."""
        return self.now


@contextmanager
def two_drivers(path: Path, clock: Clock) -> Iterator[SQLiteJournal]:
    """A journal with two drivers; only their leases decide whether they are alive."""
    with closing(SQLiteJournal(path, durability="normal", clock=clock)) as journal:
        journal.enlist(DRIVER)
        journal.enlist(OTHER)
        yield journal


def acceptance(saga_id: str, payload: object = None, **more: Any) -> Acceptance:
    """What opens an execution."""
    return Acceptance(saga_id, **{"saga": "s", "version": "1", "fingerprint": "f", "at": 1.0, **more}, payload=payload)


def record(saga_id: str, seq: int, target: str = "executing.b", source: str = "executing.a", **more: Any) -> Record:
    """A record that enters *target*, at the time that its number is."""
    details = {"at": float(seq), "step": "a", "attempt": 1, **more}
    return Record(saga_id, "s", seq, "executed", source, target, **details)


def opening(saga_id: str, *targets: str, driver: str | None = "d-1", held: bool = True, **more: Any) -> Commit:
    """The commit that opens an execution, and moves it through *targets*."""
    opened = acceptance(saga_id, more.pop("payload", {"order": saga_id}), **more.pop("opened", {}))
    records = tuple(record(saga_id, seq, target) for seq, target in enumerate(targets, 1))
    return Commit(saga_id, records, driver, held=held, acceptance=opened, **more)


def going_on(saga_id: str, seq: int, target: str = "executing.b", driver: str | None = "d-1", **more: Any) -> Commit:
    """The commit of one more record."""
    value = more.pop("value", None)
    return Commit(saga_id, (record(saga_id, seq, target, value=value),), driver, **more)


def ending(saga_id: str, seq: int, **more: Any) -> Commit:
    """The commit of the last record."""
    return going_on(saga_id, seq, "succeeded", held=False, **more)


def ids(journal: Journal, **chosen: Any) -> list[str]:
    """The executions listed, by id."""
    return [entry.saga_id for entry in journal.entries(**chosen)]


def found(journal: Journal, saga_id: str) -> Entry:
    """The execution of this id, which there must be."""
    entry = journal.find(saga_id)
    assert entry is not None
    return entry


def taken(journal: Journal, saga_id: str, driver_id: str) -> Entry:
    """The execution of this id, which can be claimed."""
    entry = journal.claim(saga_id, driver_id)
    assert entry is not None
    return entry


def seen(journal: Journal, saga_id: str) -> list[tuple[int, str]]:
    """The records of an execution, by number and target."""
    return [(each.seq, each.target) for each in journal.records(saga_id)]


@contextmanager
def refused(*words: str) -> Iterator[None]:
    """Expect a `JournalError` that says all of *words*."""
    with pytest.raises(JournalError) as caught:
        yield
    for word in words:
        assert word in str(caught.value), str(caught.value)


def rows(journal: SQLiteJournal, query: str) -> list[tuple[Any, ...]]:
    """What another program reads in the journal's file."""
    with closing(sqlite3.connect(journal.path)) as other:
        return other.execute(query).fetchall()


def connections_of(journal: SQLiteJournal) -> Connections:
    """The journal's connections to its file; only this function reads them."""
    connections: Connections = journal._connections
    return connections


def queue_of(journal: SQLiteJournal) -> GroupCommit[Any]:
    """The queue of the journal's writing threads; only this function reads it."""
    group: GroupCommit[Any] = journal._group
    return group


def in_a_write(journal: SQLiteJournal, job: Callable[[sqlite3.Cursor], Any]) -> Any:
    """Have *job* executed within a transaction of the journal, as if it were a write."""
    return journal._perform(job)


@contextmanager
def statements(journal: SQLiteJournal) -> Iterator[list[str]]:
    """The statements that the writing connection executes."""
    executed: list[str] = []
    connection = connections_of(journal).writer().connection
    connection.set_trace_callback(executed.append)
    yield executed
    connection.set_trace_callback(None)


@contextmanager
def held_back(journal: SQLiteJournal, waiting: int) -> Iterator[None]:
    """Keep all threads from writing until this many wait; then let them write."""
    group = queue_of(journal)
    ticket = group.acquire()
    assert ticket is not None
    yield
    until = time.monotonic() + 30
    while len(group.waiting) < waiting:
        assert time.monotonic() < until
        time.sleep(0.0005)
    group.release(ticket)


def all_at_once(journal: SQLiteJournal, *calls: Callable[[], Any]) -> list[Any]:
    """Make *calls* in threads, in one group; what each returned or raised."""
    results: list[Any] = [None] * len(calls)

    def run(number: int) -> None:
        try:
            results[number] = calls[number]()
        except BaseException as error:
            results[number] = error

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(calls))]
    with held_back(journal, len(calls)):
        for thread in threads:
            thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    return results


def in_python(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run *code* in a process of its own."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
