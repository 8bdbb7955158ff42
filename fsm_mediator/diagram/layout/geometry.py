"""Geometry of both views: the positions of boxes, words, lines and frames.

Coordinates are points; y increases downwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import attrs

Point = tuple[float, float]

Line = tuple[str, float, bool, str]
"""A line of the text in a box: its words, its size in points, whether it is bold, and its tone (a name for the colour).
"""

LINE: Final = 1.2
"""The height of a line, as a multiple of its text size."""


class Box(NamedTuple):
    """A rectangle: its upper left corner and its size."""

    left: float
    top: float
    width: float
    height: float

    @property
    def right(self) -> float:
        """The x coordinate of the right edge."""
        return self.left + self.width

    @property
    def bottom(self) -> float:
        """The y coordinate of the lower edge."""
        return self.top + self.height

    @property
    def x(self) -> float:
        """The x coordinate of the centre."""
        return self.left + self.width / 2

    @property
    def y(self) -> float:
        """The y coordinate of the centre."""
        return self.top + self.height / 2

    def moved(self, right: float, down: float) -> Box:
        """A box of the same size, moved by *right* and *down* points."""
        return self._replace(left=self.left + right, top=self.top + down)


@attrs.frozen
class Text:
    """Words outside of boxes. They begin at *x* and are vertically centred on *y*."""

    words: str
    x: float
    y: float
    size: float
    bold: bool
    tone: str


class Label(NamedTuple):
    """Lines of text centred on a point."""

    lines: tuple[str, ...]
    x: float
    y: float
    wide: float = 0.0
    """The width of its longest line; 0: not known."""

    @property
    def right(self) -> float:
        """Its right edge."""
        return self.x + self.wide / 2


@attrs.define
class Route:
    """The path of the line that shows an edge."""

    edge: Any  # the edge of the picture
    points: Sequence[Point]  # its corners, from the box it leaves to the box it enters
    label: Label | None = None  # None if another edge on the same line shows it, or if there is no label
    own: int | None = None  # the number of points before it joins another edge's line. None if it joins none
    arrow: bool = True  # whether it ends in an arrow's head


class Shape(NamedTuple):
    """A small shape that belongs to a step: a bar, a diamond, or a line after the pivot."""

    kind: str
    step: str
    box: Box


class Frame(NamedTuple):
    """A frame around *content*: a cluster, the branches of a group, or a nested saga."""

    content: Any
    box: Box


class Band(NamedTuple):
    """The background of a lane, and the lane's name."""

    box: Box
    label: str
    back: bool


@attrs.define
class Layout:
    """The positions of all elements of a picture."""

    boxes: dict[str, Box] = attrs.Factory(dict)  # the boxes of nodes, by id
    lines: dict[str, list[Line]] = attrs.Factory(dict)  # the texts of nodes, by id
    routes: list[Route] = attrs.Factory(list)  # the lines of edges
    frames: list[Frame] = attrs.Factory(list)  # the outer ones first
    bands: list[Band] = attrs.Factory(list)  # the lanes
    shapes: list[Shape] = attrs.Factory(list)  # forks, joins, choices, and the lines after a pivot
    texts: list[Text] = attrs.Factory(list)  # all other words
    ties: list[Sequence[Point]] = attrs.Factory(list)  # the lines from a group to the frame of its branches
    width: float = 0.0
    height: float = 0.0
    down: bool = False  # whether it is one column of steps
    second: Point | None = None  # the upper left corner of the second picture. None if there is only one

    def add(self, other: Layout, right: float, down: float) -> None:
        """Add all elements of *other*, moved by *right* and *down* points."""

        def moved(points: Sequence[Point]) -> Sequence[Point]:
            return tuple((x + right, y + down) for x, y in points)

        self.boxes |= {name: each.moved(right, down) for name, each in other.boxes.items()}
        self.lines |= other.lines
        for each in other.routes:
            label = each.label and each.label._replace(x=each.label.x + right, y=each.label.y + down)
            self.routes.append(attrs.evolve(each, points=moved(each.points), label=label))
        self.frames += [each._replace(box=each.box.moved(right, down)) for each in other.frames]
        self.bands += [each._replace(box=each.box.moved(right, down)) for each in other.bands]
        self.shapes += [each._replace(box=each.box.moved(right, down)) for each in other.shapes]
        self.texts += [attrs.evolve(each, x=each.x + right, y=each.y + down) for each in other.texts]
        self.ties += map(moved, other.ties)
