"""LangGraph: a graph of nodes over a state, in memory or with its SqliteSaver (``durability="sync"``).

The graph is compiled once, and invoked for each run. Every node returns a `Command` that names the next node, forward
or back. LangGraph's `RetryPolicy` ends the whole graph when the attempts are used up, so no compensation could follow.
Therefore the attempts are made by hand, inside the node.
"""

from __future__ import annotations

import os
import sqlite3
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypedDict

os.environ["LANGSMITH_TRACING"] = "false"

from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command

from benchmarks.peers.contestant import Ready, RefusedError, Work, retrying, serve


class Progress(TypedDict):
    """The state of the graph."""

    reached: str


def prepare(work: Work) -> Ready:
    """One compiled graph, with one invocation for each run."""
    connection = connection_of(work) if work.durability else None
    graph = graph_of(work).compile(checkpointer=SqliteSaver(connection) if connection else None)
    settings: dict[str, Any] = {"recursion_limit": 3 * work.steps + 10}
    extra: dict[str, Any] = {"durability": "sync"} if connection else {}
    ended = "failed" if work.fails else work.names[-1]

    def run() -> None:
        thread = {"configurable": {"thread_id": uuid.uuid4().hex}} if connection else {}
        state = graph.invoke({"reached": "pending"}, {**settings, **thread}, **extra)
        assert state["reached"] == ended

    return Ready(run, connection.close if connection else lambda: None)


def graph_of(work: Work) -> Any:
    """A node for the execution and a node for the compensation of each step."""
    names = work.names
    graph = StateGraph(Progress)

    def executing(name: str, forward: str, back: str) -> Callable[[Progress], Any]:
        execute = retrying(work.executing(name))

        def node(state: Progress) -> Any:
            try:
                execute()
            except RefusedError:
                return Command(goto=back, update={"reached": "failed"})
            return Command(goto=forward, update={"reached": name})

        return node

    def compensating(name: str, back: str) -> Callable[[Progress], Any]:
        compensate = work.compensating(name)

        def node(state: Progress) -> Any:
            compensate()
            return Command(goto=back, update={"reached": "failed"})

        return node

    for index, name in enumerate(names):
        forward = names[index + 1] if index + 1 < len(names) else END
        back = f"undo_{names[index - 1]}" if index else END
        graph.add_node(name, executing(name, forward, back), destinations=(forward, back))
        if index + 1 < len(names):
            graph.add_node(f"undo_{name}", compensating(name, back), destinations=(back,))
    graph.add_edge(START, names[0])
    return graph


def connection_of(work: Work) -> sqlite3.Connection:
    """The saver turns the write-ahead log on. It commits with FULL unless another setting is made."""
    connection = sqlite3.connect(Path(work.folder) / f"langgraph-{work.durability}.db", check_same_thread=False)
    if work.durability != "default":
        connection.execute(f"pragma synchronous = {work.durability}")
    return connection


if __name__ == "__main__":
    serve(prepare, "langgraph", "langgraph-checkpoint-sqlite")
