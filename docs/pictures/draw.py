"""Draws the comparison: a whole operation in five notations, and the machine of three steps by three libraries.

``pip install -r benchmarks/rendering.txt``, then ``python docs/pictures/draw.py``. The operation is that of
docs/operation.py, written for each tool as its users do (elsewhere.py). The three libraries are given one more machine
state by state: the saga ``trip`` of the tutorial, no callbacks. Each library lays its own picture out; Graphviz, where
it is called for, is that of pygraphviz.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent.parent), str(HERE.parent), str(HERE)]

import elsewhere  # noqa: E402 - after the path is known
import pygraphviz  # noqa: E402
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
    """Draw all of them."""
    order.diagram("steps").render(HERE / "order-fsm_mediator.svg")
    trip.diagram().render(HERE / "fsm_mediator.svg")
    first, second = (Statistics.from_json(order, HERE / f"order-{name}-week.json") for name in ("first", "second"))
    first.diagram("p95", beside=second, theme="auto").render(HERE / "order-weeks.svg")
    theirs = {
        "transitions": graph_machine(trip, "pygraphviz").get_graph().to_string(),
        "python-statemachine": state_machine_dot(state_machine(trip)),
        "order-transitions": elsewhere.transitions(),
        "order-python-statemachine": elsewhere.python_statemachine(),
        "order-step-functions": elsewhere.step_functions(),
        "order-stately": elsewhere.stately(),
    }
    for name, dot in theirs.items():
        (HERE / f"{name}.svg").write_text(drawn(dot), encoding="utf-8")


if __name__ == "__main__":
    main()
