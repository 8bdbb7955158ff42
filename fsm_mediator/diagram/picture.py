"""The content of a picture in the detail view, extracted from a built machine: nodes, edges and marks.

Nodes and edges are the machine's states and transitions. The small print of a node comes from the effect that its
state has on entry. Marks come from a run's records. The list of steps is not read, so a picture cannot drift from the
machine. Coordinates, colours and formats must never enter this file.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Final, Literal, get_args

import msgspec

from fsm_mediator.diagram.highlights import NEVER, Highlight, Marks
from fsm_mediator.diagram.labels import caption, in_full, notes
from fsm_mediator.errors import DefinitionError
from fsm_mediator.machine.machine import CompiledMachine
from fsm_mediator.machine.parts import Effect
from fsm_mediator.states import (
    COMPENSATING,
    EVENTS,
    PROBING,
    RETRYING,
    RETRYING_COMPENSATION,
    STUCK,
    STUCK_PHASES,
    name_of,
    outer_path,
    scopes_of,
)

View = Literal["steps", "detail"]
"""The names of the views: ``steps`` has one box for each step, and ``detail`` has a box for each state."""

STEPS: Final = "steps"
DETAIL: Final = "detail"
VIEWS: Final[tuple[View, ...]] = (STEPS, DETAIL)


def check_view(view: str) -> View:
    """Return *view* if it is the name of a view.

    Raises:
        DefinitionError: There is no such view.
    """
    if view == "overview":
        raise DefinitionError('the view overview was removed; view="steps" shows a saga at a glance')
    for known in VIEWS:
        if view == known:
            return known
    raise DefinitionError(f"there is no view {view!r}; there are {', '.join(VIEWS)}")


Hidden = Literal["stuck", "retrying", "undo", "unreached"]
"""The names of the elements that can be left out of a picture. See `Diagram`."""

HIDDEN: Final[frozenset[Hidden]] = frozenset(get_args(Hidden))


class EdgeKind(enum.StrEnum):
    """The kind of transition that an edge shows. The kind determines the look of the edge."""

    FORWARD = "forward"
    LOOP = "loop"
    ASKED = "asked"
    FAILURE = "given-up"
    IN_DOUBT = "in-doubt"
    BACKWARD = "backward"
    PERSON = "person"


EDGES: Final[dict[str, tuple[str, EdgeKind]]] = {
    "start": ("start", EdgeKind.FORWARD),
    "executed": ("executed", EdgeKind.FORWARD),
    "errored": ("errored", EdgeKind.LOOP),
    "unsure": ("unsure", EdgeKind.ASKED),
    "retry_due": ("retry due", EdgeKind.LOOP),
    "rejected": ("given up", EdgeKind.FAILURE),
    "in_doubt": ("in doubt", EdgeKind.IN_DOUBT),
    "exhausted": ("exhausted", EdgeKind.FAILURE),
    "compensated": ("compensated", EdgeKind.BACKWARD),
    "compensation_errored": ("errored", EdgeKind.LOOP),
    "compensation_due": ("retry due", EdgeKind.LOOP),
    "compensation_exhausted": ("exhausted", EdgeKind.FAILURE),
    "retry": ("retry", EdgeKind.PERSON),
    "settled_undone": ("settled undone", EdgeKind.PERSON),
    "settled_done": ("settled done", EdgeKind.PERSON),
    "undo": ("undo", EdgeKind.PERSON),
}
"""For each event, the label and the kind of the edges that show its transitions."""

assert EDGES.keys() == EVENTS.keys()


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """The base class of nodes and edges."""

    tooltip: str = ""  # the text that is shown if the reader points at the element
    mark: Highlight | None = None  # the run's mark. None if the picture shows no run

    @property
    def reached(self) -> bool:
        """Whether the picture shows a run, and the run reached this node or took this edge."""
        return self.mark is not None and self.mark.reached

    @property
    def pale(self) -> bool:
        """Whether the picture shows a run, and the run never reached this node or never took this edge."""
        return self.mark is not None and not self.mark.reached


class Node(Shown, frozen=True, kw_only=True):
    """A node of the picture. It shows one state of the machine."""

    id: str  # the prefix of the branch, followed by the name of the state
    phase: str
    path: str = ""  # the path of the part that the state belongs to. Empty for the start and the ends
    scope: str = ""  # the path of the nested saga that contains the part. Empty if there is none
    caption: str  # the phase in words: ``executing · pivot``
    title: str = ""  # the part's own name. Empty for the start and the ends
    notes: tuple[str, ...] = ()  # the lines of small print
    pivot: bool = False  # whether the part is the pivot
    forward_only: bool = False  # whether the part is the pivot or comes after it
    ended: bool = False  # whether the state is final
    numbers: str = ""  # the statistics of many runs, as text
    level: int | None = None  # the index of the node's colour in `Theme.ramp`, for statistics. None for no colour
    rest: int = 0  # if the node stands for branches that are left out of the picture: the number of these branches


class Edge(Shown, frozen=True, kw_only=True):
    """An edge of the picture. It shows one transition of the machine."""

    event: str
    source: str  # the id of the node at which it starts
    target: str  # the id of the node at which it ends
    label: str  # the event in words
    kind: EdgeKind
    share: float | None = None  # how often many runs took the edge, divided by the largest such count. None if unknown


class Cluster(msgspec.Struct, frozen=True, kw_only=True):
    """A nested saga. The picture shows a frame around the nodes of its parts."""

    path: str  # the path of the nested saga: ``shipping.packing``
    label: str
    nodes: tuple[str, ...] = ()  # the ids of its nodes, except the nodes in an inner cluster
    clusters: tuple[Cluster, ...] = ()  # the nested sagas inside this one


class Picture(msgspec.Struct, frozen=True, kw_only=True):
    """The content of a picture in the detail view. It shows the machine of a saga or of a branch."""

    name: str  # the saga's name
    heading: str  # the title
    subheading: tuple[str, ...] = ()  # the lines below the title
    nodes: tuple[Node, ...]  # the nodes in the machine's order
    edges: tuple[Edge, ...]  # the edges in the machine's order
    clusters: tuple[Cluster, ...] = ()  # the outermost nested sagas, in the machine's order
    children: tuple[Picture, ...] = ()  # the pictures of the branches of groups and choices
    prefix: str = ""  # the text before every id: the path of the branch and a slash, empty at the top
    group: str = ""  # for a branch, the path of its group in the machine around it
    is_run: bool = False  # whether the picture shows a run
    alt: str = ""  # the alternative text: the machine, or the run, in one or two sentences
    numbers: tuple[str, str] | None = None  # the meaning of the statistics, and of the signs in them. None without them
    scale: tuple[str, ...] = ()  # the meaning of each colour of the ramp. The palest colour is first

    def without(self, hide: Collection[str]) -> Picture:
        """A copy of the picture without the kinds of elements in *hide*. See the attribute `Diagram.hide`.

        The ends and the first part are always shown.
        """
        if not hide:
            return self
        undone = {node.path for node in self.nodes if node.phase == COMPENSATING}
        first = next(node for node in self.nodes if node.path)
        nodes = tuple(node for node in self.nodes if node is first or not _is_hidden(node, hide, undone))
        ids = {node.id for node in nodes}
        bare = "unreached" in hide
        edges = (each for each in self.edges if {each.source, each.target} <= ids and not (bare and each.pale))
        shown = tuple(
            child.without(hide) for child in self.children if not bare or any(node.reached for node in child.nodes)
        )
        return msgspec.structs.replace(
            self,
            nodes=nodes,
            edges=tuple(edges),
            clusters=_clusters(nodes),
            children=tuple(child.without(hide) for child in shown),
        )

    @property
    def is_rest(self) -> bool:
        """Whether this picture shows no machine, but has a single node for the branches that are left out."""
        return self.nodes[0].rest > 0

    def all_nodes(self) -> Iterator[Node]:
        """The nodes of this picture, then the nodes of the branches' pictures."""
        yield from self.nodes
        for child in self.children:
            yield from child.all_nodes()

    def all_edges(self) -> Iterator[Edge]:
        """The edges of this picture, then the edges of the branches' pictures."""
        yield from self.edges
        for child in self.children:
            yield from child.all_edges()


