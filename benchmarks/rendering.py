"""Rendering: sagas of 3, 10 and 40 steps as DOT and as SVG, compared with two libraries that draw similar pictures.

Each library gets the same states and transitions, which are built before the clock starts. "First" is the time for a
picture without a cache. "Again" is the time for the same machine afterwards, as in a page or a notebook. The same
Graphviz draws all SVGs in this process. The times are CPU times of the process, because wall-clock times on a busy
machine vary. ``python -m benchmarks.rendering`` runs this benchmark alone. With ``--all`` Graphviz also lays out the 40
steps of the other libraries, which takes minutes.
"""

from __future__ import annotations

import functools
import statistics
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, Literal

from benchmarks.measure import Figures, Timing, machine, pin_to_one_core, table
from fsm_mediator import Mediator, Parallel, Retry, Saga, step
from fsm_mediator.diagram import Diagram
from fsm_mediator.diagram import diagram as drawings

SIZES = (3, 10, 40)
LAID_OUT = 10
"""Up to how many steps Graphviz lays out the others' pictures in seconds."""

GOAL = 30.0
"""Milliseconds that a notebook may wait for a picture after the first."""


def saga(steps: int) -> Saga:
    """A saga of so many steps that can be retried and compensated."""
    made = []
    for number in range(steps):
        one = step(name=f"step_{number}", retry=Retry(attempts=3))(lambda payload: None)
        one.compensation(lambda payload: None)
        made.append(one)
    return Saga(f"of_{steps}", made)


def graph_machine(saga: Saga, engine: Literal["graphviz", "pygraphviz"]) -> Any:
    """A model of transitions' ``GraphMachine`` with the saga's states and transitions."""
    from transitions.extensions import GraphMachine

    made = GraphMachine(
        model=None,
        states=list(saga.machine.states),
        transitions=[list(move) for move in saga.machine.moves()],
        initial="pending",
        auto_transitions=False,
        graph_engine=engine,
        title="",
    )
    model: Any = type("Model", (), {})()
    made.add_model(model)
    return model


def state_machine(saga: Saga) -> Any:
    """A machine of python-statemachine with the saga's states and transitions."""
    from statemachine import State, StateMachine

    names = {name: name.replace(".", "_") for name in saga.machine.states}
    states = {
        names[name]: State(name, initial=name == "pending", final=state.final and name == "failed")
        for name, state in saga.machine.states.items()
    }
    events: dict[str, Any] = {}
    for event, source, target in saga.machine.moves():
        transition = states[names[source]].to(states[names[target]])
        events[event] = transition if event not in events else events[event] | transition
    return type(f"{saga.name}_machine", (StateMachine,), {**states, **events})()


def state_machine_dot(made: Any) -> str:
    """The DOT of a machine of python-statemachine."""
    from statemachine.contrib.diagram import DotGraphMachine

    return str(DotGraphMachine(made)().to_string())


def drawn(dot: str) -> bytes:
    """An SVG of a DOT text without a layout."""
    import pygraphviz

    svg: bytes = pygraphviz.AGraph(dot).draw(format="svg", prog="dot")
    return svg


def first(saga: Saga) -> Diagram:
    """A diagram without a cache."""
    drawings._results.clear()
    return Diagram(saga)


def contestants(steps: int) -> tuple[dict[str, Callable[[], object]], dict[str, Callable[[], object]]]:
    """The functions that write DOT and the functions that draw SVG. Each is checked to show every transition."""
    shown = saga(steps)
    model, agraph = graph_machine(shown, "graphviz"), graph_machine(shown, "pygraphviz")
    dots: dict[str, Callable[[], Any]] = {
        "ours, first": lambda: first(shown).to_dot(),
        "ours, again": lambda: Diagram(shown).to_dot(),
        "transitions, GraphMachine, graphviz": lambda: model.get_graph(force_new=True).source,
        "transitions, GraphMachine, its default": lambda: agraph.get_graph(force_new=True).to_string(),
    }
    if find_spec("statemachine") and find_spec("pydot"):
        other = state_machine(shown)
        dots["python-statemachine, DotGraphMachine"] = lambda: state_machine_dot(other)
    moves = len(list(shown.machine.moves()))
    for name, dot in dots.items():
        arrows = dot().count("->")
        assert arrows >= moves, f"{name} draws {arrows} of {moves} transitions"
    svgs: dict[str, Callable[[], object]] = {
        "ours, first": lambda: first(shown).to_svg(),
        "ours, again": lambda: Diagram(shown).to_svg(),
    }
    for name, dot in dots.items():
        if not name.startswith("ours"):
            svgs[name] = functools.partial(lambda write: drawn(write()), dot)
    return dots, svgs


