"""The strips of the detail view, and the layout of a group's branches.

A strip is a horizontal stripe of the picture that holds all nodes of one part. Lengths are in points.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import attrs

from fsm_mediator.diagram.layout.geometry import Box, Frame, Layout
from fsm_mediator.diagram.layout.router import lines_of, size_of
from fsm_mediator.diagram.picture import Cluster, Node, Picture
from fsm_mediator.states import PROBING, RETRYING_COMPENSATION, STUCK, STUCK_EXECUTING, outer_path, scopes_of

ORDER: Final = {PROBING: 1, STUCK_EXECUTING: 2, STUCK: 2, RETRYING_COMPENSATION: 3}
"""The position of a small node among the small nodes of its part, by phase. A lower number is higher in the picture."""

HEAD: Final = 16.0
"""The height of the room for the names of the lanes, at the top of the picture."""

PATH: Final = 48.0
ASIDE: Final = 12.0
"""The distance from a strip's left edge to the happy path: `PATH` below a part, `ASIDE` beside a group's branches."""

BELOW_TRUNK: Final = 24.0
"""The distance from the top of a strip to the top of its first small node."""

FORK: Final = 18.0
ENTRY: Final = 45.0
"""The *fork* is the vertical line from parts that are given up to the next compensation.

`FORK` is the distance from the small nodes to the fork, and `ENTRY` from the fork to the compensating nodes.
"""

ENTRY_OF_NONE: Final = 28.0
"""The distance from the fork to the end ``failed``, if no part can be undone."""

SIDE: Final = 9.0
"""The distance between the left side of a frame and the left side of the frame around it."""

BESIDE_FORK: Final = 7.0
BESIDE_PERSON: Final = 42.0
"""The distance from the fork to the right side of a frame in the forward lane.

`BESIDE_PERSON` is used if the label of a person's decision must fit between the fork and the frame.
"""

BELOW: Final = 30.0
"""The distance between a compensating node and a small node below it. A label must fit between them."""

STUCK_LINES: Final = 20.0
"""The distance from the lower edge of a stuck node to the lower edge of its part, if the part has no compensation.

The line from the stuck node back to the part runs there.
"""

LEFT_OF_STUCK: Final = 26.0
"""The room left of a stuck node whose part has no compensation. The label of the line to the node must fit in it."""

MORE_AREA: Final = 1.15
"""Small nodes are placed below compensations if the area of the picture grows at most by this factor.

A picture with small nodes beside the compensations has more blank space.
"""

APART: Final = 12.0
"""The distance between two small nodes below a compensating node."""

LEAST_UNDER: Final = 84.0
"""The minimum width of a small node below a compensating node. Two lines, side by side, connect the two nodes."""

OFF: Final = 24.0
"""The distance from the left edges of the compensating nodes to the vertical line that connects these nodes.

It is used if small nodes are below compensating nodes.
"""

RIGHT_OF_LANE: Final = 30.0
"""The distance from the line that connects the compensating nodes to the first small node below such a node."""

LEVEL: Final = 18.0
"""The distance between the right side of a frame and the right side of the frame around it. A line fits between them.
"""

BESIDE: Final = 12.0
"""The distance between the frames of two branches of a group."""

INSET: Final = 20.0
"""The distance between the machine of a branch and the sides of its frame."""

MOST: Final = 840.0
"""The maximum width of branches that are side by side. A single branch may be wider."""


@attrs.define(eq=False)
class Strip:
    """The nodes of one part, and the y coordinates that belong to the part."""

    forward: Node  # the node that executes the part or waits
    number: int  # the index of the strip. The top strip has index 0
    small: list[Node] = attrs.Factory(list)  # the small nodes right of *forward*, from the top down
    lower: Node | None = None  # the node that compensates the part. None if it cannot be compensated
    under: list[Node] = attrs.Factory(list)  # the small nodes right of the compensating node, or below it
    joining: list[str] = attrs.Factory(list)  # the ids of other nodes that lead to the next part or ``succeeded``
    branches: list[tuple[Picture, Layout]] = attrs.Factory(list)  # the picture and layout of each branch of a group
    group: Layout | None = None  # the frame around the branches, with the branches. None if there are no branches
    top: float = 0.0
    height: float = 0.0
    last: int = 0  # the index of the last strip beside the compensating node
    reach: float = 0.0  # the lower edge of the compensating node and of the small nodes below it
    low: float = 0.0  # the y of lines to the right that pass below the part and its branches
    shut: float = 0.0  # in the lane of compensation: the lower side of the outermost frame that ends here
    labels: float = 0.0  # the upper edge of the room for labels below the part and its branches
    end: float = 0.0  # the lower edge of the room for labels

    @property
    def bottom(self) -> float:
        """The y coordinate of the part's lower edge."""
        return self.top + self.height

    @property
    def trunk(self) -> float:
        """The y coordinate of the trunk, the horizontal line that leads out of the strip if the part is given up."""
        return self.top + 14

    @property
    def is_stuck_below(self) -> bool:
        """Whether the part has a stuck node but no compensation.

        The line from that node then leads back to the part.
        """
        return self.lower is None and any(node.phase == STUCK for node in self.under)

    @property
    def is_in_the_way(self) -> bool:
        """Whether this strip has nodes or branches in the lane of compensation.

        Then the compensating node of a strip above must end above this strip.
        """
        return self.lower is not None or bool(self.under) or bool(self.branches)

    @property
    def has_joining_under(self) -> bool:
        """Whether an edge from a node in *under* leads to the next part or to the end ``succeeded``."""
        return any(node.id in self.joining for node in self.under)

    @property
    def scopes(self) -> tuple[str, ...]:
        """The paths of the nested sagas that contain the part. The outermost saga is first."""
        return scopes_of(self.forward.scope)


