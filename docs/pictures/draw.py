"""Draws the comparison: one three-step saga by this library, by transitions and by python-statemachine.

``pip install 'python-statemachine[diagrams]'``, then ``python docs/pictures/draw.py``. All three are given the same
machine: the states and transitions of the saga ``trip`` of the tutorial, no callbacks. Each library lays its own
picture out; Graphviz, where it is called for, is that of pygraphviz.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent.parent), str(HERE.parent)]

import pygraphviz  # noqa: E402 - after the path is known
from trip import trip  # noqa: E402

from fsm_mediator.diagram.render import tidied  # noqa: E402


def by_graphmachine() -> str:
    """DOT, as ``transitions.extensions.GraphMachine`` writes it."""
    from transitions.extensions import GraphMachine

    machine = GraphMachine(
        model=None,
        states=list(trip.machine.states),
        transitions=[list(move) for move in trip.machine.moves()],
        initial="pending",
        auto_transitions=False,
        graph_engine="pygraphviz",
        title="",
    )
    model: Any = type("Model", (), {})()
    machine.add_model(model)
    return str(model.get_graph().to_string())


def by_statemachine() -> str:
    """DOT, as python-statemachine's ``DotGraphMachine`` writes it."""
    from statemachine import State, StateMachine
    from statemachine.contrib.diagram import DotGraphMachine

    names = {name: name.replace(".", "_") for name in trip.machine.states}
    states = {
        names[name]: State(name, initial=name == "pending", final=state.final and name == "failed")
        for name, state in trip.machine.states.items()
    }
    events: dict[str, Any] = {}
    for event, source, target in trip.machine.moves():
        transition = states[names[source]].to(states[names[target]])
        events[event] = transition if event not in events else events[event] | transition
    machine = type("TripMachine", (StateMachine,), {**states, **events})
    return str(DotGraphMachine(machine)().to_string())


def drawn(dot: str) -> str:
    """What Graphviz makes of it, without version and date."""
    graph = pygraphviz.AGraph(dot)
    svg = graph.draw(format="svg", prog="dot").decode()
    return re.sub(r'<!-- Pages.*?-->\s*| data-dot="[^"]*"', "", tidied(svg, "", ""))


def main() -> None:
    """Draw all three."""
    trip.diagram().render(HERE / "fsm_mediator.svg")
    for name, dot in (("transitions", by_graphmachine()), ("python-statemachine", by_statemachine())):
        (HERE / f"{name}.svg").write_text(drawn(dot), encoding="utf-8")


if __name__ == "__main__":
    main()
