"""python-statemachine: a class with a state for the execution and a state for the compensation of each step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from itertools import pairwise
from operator import or_
from typing import Any

from statemachine import State, StateMachine

from benchmarks.peers.contestant import Ready, RefusedError, Work, retrying, serve


def class_of(work: Work) -> Callable[[], Any]:
    """The class for a number of steps. Entering a state does the work of the step."""
    names = work.names
    body: dict[str, Any] = {
        "pending": State(initial=True),
        "succeeded": State(final=True),
        "failed": State(final=True),
    }
    for name in names:
        body[f"executing_{name}"] = State(enter=retrying(work.executing(name)))
    for name in names[:-1]:
        body[f"compensating_{name}"] = State(enter=work.compensating(name))
    executing = [body[f"executing_{name}"] for name in names]
    compensating = [body[f"compensating_{name}"] for name in names[:-1]]
    path = [body["pending"], *executing, body["succeeded"]]
    body["advance"] = reduce(or_, (source.to(target) for source, target in pairwise(path)))
    # A step that raises while its state is entered leaves the machine in the state before, that of the last step done.
    back = [*compensating[::-1], body["failed"]]
    undo = [source.to(target) for source, target in pairwise(back)]
    undo += [done.to(undone) for done, undone in zip(executing[:-1], compensating, strict=True)]
    body["undo"] = reduce(or_, undo, body["pending"].to(body["failed"]))
    return type("WorkMachine", (StateMachine,), body)


def prepare(work: Work) -> Ready:
    """One class, and an instance for each run."""
    machine_class = class_of(work)
    moves = range(work.steps + 1)

    def run() -> None:
        machine = machine_class()
        try:
            for _ in moves:
                machine.advance()
        except RefusedError:
            while not machine.is_terminated:
                machine.undo()

    return Ready(run)


def live(count: int) -> Sequence[object]:
    """Instances in their first step."""
    machine_class = class_of(Work(3))

    def begun() -> object:
        machine = machine_class()
        machine.advance()
        return machine

    return [begun() for _ in range(count)]


if __name__ == "__main__":
    serve(prepare, "python-statemachine", live=live)
