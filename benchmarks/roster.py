"""Who is measured: every contestant, what it keeps of a saga, and what it needs to run."""

from __future__ import annotations

from typing import NamedTuple

FLOOR = "bare loop"
DURABLE_FLOOR = "SQLite loop"
OURS = "fsm_mediator"
ALONE = f"{OURS}, the execution alone"


class Contestant(NamedTuple):
    """One script in ``benchmarks/peers``.

    Attributes:
        name: As the tables show it.
        module: The script; its requirements are the text file beside it of the same name.
        imports: What a program that uses it imports, for the import time; empty for a floor.
        keeps: What it keeps of a saga while it runs, and afterwards.
        in_memory: Whether it can do without a file.
        durabilities: "full" and "normal" are SQLite with a write-ahead log and that ``synchronous``; "default" is the
            library as it comes.
        at_once: Whether many can be under way at a time on one asyncio loop.
        own: Whether it runs in the project's own environment.
        python: The least version of Python that it asks for.
    """

    name: str
    module: str
    imports: str
    keeps: str
    in_memory: bool = True
    durabilities: tuple[str, ...] = ()
    at_once: bool = False
    own: bool = False
    python: tuple[int, int] = (3, 11)


ROSTER = (
    Contestant(FLOOR, "bare_loop", "", "nothing", at_once=True, own=True),
    Contestant(
        OURS,
        "ours",
        "fsm_mediator",
        "id, state, results, errors, every transition with its time",
        durabilities=("full", "normal"),
        at_once=True,
        own=True,
    ),
    Contestant("saga-py", "saga_py", "saga", "nothing"),
    Contestant("simple-saga", "simple_saga", "simple_saga", "results of steps done"),
    Contestant("transitions, by hand", "transitions_by_hand", "transitions", "state"),
    Contestant("Burr", "burr", "burr.core", "id, state, position", durabilities=("full", "normal", "default")),
    Contestant("sagaz", "sagaz", "sagaz", "id, context, which steps were done"),
    Contestant("python-statemachine", "python_statemachine", "statemachine", "state"),
    Contestant("LangGraph", "langgraph", "langgraph.graph", "state of one run", durabilities=("full", "normal")),
    Contestant(DURABLE_FLOOR, "sqlite_loop", "", "a row a transition", False, ("full", "normal"), own=True),
    Contestant(
        "DBOS", "dbos", "dbos", "id, status, output of every step", False, ("full", "normal", "default"), python=(3, 11)
    ),
    Contestant(
        "python-saga-orchestrator",
        "saga_orchestrator",
        "saga_orchestrator",
        "id, status, context, history of steps",
        False,
        ("full", "normal", "default"),
        python=(3, 12),
    ),
)
