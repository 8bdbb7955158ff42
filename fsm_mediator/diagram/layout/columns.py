"""The parts of the detail view's layout: a column for each part, rows of columns, and the branches of a group."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import attrs

from fsm_mediator.diagram.layout.geometry import Box, Frame, Layout
from fsm_mediator.diagram.layout.router import GAP
from fsm_mediator.diagram.picture import Cluster, Node, Picture
from fsm_mediator.states import PROBING, RETRYING, STUCK, outer_path, scopes_of

BESIDE: Final = 14.0
"""The distance of two branches of a group."""

BETWEEN: Final = 24.0
"""The distance of a row and the groups below it."""

ASPECT: Final = 1.3
"""The ratio of width and height to which the branches of groups are wrapped."""

ONE_ROW: Final = 5
ROW: Final = 8
"""The most parts in a row: in the only one, in each of several."""


@attrs.define(eq=False)
class Column:
    """A part, and its nodes by place."""

    forward: Node  # executes the part, or waits
    small: list[Node] = attrs.Factory(list)  # the small nodes below it, from left to right
    lower: Node | None = None  # compensates the part; stuck, if the part cannot be compensated
    under: list[Node] = attrs.Factory(list)  # the small nodes below that
    row: int = 0  # the number of its row
    left: float = 0.0
    width: float = 0.0
    gap: float = GAP  # the room right of it, up to the next part
    before: float = 0.0  # the middle of the room for labels left of it
    after: float = 0.0  # the middle of the room for labels right of it

    @property
    def right(self) -> float:
        """The right edge."""
        return self.left + self.width

    @property
    def trunk(self) -> float:
        """The line down which a part is given up."""
        return self.left + 14

    @property
    def is_stuck_below(self) -> bool:
        """Whether the part cannot be compensated, so that its stuck node is in the place of compensation."""
        return self.lower is not None and self.lower.phase == STUCK

    def scopes(self) -> tuple[str, ...]:
        """The nested sagas around the part, the outermost first."""
        return scopes_of(self.forward.scope)


@attrs.define
class Row:
    """Columns side by side; the heights of the rows of nodes and of the lines between them, from the top down."""

    columns: list[Column]
    depth: int = 0
    top: float = 0.0
    path: float = 0.0
    small: float = 0.0
    small_bottom: float = 0.0
    fork: float = 0.0
    lower: float = 0.0
    lane: float = 0.0
    under: float = 0.0
    inner_bottom: float = 0.0
    bottom: float = 0.0
    groups: list[tuple[Column, Layout, Box]] = attrs.Factory(list)  # the branches of its groups, to be placed below it
    groups_height: float = 0.0


def group_layout(path: str, blocks: Sequence[tuple[Picture, Layout]], most: float) -> Layout:
    """The branches of a group in its frame, each where there is room highest up."""
    out, placed = Layout(), list[Box]()
    for child, inner in blocks:
        wide, high = inner.width + 44, inner.height + 28
        spots = []  # left of all, or right of a branch; as high as the branches above it allow
        for left in (BESIDE, *(box.right + BESIDE for box in placed)):
            if left == BESIDE or left + wide + BESIDE <= most:
                above = (box for box in placed if box.left < left + wide + BESIDE and left < box.right + BESIDE)
                spots.append((max((box.bottom + BESIDE for box in above), default=26.0), left))
        top, left = min(spots)
        placed.append(Box(left, top, wide, high))
        out.frames.append(Frame(Cluster(path=child.prefix, label=child.heading), placed[-1]))
        out.add(inner, left + 22, top + 20)
    out.width, out.height = (max(getattr(box, side) for box in placed) + BESIDE for side in ("right", "bottom"))
    prefix = outer_path(blocks[0][0].prefix.removesuffix("/"))
    out.frames.insert(0, Frame(Cluster(path=f"{prefix}//", label=path), Box(0, 0, out.width, out.height)))
    return out


def margin(row: Row, depth: int) -> float:
    """How far the frame of a nested saga, *depth* sagas deep, stands off its parts."""
    return 9.0 + 8.0 * (row.depth - depth)


def between(before: Node, node: Node) -> float:
    """The distance of two small nodes: the label of the edge between or above them must have room."""
    return 46.0 if (before.phase, node.phase) == (RETRYING, PROBING) else 30.0


def broken_columns(columns: Sequence[Column]) -> list[list[Column]]:
    """The columns in rows of about equal length, so that the whole is not much wider than high."""
    count = len(columns)
    if count <= ONE_ROW:
        return [list(columns)]
    rows = math.ceil(count / min(ROW, max(4, round(math.sqrt(count * 2.2)))))
    most = math.ceil(count / rows)
    return [list(columns[start : start + most]) for start in range(0, count, most)]
