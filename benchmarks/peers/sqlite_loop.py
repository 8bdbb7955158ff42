"""The durable floor: a hand-written loop that inserts and commits one row for each transition.

No recovery, no state machine.

A succeeding saga of n steps writes n + 1 rows. Each failed attempt and each compensation writes one more row.
"""

from __future__ import annotations

import itertools
import sqlite3
import time
from pathlib import Path

from benchmarks.peers.contestant import ATTEMPTS, Participant, Ready, Work, serve

numbers = itertools.count()
INSERT = "insert into records values (?, ?, ?, ?, ?, ?)"


def prepare(work: Work) -> Ready:
    """A loop over the steps, and a connection."""
    connection = sqlite3.connect(Path(work.folder) / f"loop-{work.durability}.db", isolation_level=None)
    connection.execute("pragma journal_mode = wal")
    connection.execute(f"pragma synchronous = {work.durability}")
    connection.execute(
        "create table if not exists records (saga_id text, seq int, event text, target text, at real, value)"
    )
    steps = tuple(
        (name, work.executing(name, arguments=1), work.compensating(name, arguments=1)) for name in work.names
    )
    return Ready(lambda: by_hand(connection, steps), connection.close)


def by_hand(connection: sqlite3.Connection, steps: tuple[tuple[str, Participant, Participant], ...]) -> None:
    """Like the bare loop, but each transition is on disk before the call that it announces."""
    saga_id = f"{next(numbers):032x}"
    seq = 0

    def record(event: str, target: str) -> None:
        nonlocal seq
        seq += 1
        connection.execute(INSERT, (saga_id, seq, event, target, time.time(), "null"))

    done: list[tuple[str, Participant]] = []
    record("start", f"executing.{steps[0][0]}")
    try:
        for index, (name, execute, compensate) in enumerate(steps):
            for attempt in range(1, ATTEMPTS + 1):
                try:
                    execute(None)
                    break
                except Exception:
                    if attempt == ATTEMPTS:
                        raise
                    record("errored", f"executing.{name}")
            done.append((name, compensate))
            record("executed", f"executing.{steps[index + 1][0]}" if index + 1 < len(steps) else "succeeded")
    except Exception:
        record("rejected", f"compensating.{done[-1][0]}" if done else "failed")
        while done:
            _, undo = done.pop()
            undo(None)
            record("compensated", f"compensating.{done[-1][0]}" if done else "failed")


if __name__ == "__main__":
    serve(prepare)
