"""The operation of docs/operation.py as users of other tools write it: DOT for each of their pictures.

`python_statemachine` and `transitions` are drawn by these libraries. `step_functions` and `stately` are drawn here, as
their documents describe their pictures: these tools draw in a browser only, behind an account.
"""

from __future__ import annotations

import itertools
import re
from typing import Any, Final

MOVES: Final = (
    ("reserved, small", "reserving", "charging"),
    ("reserved, large", "reserving", "deciding"),
    ("out of stock", "reserving", "failed"),
    ("approved", "deciding", "charging"),
    ("refused", "deciding", "releasing"),
    ("errored", "charging", "retrying"),
    ("due", "retrying", "charging"),
    ("charged", "charging", "fulfilling"),
    ("gave up", "charging", "releasing"),
    ("fulfilled", "fulfilling", "shipping"),
    ("not fulfilled", "fulfilling", "refunding"),
    ("shipped", "shipping", "notifying"),
    ("not shipped", "shipping", "refunding"),
    ("refunded", "refunding", "releasing"),
    ("released", "releasing", "failed"),
    ("notified", "notifying", "succeeded"),
)
"""The machine as it is written by hand: event, source, target. Retries and compensation are states of its own."""

REGIONS: Final = {"pack": ("packing", "packed"), "label": ("labelling", "labelled"), "invoice": ("writing", "written")}
"""The regions of the parallel state ``fulfilling``, each with its two states."""

STATES: Final = tuple(dict.fromkeys(itertools.chain.from_iterable((source, target) for _, source, target in MOVES)))
ENDS: Final = ("failed", "succeeded")


def python_statemachine() -> str:
    """The picture that python-statemachine's ``DotGraphMachine`` draws of a ``StateChart``."""
    from statemachine import State, StateChart
    from statemachine.contrib.diagram import DotGraphMachine

    regions = {name: _region(State, name, *states) for name, states in REGIONS.items()}
    parallel = type("fulfilling", (State.Parallel,), regions)
    states: dict[str, Any] = {
        name: parallel if name == "fulfilling" else State(name, initial=name == "reserving", final=name in ENDS)
        for name in STATES
    }
    events = {_identifier(event): states[source].to(states[target]) for event, source, target in MOVES}
    made: Any = type("order", (StateChart,), {**states, **events})
    return str(DotGraphMachine(made)().to_string())


def _region(state: Any, name: str, begun: str, done: str) -> Any:
    first, last = state(begun, initial=True), state(done, final=True)
    return type(name, (state.Compound,), {begun: first, done: last, f"{name}_done": first.to(last)})


def _identifier(words: str) -> str:
    return re.sub(r"\W+", "_", words)


def transitions() -> str:
    """The picture that transitions' ``HierarchicalGraphMachine`` draws."""
    from transitions.extensions.factory import HierarchicalGraphMachine

    regions = [
        {
            "name": name,
            "initial": begun,
            "children": [begun, {"name": done, "final": True}],
            "transitions": [[f"{name} done", begun, done]],
        }
        for name, (begun, done) in REGIONS.items()
    ]
    states: list[Any] = [
        {"name": name, "parallel": regions} if name == "fulfilling" else {"name": name, "final": name in ENDS}
        for name in STATES
    ]
    model: Any = type("Model", (), {})()
    HierarchicalGraphMachine(
        model,
        states=states,
        transitions=[list(move) for move in MOVES],
        initial="reserving",
        auto_transitions=False,
        graph_engine="pygraphviz",
        title="",
    )
    return str(model.get_graph().to_string())


def _task(then: str, caught: str = "") -> dict[str, Any]:
    return {"Type": "Task", "Next": then, **({"Catch": [{"Next": caught}]} if caught else {})}


DEFINITION: Final[dict[str, Any]] = {
    "StartAt": "reserve",
    "States": {
        "reserve": _task("large?", "failed"),
        "large?": {"Type": "Choice", "Choices": [{"Next": "decision"}], "Default": "charge"},
        "decision": _task("charge", "release"),
        "charge": _task("fulfil", "release"),
        "fulfil": {**_task("ship", "refund"), "Type": "Parallel", "Branches": list(REGIONS)},
        "ship": _task("notify", "refund"),
        "notify": _task("succeeded"),
        "refund": _task("release"),
        "release": _task("failed"),
        "succeeded": {"Type": "Succeed"},
        "failed": {"Type": "Fail"},
    },
}
"""The outline of the definition in the Amazon States Language. A retry is a setting of a state there, and not drawn."""


