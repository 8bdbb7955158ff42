"""The layout of the detail view: every state of every part. Plain geometry; no format, no colour.

The happy path runs down the left side. Failures run to the right and then back up. Each part is a horizontal strip::

                  ┌─────────── given up ───────────────▲ to the compensation above
    ┌───────────┐ │            trunk       in doubt  ┌──────────────┐ exhausted ┌───────┐
    │ executing ├─┴────────────────────┬────────────▶│ compensating ├──────────▶│ stuck │
    │           │ errored   ┌──────────┴┐            │              │           └───────┘
    │           ├──────────▶│ retrying  │            │              │ errored   ┌──────────┐
    │           │◀──────────┤           │            │              ├──────────▶│ retrying │
    └─────┬─────┘ retry due └───────────┘            └──────▲───────┘           └──────────┘
          │ executed                                        │ compensated

The machines of a group's branches are in a frame right below the group's strip. A line connects the strip and the
frame. The way forward passes the frame on the left, and the way back passes it on the right.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

from fsm_mediator.diagram.layout.geometry import Band, Box, Frame, Layout, Text
from fsm_mediator.diagram.layout.lanes import Lanes
from fsm_mediator.diagram.layout.router import CAPTION, END, GOOD_END, LOOP
from fsm_mediator.diagram.layout.strips import (
    ASIDE,
    BELOW,
    BELOW_TRUNK,
    ENTRY,
    ENTRY_OF_NONE,
    FORK,
    OFF,
    PATH,
    RIGHT_OF_LANE,
    Strip,
    arranged,
    common,
    reach_of,
)
from fsm_mediator.diagram.picture import Cluster, Node, Picture
from fsm_mediator.diagram.text import shorten
from fsm_mediator.states import (
    FAILED,
    PENDING,
    PROBING,
    SUCCEEDED,
)


def detail_layout(picture: Picture, wider: float = 0.0) -> Layout:
    """The layout of *picture*. The routes are in the order of `Picture.all_edges`.

    *wider* is the number of points by which the layout is wider than necessary.
    """
    beside, below = Strips(picture, 0.0), Strips(picture, 0.0, narrow=True)
    tried = [each.layout() for each in ((beside, below) if below.can_be_narrow else (beside,))]
    best = min(tried, key=lambda each: each.width**2 * each.height)  # text is as large as its column is not wide
    return Strips(picture, wider, narrow=best is not tried[0]).layout() if wider else best


class Strips(Lanes):
    """Places all states of a machine in strips, one strip for each part."""

    def __init__(self, picture: Picture, wider: float, *, narrow: bool = False) -> None:
        super().__init__(picture, narrow=narrow)
        self.wider = wider
        for child in picture.children:
            self.strips[child.group].branches.append((child, detail_layout(child)))

    @property
    def can_be_narrow(self) -> bool:
        """Whether the small nodes right of the compensations can move below them.

        This needs at least one such node, and every part with such nodes must have a compensation and only one of them.
        """
        unders = [strip for strip in self.all if strip.under]
        return bool(unders) and all(strip.lower is not None and len(strip.under) == 1 for strip in unders)

    def layout(self) -> Layout:
        """Place the nodes, then the lines, then the labels. Returns the layout."""
        self._measure()
        self._place()
        for edge in self.picture.edges:
            self._route(edge)
        self.place_labels()
        out = self.out
        out.frames += [frame for cluster in self.picture.clusters for frame in self._frames(cluster, 1)]
        out.width = max(
            [self.right, *(box.right for box in self.boxes.values())]
            + [frame.box.right for frame in out.frames]
            + [x for route in self.routes for x, _ in route.points]
        )
        bands = list(self._bands())
        for strip in self.all:
            self._place_group(strip)
        out.bands[:0] = bands
        return out

    def _measure(self) -> None:
        """Find the sizes of the strips, and the x positions that all strips share, from left to right."""

        def wide(nodes: Iterable[Node | None]) -> float:
            return max((self.sizes[node.id][0] for node in nodes if node is not None), default=0.0)

        strips = self.all
        self.depth: int = max(len(strip.scopes) for strip in strips)
        self.left: float = 9.0 * self.depth
        self.forward_right: float = self.left + max(116.0, wide(strip.forward for strip in strips))
        small = wide(node for strip in strips for node in strip.small)
        self.small_left: float = self.forward_right + LOOP
        self.small_right: float = self.small_left + small if small else self.forward_right
        self.fork: float = max(self.small_right + FORK, self.forward_right + 46)
        only_end = FAILED in self.ends and not self.compensated  # in the right lane
        self.back_left: float = self.fork + (ENTRY_OF_NONE if only_end else ENTRY)
        under = wide(node for strip in strips for node in strip.under)
        lower = max(wide(strip.lower for strip in strips), END if FAILED in self.ends else 0.0)
        self.back_right: float = self.back_left + lower
        if self.narrow:
            self.back_right = max(self.back_right, self.back_left + OFF + RIGHT_OF_LANE + max(under, 84) / 2 + 24)
        self.lane: float = self.back_left + OFF if self.narrow else (self.back_left + self.back_right) / 2
        self.around: float = 0.0  # where a line passes a compensation that has its small node below it
        self.words: float = self.lane + 5 if self.compensated else self.fork + (3 if only_end else -8)
        self.under_left: float = self.lane + 20 if only_end else self.back_right + (LOOP if self.compensated else 0.0)
        right = self.under_left + under if under else self.back_right if lower else self.small_right
        if self.narrow:
            self.under_left = self.lane + RIGHT_OF_LANE
            right = self.around = max(self.lane + 160, self.back_right + 10, self.under_left + under + 10)
        for strip in strips:
            strip.height = self._height(strip)
        arranged(strips, right - self.left - ASIDE - 12, detail_layout)
        groups = [self.left + ASIDE + 12 + strip.group.width for strip in strips if strip.group is not None]
        self.right: float = max([right + self.wider, *groups])
        self._spread((self.right - right) / (2 if under and not self.narrow else 1))

    def _spread(self, spare: float) -> None:
        """Move the compensating nodes right by *spare* points, and the nodes to their right by twice as much."""
        self.back_left += spare
        self.back_right += spare
        self.lane += spare
        self.words += spare
        self.around += spare
        self.under_left += 2 * spare if self.back_right > self.back_left and not self.narrow else spare

    def _height(self, strip: Strip) -> float:
        def tall(nodes: Sequence[Node]) -> float:
            return sum(self.sizes[node.id][1] for node in nodes) + self.gap * (len(nodes) - 1)

        room = [self.sizes[strip.forward.id][1], 40.0]
        if strip.small:
            loops = any(node.phase == PROBING for node in strip.small) * (14.0 + self.more)
            room.append(BELOW_TRUNK + tall(strip.small) + loops + (18 if strip.is_stuck_below else 0))
        if self.narrow and strip.lower is not None and strip.under:
            room.append(self._lower_height(strip) + BELOW + self.more + tall(strip.under))
        elif strip.under:
            room.append(tall(strip.under) + (20 if strip.is_stuck_below else 0))
        if strip.lower is not None:
            room.append(self.sizes[strip.lower.id][1])
        return max(room)

    def _lower_height(self, strip: Strip) -> float:
        """The height of the compensating node above its small node, in points."""
        return max(60.0, self.sizes[strip.lower.id][1] if strip.lower is not None else 0.0)

    def _place(self) -> None:
        """Place the nodes from the top down."""
        tall = max(self.sizes[identity][1] for identity in self.ends.values())
        self.boxes[self.ends[PENDING]] = Box(self.left + PATH - END / 2, self.head, END, tall)
        if FAILED in self.ends:  # after the pivot a saga only goes forward
            self.boxes[self.ends[FAILED]] = Box(self.lane - END / 2, self.head, END, tall)
        self.start = self.head + tall
        top = self._below(self.start + 4, None, self.all[0])
        for strip, following in itertools.zip_longest(self.all, self.all[1:]):
            self._place_strip(strip, top)
            top = self._below(self._after(strip), strip, following)
        last = self.all[-1]
        alone = [edge.source for edge in self.picture.edges].count(last.forward.id) == 1
        left, top = self.left + ASIDE + LOOP, self._after(last) + 8.0 * len(last.scopes) + self.more
        if alone and not (last.small or last.lower or last.under) and last.group is None:
            left, top = self.forward_right + LOOP, last.top + (last.height - tall) / 2
        self.boxes[self.ends[SUCCEEDED]] = Box(left, top, GOOD_END, tall)
        self.out.height = max(last.bottom, top + tall) + 6
        self._place_back()

    def _below(self, top: float, strip: Strip | None, following: Strip | None) -> float:
        """Leave room below *strip* for the sides of frames and for labels. Returns the top of the *following* strip."""
        here = strip.scopes if strip is not None else ()
        there = following.scopes if following is not None else ()
        shared = common(here, there)
        top += 8.0 * (len(here) - shared)
        if strip is not None and (strip.group is not None or len(here) > shared):
            strip.low = top + 3
            top += 10
        end = top + 15 + self.more
        if strip is not None:
            strip.labels, strip.end = top, end
        else:
            self.labels: float = top
            self.labels_end: float = end
        rises = following is not None and bool(following.under)
        return end + 17.0 * (len(there) - shared) + (11 if rises else 4)

    def _after(self, strip: Strip) -> float:
        """The bottom of *strip*, including the lines that join its own line and the frame of its branches."""
        bottom = strip.bottom + 4 + (13 + self.more) * len(strip.joining)
        if strip.group is None:
            return bottom
        return bottom + 12 + strip.group.height + 4

    def _group_top(self, strip: Strip) -> float:
        """The top of the frame of a group's branches."""
        return strip.bottom + 16 + (13 + self.more) * len(strip.joining)

    def _place_strip(self, strip: Strip, top: float) -> None:
        strip.top = top
        self.boxes[strip.forward.id] = Box(self.left, top, self.forward_right - self.left, strip.height)
        down, before = top + BELOW_TRUNK, None
        for node in strip.small:
            if before is not None:
                down += self.gap + (14 + self.more if node.phase == PROBING else 0)
            self.boxes[node.id] = Box(self.small_left, down, *self.sizes[node.id])
            down, before = self.boxes[node.id].bottom, node

    def _place_back(self) -> None:
        """Place the nodes to which parts are given up: the compensations and the end ``failed``.

        Each of these nodes is as tall as all the parts that are given up to it. Its small nodes are placed beside it.
        """
        succeeded, covered = self.boxes[self.ends[SUCCEEDED]], self.all
        end = succeeded.bottom
        if succeeded.top < covered[-1].bottom:  # it is in the row of the last part
            covered, end = covered[:-1], 0.0
        reach = reach_of(covered, (), end) if FAILED in self.ends else 0.0
        if reach > self.start:
            wide = self.back_right - self.back_left
            self.boxes[self.ends[FAILED]] = Box(self.back_left, self.head, wide, reach - self.head)
            self.start: float = reach
        for strip in self.all:
            if strip.lower is not None:
                self._place_lower(strip, strip.lower, covered, end)
            down = strip.top
            if self.narrow and strip.lower is not None:
                down = self.boxes[strip.lower.id].bottom + BELOW + self.more
            for node in strip.under:
                wide, tall = self.sizes[node.id]
                self.boxes[node.id] = Box(self.under_left, down, max(wide, 84.0) if self.narrow else wide, tall)
                down = self.boxes[node.id].bottom + self.gap

    def _place_lower(self, strip: Strip, lower: Node, covered: Sequence[Strip], end: float) -> None:
        strip.reach = strip.bottom
        if strip.group is None and not any(node.id in strip.joining for node in strip.under):
            strip.reach = max(strip.reach, reach_of(covered[strip.number + 1 :], strip.scopes, end))
        high = strip.reach - strip.top
        if self.narrow and strip.under:
            high -= BELOW + self.more + self.sizes[strip.under[0].id][1]
        self.boxes[lower.id] = Box(self.back_left, strip.top, self.back_right - self.back_left, high)

    def _place_group(self, strip: Strip) -> None:
        """Place the branches of a group below its strip, and connect them to the strip by a line."""
        if strip.group is None:
            return
        left, top = self.left + ASIDE + 12, self._group_top(strip)
        self.out.add(strip.group, left, top)
        x = left + 8
        self.out.ties.append([(x, strip.bottom), (x, top)])

    def _bands(self) -> Iterable[Band]:
        """The backgrounds of both lanes. Frames of branches interrupt them."""
        left, right, middle = -14.0, self.out.width + 14, self.fork - 8
        below = "↑ COMPENSATION" if self.compensated else "GIVEN UP"
        goes_back = FAILED in self.ends or any(strip.under for strip in self.all)
        top, first = 0.0, not self.picture.prefix
        ends = [self._after(strip) - 4 for strip in self.all if strip.group is not None]
        begins = [self._group_top(strip) for strip in self.all if strip.group is not None]
        for bottom, after in [*zip(begins, ends, strict=True), (self.out.height, 0.0)]:
            wide = (middle if goes_back else right) - left
            yield Band(Box(left, top, wide, bottom - top), "FORWARD ↓" if first else "", back=False)
            if goes_back:
                yield Band(Box(middle, top, right - middle, bottom - top), below if first else "", back=True)
            top, first = after, False

    def _frames(self, cluster: Cluster, level: int) -> Iterable[Frame]:
        inside = [strip for strip in self.all if cluster.path in strip.scopes]
        if inside:
            opening = len(inside[0].scopes) - level
            top = inside[0].top - (12 if inside[0].under else 4) - 17 * opening - 15
            closing = common(inside[-1].scopes, self._following(inside[-1]))
            bottom = inside[-1].low - 7 - 8.0 * (level - closing - 1)
            left = self.left - 9 * (self.depth - level + 1)
            yield Frame(cluster, Box(left, top, self._edge(level) - left, bottom - top))
            words = Text(shorten(cluster.label, 40), self.left + PATH + 8, top + 9, CAPTION + 1, False, "small")
            self.out.texts.append(words)
        for inner in cluster.clusters:
            yield from self._frames(inner, level + 1)

    def _following(self, strip: Strip) -> tuple[str, ...]:
        after = self.all[strip.number + 1 : strip.number + 2]
        return after[0].scopes if after else ()
