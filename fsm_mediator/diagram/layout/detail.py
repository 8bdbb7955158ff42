"""Lanes: how the detail view is laid out, every state of every part. Plain geometry; no format, no colour.

The happy path is one straight line along the top of a row; what comes back runs
below it, so that nothing ever crosses it. A part is a column::

      trunk
        |   ┌──────────────────────────┐
      ──┼──▶│ executing                ├──── executed ───▶
        |   └┬──────┬▲───────────┬─────┘
        |    │      ▼│           ▼
        |    ├─ retrying ◀─── probing ── executed ──▶ joins the path
        |    ├───────────────────┘
    ◀───┼────┤ rejected              what gives up goes down the trunk, which forks:
        |    ▼ in doubt              to the compensation before, or to the part's own
      ◀─────┬──────────────────────────┐
        |   │ compensating             │◀─── compensated ──
        |   └────┬▲──────────────┬▲────┘
        |        ▼│              ▼│
    ◀─────── stuck            retrying

A long saga is broken into rows, read like the lines of a text.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Final

from fsm_mediator.diagram.layout.geometry import END, GAP, GOOD_END, LOOP, Band, Box, Frame, Layout, Point, Router
from fsm_mediator.diagram.picture import Cluster, Edge, EdgeKind, Node, Picture
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

ONE_ROW: Final = 5
ROW: Final = 8
"""How many parts stand in a row where it is the only one, and where there are more."""


class _Column:
    """A part: its nodes by where they stand."""

    def __init__(self, forward: Node) -> None:
        self.forward = forward
        self.sats: list[Node] = []
        self.lower: Node | None = None
        self.under: list[Node] = []
        self.row = 0
        self.left = self.width = 0.0
        self.gap = GAP
        self.before = self.after = 0.0  # the middles of the room for labels left and right of it

    @property
    def right(self) -> float:
        """Its right edge."""
        return self.left + self.width

    @property
    def trunk(self) -> float:
        """By where a part is given up."""
        return self.left + 14

    @property
    def gutter(self) -> float:
        """By where a person's retry goes back up from below."""
        return self.right - 12

    def scopes(self) -> list[str]:
        """The nested sagas it is in, the outermost first."""
        names = self.forward.scope.split(".")[:-1]
        return [".".join(names[: depth + 1]) for depth in range(len(names))]


class _Row:
    """Some columns beside each other, and the heights in them."""

    def __init__(self, columns: list[_Column]) -> None:
        self.columns = columns
        self.top = self.path = self.sats = self.sats_bottom = self.fork = 0.0
        self.lower = self.lane = self.under = self.inner_bottom = self.bottom = 0.0
        self.depth = 0


_ORDER: Final = {RETRYING: 0, PROBING: 1, STUCK_EXECUTING: 2, STUCK: 2, RETRYING_COMPENSATION: 3}