def step_functions() -> str:
    """The definition as the graph view of Step Functions shows it, redrawn."""
    states = DEFINITION["States"]
    lines = [
        "digraph order {",
        '  graph [fontname="Helvetica" fontsize=11 nodesep=0.3 ranksep=0.3 compound=true]',
        '  node [shape=box style="rounded,filled" fillcolor=white color="#7d8998" fontname="Helvetica" fontsize=11]',
        '  edge [color="#7d8998" fontname="Helvetica" fontsize=10 arrowsize=0.7]',
        *(f'  {end} [shape=ellipse fillcolor="#ffda83" color="#b88a00"]' for end in ("Start", "End")),
        f'  Start -> "{DEFINITION["StartAt"]}"\n  succeeded -> End\n  failed -> End',
        '  subgraph "cluster fulfil" { graph [label="fulfil\\nParallel state" style="rounded,dashed" color="#7d8998"]',
        *(f'    "{branch}" [label="{branch}\\nTask state"]' for branch in states["fulfil"]["Branches"]),
        "  }",
    ]
    for name, state in states.items():
        leads = {state.get("Next", ""): "", state.get("Default", ""): " Default "}
        leads |= {each["Next"]: " cents > 50000 " for each in state.get("Choices", ())}
        leads |= {each["Next"]: " Catch " for each in state.get("Catch", ())}
        branches = state.get("Branches")
        if branches is None:
            lines.append(f'  "{name}" [label="{name}\\n{state["Type"]} state"]')
        for target, label in leads.items():
            sources = branches if branches and not label else [branches[-1] if branches else name]
            ends = states[target].get("Branches", [target]) if target else []
            lines += [f'  "{one}" -> "{end}" [label="{label}"]' for one in sources for end in ends]
    return "\n".join([*lines, "}"])


def stately() -> str:
    """The machine as Stately's editor shows it, redrawn: boxes for states, pills for events, dashed regions."""
    boxes = [name for name in STATES if name != "fulfilling"]
    lines = [
        "digraph order {",
        '  graph [rankdir=LR fontname="Helvetica" fontsize=11 nodesep=0.2 ranksep=0.3 compound=true]',
        '  node [shape=box style="rounded,filled" fillcolor="#f1f3f5" color="#495057" fontsize=11 fontname="Helvetica"',
        "  ]",
        '  edge [color="#495057" arrowsize=0.7]',
        '  start [shape=point width=0.12 fillcolor="#495057"]\n  start -> "reserving"',
        *(f'  "{name}" [{"peripheries=2" if name in ENDS else ""}]' for name in boxes),
        '  subgraph "cluster fulfilling" { graph [label="fulfilling" style="rounded,filled" fillcolor="#f8f9fa"]',
    ]
    for name, (begun, done) in REGIONS.items():
        lines += [
            f'    subgraph "cluster {name}" {{ graph [label="{name}" style="rounded,dashed" color="#868e96"]',
            f'      "{name} start" [shape=point width=0.1 fillcolor="#495057"]\n      "{name} start" -> "{begun}"',
            f'      "{done}" [peripheries=2]',
            *_pill(f"{name} done", begun, done),
            "    }",
        ]
    lines.append("  }")
    for event, source, target in MOVES:
        lines += _pill(event, "packing" if source == "fulfilling" else source, target, source, target)
    return "\n".join([*lines, "}"])


def _pill(event: str, source: str, target: str, outer: str = "", inner: str = "") -> list[str]:
    """An event on its way from one state to another."""
    pill = f"event {event}"
    out = ' [arrowhead=none ltail="cluster fulfilling"]' if outer == "fulfilling" else " [arrowhead=none]"
    into = ' [lhead="cluster fulfilling"]' if inner == "fulfilling" else ""
    end = "packing" if inner == "fulfilling" else target
    return [
        f'  "{pill}" [label="{event}" fillcolor="#d0ebff" color="#a5d8ff" fontsize=10 height=0.2 margin="0.08,0.03"]',
        f'  "{source}" -> "{pill}"{out}',
        f'  "{pill}" -> "{end}"{into}',
    ]
