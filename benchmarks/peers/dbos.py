"""DBOS on SQLite: a workflow whose steps are recorded after they return.

Compensation is written by hand, as in its examples.

The database has the default settings (a rollback journal), or a write-ahead log. This mode is stored in the file, so
the file is created before DBOS opens it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sqlalchemy
from dbos import DBOS

from benchmarks.peers.contestant import ATTEMPTS, Ready, Work, serve

prepared: dict[tuple[object, ...], Ready] = {}
launched: list[str] = []


def prepare(work: Work) -> Ready:
    """One workflow for each work, registered once, on one DBOS that is launched once."""
    if work.key not in prepared:
        prepared[work.key] = Ready(workflow_of(work))
    launch(work)
    return prepared[work.key]


def launch(work: Work) -> None:
    """Launch DBOS. A process can have only one."""
    assert work.durability is not None
    if launched:
        assert launched == [work.durability]
        return
    path = Path(work.folder) / f"dbos-{work.durability}.db"
    if work.durability != "default":
        with sqlite3.connect(path) as connection:
            connection.execute("pragma journal_mode = wal")
        connection.close()

        @sqlalchemy.event.listens_for(sqlalchemy.Engine, "connect")
        def _synchronous(connection: Any, record: Any) -> None:
            connection.execute(f"pragma synchronous = {work.durability}")

    DBOS(config={"name": "work", "system_database_url": f"sqlite:///{path}", "log_level": "CRITICAL"})
    DBOS.launch()
    launched.append(work.durability)


def workflow_of(work: Work) -> Callable[[], None]:
    """The steps in order. If a step uses up its attempts, the completed steps are compensated, newest first."""
    label = f"{work.steps}-{work.fails}-{work.told is None}"

    def as_step(name: str, function: Callable[[], None]) -> Any:
        def call() -> None:
            function()

        made = DBOS.step(name=f"{name}-{label}", retries_allowed=True, max_attempts=ATTEMPTS, interval_seconds=0.0)
        call.__qualname__ = f"{name}-{label}"
        return made(call)

    pairs = [
        (as_step(name, work.executing(name)), as_step(f"undo-{name}", work.compensating(name))) for name in work.names
    ]

    @DBOS.workflow(name=f"work-{label}")
    def workflow() -> str:
        done: list[Callable[[], None]] = []
        try:
            for execute, compensate in pairs:
                execute()
                done.append(compensate)
        except Exception:
            for undo in reversed(done):
                undo()
            return "failed"
        return "succeeded"

    ended = "failed" if work.fails else "succeeded"

    def run() -> None:
        assert workflow() == ended

    return run


if __name__ == "__main__":
    serve(prepare, "dbos")