class Lanes(Router):
    """Every state: a column for each part."""

    def __init__(self, picture: Picture) -> None:
        super().__init__(picture)
        self.columns: dict[str, _Column] = {}
        self.ends: dict[str, str] = {}
        self.compensated = {node.path for node in picture.nodes if node.phase == COMPENSATING}
        for node in picture.nodes:
            if node.phase in (EXECUTING, WAITING):
                self.columns[node.path] = _Column(node)
            elif not node.path:
                self.ends[node.phase] = node.id
        for node in picture.nodes:
            if node.path:
                self._put(node)
        rows = _broken(list(self.columns.values()))
        self.rows = [_Row(columns) for columns in rows]
        for number, row in enumerate(self.rows):
            for column in row.columns:
                column.row = number

    def _put(self, node: Node) -> None:
        column = self.columns[node.path]
        if node is column.forward:
            return
        if node.phase == COMPENSATING or (node.phase == STUCK and column.forward.forward_only):
            column.lower = node
        elif node.phase == RETRYING_COMPENSATION or (node.phase == STUCK and node.path in self.compensated):
            column.under.append(node)
        else:
            column.sats.append(node)
        column.sats.sort(key=lambda node: _ORDER[node.phase])
        column.under.sort(key=lambda node: _ORDER[node.phase])

    # Where the nodes stand.

    def layout(self) -> Layout:
        """Where everything is."""
        sizes = self.sizes
        for column in self.columns.values():
            self._measure(column, sizes)
        self.first = END + GAP
        for row in self.rows:
            self._place_columns(row)
        self.right = max(row.columns[-1].right for row in self.rows)
        top = 0.0
        for row in self.rows:
            top = self._place_row(row, top, sizes)
        self._place_ends()
        for edge in self.picture.edges:
            self._route(edge)
        self.place_labels()
        far = max(box.right for box in self.boxes.values())
        if len(self.rows) > 1:
            far = max(far, self.right + GAP + 24)
        bands = list(self._bands(far))
        frames = list(self._frames())
        return Layout(self.boxes, self.texts, self.routes, bands, frames, far, self.rows[-1].bottom)

    def _measure(self, column: _Column, sizes: dict[str, tuple[int, int]]) -> None:
        """How wide it must be for what stands side by side in it."""
        wide = max(132.0, sizes[column.forward.id][0])
        if column.lower is not None:
            wide = max(wide, sizes[column.lower.id][0] + (74 if _is_stuck(column.lower) else 0))
        room = 40.0
        for before, node in zip([None, *column.sats], column.sats, strict=False):
            room += sizes[node.id][0] + (0 if before is None else _between(before, node))
        if column.sats:
            wide = max(wide, room + (34 if _is_stuck(column.lower) else 14))
        if column.under:
            wide = max(wide, 28 + sum(sizes[node.id][0] for node in column.under) + 16 * (len(column.under) - 1))
        column.width = wide

    def _place_columns(self, row: _Row) -> None:
        left = self.first
        row.depth = max(len(column.scopes()) for column in row.columns)
        row.columns[0].before = left - GAP / 2
        for number, column in enumerate(row.columns):
            column.left = left
            following = row.columns[number + 1] if number + 1 < len(row.columns) else None
            here, there = column.scopes(), following.scopes() if following is not None else []
            shared = sum(1 for one, other in zip(here, there, strict=False) if one == other)
            closing = _margin(row, shared + 1) if len(here) > shared else 0.0
            opening = _margin(row, shared + 1) if len(there) > shared else 0.0
            column.gap = GAP + closing + opening
            left = column.right + column.gap
            column.after = (column.right + closing + left - opening) / 2
            if following is not None:
                following.before = column.after

    def _place_row(self, row: _Row, top: float, sizes: dict[str, tuple[int, int]]) -> float:
        """Put the row's nodes where they belong; returns the top of what is below."""

        def high(nodes: Iterable[Node | None]) -> float:
            return max((sizes[node.id][1] for node in nodes if node is not None), default=0.0)

        columns = row.columns
        forward = high(column.forward for column in columns)
        sats = high(node for column in columns for node in column.sats)
        lower = high(column.lower for column in columns)
        under = high(node for column in columns for node in column.under)
        if row is self.rows[0]:
            lower = max(lower, 34.0)
        row.top = top
        y = top + 20 + 15 * row.depth
        row.path = y + forward / 2
        y += forward
        row.sats = y + LOOP if sats else y
        row.sats_bottom = row.sats + sats
        row.fork = row.sats_bottom + 32
        row.lower = row.fork + 30
        row.lane = row.lower + lower / 2
        row.under = row.lower + lower + (LOOP if under else 0)
        row.inner_bottom = row.under + under
        row.bottom = row.inner_bottom + 24 + 5 * row.depth
        for column in columns:
            self.boxes[column.forward.id] = Box(column.left, row.path - forward / 2, column.width, forward)
            left = column.left + 40
            for before, node in zip([None, *column.sats], column.sats, strict=False):
                left += 0 if before is None else _between(before, node)
                self.boxes[node.id] = Box(left, row.sats, sizes[node.id][0], sats)
                left += sizes[node.id][0]
            if column.lower is not None:
                inset = 40.0 if column.lower.phase == STUCK else 0.0
                wide = sizes[column.lower.id][0] if inset else column.width
                tall = sizes[column.lower.id][1] if inset else lower
                self.boxes[column.lower.id] = Box(column.left + inset, row.lane - tall / 2, wide, tall)
            left = column.left + 14
            for node in column.under:
                self.boxes[node.id] = Box(left, row.under, sizes[node.id][0], under)
                left += sizes[node.id][0] + 16
        return row.bottom + 58

    def _place_ends(self) -> None:
        first, last = self.rows[0], self.rows[-1]
        tall = 34.0 if not self.picture.is_run else 42.0
        self.boxes[self.ends[PENDING]] = Box(0, first.path - tall / 2, END, tall)
        if FAILED in self.ends:  # what runs after the pivot only goes forward
            self.boxes[self.ends[FAILED]] = Box(0, first.lane - tall / 2, END, tall)
        column = last.columns[-1]
        self.boxes[self.ends[SUCCEEDED]] = Box(column.right + column.gap, last.path - tall / 2, GOOD_END, tall)

    def _bands(self, far: float) -> Iterable[Band]:
        left, wide = -14.0, far + 28
        has_back = any(node.phase == COMPENSATING for node in self.picture.nodes)
        for row in self.rows:
            middle = row.fork - 15
            yield Band(Box(left, row.top, wide, middle - row.top), "FORWARD →", back=False)
            yield Band(
                Box(left, middle, wide, row.bottom - middle), "← COMPENSATION" if has_back else "GIVEN UP", back=True
            )

    def _frames(self) -> Iterable[Frame]:
        def frames(cluster: Cluster, depth: int) -> Iterable[Frame]:
            for row in self.rows:
                inside = [column for column in row.columns if cluster.path in column.scopes()]
                if inside:
                    room = _margin(row, depth)
                    top = row.top + 17 + 15 * (depth - 1)
                    bottom = row.inner_bottom + 6 + 5 * (row.depth - depth)
                    left, right = inside[0].left - room, inside[-1].right + room
                    yield Frame(cluster, Box(left, top, right - left, bottom - top))
            for inner in cluster.clusters:
                yield from frames(inner, depth + 1)

        for cluster in self.picture.clusters:
            yield from frames(cluster, 1)

    # By which way the edges go.

    def _route(self, edge: Edge) -> None:
        source, target = self.nodes[edge.source], self.nodes[edge.target]
        here = self.columns.get(source.path)
        there = self.columns.get(target.path)
        if source.phase == PENDING:
            self._from_pending(edge, target)
        elif source.phase == SUCCEEDED:
            self._undo(edge)
        elif here is None:
            raise AssertionError(f"nothing leaves {source.id}")
        elif there is not None and here is there:
            self._within(edge, here, source, target)
        elif target.phase in (EXECUTING, WAITING, SUCCEEDED):
            self._onward(edge, here, source)
        elif source in (here.lower, *here.under):
            self._homeward(edge, here, source)
        else:
            self._given_up(edge, here, source)

    def _row_of(self, identity: str) -> int:
        node = self.nodes[identity]
        if node.path:
            return self.columns[node.path].row
        return len(self.rows) - 1 if node.phase == SUCCEEDED else 0

    def _from_pending(self, edge: Edge, target: Node) -> None:
        box, other = self.boxes[edge.source], self.boxes[edge.target]
        if target.phase == FAILED:
            self.spot(edge, box.x + 4, box.bottom + 22, 1)
            self.route((box.x, box.bottom), (other.x, other.top))
        else:
            self.spot(edge, (box.right + other.left) / 2, box.y - 3, 0, -1)
            self.route((box.right, box.y), (other.left, box.y))

    def _within(self, edge: Edge, column: _Column, source: Node, target: Node) -> None:
        """Between two nodes of one part."""
        row = self.rows[column.row]
        box, other = self.boxes[edge.source], self.boxes[edge.target]
        forward, lower = column.forward, column.lower
        if source is forward and target in column.sats:
            x = other.x - (0 if target.phase == PROBING else 7)
            side = 1 if target.phase == PROBING else -1
            self.spot(edge, x + 4 * side, (box.bottom + other.top) / 2 - 2, side)
            self.route((x, box.bottom), (x, other.top))
        elif target is forward and source in column.sats:
            x = box.x + (0 if source.phase == PROBING else 7)
            self.spot(edge, x + 4, (box.top + other.bottom) / 2 + 2, 1)
            self.route((x, box.top), (x, other.bottom))
        elif source in column.sats and target in column.sats:
            self.spot(edge, (box.left + other.right) / 2 + 2, box.y - 3, 0, -1)
            self.route((box.left, box.y), (other.right, box.y))
        elif target is lower and source in (forward, *column.sats):
            start = self._to_the_trunk(column, source)
            own = len(start) if len(start) > 1 else None
            self.spot(edge, column.trunk + 4, (row.fork + other.top) / 2, 1, key=(column, "down"))
            if _is_stuck(lower):
                self.route(*start, (column.trunk, other.y - 4), (other.left, other.y - 4), own=own)
            else:
                self.route(*start, (column.trunk, other.top), own=own)
        elif source is lower and target is forward:
            x = column.gutter
            self.spot(edge, x - 4, row.fork + 4, -1)
            self.route((box.right, box.y - 8), (x, box.y - 8), (x, other.bottom))
        elif source is lower:
            x = other.x - 7
            self.spot(edge, x - 4, (box.bottom + other.top) / 2 - 2, -1)
            self.route((x, box.bottom), (x, other.top))
        else:
            x = box.x + 7
            self.spot(edge, x + 4, (box.top + other.bottom) / 2 + 2, 1)
            self.route((x, box.top), (x, other.bottom))

    def _to_the_trunk(self, column: _Column, source: Node) -> list[Point]:
        """From a node to where it joins the trunk, by which a part is given up."""
        box = self.boxes[source.id]
        if source is column.forward:
            return [(column.trunk, box.bottom)]
        if source is column.sats[0]:
            return [(box.left, box.y), (column.trunk, box.y)]
        x = box.x - 10 if source.phase == PROBING else box.x
        bus = self.rows[column.row].sats_bottom + 14
        return [(x, box.bottom), (x, bus), (column.trunk, bus)]

    def _onward(self, edge: Edge, column: _Column, source: Node) -> None:
        """Along the happy path, or up to it: to the next part, or to the end."""
        row = self.rows[column.row]
        box, other = self.boxes[edge.source], self.boxes[edge.target]
        merge = column.right + (28 if source is column.lower else 16)
        start: list[Point]
        own = None
        if source is column.forward:
            start = [(box.right, row.path)]
            self.spot(edge, column.after, row.path - 3, 0, -1)
        else:
            beside = column.sats and source is column.sats[-1]
            if beside or source is column.lower:
                y = box.y + (8 if source is column.lower else 0)
                start = [(box.right, y), (merge, y)]
                clear = 16 if source is not column.lower and _is_stuck(column.lower) else 4
                self.spot(edge, merge + clear, y - 2, 1, -1, narrow=True)
            else:
                y = row.sats_bottom + 7
                start = [(box.x + 10, box.bottom), (box.x + 10, y), (merge, y)]
                self.spot(edge, merge + 4, y - 2, 1, 0, narrow=True)
            own = len(start) + 1
            start.append((merge, row.path))
        number = self._row_of(edge.target)
        if number > column.row:
            below = self.rows[number]
            outer, channel, inner = self.right + GAP + 12, below.top - 20, self.first - 24
            start += [(outer, row.path), (outer, channel), (inner, channel), (inner, below.path)]
        self.route(*start, (other.left, other.y), own=own)

    def _given_up(self, edge: Edge, column: _Column, source: Node) -> None:
        """Down the trunk and to the left: to the nearest compensation before, or to the end."""
        row = self.rows[column.row]
        box = self.boxes[edge.source]
        way = self._to_the_trunk(column, source)
        own = len(way) if len(way) > 1 else None
        if edge.nature is EdgeKind.PERSON:
            self.spot(edge, box.x + 2, row.sats_bottom + 16, -1, 1)
        else:
            self.spot(edge, column.before, row.fork - 3, 0, -1, key=(column, "left"))
        other = self.boxes[edge.target]
        if self._row_of(edge.target) == column.row:
            x = other.right - (20 if self.nodes[edge.target].path else 16)
            self.route(*way, (column.trunk, row.fork), (x, row.fork), (x, other.top), own=own)
        else:
            margin = self.first - GAP - 6
            self.route(*way, (column.trunk, row.fork), (margin, row.fork), *self._up(edge, column.row), own=own)

    def _homeward(self, edge: Edge, column: _Column, source: Node) -> None:
        """Along the lane of compensation, or up to it: to the compensation before, or to the end."""
        row = self.rows[column.row]
        box = self.boxes[edge.source]
        start: list[Point]
        if source is column.lower and source.phase == COMPENSATING:
            start = [(box.left, row.lane)]
            self.spot(edge, column.before, row.lane - 3, 0, -1)
        else:
            merge = column.left - 20
            y = box.y + (9 if source is column.lower else 0)
            start = [(box.left, y), (merge, y), (merge, row.lane)]
            if source is column.lower:
                self.spot(edge, (merge + box.left) / 2, y + 3, 0, 1)
            else:
                self.spot(edge, merge - 3, y, -1, 0, narrow=True)
        own = 3 if source in column.under else None
        if self._row_of(edge.target) < column.row and source is column.lower and source.phase == STUCK:
            # What was rejected in this row goes up the margin as well, from a little higher.
            margin = self.first - GAP - 6
            start += [(margin, row.lane), (margin, row.fork)]
            self.route(*start, *self._up(edge, column.row), own=len(start))
        else:
            self._lane(edge, start, column.row, own=own)

    def _undo(self, edge: Edge) -> None:
        """From the end back into the lane of compensation."""
        box, row = self.boxes[edge.source], self.rows[-1]
        self.spot(edge, box.x - 4, (box.bottom + row.fork) / 2, -1)
        self._lane(edge, [(box.x, box.bottom), (box.x, row.lane)], len(self.rows) - 1)

    def _lane(self, edge: Edge, way: list[Point], number: int, own: int | None = None) -> None:
        other = self.boxes[edge.target]
        if self._row_of(edge.target) == number:
            self.route(*way, (other.right, other.y), own=own)
        else:
            self.route(*way, (self.first - GAP - 6, self.rows[number].lane), *self._up(edge, number), own=own)

    def _up(self, edge: Edge, number: int) -> Iterable[Point]:
        """From the left margin of a row to the edge's target in a row above."""
        other = self.boxes[edge.target]
        margin, inner = self.first - GAP - 6, self.right + 26
        while number > self._row_of(edge.target):
            channel = self.rows[number].top - 38
            number -= 1
            lane = self.rows[number].lane
            yield from ((margin, channel), (inner, channel), (inner, lane))
            if number > self._row_of(edge.target):
                yield (margin, lane)
        yield (other.right, other.y)


def _is_stuck(lower: Node | None) -> bool:
    """Whether a part cannot be compensated, and has the state of being stuck in its place."""
    return lower is not None and lower.phase == STUCK


def _margin(row: _Row, depth: int) -> float:
    """How far the frame of a nested saga, *depth* sagas deep, stands off its parts."""
    return 9.0 + 8.0 * (row.depth - depth)


def _between(before: Node, node: Node) -> float:
    """How far two small nodes stand apart: the label of what goes between, or down to them, must have room."""
    if before.phase == RETRYING and node.phase == PROBING:
        return 46.0
    return 30.0


def _broken(columns: Sequence[_Column]) -> list[list[_Column]]:
    """The columns in rows of about equal length, so that the whole is not much wider than high."""
    count = len(columns)
    if count <= ONE_ROW:
        return [list(columns)]
    rows = math.ceil(count / min(ROW, max(4, round(math.sqrt(count * 2.2)))))
    most = math.ceil(count / rows)
    return [list(columns[start : start + most]) for start in range(0, count, most)]
