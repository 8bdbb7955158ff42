"""Routing: what both views share, routes in the making and the labels beside them."""

from __future__ import annotations

from typing import Final

from fsm_mediator.diagram.layout.geometry import LABEL, LINE, Box, Label, Line, Point, Route, lines_of, size_of
from fsm_mediator.diagram.picture import Edge, Picture
from fsm_mediator.diagram.text import numbers, width

GAP: Final = 72.0
"""Between two parts: a label must have room there."""

LOOP: Final = 40.0
"""Between a node and a small one below it, likewise."""


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
