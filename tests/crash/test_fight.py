"""Several processes fight over one journal, and are killed: every saga ends, none is driven by two at once."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fsm_mediator import Mediator, SQLiteJournal
from tests.crash.worker import Book, fought_saga

ROOT = Path(__file__).parents[2]


def worker(folder: Path, sagas: int, seed: int) -> subprocess.Popen[bytes]:
    """Start one."""
    command = [sys.executable, "-m", "tests.crash.worker", str(folder), str(sagas), str(seed)]
    return subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})


def fight(folder: Path, sagas: int, kills: int, seconds: float) -> int:
    """Have workers fight, kill some, until one has been through all; how many were killed."""
    chance = random.Random(7)  # noqa: S311 - repeatable, not secret
    (folder / "books").mkdir()
    workers = [worker(folder, sagas, seed) for seed in range(3)]
    seed, killed, until = 3, 0, time.monotonic() + seconds
    try:
        while not (folder / "done").exists():
            assert time.monotonic() < until, "the sagas did not come to an end"
            time.sleep(chance.uniform(0.1, 0.4))
            if killed < kills:
                victim = chance.randrange(len(workers))
                workers[victim].kill()
                workers[victim].wait()
                workers[victim] = worker(folder, sagas, seed)
                seed, killed = seed + 1, killed + 1
            for number, each in enumerate(workers):
                assert each.poll() in (None, 0), f"a worker ended with {each.returncode}"
                if each.returncode == 0 and not (folder / "done").exists():
                    workers[number] = worker(folder, sagas, seed)
                    seed += 1
    finally:
        for each in workers:
            each.kill()
            each.wait()
    return killed


def check(folder: Path, sagas: int) -> None:
    """Every saga has ended as it should, and no step was overtaken."""
    book = Book(folder / "books")
    with Mediator(fought_saga(book), journal=SQLiteJournal(folder / "sagas.db")) as mediator:
        mediator.recover()
        for each in range(sagas):
            saga_id = f"s{each}"
            lines = book.lines(saga_id)
            assert not [line for line in lines if line[0] == "overlap"], lines
            done = [(verb, name) for kind, _, verb, name, *_ in lines if kind == "end"]
            outcome = mediator.outcome(saga_id)
            assert outcome.state == ("failed" if each % 3 == 0 else "succeeded"), outcome.summary()
            if outcome.succeeded:
                assert not [verb for verb, _ in done if verb == "compensate"]
                assert {name for _, name in done} == {"a", "b", "c"}
            else:
                undone = [name for verb, name in done if verb == "compensate"]
                assert [name for name in dict.fromkeys(undone) if name != "c"] == ["b", "a"]
                last_execute = max(index for index, (verb, _) in enumerate(done) if verb == "execute")
                assert "compensate" not in [verb for verb, _ in done[:last_execute]]


def test_three_processes_fight_over_one_journal(tmp_path: Path) -> None:
    """Three processes run the same sixty sagas, some are killed on the way: each saga is run once, to its end."""
    assert fight(tmp_path, sagas=60, kills=3, seconds=60) >= 2

    check(tmp_path, 60)


@pytest.mark.torture
def test_two_hundred_sagas_and_many_deaths(tmp_path: Path, torture_seconds: float) -> None:
    """Two hundred sagas, workers killed at random and replaced: all end correctly, none is driven twice at once."""
    assert fight(tmp_path, sagas=200, kills=12, seconds=max(60.0, torture_seconds)) >= 5

    check(tmp_path, 200)
