"""Limits across processes that are killed: never more attempts at a time than slots, and no attempt is passed over."""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from fsm_mediator import SQLiteJournal
from fsm_mediator.journal.optional import OVERTAKEN
from fsm_mediator.states import ENDED
from tests.drivers import PATIENCE
from tests.postgres_server import changed, connections_of, server

ROOT = Path(__file__).parents[2]
PROCESSES = 4
SLOTS = 3

LOG = """
    CREATE TABLE log (number INTEGER PRIMARY KEY, execution INTEGER, arrived INTEGER, begun INTEGER, moved INTEGER);
    CREATE TRIGGER arrived AFTER INSERT ON slots BEGIN
        INSERT INTO log (execution, arrived, begun, moved) VALUES (new.execution, 1, new.begun, 0);
    END;
    CREATE TRIGGER went_on AFTER UPDATE OF epoch, begun ON slots BEGIN
        INSERT INTO log (execution, arrived, begun, moved) VALUES (new.execution, 0, new.begun, new.epoch <> old.epoch);
    END;
"""
"""Has the journal note, in each transaction, what becomes of the attempts under a limit."""

LOG_ON_POSTGRES = """
    CREATE TABLE log (
        number bigint GENERATED ALWAYS AS IDENTITY, execution bigint, arrived boolean, begun boolean, moved boolean);
    CREATE FUNCTION noted() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        EXECUTE format('INSERT INTO %I.log (execution, arrived, begun, moved) VALUES ($1, $2, $3, $4)', TG_TABLE_SCHEMA)
            USING new.execution, TG_OP = 'INSERT' OR new.number <> old.number, new.begun,
                TG_OP = 'UPDATE' AND new.number = old.number AND new.epoch <> old.epoch;
        RETURN NULL;
    END $$;
    CREATE TRIGGER noted AFTER INSERT OR UPDATE OF number, epoch, begun ON slots FOR EACH ROW EXECUTE FUNCTION noted();
"""


class Worker:
    """A process that starts sagas once it is let go."""

    def __init__(self, folder: Path, sagas: int, seconds: float, *url: str) -> None:
        arguments = [str(folder), str(sagas), str(SLOTS), str(seconds), *url]
        command = [sys.executable, "-m", "tests.crash.limited_worker", *arguments]
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.stdin, self.stdout = self.process.stdin, self.process.stdout

    def is_ready(self) -> bool:
        """Wait until it is; False: it has ended."""
        return self.stdout.readline() == "ready\n"

    def go(self) -> None:
        """Let it start its sagas."""
        self.stdin.write("\n")
        self.stdin.flush()

    def kill(self) -> None:
        """Kill it, and wait until it is gone."""
        self.process.kill()
        self.process.wait(PATIENCE)
        self.stdin.close()
        self.stdout.close()


def passed_over(rows: list[tuple[Any, ...]]) -> Counter[int]:
    """By attempts that queued: how many later ones began before it. A place that another process took over is left out.

    While its process is dead, nothing waits for it.
    """
    arrivals: dict[int, int] = {}
    queued: set[int] = set()
    passed: Counter[int] = Counter()
    for number, execution, arrived, begun, moved in rows:
        if arrived:
            arrivals[execution] = number
            queued.add(number)
            passed[number] = 0
        arrival = arrivals[execution]
        if moved:
            passed.pop(arrival, None)
        if moved or begun:
            queued.discard(arrival)
        if begun:
            passed.update(earlier for earlier in queued if earlier < arrival)
    return passed


@pytest.mark.parametrize(
    ("sagas", "kills", "seconds"),
    [(20, 2, 0.02), pytest.param(300, 30, 0.02, marks=pytest.mark.torture)],
    ids=["some", "many"],
)
def test_no_more_than_the_limit_in_four_processes_that_are_killed(tmp_path, sagas, kills, seconds, torture_seconds):
    """Four processes share three slots. Processes are killed, and others go on; each attempt gets its turn in order."""
    share = min(1.0, torture_seconds / 60)
    sagas, kills = max(20, int(sagas * share)), max(2, int(kills * share))
    path = tmp_path / "sagas.db"
    journal = SQLiteJournal(path, durability="normal")
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(LOG)
    fight(tmp_path, journal, sagas, kills, seconds)
    query = "SELECT number, execution, arrived, begun, moved FROM log ORDER BY number"
    with closing(sqlite3.connect(path)) as connection:
        passed = passed_over(connection.execute(query).fetchall())
    assert len(passed) > sagas / 2
    assert max(passed.values()) <= OVERTAKEN * SLOTS


@pytest.mark.postgres
def test_no_more_than_the_limit_on_postgres(tmp_path):
    """The same for processes that share a database."""
    with closing(server().journal()) as journal:
        schema = connections_of(journal).schema
        changed(journal, LOG_ON_POSTGRES)
        fight(tmp_path, journal, 20, 4, 0.02, f"{server().url()}&schema={schema}")
        query = f"SELECT number, execution, arrived, begun, moved FROM {schema}.log ORDER BY number"  # noqa: S608
        passed = passed_over(connections_of(journal).read(query))
    assert len(passed) > 10
    assert max(passed.values()) <= OVERTAKEN * SLOTS


def fight(tmp_path: Path, journal: Any, sagas: int, kills: int, seconds: float, *url: str) -> None:
    """Have processes run sagas under the limit, kill some on the way, and wait until all sagas have succeeded."""
    chance = random.Random(1)  # noqa: S311 - repeatable, not secret
    workers = [Worker(tmp_path, sagas, seconds, *url) for _ in range(PROCESSES + 1)]
    try:
        for worker in workers:
            assert worker.is_ready()
        for worker in workers[:PROCESSES]:
            worker.go()
        for _ in range(kills):
            threading.Event().wait(chance.uniform(0.05, 0.3))
            workers.pop(chance.randrange(PROCESSES)).kill()
            workers[-1].go()
            workers.append(Worker(tmp_path, 2, seconds, *url))
            assert workers[-1].is_ready()
        while not all(entry.state in ENDED for entry in journal.entries()):
            assert all(worker.process.poll() is None for worker in workers)
            threading.Event().wait(0.05)
    finally:
        for worker in workers:
            worker.kill()

    assert {entry.state for entry in journal.entries()} == {"succeeded"}
    assert not (tmp_path / "too-many").exists()
