"""Picture: what a diagram shows, without a word on how it is drawn; extracted from a built machine.

Nodes and edges are the machine's states and moves, small print comes from the effect that is bound to a state's entry,
marks from a run's records. No list of steps is read, so that a picture cannot drift from what runs. Coordinates,
colours and formats must never enter this file.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

import msgspec

from fsm_mediator.diagram.highlights import NEVER, Mark
from fsm_mediator.diagram.labels import PHASE_WORDS, caption, count, in_full, notes
from fsm_mediator.diagram.text import listed
from fsm_mediator.machine.machine import CompiledMachine
from fsm_mediator.machine.parts import Effect, Kind
from fsm_mediator.machine.table import Transition
from fsm_mediator.states import COMPENSATING, EVENTS, EXECUTING, PHASES, WAITING, name_of

DETAIL: Final = "detail"
OVERVIEW: Final = "overview"
VIEWS: Final = (DETAIL, OVERVIEW, "steps")

MOST_LISTED: Final = 60
"""Characters of a phase's list of parts."""


class EdgeKind(enum.StrEnum):
    """What sort of move an edge is; decides how it looks."""

    FORWARD = "forward"
    LOOP = "loop"
    ASKED = "asked"
    GIVEN_UP = "given-up"
    IN_DOUBT = "in-doubt"
    BACKWARD = "backward"
    PERSON = "person"


EDGES: Final[dict[str, tuple[str, EdgeKind]]] = {
    "start": ("start", EdgeKind.FORWARD),
    "executed": ("executed", EdgeKind.FORWARD),
    "errored": ("errored", EdgeKind.LOOP),
    "unsure": ("unsure", EdgeKind.ASKED),
    "retry_due": ("retry due", EdgeKind.LOOP),
    "rejected": ("rejected", EdgeKind.GIVEN_UP),
    "in_doubt": ("in doubt", EdgeKind.IN_DOUBT),
    "exhausted": ("exhausted", EdgeKind.GIVEN_UP),
    "compensated": ("compensated", EdgeKind.BACKWARD),
    "compensation_errored": ("errored", EdgeKind.LOOP),
    "compensation_due": ("retry due", EdgeKind.LOOP),
    "compensation_exhausted": ("exhausted", EdgeKind.GIVEN_UP),
    "retry": ("retry", EdgeKind.PERSON),
    "settled_undone": ("settled undone", EdgeKind.PERSON),
    "settled_done": ("settled done", EdgeKind.PERSON),
    "undo": ("undo", EdgeKind.PERSON),
}
"""Every event: what an edge says, and what sort of move it is."""

assert EDGES.keys() == EVENTS.keys()


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """One state; in an overview, all states of one phase.

    Attributes:
        id: The state's name; in an overview the phase; in a child's machine after the child's name and a slash.
        phase: What is done in it.
        path: The part it belongs to; empty for none.
        scope: The path of the nested saga that the part is in; empty at the top.
        kind: What sort of part.
        caption: What is done, in words: ``executing · pivot``.
        title: What it is done to: the part's own name; empty where the caption says it all.
        notes: The small print, a line each.
        tooltip: Everything, for those who point at it.
        pivot: Whether the part is the go/no-go step.
        forward_only: Whether the part is the pivot or comes after it.
        ended: Whether nothing follows by itself.
        mark: What a run did here; None in the picture of no run.
    """

    id: str
    phase: str
    path: str = ""
    scope: str = ""
    kind: Kind | None = None
    caption: str
    title: str = ""
    notes: tuple[str, ...] = ()
    tooltip: str = ""
    pivot: bool = False
    forward_only: bool = False
    ended: bool = False
    mark: Mark | None = None


class Edge(msgspec.Struct, frozen=True, kw_only=True):
    """One transition; in an overview, all those of one event between two phases.

    Attributes:
        event: The machine's event.
        source: The id of the node it leaves.
        target: The id of the node it enters.
        moves: The machine's transitions that it shows.
        label: The event in words.
        nature: What sort of move it is.
        tooltip: Everything, for those who point at it.
        mark: What a run did here; None in the picture of no run.
    """

    event: str
    source: str
    target: str
    moves: tuple[Transition, ...]
    label: str
    nature: EdgeKind
    tooltip: str = ""
    mark: Mark | None = None


