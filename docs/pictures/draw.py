"""Draws the comparison: one three-step saga by this library, by transitions and by python-statemachine.

``pip install -r benchmarks/rendering.txt``, then ``python docs/pictures/draw.py``. All three are given the same
machine: the states and transitions of the saga ``trip`` of the tutorial, no callbacks. Each library lays its own
picture out; Graphviz, where it is called for, is that of pygraphviz.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent.parent), str(HERE.parent)]

import pygraphviz  # noqa: E402 - after the path is known
from operation import order  # noqa: E402
from trip import trip  # noqa: E402

from benchmarks.rendering import graph_machine, state_machine, state_machine_dot  # noqa: E402
from fsm_mediator.diagram.render import normalise_svg  # noqa: E402
from fsm_mediator.statistics import Statistics  # noqa: E402


def drawn(dot: str) -> str:
    """What Graphviz makes of it, without version and date."""
    seen: dict[str, int] = {}  # where objects lie in memory, which python-statemachine puts into names
    dot = re.sub(r"\d{12,}", lambda found: str(seen.setdefault(found[0], len(seen))), dot)
    graph = pygraphviz.AGraph(dot)
    svg = graph.draw(format="svg", prog="dot").decode()
    return re.sub(r'<!-- Pages.*?-->\s*| data-dot="[^"]*"', "", normalise_svg(svg, "", ""))


def main() -> None:
    """Draw all three."""
    trip.diagram().render(HERE / "fsm_mediator.svg")
    first, second = (Statistics.from_json(order, HERE / f"order-{name}-week.json") for name in ("first", "second"))
    first.diagram("p95", beside=second, theme="auto").render(HERE / "order-weeks.svg")
    theirs = {
        "transitions": graph_machine(trip, "pygraphviz").get_graph().to_string(),
        "python-statemachine": state_machine_dot(state_machine(trip)),
    }
    for name, dot in theirs.items():
        (HERE / f"{name}.svg").write_text(drawn(dot), encoding="utf-8")


if __name__ == "__main__":
    main()
