"""Layout: the places of the nodes of a picture and the routes of its edges; the machines of branches are below."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Final

from fsm_mediator.diagram.layout.detail import Lanes
from fsm_mediator.diagram.layout.geometry import Band, Box, Frame, Label, Layout, Point, Route
from fsm_mediator.diagram.picture import Cluster, Picture

BETWEEN: Final = 46.0
"""The distance of a machine and the branches below it."""

BESIDE: Final = 64.0
"""The distance of two branches side by side."""

ASPECT: Final = 1.4
"""The best ratio of width and height for a picture with branches."""

INSET: Final = 14.0
"""The distance of a branch's frame from the frames in it."""

LEGEND: Final = 18.0
"""The height of the legend."""


def layout_of(picture: Picture) -> Layout:
    """The layout of *picture*; the routes are in the order of `Picture.all_edges`.

    The machines of branches are below it, in rows like the words of a text.
    """
    layout = Lanes(picture).layout()
    if not picture.children:
        return layout
    below = [(child, layout_of(child)) for child in picture.children]
    sizes = [(inner.width, inner.height) for _, inner in below]
    places = _rows(layout, sizes)
    inset = INSET if picture.prefix else 0.0  # frames within a frame
    for (child, inner), (left, top) in zip(below, places, strict=True):
        _place_branch(layout, inner, Cluster(path=child.prefix, label=child.heading), left + inset, top)
    layout.width += inset
    layout.height = _bottom(places, sizes) + (inset or LEGEND)
    return layout


def _rows(above: Layout, sizes: Sequence[tuple[float, float]]) -> list[Point]:
    """The places of branches, in rows that bring the whole near to `ASPECT` and leave little empty."""
    full = above.width * above.height + sum(width * height for width, height in sizes)
    best: list[Point] = []
    least = math.inf
    widths = itertools.accumulate(width + BESIDE for width, _ in sizes)
    for right in (max(above.width, *(width for width, _ in sizes)), *widths):
        places = _flow(above.height + BETWEEN, right, sizes)
        wide = max(above.width, *(left + width for (left, _), (width, _) in zip(places, sizes, strict=True)))
        high = _bottom(places, sizes)
        off = abs(math.log(wide / high / ASPECT)) + 2 * (1 - full / (wide * high))
        if off < least:
            best, least = places, off
    return best


def _flow(top: float, right: float, sizes: Sequence[tuple[float, float]]) -> list[Point]:
    """The places of branches side by side, in rows that do not pass *right*."""
    places: list[Point] = []
    left, bottom = 0.0, top
    for width, height in sizes:
        if left and left + width > right:
            left, top = 0.0, bottom + BETWEEN
        places.append((left, top))
        bottom = max(bottom, top + height + 8)
        left += width + BESIDE
    return places


def _bottom(places: Sequence[Point], sizes: Sequence[tuple[float, float]]) -> float:
    return max(top + height + 8 for (_, top), (_, height) in zip(places, sizes, strict=True))


def _place_branch(layout: Layout, child: Layout, cluster: Cluster, left: float, top: float) -> None:
    layout.texts.update(child.texts)
    layout.boxes.update((name, box.moved(left, top)) for name, box in child.boxes.items())
    for route in child.routes:
        label = route.label and Label(route.label.lines, route.label.x + left, route.label.y + top)
        layout.routes.append(Route([(x + left, y + top) for x, y in route.points], label, route.own))
    layout.bands += [Band(band.box.moved(left, top), band.label, band.back) for band in child.bands]
    layout.frames.append(Frame(cluster, Box(left - 22, top - 20, child.width + 44, child.height + 28)))
    layout.frames += [Frame(frame.cluster, frame.box.moved(left, top)) for frame in child.frames]
    layout.width = max(layout.width, left + child.width)
