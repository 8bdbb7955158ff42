"""The layout of the overview: one node for each phase, at most eleven, each in its place.

The lanes are those of the detail view::

pending ──▶ executing ──▶ waiting ──▶ succeeded
   │        retrying probing stuck        │
   ▼            ▼             │           │
failed ◀── compensating ◀──▶ stuck    ◀───┘
             retrying
"""

from __future__ import annotations

from typing import Final

from fsm_mediator.diagram.layout.geometry import END, GOOD_END, LOOP, Band, Box, Layout, Point, Router, own_points
from fsm_mediator.diagram.picture import Edge, Picture
from fsm_mediator.states import (
    COMPENSATING,
    EXECUTING,
    FAILED,
    PENDING,
    PROBING,
    RETRYING,
    RETRYING_COMPENSATION,
    STUCK,
    STUCK_EXECUTING,
    SUCCEEDED,
    WAITING,
)

SMALL: Final[tuple[str, ...]] = (RETRYING, PROBING, STUCK_EXECUTING)
BELOW: Final = (*SMALL, RETRYING_COMPENSATION)
FORWARD: Final = (EXECUTING, WAITING)
LEFT: Final = END + 96


class Phases(Router):
    """The places of the phases, and the routes between them."""

    def __init__(self, picture: Picture) -> None:
        super().__init__(picture)
        self.at = {node.phase: node.id for node in picture.nodes}
        self.small = [phase for phase in SMALL if phase in self.at]
        self.pairs = {(self.nodes[edge.source].phase, self.nodes[edge.target].phase) for edge in picture.edges}
        self.to_stuck = bool(self.pairs & {(phase, STUCK) for phase in (EXECUTING, RETRYING, PROBING)})
        self.arcs = bool(self.pairs & {(PENDING, WAITING), (EXECUTING, SUCCEEDED)}) and self.at.keys() >= set(FORWARD)

    def layout(self) -> Layout:
        """Place the nodes, then the lines, then the labels."""
        self._place_rows()
        self._place_nodes()
        for edge in self.picture.edges:
            self._route(edge)
        self.place_labels()
        right = max(box.right for box in self.boxes.values()) + (24 if (STUCK, SUCCEEDED) in self.pairs else 0)
        middle = self.fork - 15
        below = "← COMPENSATION" if COMPENSATING in self.at else "GIVEN UP"
        bands = [
            Band(Box(-14, 0, right + 28, middle), "FORWARD →", back=False),
            Band(Box(-14, middle, right + 28, self.bottom - middle), below, back=True),
        ]
        return Layout(self.boxes, self.texts, self.routes, bands, [], right, self.bottom)

    # Nodes.

    def _size(self, side: int, *phases: str) -> float:
        """The greatest width (0) or height (1) among the nodes of *phases*."""
        return max((self.sizes[self.at[phase]][side] for phase in phases if phase in self.at), default=0.0)

    def _place_rows(self) -> None:
        """Set the heights of the rows: forward, small nodes, compensation, small nodes below that."""
        self.forward, self.lower = self._size(1, *FORWARD), max(self._size(1, COMPENSATING, STUCK), 34.0)
        under = self._size(1, RETRYING_COMPENSATION)
        top = 60 if self.arcs else 44
        self.path = top + self.forward / 2
        self.small_top = top + self.forward + (LOOP + 8 if self.small else 0)
        self.small_bottom = self.small_top + self._size(1, *self.small)
        self.fork = self.small_bottom + (74 if self.to_stuck else 40)
        self.lane = self.fork + 34 + self.lower / 2
        self.under = self.lane + self.lower / 2 + LOOP
        self.bottom = (self.under + under if under else self.under - LOOP + 16) + 46

    def _put(self, phase: str, left: float, top: float, wide: float = 0, high: float = 0) -> None:
        if phase in self.at:
            size = self.sizes[self.at[phase]]
            self.boxes[self.at[phase]] = Box(left, top, wide or size[0], high or size[1])

    def _place_nodes(self) -> None:
        at, small = self.at, self.small
        tall, upper = 42.0 if self.picture.is_run else 34.0, self.path - self.forward / 2
        self._put(PENDING, 0, self.path - tall / 2, END, tall)
        self._put(FAILED, 0, self.lane - tall / 2, END, tall)
        x = LEFT + 48
        for phase in small:
            self._put(phase, x, self.small_top, high=self.small_bottom - self.small_top)
            x += self._size(0, phase) + 62
        room = x - 62 - LEFT if small else 0
        if self.to_stuck:
            room += 70 if STUCK_EXECUTING in small else 24
        under = self._size(0, RETRYING_COMPENSATION)
        first = EXECUTING if EXECUTING in at else WAITING
        main = max(140.0, room + 30, self._size(0, first, COMPENSATING), under + 190 if under else 0)
        self.right = LEFT + main
        self._put(first, LEFT, upper, main, self.forward)
        self._put(COMPENSATING, LEFT, self.lane - self.lower / 2, main, self.lower)
        self._put(RETRYING_COMPENSATION, self.right - under - 34, self.under)
        x = self.right + 112
        stuck = x
        if WAITING in at and first == EXECUTING:
            self._put(WAITING, x, upper, high=self.forward)
            stuck = self.boxes[at[WAITING]].x - self._size(0, STUCK) / 2
            x = self.boxes[at[WAITING]].right + 100
        self._put(STUCK, stuck, self.lane - self._size(1, STUCK) / 2)
        self._put(SUCCEEDED, x, self.path - tall / 2, GOOD_END, tall)

    # Lines.

    def _route(self, edge: Edge) -> None:
        source, target = self.nodes[edge.source].phase, self.nodes[edge.target].phase
        box, other = self.boxes[edge.source], self.boxes[edge.target]
        if source == target:
            self._route_retry(edge, box, source)
        elif STUCK in (source, target):
            self._route_stuck(edge, box, other, source, target)
        elif source == SUCCEEDED:
            self.elbow(edge, box.x, self.fork + 14, other.right - 24, at=(box.x - 4, box.bottom + 16, -1, 0))
        elif source in SMALL and target in SMALL:
            self.horizontal(edge, box.y, shift=2)
        elif target in BELOW:
            self.vertical(edge, other.x - 7, -1, lift=3 if target in SMALL else 2)
        elif source == RETRYING_COMPENSATION or (source in SMALL and target == EXECUTING):
            self.vertical(edge, box.x + 7, 1, lift=3 if source in SMALL else 2, key=(source, target))
        elif (source, target) == (PENDING, FAILED):
            self.vertical(edge, box.x, 1, y=box.bottom + 22)
        elif (source, target) == (COMPENSATING, FAILED):
            self.horizontal(edge, self.lane)
        elif target in (COMPENSATING, FAILED):
            self._route_failed(edge, box, other, source, target)
        elif source in SMALL:
            self._route_up(edge, box, other, source, target)
        else:
            self._route_forward(edge, box, other, source, target)

    def _route_retry(self, edge: Edge, box: Box, phase: str) -> None:
        """A small loop, from one part to the next part in the same phase."""
        if phase == COMPENSATING:
            x, y = box.left + 40, box.bottom + 16
            self.elbow(edge, x, y, x - 22, at=(x + 4, y - 6, 1, 0))
        else:  # other lines come from above on the left of the node of waits
            x, y = box.right - 48, box.top - 14
            self.elbow(edge, x, y, x + 22, at=(x + 26, y + 6, 1, 0) if phase == WAITING else (x - 4, y + 6, -1, 0))

    def _route_forward(self, edge: Edge, box: Box, other: Box, source: str, target: str) -> None:
        """Along the happy path; an edge that passes a node is an arc above it."""
        top = self.path - self.forward / 2
        if self.arcs and (source, target) == (PENDING, WAITING):
            y = top - 36
            self.elbow(edge, box.x, y, other.left + 16, at=((box.right + other.left) / 2, y - 3, 0, -1))
        elif self.arcs and (source, target) == (EXECUTING, SUCCEEDED):
            self.elbow(edge, box.right - 12, top - 24, other.x, at=(other.left - 40, top - 27, 0, -1))
        elif (source, target) == (WAITING, EXECUTING):
            self.horizontal(edge, self.path + 7, 1)
        else:
            both = {(EXECUTING, WAITING), (WAITING, EXECUTING)} <= self.pairs and source == EXECUTING
            self.horizontal(edge, self.path - (7 if both else 0))

    def _route_up(self, edge: Edge, box: Box, other: Box, source: str, target: str) -> None:
        """From a small node to the right, and up to the next phase."""
        after = len(self.small) - 1 - self.small.index(source)
        x = (other.left + 34 if target == WAITING else other.x + 24) - 12 * after
        y = self.small_bottom + 6 if after else box.y
        start: list[Point] = [(box.x + 10, box.bottom), (box.x + 10, y)] if after else [(box.right, y)]
        at = (other.left + 14 if target == WAITING else x - 34, y - 3, -1, -1)
        self.route(edge, *start, (x, y), (x, other.bottom), at=at, key=(source, target))

    def _route_failed(self, edge: Edge, box: Box, other: Box, source: str, target: str) -> None:
        """Down to compensation, or to the end."""
        trunk, y = LEFT + 16, self.small_bottom + 16
        beside = source == WAITING and EXECUTING in self.at
        start: list[Point] = [(box.x - 10, box.bottom), (box.x - 10, y), (trunk, y)]
        if source in FORWARD:
            trunk = box.left + 20 if beside else trunk
            start = [(trunk, box.bottom)]
        elif source == self.small[0]:
            start = [(box.left, box.y), (trunk, box.y)]
        y = self.fork - 3
        if target == FAILED:
            self.elbow(edge, trunk, self.fork, other.right - 18, *start, at=(LEFT - 48, y, 0, -1), key="left")
        elif beside:
            self.elbow(edge, trunk, self.fork, other.right - 60, *start, at=(other.right - 22, y, 0, -1), key="beside")
        else:
            at = (trunk + 4, (self.fork + other.top) / 2, 1, 0)
            self.route(edge, *start, (trunk, other.top), at=at, key="down", own=own_points(start))

    def _route_stuck(self, edge: Edge, box: Box, other: Box, source: str, target: str) -> None:
        """Into the phase of being stuck, and out of it again."""
        key, low = (STUCK, target), self.small_bottom
        if source == COMPENSATING:
            self.horizontal(edge, self.lane - 7)
        elif target == COMPENSATING:
            self.horizontal(edge, self.lane + 7, 1, lift=2, key=key)
        elif source == WAITING:
            x = other.x + 8
            self.route(edge, (x, box.bottom), (x, other.top), at=(x + 20, box.bottom + 14, 1, 0))
        elif target == WAITING:
            self.vertical(edge, box.x + 18, 1, y=other.bottom + 50, key=key)
        elif target == FAILED:
            y = self.bottom - 26
            self.elbow(edge, box.x, y, other.x, at=(box.x - 20, y - 2, -1, -1), key=key)
        elif target == EXECUTING:
            self.elbow(edge, box.x - 2, low + 48, self.right - 8, at=(self.right + 56, low + 50, 0, 1), key=key)
        elif target == SUCCEEDED:
            x = max(other.right - 8, box.right + 12)
            at = (x + 4, self.fork - 26, 1, 0)
            self.route(edge, (box.right, box.y), (x, box.y), (x, other.bottom), at=at, narrow=True, key=key)
        else:
            x, y, out = self.right - 20, low + 32, box.x + 14
            own = 3 if source in SMALL else None
            start: list[Point] = [(out, box.bottom), (out, y)] if own else [(x, box.bottom)]
            end, at = other.x - 12, (self.right + 64, y - 3, 0, -1)
            self.route(edge, *start, (x, y), (end, y), (end, other.top), at=at, key="stuck", own=own)
