"""The strips of the detail view's layout: one strip for each part, and a frame around the branches of a group."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import attrs

from fsm_mediator.diagram.layout.geometry import Box, Frame, Layout
from fsm_mediator.diagram.picture import Cluster, Node, Picture
from fsm_mediator.states import PROBING, RETRYING_COMPENSATION, STUCK, STUCK_EXECUTING, outer_path, scopes_of

ORDER: Final = {PROBING: 1, STUCK_EXECUTING: 2, STUCK: 2, RETRYING_COMPENSATION: 3}
"""The order of small nodes from the top down."""

HEAD: Final = 16.0
"""Room for the names of the lanes."""

PATH: Final = 48.0
ASIDE: Final = 12.0
"""How far right of a strip's left edge the happy path leaves the strip, or passes the branches of a group. In points.
"""

BELOW_TRUNK: Final = 24.0
"""How far below a strip's top its first small node is."""

FORK: Final = 18.0
ENTRY: Final = 45.0
"""From the small nodes to the line along which parts are given up, and from that line to the compensating nodes."""

ENTRY_OF_NONE: Final = 28.0
"""From the line along which parts are given up to the end, if nothing can be undone."""

SIDE: Final = 9.0
"""The distance of the left sides of two frames, one in the other."""

BESIDE_FORK: Final = 7.0
BESIDE_PERSON: Final = 42.0
"""From the line on which parts are given up to the right side of a frame; the same beside what a person says there."""

BELOW: Final = 30.0
"""The distance between a compensation and a small node below it. A label must fit between them."""

STUCK_LINES: Final = 20.0
"""Between a stuck node as tall as its part and the part's lower edge: the line back to the part runs there."""

LEFT_OF_STUCK: Final = 26.0
"""Left of such a node in the lane of compensation: the label of the line to it must have room there."""

MORE_AREA: Final = 1.15
"""Small nodes are below compensations if that takes at most so many times the area: less of it is blank."""

APART: Final = 12.0
"""Between two small nodes below a compensation."""

LEAST_UNDER: Final = 84.0
"""The least width of a small node below a compensation: two lines lead to it, beside each other."""

OFF: Final = 24.0
"""How far right of a compensation's left edge the way back passes, if the compensation's small node is below it."""

RIGHT_OF_LANE: Final = 30.0
"""The distance from the way back to the left edge of that small node."""

LEVEL: Final = 18.0
"""The distance between the right sides of two nested frames. A line runs between them."""

BESIDE: Final = 12.0
"""The distance of two branches of a group."""

INSET: Final = 20.0
"""The distance between the machine of a branch and the sides of its frame."""

MOST: Final = 840.0
"""The most width to which branches are put side by side; a single one may be wider."""


@attrs.define(eq=False)
class Strip:
    """A part, its nodes, and the positions of its lines."""

    forward: Node  # the node that executes the part or waits
    number: int  # the index of the strip, from the top
    small: list[Node] = attrs.Factory(list)  # the small nodes right of it, from the top down
    lower: Node | None = None  # the node that compensates the part. None if it cannot be compensated
    under: list[Node] = attrs.Factory(list)  # the small nodes right of the compensating node
    joining: list[str] = attrs.Factory(list)  # the ids of other nodes from which the part is done, in order
    branches: list[tuple[Picture, Layout]] = attrs.Factory(list)  # the branches of a group
    group: Layout | None = None  # the frame of its branches, below it
    top: float = 0.0
    height: float = 0.0
    last: int = 0  # the last strip whose failure leads to its compensation first
    reach: float = 0.0  # the lower edge of its compensation
    low: float = 0.0  # where lines pass below it and its branches
    shut: float = 0.0  # the lower side of the outermost frame that ends with it in the lane of compensation
    labels: float = 0.0  # the top of the room for labels, below it and its branches
    end: float = 0.0  # the bottom of that room

    @property
    def bottom(self) -> float:
        """The y coordinate of the part's lower edge."""
        return self.top + self.height

    @property
    def trunk(self) -> float:
        """The y coordinate of the trunk, the line along which a part is given up."""
        return self.top + 14

    @property
    def is_stuck_below(self) -> bool:
        """Whether the part has a stuck node but no compensation.

        The line from that node then leads back to the part.
        """
        return self.lower is None and any(node.phase == STUCK for node in self.under)

    @property
    def is_in_the_way(self) -> bool:
        """Whether it has nodes or branches in the lane of compensation: no compensation above it is beside it."""
        return self.lower is not None or bool(self.under) or bool(self.branches)

    @property
    def has_joining_under(self) -> bool:
        """Whether a line from a node in the lane of compensation joins the happy path."""
        return any(node.id in self.joining for node in self.under)

    @property
    def scopes(self) -> tuple[str, ...]:
        """The nested sagas around the part, the outermost first."""
        return scopes_of(self.forward.scope)


