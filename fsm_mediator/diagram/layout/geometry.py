"""Geometry that both views share: boxes, the room that a node's text takes, routes and the labels beside them.

Coordinates are points, y downwards.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

import attrs

from fsm_mediator.diagram.picture import MOST_LISTED, Cluster, Edge, Node, Picture
from fsm_mediator.diagram.text import numbers, shorten, width
from fsm_mediator.states import EXECUTING, PROBING, RETRYING, RETRYING_COMPENSATION, STUCK, STUCK_EXECUTING

Point = tuple[float, float]
Line = tuple[str, float, bool]
"""Of a node's text: what it says, its size, whether it is bold."""

CAPTION: Final = 7.5
TITLE: Final = 12.5
SMALL: Final = 8.0
LABEL: Final = 8.5
"""Sizes of text, in points."""

LINE: Final = 1.2
PAD: Final = 10.0
END: Final = 78.0
GOOD_END: Final = END + 22
MOST_TITLE: Final = 26
MOST_NOTE: Final = 34
MOST_SMALL: Final = 26
"""Characters of a title, of small print, of small print in a small node."""

GAP: Final = 72.0
"""Between two parts: a label must have room there."""

LOOP: Final = 40.0
"""Between a node and a small one below it, likewise."""


class Box(NamedTuple):
    """A rectangle: its left upper corner and its size."""

    left: float
    top: float
    width: float
    height: float

    @property
    def right(self) -> float:
        """Its right edge."""
        return self.left + self.width

    @property
    def bottom(self) -> float:
        """Its lower edge."""
        return self.top + self.height

    @property
    def x(self) -> float:
        """Its middle."""
        return self.left + self.width / 2

    @property
    def y(self) -> float:
        """Its middle."""
        return self.top + self.height / 2


class Label(NamedTuple):
    """Lines of text around a point."""

    lines: tuple[str, ...]
    x: float
    y: float


class Route:
    """The way of an edge.

    Attributes:
        points: Its corners, from the node it leaves to the node it enters.
        label: What stands beside it; None where another edge on the same way says it.
        own: How many of its points are its own: from there on another edge goes the same way. None: all.
    """

    __slots__ = ("label", "own", "points")

    def __init__(self, points: Sequence[Point], label: Label | None = None, own: int | None = None) -> None:
        self.points = points
        self.label = label
        self.own = own


class Band(NamedTuple):
    """A lane's background, and what it is called."""

    box: Box
    label: str
    back: bool


class Frame(NamedTuple):
    """A cluster's frame; a long one has one in each row."""

    cluster: Cluster
    box: Box


@attrs.define
class Layout:
    """Where everything is.

    Attributes:
        boxes: Of the nodes, by id.
        texts: What they say, likewise.
        routes: Of the edges, in their order.
        bands: The lanes.
        frames: The clusters' frames, the outer ones first.
        width: Of it all.
        height: Of it all.
    """

    boxes: dict[str, Box]
    texts: dict[str, list[Line]]
    routes: list[Route]
    bands: list[Band]
    frames: list[Frame]
    width: float
    height: float


SMALL_PHASES: Final = frozenset({RETRYING, PROBING, RETRYING_COMPENSATION, STUCK, STUCK_EXECUTING})
"""The phases whose nodes are small: out of the way of what matters."""

_POINTED: Final = frozenset({STUCK, STUCK_EXECUTING})
"""The phases whose nodes have no corners that could hold text."""

ROOM_FOR_A_NOTE: Final = "12 attempts · 123 ms"


def inset_of(node: Node) -> float:
    """How much of a node's width its text must leave free."""
    return PAD * (2.8 if node.phase in _POINTED else 2)


def lines_of(node: Node) -> list[Line]:
    """A node's text, save for what a run did there."""
    if node.phase in SMALL_PHASES:
        small = [(shorten(note, MOST_SMALL), CAPTION, False) for note in node.notes]
        return [(node.caption, SMALL + 0.5, True), *small]
    most = MOST_NOTE if node.path else MOST_LISTED
    notes = [(shorten(note, most), SMALL, False) for note in node.notes]
    if not node.title:
        return [(node.caption, SMALL + 2, True), *notes]
    return [(node.caption, CAPTION, False), (shorten(node.title, MOST_TITLE), TITLE, True), *notes]


def size_of(node: Node, lines: Sequence[Line]) -> tuple[int, int]:
    """How wide and high a node must be for its text; the same in every frame of a run."""
    room = max([width(*line) for line in lines])
    high = sum([line[1] for line in lines]) * LINE + 13
    if node.mark is not None:
        room = max(room, width(ROOM_FOR_A_NOTE, CAPTION))
        high += CAPTION * LINE
    if node.pivot and node.phase == EXECUTING:
        high += 8
    return 2 * math.ceil((room + inset_of(node)) / 2), 2 * math.ceil(high / 2)  # even, so that middles are whole


class Router:
    """Routes in the making: for each edge first `spot`, where its label is, and then `route`."""

    def __init__(self, picture: Picture) -> None:
        self.picture = picture
        self.nodes = {node.id: node for node in picture.nodes}
        self.texts: dict[str, list[Line]] = {}
        self.sizes: dict[str, tuple[int, int]] = {}
        for node in picture.nodes:
            self.texts[node.id] = lines = lines_of(node)
            self.sizes[node.id] = size_of(node, lines)
        self.boxes: dict[str, Box] = {}
        self.routes: list[Route] = []
        self._label: Label | None = None
        self._together: dict[object, list[tuple[int, Edge, Label, float, float]]] = {}

    def spot(
        self,
        edge: Edge,
        x: float,
        y: float,
        h: float = 0,
        v: float = 0,
        *,
        key: object = None,
        narrow: bool = False,
    ) -> None:
        """Say at (*x*, *y*) what the next route is; *h* and *v*: on which side of the point, from -1 to 1.

        Edges with the same *key* say it together.
        """
        words = tuple(edge.label.split()) if narrow else (edge.label,)
        if key is None:
            bold = edge.mark is not None and edge.mark.reached
            if edge.mark is not None and bold:
                words = (numbers(edge.mark.orders), *words)
            self._label = _placed(words, x, y, h, v, bold=bold)
        else:
            self._together.setdefault(key, []).append((len(self.routes), edge, Label(words, x, y), h, v))

    def route(self, *points: Point, own: int | None = None) -> None:
        """The next edge goes by *points*, of which no three lie on one line; *own* as in `Route`."""
        self.routes.append(Route(points, self._label, own))
        self._label = None

    def place_labels(self) -> None:
        """Let edges that say something together say it once: one that was taken, if any was."""
        for said in self._together.values():
            holder, _, (words, x, y), h, v = said[0]
            if len(said) > 1:
                different = dict.fromkeys(edge.label for _, edge, _, _, _ in said)
                words = tuple(different) if len(different) > 1 else words
                taken = [each for each in said if each[1].mark is not None and each[1].mark.reached]
            else:
                taken = [said[0]] if said[0][1].mark is not None and said[0][1].mark.reached else []
            if taken:
                holder = taken[0][0]
                orders = {order for _, edge, _, _, _ in taken for order in (edge.mark.orders if edge.mark else ())}
                words = (numbers(tuple(sorted(orders))), *words)
            self.routes[holder].label = _placed(words, x, y, h, v, bold=bool(taken))


def _placed(words: tuple[str, ...], x: float, y: float, h: float, v: float, *, bold: bool) -> Label:
    """A label whose middle is off the point by half its size."""
    if h:
        x += h * max([width(word, LABEL, bold) for word in words]) / 2
    return Label(words, x, y + v * len(words) * (LABEL * LINE / 2))