def _is_hidden(node: Node, hide: Collection[str], undone: Collection[str]) -> bool:
    """Whether *node* belongs to one of the kinds of elements in *hide*.

    *undone* has the paths of the parts that can be compensated.
    """
    of_undo = node.phase in (COMPENSATING, RETRYING_COMPENSATION) or (node.phase == STUCK and node.path in undone)
    return (
        ("stuck" in hide and node.phase in STUCK_PHASES)
        or ("retrying" in hide and node.phase in (RETRYING, PROBING, RETRYING_COMPENSATION))
        or ("undo" in hide and of_undo)
        or ("unreached" in hide and node.pale and bool(node.path))
    )


def picture_of(machine: CompiledMachine, name: str, *, marks: Marks | None = None, prefix: str = "") -> Picture:
    """The picture of *machine*, which belongs to the saga *name*.

    Args:
        machine: The built machine.
        name: The saga's name.
        marks: The marks of a run, by node and by (event, source, target). None for no run.
        prefix: The text before every id.
    """
    nodes = tuple(_states(machine, prefix, marks))
    return Picture(
        name=name,
        heading=name,
        nodes=nodes,
        edges=tuple(_edges(machine, prefix, marks)),
        clusters=_clusters(nodes),
        prefix=prefix,
        is_run=marks is not None,
        alt=describe(machine, name),
    )


