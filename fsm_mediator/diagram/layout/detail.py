"""The layout of the detail view: every state of every part. Plain geometry; no format, no colour.

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

A long saga is broken into rows, read like the lines of a text. The machines of a group's branches are in a frame right
below the row of the group, tied to it by a line.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from typing import Final

from fsm_mediator.diagram.layout.columns import (
    ASPECT,
    BETWEEN,
    Column,
    Row,
    between,
    broken_columns,
    group_layout,
    margin,
)
from fsm_mediator.diagram.layout.geometry import Band, Box, Frame, Layout, Point
from fsm_mediator.diagram.layout.router import END, GAP, GOOD_END, LOOP, Router, own_points
from fsm_mediator.diagram.picture import Cluster, Edge, EdgeKind, Node, Picture
from fsm_mediator.states import (
    COMPENSATING,
    EXECUTING,
    FAILED,
    PENDING,
    PROBING,
    RETRYING_COMPENSATION,
    STUCK,
    STUCK_EXECUTING,
    SUCCEEDED,
    WAITING,
)

_ORDER: Final = {PROBING: 1, STUCK_EXECUTING: 2, STUCK: 2, RETRYING_COMPENSATION: 3}
"""The order of small nodes from left to right."""


def detail_layout(picture: Picture) -> Layout:
    """The layout of *picture*; the routes are in the order of `Picture.all_edges`."""
    return Lanes(picture).layout()


class Lanes(Router):
    """The places of all states, a column for each part, and the routes between them."""

    def __init__(self, picture: Picture) -> None:
        super().__init__(picture)
        forward = [node for node in picture.nodes if node.phase in (EXECUTING, WAITING)]
        self.columns = {node.path: Column(node) for node in forward}
        self.ends = {node.phase: node.id for node in picture.nodes if not node.path}
        self.compensated = {node.path for node in picture.nodes if node.phase == COMPENSATING}
        for node in sorted(picture.nodes, key=lambda node: _ORDER.get(node.phase, 0)):
            if node.path:
                self._put(node, self.columns[node.path])
        self.rows = [Row(columns) for columns in broken_columns(list(self.columns.values()))]
        for number, row in enumerate(self.rows):
            for column in row.columns:
                column.row = number

    def _put(self, node: Node, column: Column) -> None:
        if node is column.forward:
            return
        if node.phase == COMPENSATING or (node.phase == STUCK and column.forward.forward_only):
            column.lower = node
        elif node.phase == RETRYING_COMPENSATION or (node.phase == STUCK and node.path in self.compensated):
            column.under.append(node)
        else:
            column.small.append(node)

    # Nodes.

    def layout(self) -> Layout:
        """Place the nodes, then the lines, then the labels."""
        for column in self.columns.values():
            self._measure(column)
        self.first = END + GAP
        self.margin = self.first - GAP - 6
        for row in self.rows:
            self._place_columns(row)
        self.right = max(row.columns[-1].right for row in self.rows)
        self._measure_groups()
        top = 0.0
        for row in self.rows:
            top = self._place_row(row, top)
        self._place_ends()
        for edge in self.picture.edges:
            self._route(edge)
        self.place_labels()
        far = max(box.right for box in self.boxes.values())
        if len(self.rows) > 1:
            far = max(far, self.right + GAP + 24)
        out, last = self.out, self.rows[-1]
        out.bands += self._bands(far)
        out.frames += [frame for cluster in self.picture.clusters for frame in self._frames(cluster, 1)]
        for row in self.rows:
            for column, inner, box in row.groups:
                self._placegroup_layout(row, column, inner, box)
                far = max(far, box.right)
        out.width, out.height = far, last.bottom + last.groups_height
        return out

    # Groups.

    def _measure_groups(self) -> None:
        """Lay the branches of each group out, and find the places of groups below their row."""
        inner = {child.prefix: detail_layout(child) for child in self.picture.children}
        full = sum((each.width + 64) * (each.height + 50) for each in inner.values())
        full += sum(300 * (row.columns[-1].right + GAP) for row in self.rows)
        most = max([self.right, *(each.width + 72 for each in inner.values()), math.sqrt(full * ASPECT)])
        for row in self.rows:
            left = top = bottom = 0.0
            for column in row.columns:
                path = column.forward.path
                blocks = [(child, inner[child.prefix]) for child in self.picture.children if child.group == path]
                if not blocks:
                    continue
                group = group_layout(path, blocks, most)
                if left and left + group.width > most:
                    left, top = 0.0, bottom
                row.groups.append((column, group, Box(left, top, group.width, group.height)))
                left += group.width + BETWEEN
                bottom = max(bottom, top + group.height + BETWEEN)
            row.groups_height = bottom + 14 if row.groups else 0.0
            self.right = max([self.right, *(box.right for *_, box in row.groups)]) if len(self.rows) > 1 else self.right

    def _placegroup_layout(self, row: Row, column: Column, inner: Layout, box: Box) -> None:
        """Put the branches of a group below its row, and tie them to its column."""
        top = row.bottom + BETWEEN
        self.out.add(inner, box.left, top + box.top)
        lowest = column.lower if column.lower is not None and not column.is_stuck_below else column.forward
        start = (column.left + 7, self.boxes[lowest.id].bottom)
        if box.top:  # below another group: around that one
            left = -24 - 5 * row.columns.index(column)
            bus = row.bottom + 6
            points = [start, (start[0], bus), (left, bus), (left, top + box.top + 24), (box.left, top + box.top + 24)]
        else:
            x = min(max(start[0], box.left + 14), box.right - 14)
            bus = top - 10
            points = [start, (start[0], bus), (x, bus), (x, top)] if x != start[0] else [start, (x, top)]
        self.out.ties.append(points)

    def _measure(self, column: Column) -> None:
        """Set the width of *column*: its rows of nodes must have room."""

        def wide(*nodes: Node | None) -> float:
            return sum(self.sizes[node.id][0] for node in nodes if node is not None)

        small = 40 + wide(*column.small) + sum(map(between, column.small, column.small[1:]))
        column.width = max(
            132.0,
            wide(column.forward),
            wide(column.lower) + (74 if column.is_stuck_below else 0),
            small + (34 if column.is_stuck_below else 14) if column.small else 0,
            28 + wide(*column.under) + 16 * (len(column.under) - 1) if column.under else 0,
        )

    def _place_columns(self, row: Row) -> None:
        left = self.first
        row.depth = max(len(column.scopes()) for column in row.columns)
        row.columns[0].before = left - GAP / 2
        for column, following in itertools.zip_longest(row.columns, row.columns[1:]):
            column.left = left
            here, there = column.scopes(), following.scopes() if following is not None else ()
            shared = sum(1 for one, other in zip(here, there, strict=False) if one == other)
            closing = margin(row, shared + 1) if len(here) > shared else 0.0
            opening = margin(row, shared + 1) if len(there) > shared else 0.0
            column.gap = GAP + closing + opening
            left = column.right + column.gap
            column.after = (column.right + closing + left - opening) / 2
            if following is not None:
                following.before = column.after

    def _place_row(self, row: Row, top: float) -> float:
        """Place the nodes of *row* at *top*; return the top of the next row."""

        def high(nodes: Iterable[Node | None]) -> float:
            return max((self.sizes[node.id][1] for node in nodes if node is not None), default=0.0)

        columns = row.columns
        forward = high(column.forward for column in columns)
        small = high(node for column in columns for node in column.small)
        lower = max(high(column.lower for column in columns), 34.0 if row is self.rows[0] else 0.0)
        under = high(node for column in columns for node in column.under)
        row.top = top
        row.path = top + 20 + 15 * row.depth + forward / 2
        row.small = row.path + forward / 2 + (LOOP if small else 0)
        row.small_bottom = row.small + small
        row.fork = row.small_bottom + 32
        row.lower = row.fork + 30
        row.lane = row.lower + lower / 2
        row.under = row.lower + lower + (LOOP if under else 0)
        row.inner_bottom = row.under + under
        row.bottom = row.inner_bottom + 24 + 5 * row.depth
        for column in columns:
            self.boxes[column.forward.id] = Box(column.left, row.path - forward / 2, column.width, forward)
            left, before = column.left + 40, None
            for node in column.small:
                left += 0 if before is None else between(before, node)
                self.boxes[node.id] = Box(left, row.small, self.sizes[node.id][0], small)
                left, before = self.boxes[node.id].right, node
            if column.lower is not None:
                wide, tall = self.sizes[column.lower.id] if column.is_stuck_below else (column.width, lower)
                inset = 40.0 if column.is_stuck_below else 0.0
                self.boxes[column.lower.id] = Box(column.left + inset, row.lane - tall / 2, wide, tall)
            left = column.left + 14
            for node in column.under:
                self.boxes[node.id] = Box(left, row.under, self.sizes[node.id][0], under)
                left = self.boxes[node.id].right + 16
        return row.bottom + row.groups_height + 58

    def _place_ends(self) -> None:
        first, last = self.rows[0], self.rows[-1]
        tall = 34.0 if not self.picture.is_run else 42.0
        self.boxes[self.ends[PENDING]] = Box(0, first.path - tall / 2, END, tall)
        if FAILED in self.ends:  # after the pivot a saga only goes forward
            self.boxes[self.ends[FAILED]] = Box(0, first.lane - tall / 2, END, tall)
        column = last.columns[-1]
        self.boxes[self.ends[SUCCEEDED]] = Box(column.right + column.gap, last.path - tall / 2, GOOD_END, tall)

    def _bands(self, far: float) -> Iterable[Band]:
        left, wide = -14.0, far + 28
        below = "← COMPENSATION" if self.compensated else "GIVEN UP"
        for row in self.rows:
            middle = row.fork - 15
            yield Band(Box(left, row.top, wide, middle - row.top), "FORWARD →", back=False)
            yield Band(Box(left, middle, wide, row.bottom - middle), below, back=True)

    def _frames(self, cluster: Cluster, depth: int) -> Iterable[Frame]:
        for row in self.rows:
            inside = [column for column in row.columns if cluster.path in column.scopes()]
            if inside:
                room = margin(row, depth)
                top = row.top + 17 + 15 * (depth - 1)
                bottom = row.inner_bottom + 6 + 5 * (row.depth - depth)
                left, right = inside[0].left - room, inside[-1].right + room
                yield Frame(cluster, Box(left, top, right - left, bottom - top))
        for inner in cluster.clusters:
            yield from self._frames(inner, depth + 1)

    # Lines.

    def _route(self, edge: Edge) -> None:
        source, target = self.nodes[edge.source], self.nodes[edge.target]
        box, other = self.boxes[edge.source], self.boxes[edge.target]
        column = self.columns.get(source.path)
        if (source.phase, target.phase) == (PENDING, FAILED):
            self.vertical(edge, box.x, 1, y=box.bottom + 22)
        elif source.phase == PENDING:
            self.horizontal(edge, box.y)
        elif column is None:  # a succeeded saga is undone: back into the lane of compensation
            row = self.rows[-1]
            start = ((box.x, box.bottom), (box.x, row.lane))
            points = (*start, *self._to_lane(len(self.rows) - 1, edge))
            self.route(edge, *points, at=(box.x - 4, (box.bottom + row.fork) / 2, -1, 0))
        elif column is self.columns.get(target.path):
            self._route_within(edge, column, source, target)
        elif target.phase in (EXECUTING, WAITING, SUCCEEDED):
            self._route_executed(edge, column, source)
        elif source in (column.lower, *column.under):
            self._route_compensated(edge, column, source)
        else:
            self._route_failed(edge, column, source, other)

    def _row_of(self, identity: str) -> int:
        node = self.nodes[identity]
        if node.path:
            return self.columns[node.path].row
        return len(self.rows) - 1 if node.phase == SUCCEEDED else 0

    def _route_within(self, edge: Edge, column: Column, source: Node, target: Node) -> None:
        """Between two nodes of one part."""
        row = self.rows[column.row]
        box, other = self.boxes[edge.source], self.boxes[edge.target]
        forward, lower, small = column.forward, column.lower, column.small
        if source in small and target in small:
            self.horizontal(edge, box.y, shift=2)
        elif source is forward and target in small:
            probing = target.phase == PROBING
            self.vertical(edge, other.x - (0 if probing else 7), 1 if probing else -1)
        elif target is forward and source in small:
            self.vertical(edge, box.x + (0 if source.phase == PROBING else 7), 1)
        elif target is lower and source in (forward, *small):
            start = self._to_trunk(column, source)
            end = [(column.trunk, other.top)]
            if column.is_stuck_below:
                end = [(column.trunk, other.y - 4), (other.left, other.y - 4)]
            at = (column.trunk + 4, (row.fork + other.top) / 2, 1, 0)
            self.route(edge, *start, *end, at=at, key=(column, "down"), own=own_points(start))
        elif source is lower and target is forward:
            x, y = column.right - 12, box.y - 8
            self.route(edge, (box.right, y), (x, y), (x, other.bottom), at=(x - 4, row.fork + 4, -1, 0))
        elif source is lower:
            self.vertical(edge, other.x - 7, -1)
        else:
            self.vertical(edge, box.x + 7, 1)

    def _to_trunk(self, column: Column, source: Node) -> list[Point]:
        """From a node to the trunk."""
        box = self.boxes[source.id]
        if source is column.forward:
            return [(column.trunk, box.bottom)]
        if source is column.small[0]:
            return [(box.left, box.y), (column.trunk, box.y)]
        x = box.x - 10 if source.phase == PROBING else box.x
        y = self.rows[column.row].small_bottom + 14
        return [(x, box.bottom), (x, y), (column.trunk, y)]

    def _route_executed(self, edge: Edge, column: Column, source: Node) -> None:
        """Along the happy path, or up to it: to the next part, or to the end."""
        row, number = self.rows[column.row], self._row_of(edge.target)
        box, other = self.boxes[edge.source], self.boxes[edge.target]
        is_lower = source is column.lower
        merge = column.right + (28 if is_lower else 16)
        at, narrow = (column.after, row.path - 3, 0.0, -1.0), source is not column.forward
        start: list[Point] = [(box.right, row.path)]
        if narrow:
            if is_lower or source is column.small[-1]:
                y = box.y + (8 if is_lower else 0)
                start = [(box.right, y), (merge, y)]
                at = (merge + (16 if column.is_stuck_below and not is_lower else 4), y - 2, 1, -1)
            else:
                y = row.small_bottom + 7
                start = [(box.x + 10, box.bottom), (box.x + 10, y), (merge, y)]
                at = (merge + 4, y - 2, 1, 0)
            start.append((merge, row.path))
        own = own_points(start)
        if number > column.row:
            below = self.rows[number]
            outer, channel, inner = self.right + GAP + 12, below.top - 20, self.first - 24
            start += [(outer, row.path), (outer, channel), (inner, channel), (inner, below.path)]
        self.route(edge, *start, (other.left, other.y), at=at, narrow=narrow, own=own)

    def _route_failed(self, edge: Edge, column: Column, source: Node, other: Box) -> None:
        """Down the trunk and to the left: to the nearest compensation before, or to the end."""
        row, box = self.rows[column.row], self.boxes[edge.source]
        start = self._to_trunk(column, source)
        key, at = None, (box.x + 2, row.small_bottom + 16, -1.0, 1.0)
        if edge.kind is not EdgeKind.PERSON:
            key, at = (column, "left"), (column.before, row.fork - 3, 0, -1)
        if self._row_of(edge.target) == column.row:
            x = other.right - (20 if self.nodes[edge.target].path else 16)
            end = other.bottom if row.fork > other.bottom else other.top
            points = (*start, (column.trunk, row.fork), (x, row.fork), (x, end))
        else:
            points = (*start, (column.trunk, row.fork), (self.margin, row.fork), *self._up(edge, column.row))
        self.route(edge, *points, at=at, key=key, own=own_points(start))

    def _route_compensated(self, edge: Edge, column: Column, source: Node) -> None:
        """Along the lane of compensation, or up to it: to the compensation before, or to the end."""
        row, box = self.rows[column.row], self.boxes[edge.source]
        is_lower = source is column.lower
        start = [(box.left, row.lane)]
        at, own = (column.before, row.lane - 3, 0.0, -1.0), None if is_lower else 3
        if source.phase != COMPENSATING:
            merge = column.left - 20
            y = box.y + (9 if is_lower else 0)
            start = [(box.left, y), (merge, y), (merge, row.lane)]
            at = ((merge + box.left) / 2, y + 3, 0, 1) if is_lower else (merge - 3, y, -1, 0)
        end = self._to_lane(column.row, edge)
        if self._row_of(edge.target) < column.row and is_lower and source.phase == STUCK:
            # The edges that give a part of this row up rise at the margin as well, from a little higher.
            start += [(self.margin, row.lane), (self.margin, row.fork)]
            own, end = len(start), end[1:]
        self.route(edge, *start, *end, at=at, narrow=not is_lower, own=own)

    def _to_lane(self, number: int, edge: Edge) -> list[Point]:
        """From the lane of compensation of a row to the edge's target, in the same row or in one above."""
        other = self.boxes[edge.target]
        if self._row_of(edge.target) == number:
            return [(other.right, other.y)]
        return [(self.margin, self.rows[number].lane), *self._up(edge, number)]

    def _up(self, edge: Edge, number: int) -> Iterable[Point]:
        """From the left margin of a row to the edge's target in a row above."""
        other = self.boxes[edge.target]
        inner = self.right + 26
        while number > self._row_of(edge.target):
            channel = self.rows[number].top - 38
            number -= 1
            lane = self.rows[number].lane
            yield from ((self.margin, channel), (inner, channel), (inner, lane))
            if number > self._row_of(edge.target):
                yield (self.margin, lane)
        yield (other.right, other.y)
