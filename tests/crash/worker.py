"""One of several processes that fight over a journal: ``python -m tests.crash.worker FOLDER SAGAS SEED``.

It runs every saga there is, in an order of its own, in a few threads; most are run by others at the same time. Its
participants write down who is at work on what, and shout if somebody else is, and lives.
"""

from __future__ import annotations

import json
import os
import random
import sys
import threading
import time
from pathlib import Path
from typing import Any

from fsm_mediator import Context, Mediator, Retry, Saga, SQLiteJournal, Step

LATENCY = 0.05
NO_WAIT = Retry(attempts=6, wait_initial=0.0, wait_jitter=0.0)


class Book:
    """One file for each saga, to which participants append."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(self, saga_id: str, *words: Any) -> None:
        """Append a line."""
        file = os.open(self.folder / saga_id, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(file, (json.dumps(words) + "\n").encode())
        os.close(file)

    def lines(self, saga_id: str) -> list[list[Any]]:
        """All lines of a saga."""
        path = self.folder / saga_id
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def at_work(self, saga_id: str) -> set[int]:
        """The processes that have begun something and not ended it."""
        open_: set[int] = set()
        for kind, pid, *_ in self.lines(saga_id):
            (open_.add if kind == "begin" else open_.discard)(pid)
        return open_


class Fought(Step):
    """A step that writes down each call, and refuses two calls at once."""

    retry = NO_WAIT
    compensation_retry = NO_WAIT

    def __init__(self, name: str, book: Book, *, fails: bool = False) -> None:
        self.name = name
        self.book = book
        self.fails = fails

    def execute(self, payload: int, context: Context) -> None:
        """Take effect; every third saga fails at its last step."""
        self._do("execute", context.saga_id)
        if self.fails and payload % 3 == 0:
            raise ValueError("this one fails")

    def compensate(self, payload: int, context: Context) -> None:
        """Undo it."""
        self._do("compensate", context.saga_id)

    def _do(self, verb: str, saga_id: str) -> None:
        me = os.getpid()
        others = [pid for pid in self.book.at_work(saga_id) if pid != me and is_alive(pid)]
        if others:
            self.book.add(saga_id, "overlap", me, verb, self.name, others)
        self.book.add(saga_id, "begin", me, verb, self.name)
        time.sleep(LATENCY)  # so that there is a middle in which to be killed
        self.book.add(saga_id, "end", me, verb, self.name)


def is_alive(pid: int) -> bool:
    """Whether the process runs; a killed process does not, even before its parent has collected it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False


def fought_saga(book: Book) -> Saga:
    """Three steps; the last one fails for every third payload."""
    return Saga("fought", [Fought("a", book), Fought("b", book), Fought("c", book, fails=True)], payload=int)


def main() -> None:
    """Run every saga, then say so."""
    folder, number, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    order = list(range(number))
    random.Random(seed).shuffle(order)  # noqa: S311 - repeatable, not secret
    saga = fought_saga(Book(folder / "books"))
    mediator = Mediator(saga, journal=SQLiteJournal(folder / "sagas.db", durability="normal"))

    def work(mine: list[int]) -> None:
        for each in mine:
            mediator.run("fought", each, saga_id=f"s{each}", check=False)

    threads = [threading.Thread(target=work, args=(order[start::4],)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    mediator.close()
    (folder / "done").touch()


if __name__ == "__main__":
    main()