def describe(machine: CompiledMachine, name: str) -> str:
    """One to three sentences that describe the machine of the saga *name*, for an alternative text."""
    paths = [part.path for part in machine.parts]
    back = [part.path for part in reversed(machine.parts) if part.compensatable]
    pivot = next((part.path for part in machine.parts if part.pivot), None)
    sentences = [f"State machine of the saga {name}: {', then '.join(paths)}, then succeeded."]
    if pivot is not None:
        sentences.append(f"After the pivot {pivot} it only goes forward.")
    if back:
        before = " before it" if pivot else ""
        sentences.append(f"What fails{before} compensates {', then '.join(back)}: failed.")
    return " ".join(sentences)


def _states(machine: CompiledMachine, prefix: str, marks: Marks | None) -> Iterable[Node]:
    for state, (phase, part) in machine.places.items():
        mark = _mark(marks, state)
        tooltip = _with_mark(state, mark)
        if part is None:
            ended = machine.states[state].final
            yield Node(id=prefix + state, phase=phase, caption=phase, tooltip=tooltip, ended=ended, mark=mark)
            continue
        bound = machine.states[state].on_enter[0]
        callback = bound.callback if isinstance(bound, Effect) else None
        yield Node(
            id=prefix + state,
            phase=phase,
            path=part.path,
            scope=part.scope,
            caption=caption(phase, part),
            title=getattr(part.subject, "label", None) or part.path[len(part.scope) :],
            notes=notes(phase, part, callback),
            tooltip=_with_mark(state + in_full(phase, part, callback), mark),
            pivot=part.pivot,
            forward_only=part.pivot or part.forward_only,
            mark=mark,
        )


def _edges(machine: CompiledMachine, prefix: str, marks: Marks | None) -> Iterable[Edge]:
    for move in machine.moves():
        event, source, target = move
        label, kind = EDGES[event]
        mark = _mark(marks, (event, source, target))
        yield Edge(
            event=event,
            source=prefix + source,
            target=prefix + target,
            label=label,
            kind=kind,
            tooltip=_with_mark(f"{event}: {source} → {target}\n{EVENTS[event]}", mark),
            mark=mark,
        )


def _clusters(nodes: Sequence[Node]) -> tuple[Cluster, ...]:
    """The outermost nested sagas that contain *nodes*, found from `Node.scope`."""
    inside: dict[str, list[str]] = {}
    for node in nodes:
        scopes = scopes_of(node.scope)
        for scope in scopes:
            inside.setdefault(scope, [])
        if scopes:
            inside[scopes[-1]].append(node.id)

    def frame(path: str) -> Cluster:
        return Cluster(
            path=path,
            label=name_of(path),
            nodes=tuple(inside[path]),
            clusters=tuple(frame(inner) for inner in inside if outer_path(inner) == path),
        )

    return tuple(frame(path) for path in inside if not outer_path(path))


def _mark(marks: Marks | None, key: object) -> Highlight | None:
    return None if marks is None else marks.get(key, NEVER)


def _with_mark(tooltip: str, mark: Highlight | None) -> str:
    return tooltip if mark is None or not mark.reached else tooltip + "\n" + "\n".join(mark.lines())