def measured(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, Timing]:
    """The microseconds for one call of each function, in turn. A slow function is called only once."""
    samples: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            if samples[name] and samples[name][0] > 0.3e6:
                continue
            started = time.process_time()
            call()
            samples[name].append((time.process_time() - started) * 1e6)
    return {name: Timing(statistics.median(taken), min(taken), max(taken)) for name, taken in samples.items()}


def notebook(steps: int, *, rounds: int) -> str:
    """How long a notebook waits for the picture of a run, after the first picture."""
    shown = saga(steps)
    with Mediator(shown) as mediator:
        outcome = mediator.run(shown, {}, saga_id="shown")
    calls: dict[str, Callable[[], object]] = {
        "a saga": lambda: Diagram(shown)._repr_mimebundle_(),
        "a run": lambda: outcome.diagram()._repr_mimebundle_(),
    }
    assert "image/svg+xml" in outcome.diagram()._repr_mimebundle_()
    taken = measured(calls, rounds)
    told = ", ".join(f"{what} {timing.median / 1e3:.1f} ms" for what, timing in taken.items())
    return f"  {steps:3} steps: {told} (goal: under {GOAL:g} ms)"


def large(rounds: int, figures: Figures) -> str:
    """The time for the first SVG of a run of 40 steps, and of groups of 1,000 branches, without a cache.

    A picture shows 12 of the different branches, and a box that stands for the others.
    """
    shown = saga(40)
    branch = step(name="b")(lambda payload: None)
    alike = Saga("alike", [Parallel.each("g", branch, over=lambda payload: list(range(1000)))])
    unlike = Saga("unlike", [Parallel("g", [branch.named(f"b{number}") for number in range(1000)])])
    with Mediator(shown) as mediator:
        outcome = mediator.run(shown, {}, saga_id="shown")

    def of_a_run() -> str:
        drawings._results.clear()
        return outcome.diagram().to_svg()

    calls: dict[str, Callable[[], object]] = {
        "a run of 40 steps": of_a_run,
        "a group over 1,000 items": lambda: first(alike).to_svg(),
        "a group of 1,000 different branches": lambda: first(unlike).to_svg(),
    }
    lines = ["SVG of large sagas, the first time (milliseconds)"]
    for name, timing in measured(calls, rounds).items():
        figures[f"drawing {name}"] = timing.median / 1e3
        lines.append(f"  {name:44}{timing.median / 1e3:10.1f}")
    return "\n".join(lines)


def run(figures: Figures, *, rounds: int = 15, sizes: tuple[int, ...] = SIZES, everything: bool = False) -> str:
    """Run the selected measurements. Returns the tables."""
    lines = []
    for steps in sizes:
        dots, svgs = contestants(steps)
        lines += [table(f"DOT, {steps} steps", measured(dots, rounds), "ours, first"), ""]
        if steps > LAID_OUT and not everything:
            svgs = {name: svg for name, svg in svgs.items() if name.startswith("ours")}
        lines += [table(f"SVG, {steps} steps", measured(svgs, rounds), "ours, first"), ""]
    if not find_spec("statemachine"):
        lines += ["python-statemachine is not installed: pip install -r benchmarks/rendering.txt", ""]
    lines += [large(rounds, figures), "", "a notebook's repr, after the first"]
    lines += [notebook(steps, rounds=rounds) for steps in sizes]
    return "\n".join(lines)


if __name__ == "__main__":
    print(f"{machine()}, {pin_to_one_core()}\n")
    print(run({}, everything="--all" in sys.argv))