class Cluster(msgspec.Struct, frozen=True, kw_only=True):
    """A nested saga: a frame around the nodes of its parts.

    Attributes:
        path: Its path: ``shipping.packing``.
        label: Its own name.
        nodes: The ids of the nodes right inside it, not in a frame within.
        clusters: The frames within.
    """

    path: str
    label: str
    nodes: tuple[str, ...] = ()
    clusters: tuple[Cluster, ...] = ()


class Picture(msgspec.Struct, frozen=True, kw_only=True):
    """What a diagram shows.

    Attributes:
        name: The saga's name.
        heading: The title.
        subheading: A line or two below it.
        view: ``detail`` or ``overview``.
        nodes: In the machine's order.
        edges: Likewise.
        clusters: The nested sagas, in order.
        children: The pictures of the machines that a group's or a choice's parts run.
        prefix: What stands before every id: of which child, of which group, it is the picture.
        is_run: Whether it marks a run.
        alt: The machine, or the run, in a sentence: for those who cannot see it.
    """

    name: str
    heading: str
    subheading: tuple[str, ...] = ()
    view: str
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    clusters: tuple[Cluster, ...] = ()
    children: tuple[Picture, ...] = ()
    prefix: str = ""
    is_run: bool = False
    alt: str = ""

    def all_nodes(self) -> Iterator[Node]:
        """Its nodes, and then its children's."""
        yield from self.nodes
        for child in self.children:
            yield from child.all_nodes()

    def all_edges(self) -> Iterator[Edge]:
        """Its edges, and then its children's."""
        yield from self.edges
        for child in self.children:
            yield from child.all_edges()


def picture_of(
    machine: CompiledMachine,
    *,
    name: str,
    heading: str = "",
    subheading: tuple[str, ...] = (),
    view: str = DETAIL,
    marks: Mapping[object, Mark] | None = None,
    alt: str = "",
    children: Sequence[Picture] = (),
    prefix: str = "",
) -> Picture:
    """The picture of *machine*.

    Args:
        machine: As it is built.
        name: The saga's name.
        heading: The title; by default the name.
        subheading: Lines below it.
        view: ``detail`` shows every state, ``overview`` the phases.
        marks: What a run did, by node and by (event, source, target); None: no run.
        alt: The run in a sentence; by default the machine is described.
        children: The pictures of the machines that its groups and choices run.
        prefix: Put before every id.
    """
    overview = view == OVERVIEW
    nodes = list(_phases(machine, prefix, marks) if overview else _states(machine, prefix, marks))
    edges = list(_bundles(machine, prefix, marks) if overview else _moves(machine, prefix, marks))
    return Picture(
        name=name,
        heading=heading or name,
        subheading=subheading,
        view=view,
        nodes=tuple(nodes),
        edges=tuple(edges),
        clusters=() if overview else _clusters(nodes),
        children=tuple(children),
        prefix=prefix,
        is_run=marks is not None,
        alt=alt or describe(machine, name),
    )


def describe(machine: CompiledMachine, name: str) -> str:
    """The machine in a sentence or two."""
    back = [part.path for part in machine.parts if part.compensatable]
    pivot = next((part.path for part in machine.parts if part.pivot), None)
    told = [f"State machine of the saga {name}: {', then '.join(part.path for part in machine.parts)}, then succeeded."]
    if pivot is not None:
        told.append(f"After the pivot {pivot} it only goes forward.")
    if back:
        told.append(f"What fails{' before it' if pivot else ''} compensates {', then '.join(reversed(back))}: failed.")
    return " ".join(told)


