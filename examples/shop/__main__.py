"""Run a cluster, give it orders, kill its workers, and print a report: ``python -m examples.shop [KILLS]``."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing

from fsm_mediator import Mediator
from fsm_mediator.journal.factory import open_journal
from fsm_mediator.journal.protocol import Entry, Journal
from fsm_mediator.states import ENDED

from . import mediator

ORDERS = 60
PATIENCE = 120.0
"""Seconds after which the report is printed, even if some orders have not ended."""


def owned(journal: Journal) -> list[Entry]:
    """The executions that a living worker drives at this moment."""
    return [entry for entry in journal.entries() if entry.driver_alive and entry.state not in ENDED]


def kill_one(journal: Journal, luck: random.Random) -> tuple[int, dict[str, int]] | None:
    """Kill a busy worker. Returns its process id, and the epochs of the executions that it drove."""
    busy = owned(journal)
    if not busy:
        return None
    chosen = luck.choice(busy).driver
    assert chosen is not None
    os.kill(chosen.pid, signal.SIGKILL)
    return chosen.pid, {entry.saga_id: entry.epoch for entry in busy if entry.driver == chosen}


def report(journal: Journal, took: list[float]) -> bool:
    """Print the results of the orders. Returns whether no order was lost."""
    entries = list(journal.entries())
    states = Counter(entry.state for entry in entries)
    errors = [
        record.error for entry in entries for record in journal.records(entry.saga_id) if record.error is not None
    ]
    crashes = sum("AttemptCrashedError" in error.type for error in errors)
    print(f"\n{len(entries)} orders: " + ", ".join(f"{count} {state}" for state, count in sorted(states.items())))
    print(f"attempts that a kill ended, and that were decided on anew: {crashes}")
    if took:
        took.sort()
        print(f"taken over after {took[0]:.1f} to {took[-1]:.1f} s, median {took[len(took) // 2]:.1f} s")
    return len(entries) == ORDERS and all(entry.state in ENDED for entry in entries)


def main(kills: int) -> int:
    """Run the demonstration. Returns the exit code, which is 0 if no order was lost."""
    command = [sys.executable, "-m", "fsm_mediator", "cluster", "--app", "examples.shop:mediator", "--workers", "3"]
    cluster = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: S603 - our own
    try:
        assert cluster.stdout is not None
        line = cluster.stdout.readline()
        if not line.startswith("journal: "):
            return 1
        with closing(open_journal(line.removeprefix("journal: ").strip())) as journal:
            took = watch(journal, kills, random.Random(18))  # noqa: S311 - which worker is killed is no secret
            return 0 if report(journal, took) else 1
    finally:
        cluster.send_signal(signal.SIGINT)
        cluster.wait()


def watch(journal: Journal, kills: int, luck: random.Random) -> list[float]:
    """Give orders, kill workers, and print which worker takes over. Returns the seconds that each takeover took."""
    with Mediator(*mediator.sagas, journal=journal) as front:
        for number in range(ORDERS):
            front.enqueue("order", number, saga_id=f"o-{number:03}")
        print(f"{ORDERS} orders are accepted; killing a worker every second or so")
        began, next_kill, took = time.monotonic(), time.monotonic() + 2.0, list[float]()
        orphans: dict[str, tuple[int, int, float]] = {}
        while time.monotonic() - began < PATIENCE:
            now = time.monotonic()
            entries = {entry.saga_id: entry for entry in journal.entries()}
            for saga_id, (epoch, pid, killed_at) in list(orphans.items()):
                entry = entries[saga_id]
                if entry.epoch > epoch:
                    took.append(now - killed_at)
                    whom = f"process {entry.driver.pid}" if entry.driver else "a worker"
                    print(f"  {saga_id}, left by {pid}, was taken over by {whom} after {took[-1]:.1f} s")
                if entry.epoch > epoch or entry.state in ENDED:
                    del orphans[saga_id]
            if all(entry.state in ENDED for entry in entries.values()):
                break
            if kills and now >= next_kill and (victim := kill_one(journal, luck)) is not None:
                pid, left = victim
                print(f"killed worker {pid}, which drove {len(left)} orders")
                orphans |= {saga_id: (epoch, pid, now) for saga_id, epoch in left.items()}
                kills, next_kill = kills - 1, now + luck.uniform(0.8, 1.5)
            time.sleep(0.05)
    return took


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if sys.argv[1:] else 5))
