"""Geometry of both views: the positions of boxes, words, lines and frames.

Coordinates are points; y increases downwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import attrs

Point = tuple[float, float]

Line = tuple[str, float, bool, str]
"""A line of text in a box: its words, its text size in points, whether it is bold, and its tone.

The tone is the name of a colour of the theme, for example ``ink``.
"""

LINE: Final = 1.2
"""The height of a line of text, divided by its text size."""


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
        """The x coordinate of the rectangle's centre."""
        return self.left + self.width / 2

    @property
    def y(self) -> float:
        """The y coordinate of the rectangle's centre."""
        return self.top + self.height / 2

    def moved(self, right: float, down: float) -> Box:
        """A box of the same size, moved by *right* and *down* points."""
        return self._replace(left=self.left + right, top=self.top + down)


@attrs.frozen
class Text:
    """A text outside of all boxes. It begins at *x*, and the middle of its height is at *y*."""

    words: str
    x: float
    y: float
    size: float
    bold: bool
    tone: str


class Label(NamedTuple):
    """The lines of text beside an edge. The centre of the text is the point (*x*, *y*)."""

    lines: tuple[str, ...]
    x: float
    y: float
    wide: float = 0.0
    """The width of the longest line of text, in points. 0 if the width is not known."""

    @property
    def right(self) -> float:
        """The x coordinate of the right edge of the text."""
        return self.x + self.wide / 2


@attrs.define
class Route:
    """The line that is drawn for an edge of the picture."""

    edge: Any  # an `Edge` of the detail view, or a `FlowLine` of the steps view
    points: Sequence[Point]  # the start, the corners and the end of the line
    label: Label | None = None  # None if the edge has no label, or if another edge that shares its line shows the label
    own: int | None = None  # the number of points before the line joins another edge's line. None if it joins none
    arrow: bool = True  # whether the line ends in an arrowhead


class Shape(NamedTuple):
    """A small shape that belongs to a step: the bar of a fork, the diamond of a choice, or a line after the pivot."""

    kind: str
    step: str
    box: Box


class Frame(NamedTuple):
    """A rectangle around the branches of a group, around one branch, or around a nested saga.

    *content* is the `Cluster` or the `StepBox` that the frame shows, or None.
    """

    content: Any
    box: Box


class Band(NamedTuple):
    """The coloured background of a lane of the detail view, with the lane's name.

    *back* is True for the lane of compensation, and False for the forward lane.
    """

    box: Box
    label: str
    back: bool


@attrs.define
class Layout:
    """The positions of all elements of a picture."""

    boxes: dict[str, Box] = attrs.Factory(dict)  # the rectangle of each node, by the node's id
    lines: dict[str, list[Line]] = attrs.Factory(dict)  # the lines of text in each node, by the node's id
    routes: list[Route] = attrs.Factory(list)  # one line for each edge
    frames: list[Frame] = attrs.Factory(list)  # in the order in which they are drawn
    bands: list[Band] = attrs.Factory(list)  # the backgrounds of the lanes
    shapes: list[Shape] = attrs.Factory(list)  # forks, joins, choices, and the lines after a pivot
    texts: list[Text] = attrs.Factory(list)  # the texts that are neither in a node nor a label
    ties: list[Sequence[Point]] = attrs.Factory(list)  # the lines from a group to the frame of its branches
    width: float = 0.0
    height: float = 0.0
    down: bool = False  # whether the steps are in one column
    second: Point | None = None  # the upper left corner of the second picture. None if there is only one picture

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
