"""A fleet under test: workers in processes, what they did to their participants, and what may be said of it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from fsm_mediator import Mediator, conforms
from fsm_mediator.journal.postgres import PostgresJournal
from fsm_mediator.states import ENDED
from tests.cluster.worker import Settings, fleet_saga

ROOT = Path(__file__).parents[2]
PATIENCE = 240.0
"""Seconds after which a fleet is taken to hang."""


class Call(NamedTuple):
    """A call of a step: when it began and ended (None: never), by the clock of all processes of this machine."""

    saga_id: str
    what: str
    pid: int
    began: float
    ended: float | None


class Fleet:
    """Workers on one journal.

    Args:
        folder: Where their ledgers are kept.
        url: The journal, as the workers reach it.
        journal: The journal, as the test reaches it.
        settings: Of the workers.
    """

    def __init__(self, folder: Path, url: str, journal: PostgresJournal, schema: str, **settings: Any) -> None:
        self.ledger = folder / "ledger"
        self.ledger.mkdir()
        self.settings = Settings(url=url, schema=schema, ledger=str(self.ledger), **settings)
        self.journal = journal
        self.workers: list[subprocess.Popen[bytes]] = []
        self.killed: dict[int, float] = {}
        self.ids: list[str] = []
        self.log = folder / "log"

    def spawn(self, **settings: Any) -> subprocess.Popen[bytes]:
        """Start a worker."""
        text = msgspec.json.encode(msgspec.structs.replace(self.settings, **settings)).decode()
        command = [sys.executable, "-m", "tests.cluster.worker", text]
        with self.log.open("ab") as log:
            pipe = subprocess.PIPE
            worker = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=log, cwd=ROOT)
        self.workers.append(worker)
        return worker

    def start(self, count: int, **settings: Any) -> None:
        """Start workers, and wait until they serve."""
        for worker in [self.spawn(**settings) for _ in range(count)]:
            assert worker.stdout is not None
            assert worker.stdout.readline() == b"ready\n", self.log.read_text()

    def kill(self, place: int) -> int:
        """Kill the worker in this place; another one takes the place. Returns the pid of the killed one."""
        worker = self.workers[place]
        self.killed[worker.pid] = time.monotonic()
        worker.kill()
        worker.communicate()
        self.workers[place] = self.spawn()
        self.workers.pop()
        return worker.pid

    def end(self) -> None:
        """Kill all workers."""
        for worker in self.workers:
            worker.kill()
        for worker in self.workers:
            worker.communicate()

    def enqueue(self, count: int, *, first: int = 0, version: int = 1, saga: Any = None) -> None:
        """Accept sagas, for the workers to claim."""
        made = saga or fleet_saga(self.ledger, 0.0, version)
        with Mediator(made, journal=self.journal) as mediator:
            for number in range(first, first + count):
                self.ids.append(mediator.enqueue("fleet", number, saga_id=f"{version}-{number:04}"))

    def unfinished(self) -> list[str]:
        """The executions that have not ended."""
        states = {entry.saga_id: entry.state for entry in self.journal.entries()}
        return [saga_id for saga_id in self.ids if states.get(saga_id) not in ENDED]

    def wait(self, until: Callable[[], bool] | None = None, patience: float = PATIENCE) -> None:
        """Wait until all executions have ended, or *until* holds."""
        deadline = time.monotonic() + patience
        while not (until() if until is not None else not self.unfinished()):
            assert time.monotonic() < deadline, f"unfinished: {self.unfinished()[:5]}; {self.log.read_text()[-3000:]}"
            time.sleep(0.1)

    def calls(self) -> dict[str, list[Call]]:
        """The calls of each execution's steps, in the order in which they began."""
        lines = [json.loads(line) for file in self.ledger.iterdir() for line in file.read_text().splitlines()]
        begun: dict[tuple[str, str, int], list[float]] = defaultdict(list)
        found: dict[str, list[Call]] = {saga_id: [] for saga_id in self.ids}
        open_calls: dict[tuple[str, str, int], tuple[float, int]] = {}
        for at, pid, kind, saga_id, what, _ in sorted(lines):
            key = (saga_id, what, pid)
            if kind == "begin":
                begun[key].append(at)
                open_calls[key] = at, len(found[saga_id])
                found[saga_id].append(Call(saga_id, what, pid, at, None))
            else:
                _, place = open_calls.pop(key)
                found[saga_id][place] = found[saga_id][place]._replace(ended=at)
        return found

    def report(self) -> Report:
        """What came of it."""
        return Report.of(self)


