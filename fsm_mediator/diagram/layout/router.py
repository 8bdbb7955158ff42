"""The sizes of the nodes of the detail view, and the labels of its edges. This module places no nodes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

from fsm_mediator.diagram.layout.geometry import LINE, Box, Label, Layout, Line, Point, Route
from fsm_mediator.diagram.picture import Edge, Node, Picture
from fsm_mediator.diagram.text import numbers, shorten, width
from fsm_mediator.states import EXECUTING, PROBING, RETRYING, RETRYING_COMPENSATION, STUCK, STUCK_EXECUTING

Side = tuple[float, float, float, float]
"""The position of a label as (x, y, across, down): a point, and the side of the point on which the label lies.

*across* is from -1 (left of the point) to 1 (right of it), and *down* is from -1 (above the point) to 1 (below it).
"""

CAPTION: Final = 8.0
TITLE: Final = 12.5
SMALL: Final = 8.0
LABEL: Final = 8.5
"""The text sizes in a node (caption, title, small print) and of an edge's label, in points."""

PAD: Final = 10.0
END: Final = 72.0
GOOD_END: Final = END + 24
"""`END` is the width of the boxes ``pending`` and ``failed``, `GOOD_END` of the box ``succeeded``, in points."""

MOST_END: Final = 39.0
"""The maximum height of a small box ``failed``, in points.

A taller box ``failed`` extends down beside the parts whose failure leads to it.
"""

MOST_TITLE: Final = 26
MOST_NOTE: Final = 34
MOST_SMALL: Final = 26
"""The maximum number of characters of a title, of a line of small print, and of such a line in a small node."""

LOOP: Final = 52.0
"""The distance between a node and a small node beside it, in points. A label must fit between them."""

SMALL_PHASES: Final = frozenset({RETRYING, PROBING, RETRYING_COMPENSATION, STUCK, STUCK_EXECUTING})
"""The phases whose nodes are small. These nodes are not on the happy path."""

_POINTED: Final = frozenset({STUCK, STUCK_EXECUTING})
"""The phases whose nodes are octagons, which have no room for text in their corners."""

ROOM_FOR_A_NOTE: Final = "12 attempts · 123 ms"


def inset_of(node: Node) -> float:
    """The part of a node's width that cannot hold text, in points."""
    return PAD * (2.8 if node.phase in _POINTED else 2)


def lines_of(node: Node) -> list[Line]:
    """The lines of text in *node*, without the line that shows the node's mark in a run."""
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
    """The width and height in points that *node* needs for its text *lines*.

    They are the same in every frame of a run's animation.
    """
    room = max([width(*line[:3]) for line in lines])
    high = sum([line[1] for line in lines]) * LINE + 13
    if node.mark is not None:
        room = max(room, width(ROOM_FOR_A_NOTE, CAPTION))
        high += CAPTION * LINE
    if node.pivot and node.phase == EXECUTING:
        high += 8
    # The sizes are even numbers, so that half of a size is a whole number.
    return 2 * math.ceil((room + inset_of(node)) / 2), 2 * math.ceil(high / 2)


class _Spot(NamedTuple):
    """A label that is not placed yet. *number* is the index of the edge's route, *words* are the label's lines."""

    number: int
    edge: Edge
    words: tuple[str, ...]
    side: Side


class Router:
    """The sizes of a picture's nodes, and the routes of its edges in the order in which they are added."""

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
        """Add the route of *edge* to the layout. `place_labels` places its label later.

        Args:
            edge: The edge.
            points: The start, the corners and the end of the route.
            at: The position of the label. See `Side`.
            key: Edges with the same key share one label. None if the edge has its own label.
            narrow: Whether each word of the label is on its own line.
            own: The number of points before the route joins another edge's line. None if it joins none.
        """
        number = len(self.routes)
        words = tuple(edge.label.split()) if narrow else (edge.label,)
        self._spots.setdefault(number if key is None else key, []).append(_Spot(number, edge, words, at))
        self.routes.append(Route(edge, points, own=own))

    def vertical(self, edge: Edge, x: float, side: int, *, y: float | None = None) -> None:
        """Add a straight route down or up, at *x*.

        The label is left (*side* -1) or right (*side* 1) of the line, at the y coordinate *y*. If *y* is None, the
        label is near the middle of the line.
        """
        box, other = self.boxes[edge.source], self.boxes[edge.target]
        down = box.top < other.top
        start, end = (box.bottom, other.top) if down else (box.top, other.bottom)
        if y is None:
            y = (start + end) / 2 + (-2 if down else 2)
        self.route(edge, (x, start), (x, end), at=(x + 4 * side, y, side, 0))

    def horizontal(self, edge: Edge, y: float, *, below: bool = False) -> None:
        """Add a straight route to the right or left, at *y*. The label is above the line's middle, or *below* it."""
        box, other = self.boxes[edge.source], self.boxes[edge.target]
        start, end = (box.right, other.left) if box.left < other.left else (box.left, other.right)
        self.route(edge, (start, y), (end, y), at=((start + end) / 2, y + (3 if below else -3), 0, 1 if below else -1))

    def place_labels(self) -> None:
        """Give each route its label.

        If edges share a label, the first edge that the run took gets the label. If the run took none of them, the first
        edge gets the label.
        """
        for spots in self._spots.values():
            number, _, words, (x, y, across, down) = spots[0]
            if len(spots) > 1 and len(labels := dict.fromkeys(spot.edge.label for spot in spots)) > 1:
                words = tuple(labels)
            taken = [spot for spot in spots if spot.edge.reached]
            if taken:
                number = taken[0].number
                orders = {order for spot in taken if spot.edge.mark is not None for order in spot.edge.mark.orders}
                words = (numbers(sorted(orders)), *words)
            wide = max([width(word, LABEL, bool(taken)) for word in words])
            x += across * wide / 2
            self.routes[number].label = Label(words, x, y + down * len(words) * (LABEL * LINE / 2), wide)


def own_points(start: Sequence[Point]) -> int | None:
    """The value of `Route.own` for a line that has the points *start* and then joins the line of another edge.

    None if *start* is a single point: the whole line is shared.
    """
    return len(start) if len(start) > 1 else None
