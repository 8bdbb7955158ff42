"""The contestants: their names, the data that they keep of a saga, and their requirements."""

from __future__ import annotations

from typing import NamedTuple

FLOOR = "bare loop"
DURABLE_FLOOR = "SQLite loop"
OURS = "fsm_mediator"
ALONE = f"{OURS}, the execution alone"


class Contestant(NamedTuple):
    """One script in ``benchmarks/peers``.

    Attributes:
        name: The name in the tables.
        module: The script. Its requirements are in the text file with the same name beside it.
        imports: The imports of a program that uses the library, for the import time. Empty for a floor.
        keeps: The data that it keeps of a saga while the saga runs, and afterwards.
        in_memory: Whether it can run without a file.
        durabilities: "full" and "normal" are SQLite with a write-ahead log and this value of ``synchronous``; "default"
            is the library's default.
        at_once: Whether many sagas can run at the same time on one asyncio loop.
        own: Whether it runs in the project's own environment.
        python: The lowest version of Python that it needs.
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
