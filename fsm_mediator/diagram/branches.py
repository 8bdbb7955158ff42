"""The picture of a saga in the detail view: its machine, the machines of its branches, and the marks of a run.

Each branch of a group or choice has its own machine. `picture` extracts the content of one machine; this module joins
the machines, and leaves out branches of large groups.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec

from fsm_mediator.definition.saga import Saga
from fsm_mediator.definition.waits import EACH
from fsm_mediator.diagram.folding import REST, folded, ranges, rank_of, rest_title, rest_tooltip
from fsm_mediator.diagram.highlights import Highlight, marks_of
from fsm_mediator.diagram.history import NOT_BEGUN, Run, machine_of
from fsm_mediator.diagram.picture import Node, Picture, picture_of
from fsm_mediator.diagram.progress import StepState, became
from fsm_mediator.states import EXECUTING, WAITING, is_within, path_within


def saga_picture(
    saga: Saga,
    run: Run | None,
    *,
    prefix: str = "",
    heading: str = "",
    about: tuple[str, ...] = (),
    most: int | None = None,
) -> Picture:
    """The picture of a saga's machine and of its branches, with the marks of *run*.

    Args:
        saga: The definition.
        run: The run that is marked. None for no run.
        prefix: The text before every id, for a branch.
        heading: The title, for a branch.
        about: The lines below the title.
        most: The maximum number of pictures for the branches of each group and choice. None for all branches.
    """
    machine, marks = saga.machine, None
    if run is not None:
        machine = machine_of(saga, run)
        known = run.state or run.records
        marks = marks_of(machine, run.records, run.state) if known else {}
        for path in saga.branches if run.branches is not None else ():
            if waiting := marks.get(f"{WAITING}.{path}"):
                waiting.branches = _counted(
                    each for name, each in (run.branches or {}).items() if is_within(name, path)
                )
    picture = picture_of(machine, saga.name, marks=marks, prefix=prefix)
    alt, heading = picture.alt, heading or saga.name
    if run is not None and not prefix:
        heading, alt = f"{saga.name} · {run.saga_id}", f"Run {run.saga_id} of the saga {saga.name}: {about[0]}."
    children = tuple(_branches(saga, run, prefix, most))
    return msgspec.structs.replace(picture, heading=heading, subheading=about, alt=alt, children=children)


def _counted(branches: Iterable[Run]) -> str:
    """The number of branches in each state, as text: ``1 stuck · 2 done``."""
    counts = Counter(map(became, branches))
    return " · ".join(f"{counts[state]} {state}" for state in StepState if state in counts)


def _branches(saga: Saga, run: Run | None, prefix: str, most: int | None) -> Iterator[Picture]:
    """Yield the pictures of the branches of all groups and choices.

    Items of a group with the same transitions share one picture, whose title has the number of these items. The last
    picture of a group stands for the branches that are left out, if there are more than *most* pictures.
    """
    if run is not None and run.branches is None:
        return
    for path, branches in saga.branches.items():
        begun = _begun_in(path, run)
        every: list[_Alike] = []
        for name, branch in branches.items():
            alike: dict[object, _Alike] = {}
            for item, inner in _started_branches(name, run, begun).items():
                same = alike.setdefault(inner and inner.course, _Alike(branch, inner, [], []))
                same.items.append(item)
                same.runs.append(inner)
            every += alike.values()
        shown, rest = folded(every, most, lambda same: 0 if same.run is None else rank_of(same.run))
        for same in shown:
            item, more = same.items[0], len(same.items) - 1
            heading = f"{prefix}{path} / {'each item' if item == EACH else item}"
            heading += f" and {more} more like it" if more else ""
            inside = saga_picture(same.saga, same.run, prefix=f"{prefix}{path}.{item}/", heading=heading, most=most)
            yield msgspec.structs.replace(inside, group=path)
        if rest:
            yield _rest(path, prefix, every, rest)


class _Alike(NamedTuple):
    """Branches of a group that share a picture."""

    saga: Saga
    run: Run | None  # the run of the first branch. None if the picture shows no run
    items: list[str]  # the names of the branches, or the indexes of the items
    runs: list[Run | None]


def _rest(path: str, prefix: str, every: Sequence[_Alike], rest: Sequence[_Alike]) -> Picture:
    """A picture with a single node, which stands for the branches *rest* of the group *path*.

    *every* has all branches of the group.
    """
    left_out = {item for same in rest for item in same.items}
    # Items that share a picture need not be neighbours, so the names are put into the order of the items.
    names = [item for same in every for item in same.items]
    if all(map(str.isdecimal, names)):
        names.sort(key=int)
    runs = [run for same in rest for run in same.runs if run is not None]
    mark = Highlight(reached=any(run.state for run in runs), branches=_counted(runs)) if runs else None
    tooltip, title = rest_tooltip(path, names, left_out), rest_title(len(left_out))
    inner = f"{prefix}{path}.{REST}/"
    node = Node(
        id=inner + REST,
        phase=EXECUTING,
        path=REST,
        caption="not drawn",
        title=title,
        notes=(ranges(names, left_out),),
        tooltip=tooltip if mark is None or not mark.branches else f"{tooltip}\n{mark.branches}",
        mark=mark,
        rest=len(left_out),
    )
    heading = f"{prefix}{path} / {title}"
    return Picture(name=title, heading=heading, nodes=(node,), edges=(), prefix=inner, group=path, is_run=bool(runs))


def _begun_in(path: str, run: Run | None) -> dict[str, Run]:
    """The runs of the branches in the group *path*, by name of the branch or index of the item."""
    known = {} if run is None or run.branches is None else run.branches
    return {path_within(key, path): each for key, each in known.items() if is_within(key, path)}


def _started_branches(name: str, run: Run | None, begun: Mapping[str, Run]) -> Mapping[str, Run | None]:
    """The runs of the branch *name*, by name of the branch or index of the item.

    The run is None if the picture shows no run. *begun* has the runs of all branches of the group.
    """
    if run is None:
        return {name: None}
    if name == EACH and begun:
        return dict(sorted(begun.items(), key=lambda item: (len(item[0]), item[0])))  # item 2 comes before item 10
    return {name: begun.get(name, NOT_BEGUN)}