class Report(NamedTuple):
    """What may be said of a fleet.

    Attributes:
        lost: Executions that were never driven to an end, or whose steps were not all called.
        caused: Repeated calls whose first caller was killed, as the journal says too.
        without_cause: All other repeated calls.
        overlaps: Calls that began while a living worker was in a call of the same execution.
        takeovers: Seconds from each kill to the next call of an execution that was left, sorted.
        highest_epoch: How often an execution was claimed at the most, with its opening.
    """

    lost: list[str]
    caused: int
    without_cause: list[Call]
    overlaps: list[tuple[Call, Call]]
    takeovers: list[float]
    highest_epoch: int
    conforms: bool

    @classmethod
    def of(cls, fleet: Fleet) -> Report:
        """Look at ledgers and journal."""
        calls, entries = fleet.calls(), {entry.saga_id: entry for entry in fleet.journal.entries()}
        lost, without, overlaps, takeovers, caused = [], [], [], [], 0
        for saga_id, each in calls.items():
            ended = {call.what for call in each if call.ended is not None}
            payload = int(saga_id.split("-")[1])
            need = {"a", "b", "c"} | ({"undo a", "undo b"} if payload % 3 == 0 else set())
            if not need <= ended or entries[saga_id].state not in ENDED:
                lost.append(saga_id)
            crashes = sum(
                record.error is not None and record.error.type.endswith("AttemptCrashedError")
                for record in fleet.journal.records(saga_id)
            )
            last: dict[str, Call] = {}
            for place, call in enumerate(each):
                before = last.get(call.what)
                last[call.what] = call
                if before is not None:
                    crashes -= 1
                    if fleet.killed.get(before.pid, 9e18) < call.began and crashes >= 0:
                        caused += 1
                    else:
                        without.append(call)
                for other in each[:place]:
                    killed_at = fleet.killed.get(other.pid, 9e18)
                    if other.pid != call.pid and min(other.ended or 9e18, killed_at) > call.began:
                        overlaps.append((other, call))
                    if other.ended is None and killed_at < call.began and place == each.index(other) + 1:
                        takeovers.append(call.began - killed_at)
        return cls(
            lost,
            caused,
            without,
            overlaps,
            sorted(takeovers),
            max(entry.epoch for entry in entries.values()),
            conforms(fleet.journal, [fleet_saga(fleet.ledger, 0.0, version) for version in (1, 2)]).ok,
        )

    def check(self) -> None:
        """Hold it against what is promised."""
        print(self)  # noqa: T201 - `make fleet` shows it
        assert self.conforms
        assert (self.lost, self.without_cause, self.overlaps) == ([], [], [])

    def __str__(self) -> str:
        took = self.takeovers or [float("nan")]
        return (
            f"lost {len(self.lost)}, repeated after a kill {self.caused}, without cause {len(self.without_cause)}, "
            f"two at once {len(self.overlaps)}; claims at most {self.highest_epoch}; {len(self.takeovers)} takeovers: "
            f"{took[0]:.2f} to {took[-1]:.2f} s, median {took[len(took) // 2]:.2f} s"
        )


@contextmanager
def fleet_on(folder: Path, url: str, schema: str, journal_url: str | None = None, **settings: Any) -> Iterator[Fleet]:
    """A fleet without workers yet, in tables of its own."""
    journal = PostgresJournal(journal_url or url, schema=schema)
    fleet = Fleet(folder, url, journal, schema, **settings)
    try:
        yield fleet
    finally:
        fleet.end()
        journal.close()