def group_layout(path: str, blocks: Sequence[tuple[Picture, Layout]], most: float) -> Layout:
    """The layout of a group's branches in their frame. Each branch is placed as high as possible."""
    out, placed = Layout(), list[Box]()
    lefts, lowest = {float(BESIDE)}, list[Box]()  # possible left edges; the branches with nothing below them
    for child, inner in blocks:
        wide, high = inner.width + 2 * INSET, inner.height + 28
        spots = []  # the highest possible position at each left edge
        for left in lefts:
            if left == BESIDE or left + wide + BESIDE <= most:
                above = (box for box in lowest if box.left < left + wide + BESIDE and left < box.right + BESIDE)
                spots.append((max((box.bottom + BESIDE for box in above), default=24.0), left))
        top, left = min(spots)
        new = Box(left, top, wide, high)
        placed.append(new)
        lefts.add(new.right + BESIDE)
        lowest = [box for box in lowest if box.left < new.left or box.right > new.right] + [new]
        out.frames.append(Frame(Cluster(path=child.prefix, label=child.heading), new))
        out.add(inner, left + INSET, top + 20)
    out.width, out.height = (max(getattr(box, side) for box in placed) + BESIDE for side in ("right", "bottom"))
    prefix = outer_path(blocks[0][0].prefix.removesuffix("/"))
    out.frames.insert(0, Frame(Cluster(path=f"{prefix}//", label=path), Box(0, 0, out.width, out.height)))
    return out


def arranged(strips: Sequence[Strip], base: float, laid_out: Callable[[Picture, float], Layout]) -> None:
    """Choose a layout for the branches of each group, so that the machine's area is as small as possible.

    *base* is the width of the machine without the branches, in points.
    """
    groups = [strip for strip in strips if strip.branches]
    wide = [inner.width + 2 * (INSET + BESIDE) for strip in groups for _, inner in strip.branches]
    least = max([base, *wide])
    rest = sum(strip.height + 30 for strip in strips)

    def tried(most: float) -> tuple[float, float, list[Layout]]:
        found = [group_layout(strip.forward.path, strip.branches, most) for strip in groups]
        area = max([base, *(each.width for each in found)]) * (rest + sum(each.height + 50 for each in found))
        return area, most, found

    widths = [least, *(most for most in range(500, int(MOST) + 1, 50) if most > least)]
    _, most, best = min(map(tried, widths), key=lambda each: each[0])
    room = max([base, *(each.width for each in best)])
    for strip, found in zip(groups, best, strict=True):
        lefts = {frame.content.path: frame.box.left for frame in found.frames}
        widest: dict[float, float] = {}
        for child, inner in strip.branches:
            left = lefts[child.prefix]
            widest[left] = max(widest.get(left, 0.0), inner.width)
        if len(widest) == 1:  # one column, as wide as the machine
            widest = {left: wide + room - found.width for left, wide in widest.items()}
        blocks = [
            (child, laid_out(child, spare) if (spare := widest[lefts[child.prefix]] - inner.width) else inner)
            for child, inner in strip.branches
        ]
        strip.group = group_layout(strip.forward.path, blocks, max(most, room))


def common(here: Sequence[str], there: Sequence[str]) -> int:
    """The number of nested sagas that are around both parts, counted from the outermost saga."""
    return sum(one == other for one, other in zip(here, there, strict=False))
