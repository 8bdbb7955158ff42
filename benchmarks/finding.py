"""How long a page of executions takes in a large journal: ``python -m benchmarks.finding [EXECUTIONS] [FOLDER]``.

The journal is created by SQL. One in a thousand executions has failed, and as many are parked. The queries are those of
`Mediator.executions`.
"""

from __future__ import annotations

import sqlite3
import statistics
import sys
import tempfile
import time
from pathlib import Path

from fsm_mediator import SQLiteJournal
from fsm_mediator.journal.finding import Filter

LIMIT = 0.1
"""Seconds that a page may take with a million executions."""

QUESTIONS: dict[str, Filter] = {
    "newest": Filter(),
    "a saga of one in 1,000": Filter(saga="rare"),
    "failed": Filter(states=("failed",)),
    "failed, of a saga": Filter(states=("failed",), saga="rare"),
    "stuck": Filter(states=("stuck",)),
    "succeeded": Filter(states=("succeeded",)),
    "an attribute of 1,000": Filter(attributes=(("tenant", 7),)),
    "an attribute of one": Filter(attributes=(("order", 77),)),
    "branches of one": Filter(parent="n5"),
    "a minute long ago": Filter(since=1000.0, until=1060.0),
    "the older half": Filter(until=500_000.0),
    "failed, a span": Filter(states=("failed",), since=100.0, until=100_000.0),
}


def build(path: Path, count: int) -> None:
    """A journal of *count* executions."""
    SQLiteJournal(path).close()
    with sqlite3.connect(path) as file:
        file.executescript(
            f"""
            PRAGMA synchronous = OFF;
            INSERT INTO definitions VALUES (1, 'common', '1', 'f'), (2, 'rare', '1', 'g');
            WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {count})
            INSERT INTO executions (number, saga_id, definition, parent, epoch, attention, mail, ended_at, failed,
                parked)
            SELECT n, 'n' || n, 1 + (n % 1000 = 7), CASE WHEN n % 100 = 3 THEN 'n5' END, 1, NULL, 0,
                CASE WHEN n % 1000 <> 11 THEN n / 1.0 END, n % 1000 = 13,
                CASE WHEN n % 1000 = 11 THEN 'stuck' END FROM n;
            INSERT INTO records
            SELECT number, seq, 'executed', 'a', CASE WHEN seq < 3 THEN 'executing.a'
                WHEN number % 1000 = 11 THEN 'stuck.a' WHEN failed THEN 'failed' ELSE 'succeeded' END, number, '{{}}'
            FROM executions, (SELECT 0 AS seq UNION ALL SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3);
            INSERT INTO attributes SELECT number, 'tenant', CAST(number % 1000 AS TEXT) FROM executions;
            INSERT INTO attributes SELECT number, 'order', CAST(number AS TEXT) FROM executions;
            """  # noqa: S608
        )
    file.close()


def main(count: int, folder: Path) -> int:
    """Create the journal, run the queries and print the times. Returns 1 if a page took too long."""
    path = folder / "finding.db"
    if not path.exists():
        build(path, count)
    journal = SQLiteJournal(path)
    slow = 0
    print(f"{count:,} executions, {path.stat().st_size / 1e6:,.0f} MB; milliseconds for a page of 100, and the next")
    for name, chosen in QUESTIONS.items():
        taken = []
        for _ in range(5):
            began = time.perf_counter()
            page = journal.search(chosen, None, 100)
            taken.append(time.perf_counter() - began)
            if page:
                began = time.perf_counter()
                journal.search(chosen, page[-1].cursor, 100)
                taken.append(time.perf_counter() - began)
        slow += statistics.median(taken) > LIMIT
        print(f"{name:26} {1000 * statistics.median(taken):9.1f}   worst {1000 * max(taken):9.1f}   found {len(page)}")
    journal.close()
    return int(slow > 0)


if __name__ == "__main__":
    size = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    if len(sys.argv) > 2:
        sys.exit(main(size, Path(sys.argv[2])))
    with tempfile.TemporaryDirectory() as made:
        sys.exit(main(size, Path(made)))
