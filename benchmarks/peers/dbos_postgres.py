"""DBOS on PostgreSQL: ``python -m benchmarks.peers.dbos_postgres URL POSTMASTER NUMBER`` prints its figures as JSON.

This module does not import our package, because it runs in DBOS's environment. It measures like
``benchmarks.postgres``.
"""

from __future__ import annotations

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from dbos import DBOS, SetWorkflowID

from benchmarks.server_time import server_seconds


@DBOS.step()
def nothing() -> None:
    """Does nothing."""


@DBOS.workflow()
def three() -> None:
    """Three steps."""
    for _ in range(3):
        nothing()


def run(workflow_id: str) -> None:
    """Run the workflow once."""
    with SetWorkflowID(workflow_id):
        three()


def main(url: str, postmaster: int, number: int) -> None:
    """Measure with 1, 16 and 64 workflows at a time."""
    DBOS(config={"name": "work", "system_database_url": url, "log_level": "CRITICAL"})
    DBOS.launch()
    found = {}
    for at_once in (1, 16, 64):
        with ThreadPoolExecutor(at_once) as pool:
            list(pool.map(run, [f"w-{at_once}-{place}" for place in range(max(at_once, number // 10))]))
            before = time.perf_counter(), time.process_time(), server_seconds(postmaster)
            list(pool.map(run, [f"b-{at_once}-{place}" for place in range(number)]))
            after = time.perf_counter(), time.process_time(), server_seconds(postmaster)
        seconds, client, server = (late - early for late, early in zip(after, before, strict=True))
        found[at_once] = [number / seconds, 1000 * client / number, 1000 * server / number]
    print(json.dumps(found))
    DBOS.destroy()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
