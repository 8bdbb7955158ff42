"""The sizes of the detail view's nodes, and the labels beside its lines. This module places no nodes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

from fsm_mediator.diagram.layout.geometry import LINE, Box, Label, Layout, Line, Point, Route
from fsm_mediator.diagram.picture import Edge, Node, Picture
from fsm_mediator.diagram.text import numbers, shorten, width
from fsm_mediator.states import EXECUTING, PROBING, RETRYING, RETRYING_COMPENSATION, STUCK, STUCK_EXECUTING

Side = tuple[float, float, float, float]
"""The position of a label: a point, and the side of the point on which the label lies, as (x, y, across, down)."""

CAPTION: Final = 8.0
TITLE: Final = 12.5
SMALL: Final = 8.0
LABEL: Final = 8.5
"""Sizes of text, in points."""

PAD: Final = 10.0
END: Final = 72.0
GOOD_END: Final = END + 24
"""Widths of the ends."""

MOST_END: Final = 39.0
"""The maximum height of an end with text in its middle, in points. A taller end is a box beside the parts given up to
it.
"""

MOST_TITLE: Final = 26
MOST_NOTE: Final = 34
MOST_SMALL: Final = 26
"""The maximum number of characters of a title, of small print, and of small print in a small node."""

LOOP: Final = 52.0
"""The distance between a node and a small node beside it, in points. A label must fit between them."""

SMALL_PHASES: Final = frozenset({RETRYING, PROBING, RETRYING_COMPENSATION, STUCK, STUCK_EXECUTING})
"""The phases with small nodes, off the happy path."""

_POINTED: Final = frozenset({STUCK, STUCK_EXECUTING})
"""The phases whose nodes are octagons, which have no room for text in their corners."""

ROOM_FOR_A_NOTE: Final = "12 attempts · 123 ms"


def inset_of(node: Node) -> float:
    """The part of a node's width that cannot hold text, in points."""
    return PAD * (2.8 if node.phase in _POINTED else 2)


def lines_of(node: Node) -> list[Line]:
    """A node's text, without the mark of a run."""
    if node.phase in SMALL_PHASES:
        small = [(shorten(note, MOST_SMALL), CAPTION, False, "small") for note in node.notes]
        return [(node.caption, SMALL + 0.5, True, "line"), *small]
    notes = [(shorten(note, MOST_NOTE), SMALL, False, "small") for note in node.notes]
    if node.numbers:
        notes.append((node.numbers, SMALL, True, "note"))
    if not node.title:
        return [(node.caption, SMALL + 2, True, "line"), *notes]
    return [(node.caption, CAPTION, False, "line"), (shorten(node.title, MOST_TITLE), TITLE, True, "ink"), *notes]


def size_of(node: Node, lines: Sequence[Line]) -> tuple[int, int]:
    """The width and height of a node that fit its text, in points. Both are the same in every frame of a run."""
    room = max([width(*line[:3]) for line in lines])
    high = sum([line[1] for line in lines]) * LINE + 13
    if node.mark is not None:
        room = max(room, width(ROOM_FOR_A_NOTE, CAPTION))
        high += CAPTION * LINE
    if node.pivot and node.phase == EXECUTING:
        high += 8
    return 2 * math.ceil((room + inset_of(node)) / 2), 2 * math.ceil(high / 2)  # even, so that middles are whole


class _Spot(NamedTuple):
    """The label of an edge before it is placed. *side* is as in `Router.route`."""

    number: int
    edge: Edge
    words: tuple[str, ...]
    side: Side


class Router:
    """The sizes of a picture's nodes, and the routes in the order in which they are added."""

    def __init__(self, picture: Picture) -> None:
        self.picture = picture
        self.nodes: dict[str, Node] = {node.id: node for node in picture.nodes}
        self.out: Layout = Layout(lines={node.id: lines_of(node) for node in picture.nodes})
        self.sizes: dict[str, tuple[int, int]] = {
            node.id: size_of(node, self.out.lines[node.id]) for node in picture.nodes
        }
        self.boxes: dict[str, Box] = self.out.boxes
        self.routes: list[Route] = self.out.routes
        self._spots: dict[object, list[_Spot]] = {}

    def route(
        self, edge: Edge, *points: Point, at: Side, key: object = None, narrow: bool = False, own: int | None = None
    ) -> None:
        """Add the route of the next edge.

        Args:
            edge: The edge.
            points: The corners of the route. No three of them lie on one line.
            at: A point, and the side of the point on which the label lies: from -1 (left, above) to 1 (right, below).
            key: Edges with the same key share one label.
            narrow: Break the label after each word.
            own: The number of points before the route joins another edge's line, as in `Route`.
        """
        number = len(self.routes)
        words = tuple(edge.label.split()) if narrow else (edge.label,)
        self._spots.setdefault(number if key is None else key, []).append(_Spot(number, edge, words, at))
        self.routes.append(Route(edge, points, own=own))

    def vertical(self, edge: Edge, x: float, side: int, *, y: float | None = None) -> None:
        """Draw an edge straight down or up.

        The label lies on the left (*side* -1) or the right (*side* 1), at the height *y* or, if *y* is None, at the
        middle.
        """
        box, other = self.boxes[edge.source], self.boxes[edge.target]
        down = box.top < other.top
        start, end = (box.bottom, other.top) if down else (box.top, other.bottom)
        if y is None:
            y = (start + end) / 2 + (-2 if down else 2)
        self.route(edge, (x, start), (x, end), at=(x + 4 * side, y, side, 0))

    def horizontal(self, edge: Edge, y: float, *, below: bool = False) -> None:
        """Draw an edge straight to the right or left. Its label lies above the middle of the edge, or *below* it."""
        box, other = self.boxes[edge.source], self.boxes[edge.target]
        start, end = (box.right, other.left) if box.left < other.left else (box.left, other.right)
        self.route(edge, (start, y), (end, y), at=((start + end) / 2, y + (3 if below else -3), 0, 1 if below else -1))

    def place_labels(self) -> None:
        """Give each route its label. If edges share a label, the first edge that the run took gets it."""
        for spots in self._spots.values():
            number, _, words, (x, y, across, down) = spots[0]
            labels = dict.fromkeys(spot.edge.label for spot in spots)
            words = tuple(labels) if len(labels) > 1 else words
            taken = [spot for spot in spots if spot.edge.reached]
            if taken:
                number = taken[0].number
                orders = {order for spot in taken if spot.edge.mark is not None for order in spot.edge.mark.orders}
                words = (numbers(sorted(orders)), *words)
            wide = max([width(word, LABEL, bool(taken)) for word in words])
            x += across * wide / 2
            self.routes[number].label = Label(words, x, y + down * len(words) * (LABEL * LINE / 2), wide)


def own_points(start: Sequence[Point]) -> int | None:
    """The value of `Route.own` for an edge that joins the line of another edge after the points *start*."""
    return len(start) if len(start) > 1 else None