def _states(machine: CompiledMachine, prefix: str, marks: Mapping[object, Mark] | None) -> Iterable[Node]:
    for state, place in machine.places.items():
        phase, part = place
        mark = None if marks is None else marks.get(state, NEVER)
        if part is None:
            yield Node(
                id=prefix + state,
                phase=phase,
                caption=PHASE_WORDS[phase],
                tooltip=f"{state}{_words(mark)}",
                ended=machine.states[state].final,
                mark=mark,
            )
            continue
        bound = machine.states[state].on_enter[0]
        callback = bound.callback if isinstance(bound, Effect) else None
        yield Node(
            id=prefix + state,
            phase=phase,
            path=part.path,
            scope=part.scope,
            kind=part.kind,
            caption=caption(phase, part),
            title=part.path[len(part.scope) :],
            notes=notes(phase, part, callback),
            tooltip=f"{state}{in_full(phase, part, callback)}{_words(mark)}",
            pivot=part.pivot,
            forward_only=part.pivot or part.forward_only,
            mark=mark,
        )


def _moves(machine: CompiledMachine, prefix: str, marks: Mapping[object, Mark] | None) -> Iterable[Edge]:
    for move in machine.moves():
        event, source, target = move
        label, nature = EDGES[event]
        mark = None if marks is None else marks.get((event, source, target), NEVER)
        yield Edge(
            event=event,
            source=prefix + source,
            target=prefix + target,
            moves=(move,),
            label=label,
            nature=nature,
            tooltip=f"{event}: {source} → {target}\n{EVENTS[event]}{_words(mark)}",
            mark=mark,
        )


def _phases(machine: CompiledMachine, prefix: str, marks: Mapping[object, Mark] | None) -> Iterable[Node]:
    found: dict[str, list[str]] = {}
    for state, place in machine.places.items():
        found.setdefault(place.phase, []).append(state)
    for phase in PHASES:
        if phase not in found:
            continue
        mark = None if marks is None else marks.get(phase, NEVER)
        paths = [part.path for part in (machine.places[state].part for state in found[phase]) if part is not None]
        lists = phase in (EXECUTING, WAITING, COMPENSATING)
        yield Node(
            id=prefix + phase,
            phase=phase,
            caption=PHASE_WORDS[phase],
            title=count(phase, paths) if lists else "",
            notes=((listed(paths, MOST_LISTED) if lists else count(phase, paths)),) if paths else (),
            tooltip=f"{', '.join(found[phase])}{_words(mark)}",
            ended=any(machine.states[state].final for state in found[phase]),
            mark=mark,
        )


def _bundles(machine: CompiledMachine, prefix: str, marks: Mapping[object, Mark] | None) -> Iterable[Edge]:
    bundles: dict[tuple[str, str, str], list[Transition]] = {}
    for move in machine.moves():
        between = (move.event, machine.places[move.source].phase, machine.places[move.target].phase)
        bundles.setdefault(between, []).append(move)
    for between, moves in bundles.items():
        event, source, target = between
        label, nature = EDGES[event]
        mark = None if marks is None else marks.get(between, NEVER)
        listed = "\n".join(f"{move.source} → {move.target}" for move in moves)
        yield Edge(
            event=event,
            source=prefix + source,
            target=prefix + target,
            moves=tuple(moves),
            label=label,
            nature=nature,
            tooltip=f"{event}: {EVENTS[event]}\n{listed}{_words(mark)}",
            mark=mark,
        )


def _clusters(nodes: Sequence[Node]) -> tuple[Cluster, ...]:
    """The frames of nested sagas, from the scopes of the nodes."""
    inside: dict[str, list[str]] = {}
    for node in nodes:
        names = node.scope.split(".")[:-1]
        for depth in range(len(names)):
            inside.setdefault(".".join(names[: depth + 1]), [])
        if names:
            inside[".".join(names)].append(node.id)

    def frame(path: str) -> Cluster:
        return Cluster(
            path=path,
            label=name_of(path),
            nodes=tuple(inside[path]),
            clusters=tuple(frame(inner) for inner in inside if inner.rpartition(".")[0] == path),
        )

    return tuple(frame(path) for path in inside if "." not in path)


def _words(mark: Mark | None) -> str:
    return "" if mark is None or not mark.reached else "\n" + "\n".join(mark.told())
