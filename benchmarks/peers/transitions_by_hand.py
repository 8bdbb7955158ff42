"""`transitions` by hand: one machine for all runs, with callbacks on its states, and a bare object for each run.

This is the fastest use of the unchanged library that we know: ``events[...].trigger`` on a slotted object. A machine
for each run would cost ten times as much.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from transitions import Machine

from benchmarks.peers.contestant import ATTEMPTS, Ready, RefusedError, Work, serve

ENDED = frozenset({"succeeded", "failed"})


class Run:
    """The data of one saga: its state, its number of attempts, and whether its last step failed."""

    __slots__ = ("attempts", "failed", "state")

    def __init__(self) -> None:
        self.state = "pending"
        self.attempts = 0
        self.failed = False


def machine_of(work: Work) -> Machine:
    """States for the execution and the compensation of each step.

    The callbacks that run on entering a state do the work.
    """
    names = work.names

    def executing(name: str) -> Callable[[Run], None]:
        execute = work.executing(name)

        def entered(run: Run) -> None:
            run.attempts += 1
            try:
                execute()
            except RefusedError:
                run.failed = True
            else:
                run.failed = False
                run.attempts = 0

        return entered

    def compensating(name: str) -> Callable[[Run], None]:
        compensate = work.compensating(name)

        def entered(run: Run) -> None:
            compensate()

        return entered

    states: list[dict[str, Any]] = [{"name": state} for state in ("pending", "succeeded", "failed")]
    table: list[list[str]] = [["start", "pending", f"executing.{names[0]}"]]
    for index, name in enumerate(names):
        # `on_enter` calls with the arguments of the trigger: the run is handed over.
        states.append({"name": f"executing.{name}", "on_enter": executing(name)})
        forward = f"executing.{names[index + 1]}" if index + 1 < len(names) else "succeeded"
        back = f"compensating.{names[index - 1]}" if index else "failed"
        table.append(["executed", f"executing.{name}", forward])
        table.append(["again", f"executing.{name}", f"executing.{name}"])
        table.append(["rejected", f"executing.{name}", back])
        if index + 1 < len(names):
            states.append({"name": f"compensating.{name}", "on_enter": compensating(name)})
            table.append(["compensated", f"compensating.{name}", back])
    return Machine(model=None, states=states, transitions=table, initial="pending", auto_transitions=False)


def prepare(work: Work) -> Ready:
    """One machine, and a new object for each run."""
    events = machine_of(work).events
    start, executed, again = events["start"].trigger, events["executed"].trigger, events["again"].trigger
    rejected, compensated = events["rejected"].trigger, events["compensated"].trigger if work.steps > 1 else None
    ended = "failed" if work.fails else "succeeded"

    def run() -> None:
        one = Run()
        start(one, one)
        while one.state not in ENDED:
            if one.state.startswith("compensating"):
                assert compensated is not None
                compensated(one, one)
            elif not one.failed:
                executed(one, one)
            elif one.attempts < ATTEMPTS:
                again(one, one)
            else:
                rejected(one, one)
        assert one.state == ended

    return Ready(run)


def live(count: int) -> Sequence[object]:
    """Objects that have a state."""
    return [Run() for _ in range(count)]


if __name__ == "__main__":
    serve(prepare, "transitions", live=live)
