"""Burr: a graph of actions over an immutable state, in memory or with its SQLite persister (one row for each action).

The graph is built once, and an application is built for each run, as Burr requires. Every action says whether it
failed, and the conditions of the graph select the next action, forward or back. Burr has no retries, so the attempts
are made by hand inside the action, and the persister writes once for all three attempts.
"""

from __future__ import annotations

import os
import sqlite3
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ["BURR_NO_ANALYTICS"] = "true"

from burr.core import ApplicationBuilder, State, action, default, when
from burr.core.graph import Graph, GraphBuilder
from burr.core.persistence import SQLitePersister

from benchmarks.peers.contestant import Ready, RefusedError, Work, retrying, serve


def graph_of(work: Work) -> Graph:
    """An action for the execution and an action for the compensation of each step, and an action for each end."""
    names = work.names

    def executing(name: str) -> Any:
        execute = retrying(work.executing(name))

        @action(reads=[], writes=["refused"])
        def act(state: State[Any]) -> State[Any]:
            try:
                execute()
            except RefusedError:
                return state.update(refused=True)
            return state.update(refused=False)

        return act

    def compensating(name: str) -> Any:
        compensate = work.compensating(name)

        @action(reads=[], writes=["undone"])
        def act(state: State[Any]) -> State[Any]:
            compensate()
            return state.update(undone=name)

        return act

    @action(reads=[], writes=["ended"])
    def succeeded(state: State[Any]) -> State[Any]:
        return state.update(ended="succeeded")

    @action(reads=[], writes=["ended"])
    def failed(state: State[Any]) -> State[Any]:
        return state.update(ended="failed")

    actions = {"succeeded": succeeded, "failed": failed}
    moves: list[tuple[Any, ...]] = []
    for index, name in enumerate(names):
        back = f"undo_{names[index - 1]}" if index else "failed"
        actions[name] = executing(name)
        moves.append((name, back, when(refused=True)))
        moves.append((name, names[index + 1] if index + 1 < len(names) else "succeeded", default))
        if index + 1 < len(names):
            actions[f"undo_{name}"] = compensating(name)
            moves.append((f"undo_{name}", back, default))
    return GraphBuilder().with_actions(**actions).with_transitions(*moves).build()


def prepare(work: Work) -> Ready:
    """One graph, and an application for each run."""
    graph, first = graph_of(work), work.names[0]
    ended = "failed" if work.fails else "succeeded"
    persister = persister_of(work) if work.durability else None

    def run() -> None:
        builder = ApplicationBuilder().with_graph(graph).with_state(refused=False).with_entrypoint(first)
        if persister is not None:
            builder = builder.with_identifiers(app_id=uuid.uuid4().hex).with_state_persister(persister)
        _, _, state = builder.build().run(halt_after=["succeeded", "failed"])
        assert state["ended"] == ended

    return Ready(run, persister.connection.close if persister else lambda: None)


def persister_of(work: Work) -> SQLitePersister:
    """The persister with its default settings, or with a write-ahead log."""
    path = Path(work.folder) / f"burr-{work.durability}.db"
    connection = sqlite3.connect(path)
    if work.durability != "default":
        connection.execute("pragma journal_mode = wal")
        connection.execute(f"pragma synchronous = {work.durability}")
    persister = SQLitePersister(str(path), connection=connection)
    persister.initialize()
    return persister


def live(count: int) -> Sequence[object]:
    """Applications that have run their first action."""
    graph = graph_of(Work(3))

    def begun() -> object:
        application = ApplicationBuilder().with_graph(graph).with_state(refused=False).with_entrypoint("s1").build()
        application.step()
        return application

    return [begun() for _ in range(count)]


if __name__ == "__main__":
    serve(prepare, "apache-burr", live=live)
