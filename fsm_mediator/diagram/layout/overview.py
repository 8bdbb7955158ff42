"""Phases: how the overview is laid out: at most eleven nodes, each with its place.

The lanes are those of the detail view::

pending ──▶ executing ──▶ waiting ──▶ succeeded
   │        retrying probing stuck        │
   ▼            ▼             │           │
failed ◀── compensating ◀──▶ stuck    ◀───┘
             retrying
"""

from __future__ import annotations

from typing import Final

from fsm_mediator.diagram.layout.geometry import END, GOOD_END, LOOP, Band, Box, Layout, Point, Router
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
FORWARD: Final[tuple[str, ...]] = (EXECUTING, WAITING)


class Phases(Router):
    """The phases: one node for all states of a phase."""

    def __init__(self, picture: Picture) -> None:
        super().__init__(picture)
        self.at = {node.phase: node.id for node in picture.nodes}
        self.small = [phase for phase in SMALL if phase in self.at]
        self.ways = {(self.nodes[edge.source].phase, self.nodes[edge.target].phase) for edge in picture.edges}
        self.to_stuck = bool(self.ways & {(phase, STUCK) for phase in (EXECUTING, RETRYING, PROBING)})

    def layout(self) -> Layout:
        """Where everything is."""
        self._place_heights()
        self._place()
        for edge in self.picture.edges:
            self._route(edge)
        self.place_labels()
        far = max(box.right for box in self.boxes.values()) + (24 if (STUCK, SUCCEEDED) in self.ways else 0)
        middle = self.fork - 15
        below = "← COMPENSATION" if COMPENSATING in self.at else "GIVEN UP"
        bands = [
            Band(Box(-14, 0, far + 28, middle), "FORWARD →", back=False),
            Band(Box(-14, middle, far + 28, self.bottom - middle), below, back=True),
        ]
        return Layout(self.boxes, self.texts, self.routes, bands, [], far, self.bottom)

    # Where the nodes stand.

    def _high(self, *phases: str) -> float:
        return max((self.sizes[self.at[phase]][1] for phase in phases if phase in self.at), default=0.0)

    def _wide(self, *phases: str) -> float:
        return max((self.sizes[self.at[phase]][0] for phase in phases if phase in self.at), default=0.0)

    def _place_heights(self) -> None:
        forward, lower, under = self._high(*FORWARD), self._high(COMPENSATING, STUCK), self._high(RETRYING_COMPENSATION)
        self.forward, self.lower = forward, max(lower, 34.0)
        top = 44 + (16 if self._arcs() else 0)
        self.path = top + forward / 2
        self.sats = top + forward + (LOOP + 8 if self.small else 0)
        self.sats_bottom = self.sats + self._high(*self.small)
        self.fork = self.sats_bottom + (74 if self.to_stuck else 40)
        self.lane = self.fork + 34 + self.lower / 2
        self.under = self.lane + self.lower / 2 + LOOP
        self.bottom = (self.under + under if under else self.lane + self.lower / 2 + 16) + 46

    def _arcs(self) -> bool:
        """Whether something passes over a box of the happy path."""
        return bool(self.ways & {(PENDING, WAITING), (EXECUTING, SUCCEEDED)}) and self.at.keys() >= set(FORWARD)

    def _place(self) -> None:
        at, boxes, sizes = self.at, self.boxes, self.sizes
        tall = 42.0 if self.picture.is_run else 34.0
        boxes[at[PENDING]] = Box(0, self.path - tall / 2, END, tall)
        if FAILED in at:  # what runs after the pivot only goes forward
            boxes[at[FAILED]] = Box(0, self.lane - tall / 2, END, tall)
        self.left = left = END + 96
        x = left + 48
        for phase in self.small:
            size = sizes[at[phase]]
            boxes[at[phase]] = Box(x, self.sats, size[0], self.sats_bottom - self.sats)
            x += size[0] + 62
        room = x - 62 - left if self.small else 0
        if self.to_stuck:
            room += 70 if STUCK_EXECUTING in self.small else 24
        under = self._wide(RETRYING_COMPENSATION)
        main = max(140.0, room + 30, self._wide(EXECUTING, COMPENSATING), under + 190 if under else 0)
        if EXECUTING not in at:
            main = max(main, self._wide(WAITING))
        self.right = left + main
        if EXECUTING in at:
            boxes[at[EXECUTING]] = Box(left, self.path - self.forward / 2, main, self.forward)
        if COMPENSATING in at:
            boxes[at[COMPENSATING]] = Box(left, self.lane - self.lower / 2, main, self.lower)
        if RETRYING_COMPENSATION in at:
            size = sizes[at[RETRYING_COMPENSATION]]
            boxes[at[RETRYING_COMPENSATION]] = Box(self.right - size[0] - 34, self.under, *size)
        self._place_side(tall)

    def _place_side(self, tall: float) -> None:
        """What stands right of executing and compensating: waiting, stuck, and the end."""
        at, boxes, sizes = self.at, self.boxes, self.sizes
        x = self.right + 112
        if WAITING in at and EXECUTING not in at:
            boxes[at[WAITING]] = Box(self.left, self.path - self.forward / 2, self.right - self.left, self.forward)
        elif WAITING in at:
            size = sizes[at[WAITING]]
            boxes[at[WAITING]] = Box(x, self.path - self.forward / 2, size[0], self.forward)
        if STUCK in at:
            size = sizes[at[STUCK]]
            left = x
            if WAITING in at and EXECUTING in at:
                left = boxes[at[WAITING]].x - size[0] / 2
            boxes[at[STUCK]] = Box(left, self.lane - size[1] / 2, *size)
        if WAITING in at and EXECUTING in at:
            x = boxes[at[WAITING]].right + 100
        boxes[at[SUCCEEDED]] = Box(x, self.path - tall / 2, GOOD_END, tall)

    # By which way the edges go.

    def _route(self, edge: Edge) -> None:
        source, target = self.nodes[edge.source].phase, self.nodes[edge.target].phase
        box, other = self.boxes[edge.source], self.boxes[edge.target]
        if source == target:
            self._again(edge, box, below=source == COMPENSATING)
        elif STUCK in (source, target):
            self._about_stuck(edge, box, other, source, target)
        elif source in SMALL:
            self._from_small(edge, box, other, source, target)
        elif source in (PENDING, *FORWARD):
            self._from_forward(edge, box, other, source, target)
        else:
            self._behind(edge, box, other, source, target)

    def _from_forward(self, edge: Edge, box: Box, other: Box, source: str, target: str) -> None:
        if target in SMALL:
            x = other.x - 7
            self.spot(edge, x - 4, (box.bottom + other.top) / 2 - 3, -1)
            self.route((x, box.bottom), (x, other.top))
        elif source == PENDING and target == FAILED:
            self.spot(edge, box.x + 4, box.bottom + 22, 1)
            self.route((box.x, box.bottom), (other.x, other.top))
        elif target in (*FORWARD, SUCCEEDED):
            self._ahead(edge, box, other, source, target)
        else:
            self._given_up(edge, box, other, source, target)

    def _from_small(self, edge: Edge, box: Box, other: Box, source: str, target: str) -> None:
        if target == EXECUTING:
            x = box.x + 7
            self.spot(edge, x + 4, (box.top + other.bottom) / 2 + 3, 1, key=(source, target))
            self.route((x, box.top), (x, other.bottom))
        elif target in SMALL:
            self.spot(edge, (box.left + other.right) / 2 + 2, box.y - 3, 0, -1)
            self.route((box.left, box.y), (other.right, box.y))
        elif target in (WAITING, SUCCEEDED):
            self._up_beside(edge, box, other, source, target)
        else:
            self._given_up(edge, box, other, source, target)

    def _again(self, edge: Edge, box: Box, *, below: bool) -> None:
        """To the next part, in the same phase: a small loop."""
        if below:
            x, y = box.left + 40, box.bottom
            self.spot(edge, x + 4, y + 10, 1)
            self.route((x, y), (x, y + 16), (x - 22, y + 16), (x - 22, y))
        else:
            x, y = box.right - 48, box.top
            if edge.source == self.at.get(WAITING):  # lines come from above on its left
                self.spot(edge, x + 26, y - 8, 1)
            else:
                self.spot(edge, x - 4, y - 8, -1)
            self.route((x, y), (x, y - 14), (x + 22, y - 14), (x + 22, y))

    def _ahead(self, edge: Edge, box: Box, other: Box, source: str, target: str) -> None:
        """Along the happy path; what passes a box goes in an arc above it."""
        if (source, target) in ((PENDING, WAITING), (EXECUTING, SUCCEEDED)) and self._arcs():
            y = self.path - self.forward / 2 - (36 if source == PENDING else 24)
            out = box.x if source == PENDING else box.right - 12
            into = other.left + 16 if source == PENDING else other.x
            middle = other.left - 40 if target == SUCCEEDED else (box.right + other.left) / 2
            self.spot(edge, middle, y - 3, 0, -1)
            self.route((out, box.top), (out, y), (into, y), (into, other.top))
        elif source == WAITING and target == EXECUTING:
            self.spot(edge, (box.left + other.right) / 2, self.path + 10, 0, 1)
            self.route((box.left, self.path + 7), (other.right, self.path + 7))
        else:
            both = source == EXECUTING and target == WAITING and (WAITING, EXECUTING) in self.ways
            y = self.path - (7 if both else 0)
            self.spot(edge, (box.right + other.left) / 2, y - 3, 0, -1)
            self.route((box.right, y), (other.left, y))

    def _up_beside(self, edge: Edge, box: Box, other: Box, source: str, target: str) -> None:
        """From a small node to the right, and up to what comes after."""
        place = self.small.index(source)
        last = place == len(self.small) - 1
        x = (other.left + 34 if target == WAITING else other.x + 24) - 12 * (len(self.small) - 1 - place)
        y = box.y if last else self.sats_bottom + 6
        start: list[Point] = [(box.right, y)] if last else [(box.x + 10, box.bottom), (box.x + 10, y)]
        self.spot(edge, other.left + 14 if target == WAITING else x - 34, y - 3, -1, -1, key=(source, target))
        self.route(*start, (x, y), (x, other.bottom))

    def _given_up(self, edge: Edge, box: Box, other: Box, source: str, target: str) -> None:
        """Down a trunk: to compensation, or to the end."""
        trunk = self.left + 16
        beside = source == WAITING and EXECUTING in self.at
        start: list[Point]
        if beside:
            trunk = box.left + 20
            start = [(trunk, box.bottom)]
        elif source in FORWARD:
            start = [(trunk, box.bottom)]
        elif source == self.small[0]:
            start = [(box.left, box.y), (trunk, box.y)]
        else:
            y = self.sats_bottom + 16
            start = [(box.x - 10, box.bottom), (box.x - 10, y), (trunk, y)]
        own = len(start) if len(start) > 1 else None
        if target == COMPENSATING and not beside:
            self.spot(edge, trunk + 4, (self.fork + other.top) / 2, 1, key="down")
            self.route(*start, (trunk, other.top), own=own)
            return
        x = other.right - (60 if target == COMPENSATING else 18)
        if target == COMPENSATING:
            self.spot(edge, other.right - 22, self.fork - 3, 0, -1, key="beside")
        else:
            self.spot(edge, self.left - 48, self.fork - 3, 0, -1, key="left")
        self.route(*start, (trunk, self.fork), (x, self.fork), (x, other.top), own=own)

    def _about_stuck(self, edge: Edge, box: Box, other: Box, source: str, target: str) -> None:
        if target == STUCK:
            self._to_stuck(edge, box, other, source)
        else:
            self._from_stuck(edge, box, other, target)

    def _to_stuck(self, edge: Edge, box: Box, other: Box, source: str) -> None:
        if source == COMPENSATING:
            self.spot(edge, (box.right + other.left) / 2, self.lane - 10, 0, -1)
            self.route((box.right, self.lane - 7), (other.left, self.lane - 7))
        elif source == WAITING:
            x = other.x + 8
            self.spot(edge, x + 20, box.bottom + 14, 1)
            self.route((x, box.bottom), (x, other.top))
        else:
            x, y = self.right - 20, self.sats_bottom + 32
            self.spot(edge, self.right + 64, y - 3, 0, -1, key="stuck")
            start = [(x, box.bottom), (x, y)]
            if source != EXECUTING:
                start = [(box.x + 14, box.bottom), (box.x + 14, y), (x, y)]
            self.route(*start, (other.x - 12, y), (other.x - 12, other.top), own=3 if source != EXECUTING else None)

    def _from_stuck(self, edge: Edge, box: Box, other: Box, target: str) -> None:
        key = (STUCK, target)
        if target == COMPENSATING:
            self.spot(edge, (box.left + other.right) / 2, self.lane + 9, 0, 1, key=key)
            self.route((box.left, self.lane + 7), (other.right, self.lane + 7))
        elif target == FAILED:
            y = self.bottom - 26
            self.spot(edge, box.x - 20, y - 2, -1, -1, key=key)
            self.route((box.x, box.bottom), (box.x, y), (other.x, y), (other.x, other.bottom))
        elif target == EXECUTING:
            x, y = self.right - 8, self.sats_bottom + 48
            self.spot(edge, self.right + 56, y + 2, 0, 1, key=key)
            self.route((box.x - 2, box.top), (box.x - 2, y), (x, y), (x, other.bottom))
        elif target == WAITING:
            x = box.x + 18
            self.spot(edge, x + 4, other.bottom + 50, 1, key=key)
            self.route((x, box.top), (x, other.bottom))
        else:
            x = max(other.right - 8, box.right + 12)
            self.spot(edge, x + 4, self.fork - 26, 1, narrow=True, key=key)
            self.route((box.right, box.y), (x, box.y), (x, other.bottom))

    def _behind(self, edge: Edge, box: Box, other: Box, source: str, target: str) -> None:
        """In the lane of compensation, and from the end back into it."""
        if source == SUCCEEDED:
            y = self.fork + 14
            self.spot(edge, box.x - 4, box.bottom + 16, -1)
            self.route((box.x, box.bottom), (box.x, y), (other.right - 24, y), (other.right - 24, other.top))
        elif target == FAILED:
            self.spot(edge, (box.left + other.right) / 2, self.lane - 3, 0, -1)
            self.route((box.left, self.lane), (other.right, self.lane))
        elif source == COMPENSATING:
            x = other.x - 7
            self.spot(edge, x - 4, (box.bottom + other.top) / 2 - 2, -1)
            self.route((x, box.bottom), (x, other.top))
        else:
            x = box.x + 7
            self.spot(edge, x + 4, (box.top + other.bottom) / 2 + 2, 1)
            self.route((x, box.top), (x, other.bottom))
