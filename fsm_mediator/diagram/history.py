"""Runs: what a diagram shows of an execution and of its branches, and how it stood at every moment. Draws nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final

import attrs

from fsm_mediator.definition.saga import Saga
from fsm_mediator.definition.waits import EACH
from fsm_mediator.diagram.highlights import marks_of
from fsm_mediator.diagram.picture import DETAIL, Picture, picture_of
from fsm_mediator.machine.machine import CompiledMachine
from fsm_mediator.records import Record

MOST_BRANCHES: Final = 12
"""Of a group that goes over items: for how many of a run's items a machine is drawn."""


@attrs.frozen(kw_only=True, eq=False)
class Run:
    """What a diagram shows of an execution.

    Attributes:
        saga_id: The execution.
        state: Where it stands.
        records: Its records so far.
        branches: The runs of its groups' branches, by the group's path and the branch's name: ``fulfil.pack``. None:
            nothing is known of them, and they are not shown.
        number: Where the diagram is a frame: how many records there are so far, those of branches included.
        total: How many there are in all, where the diagram is a frame; else None.
        latest: The newest record, where the diagram is a frame; it may be a branch's.
    """

    saga_id: str
    state: str
    records: tuple[Record, ...]
    branches: Mapping[str, Run] | None = None
    number: int = 0
    total: int | None = None
    latest: Record | None = None


NOWHERE: Final = Run(saga_id="", state="", records=(), branches={})
"""The run of a branch that was never begun."""

_Place = tuple[str, ...]
"""Of which branch of which branch."""


def moments(run: Run) -> list[Run]:
    """The run record by record, from before the first to what it is now; branches by the time of their records."""
    told = sorted(_words(run, ()), key=lambda each: (each[0], len(each[1])))
    frames = []
    taken: Counter[_Place] = Counter()
    for number in range(len(told) + 1):
        latest = None
        if number:
            _, place, latest = told[number - 1]
            taken[place] += 1
        frame = run if number == len(told) else _as_of(run, (), taken)
        frames.append(attrs.evolve(frame, number=number, total=len(told), latest=latest))
    return frames


def _words(run: Run, place: _Place) -> Iterator[tuple[float, _Place, Record]]:
    for record in run.records:
        yield record.at, place, record
    for name, branch in (run.branches or {}).items():
        yield from _words(branch, (*place, name))


def _as_of(run: Run, place: _Place, taken: Mapping[_Place, int]) -> Run:
    """The run when of each branch so many records were there; a branch of which none was stands nowhere."""
    count = taken.get(place, 0)
    records = run.records[:count]
    branches = None
    if run.branches is not None:
        branches = {name: _as_of(branch, (*place, name), taken) for name, branch in run.branches.items()}
    if count == len(run.records) and (count or not place):
        state = run.state
    elif records:
        state = records[-1].target
    else:
        state = run.records[0].source if not place else ""
    return attrs.evolve(run, records=records, state=state, branches=branches)


def machine_of(saga: Saga, run: Run) -> CompiledMachine:
    """The machine that knows every state of the run: wider than the saga's own if its settings were others then."""
    for state in (run.state, *(record.target for record in run.records)):
        if state not in saga.machine.states:
            return saga.machine_with(state) or saga.machine
    return saga.machine


def branches_of(saga: Saga, run: Run | None, view: str, prefix: str = "") -> list[Picture]:
    """The pictures of the machines that the saga's groups and choices run; with *run*, of what became of them.

    A group that goes over items has one machine; in a run, one for each item, as far as there is room.
    """
    if run is not None and run.branches is None:
        return []
    pictures = []
    for path, branches in saga.branches.items():
        for name, branch in branches.items():
            for called, each in list(_begun(path, name, run).items())[:MOST_BRANCHES]:
                heading = f"{prefix}{path} / {'each item' if called == EACH else called}"
                pictures.append(_branch(branch, each, view, heading, f"{prefix}{path}.{called}/"))
    return pictures


def _begun(path: str, name: str, run: Run | None) -> dict[str, Run | None]:
    """The runs of a branch by name: one, or as many as there are items."""
    if run is None or run.branches is None:
        return {name: None}
    begun = {key[len(path) + 1 :]: each for key, each in run.branches.items() if key.startswith(f"{path}.")}
    if name == EACH and begun:
        return dict(sorted(begun.items(), key=lambda item: (len(item[0]), item[0])))  # 2 before 10
    return {name: begun.get(name, NOWHERE)}


def _branch(saga: Saga, run: Run | None, view: str, heading: str, prefix: str) -> Picture:
    machine = saga.machine if run is None else machine_of(saga, run)
    marks = None
    if run is not None:
        marks = marks_of(machine, run.records, run.state, overview=view != DETAIL) if run.state else {}
    return picture_of(
        machine,
        name=saga.name,
        heading=heading,
        view=view,
        marks=marks,
        children=branches_of(saga, run, view, prefix),
        prefix=prefix,
    )