def group_layout(path: str, blocks: Sequence[tuple[Picture, Layout]], most: float) -> Layout:
    """Place the branches of the group *path* in a frame, each as near to the top as possible. Returns the layout.

    *blocks* has the picture and the layout of each branch. *most* is the maximum width of the frame in points.
    """
    out, placed = Layout(), list[Box]()
    # *lefts* has the possible left edges of a branch. *lowest* has the placed branches that have no branch below them.
    lefts, lowest = {float(BESIDE)}, list[Box]()
    for child, inner in blocks:
        # The node for branches that are left out has no frame.
        wide, high = (inner.width, inner.height) if child.is_rest else (inner.width + 2 * INSET, inner.height + 28)
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
        if child.is_rest:
            out.add(inner, left, top)
            continue
        out.frames.append(Frame(Cluster(path=child.prefix, label=child.heading), new))
        out.add(inner, left + INSET, top + 20)
    out.width, out.height = (max(getattr(box, side) for box in placed) + BESIDE for side in ("right", "bottom"))
    prefix = outer_path(blocks[0][0].prefix.removesuffix("/"))
    out.frames.insert(0, Frame(Cluster(path=f"{prefix}//", label=path), Box(0, 0, out.width, out.height)))
    return out


def rest_layout(picture: Picture) -> Layout:
    """The layout of the single node that stands for the branches that are left out."""
    (node,) = picture.nodes
    lines = lines_of(node)
    wide, high = size_of(node, lines)
    box = Box(0.0, 0.0, wide, high)
    return Layout(boxes={node.id: box}, lines={node.id: lines}, width=wide, height=high)


def arranged(strips: Sequence[Strip], base: float, laid_out: Callable[[Picture, float], Layout]) -> None:
    """Set `Strip.group` of each strip with branches, so that the area of the machine is as small as possible.

    *base* is the width of the machine without the branches, in points. *laid_out* returns the layout of a branch, made
    wider by a number of points.
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
        framed = [(child, inner) for child, inner in strip.branches if not child.is_rest]
        for child, inner in framed:
            left = lefts[child.prefix]
            widest[left] = max(widest.get(left, 0.0), inner.width)
        if len(widest) == 1:  # the branches are in one column, which becomes as wide as the machine
            widest = {left: wide + room - found.width for left, wide in widest.items()}
        blocks = [
            (child, laid_out(child, spare) if (spare := widest[lefts[child.prefix]] - inner.width) else inner)
            for child, inner in framed
        ]
        blocks += strip.branches[len(framed) :]
        strip.group = group_layout(strip.forward.path, blocks, max(most, room))


def common(here: Sequence[str], there: Sequence[str]) -> int:
    """How many nested sagas two parts have in common.

    *here* and *there* are the `Strip.scopes` of the two parts: the paths of the nested sagas that contain the part.
    """
    return sum(one == other for one, other in zip(here, there, strict=False))
