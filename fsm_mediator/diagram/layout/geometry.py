"""Geometry of both views: boxes, words, lines and frames, each at its place. Coordinates are points, y downwards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import attrs

Point = tuple[float, float]

Line = tuple[str, float, bool, str]
"""A line of the text in a box: words, size, whether it is bold, and the tone of its colour."""

LINE: Final = 1.2
"""The height of a line, by the size of its text."""


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

    def moved(self, right: float, down: float) -> Box:
        """A box of the same size in another place."""
        return self._replace(left=self.left + right, top=self.top + down)


@attrs.frozen
class Text:
    """Words outside of boxes, left aligned: from *x* on, around *y*."""

    words: str
    x: float
    y: float
    size: float
    bold: bool
    tone: str


class Label(NamedTuple):
    """Lines of text around a point."""

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
    """The line of an edge."""

    edge: Any  # the edge of the picture
    points: Sequence[Point]  # its corners, from the box it leaves to the box it enters
    label: Label | None = None  # None: another edge on the same line shows it, or nothing does
    own: int | None = None  # after so many points it shares the line of another edge; None: never
    arrow: bool = True  # whether it ends in an arrow's head


class Shape(NamedTuple):
    """A small shape that belongs to a step: a bar, a diamond or a stroke of the line of no return."""

    kind: str
    step: str
    box: Box


class Frame(NamedTuple):
    """A frame around *content*: a cluster, the branches of a group, or a nested saga."""

    content: Any
    box: Box


class Band(NamedTuple):
    """A lane's background, and its name."""

    box: Box
    label: str
    back: bool


@attrs.define
class Layout:
    """The places of everything in a picture."""

    boxes: dict[str, Box] = attrs.Factory(dict)  # the boxes of nodes, by id
    lines: dict[str, list[Line]] = attrs.Factory(dict)  # the texts of nodes, likewise
    routes: list[Route] = attrs.Factory(list)  # the lines of edges
    frames: list[Frame] = attrs.Factory(list)  # the outer ones first
    bands: list[Band] = attrs.Factory(list)  # the lanes
    shapes: list[Shape] = attrs.Factory(list)  # forks, joins, lines of no return
    texts: list[Text] = attrs.Factory(list)  # all other words
    ties: list[Sequence[Point]] = attrs.Factory(list)  # from a group to the frame of its branches
    width: float = 0.0
    height: float = 0.0
    down: bool = False  # whether it is one column of steps
    second: Point | None = None  # where the second picture begins, beside the first or below it; None: there is one

    def add(self, other: Layout, right: float, down: float) -> None:
        """Put *other* into this one, moved."""

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
