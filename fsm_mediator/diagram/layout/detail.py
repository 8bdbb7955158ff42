"""The layout of the detail view, which shows every state of every part. Plain geometry; no format, no colour.

The happy path runs down the left side. Failures run to the right and then back up. Each part is a horizontal strip::

                  ┌─────────── given up ───────────────▲ to the compensation above
    ┌───────────┐ │            trunk       in doubt  ┌──────────────┐ exhausted ┌───────┐
    │ executing ├─┴────────────────────┬────────────▶│ compensating ├──────────▶│ stuck │
    │           │ errored   ┌──────────┴┐            │              │           └───────┘
    │           ├──────────▶│ retrying  │            │              │ errored   ┌──────────┐
    │           │◀──────────┤           │            │              ├──────────▶│ retrying │
    └─────┬─────┘ retry due └───────────┘            └──────▲───────┘           └──────────┘
          │ executed                                        │ compensated

The *small nodes* of a part show its retries, its probe and its stuck states. The machines of a group's branches are in
a frame right below the group's strip. A line connects the strip and the frame. The line to the next part passes the
frame on the left, and the line from compensation to compensation passes the frame on the right.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

from fsm_mediator.diagram.layout.geometry import LINE, Band, Box, Frame, Layout, Text
from fsm_mediator.diagram.layout.lanes import Lanes
from fsm_mediator.diagram.layout.router import CAPTION, END, GOOD_END, LABEL, LOOP
from fsm_mediator.diagram.layout.scopes import Scope, Scopes
from fsm_mediator.diagram.layout.strips import (
    APART,
    ASIDE,
    BELOW,
    BELOW_TRUNK,
    BESIDE_FORK,
    BESIDE_PERSON,
    ENTRY,
    ENTRY_OF_NONE,
    FORK,
    LEAST_UNDER,
    LEFT_OF_STUCK,
    MORE_AREA,
    OFF,
    PATH,
    RIGHT_OF_LANE,
    SIDE,
    STUCK_LINES,
    Strip,
    arranged,
    common,
    rest_layout,
)
from fsm_mediator.diagram.picture import Cluster, Node, Picture
from fsm_mediator.diagram.text import fitted, shorten
from fsm_mediator.states import FAILED, PENDING, PROBING, STUCK_PHASES, SUCCEEDED


def detail_layout(picture: Picture, wider: float = 0.0) -> Layout:
    """The positions of all elements of *picture*. The routes are in the order of `Picture.all_edges`.

    *wider* is a number of points. The layout is wider than necessary by this number.
    """
    if picture.is_rest:
        return rest_layout(picture)
    beside = Strips(picture, 0.0)
    tried = [beside.layout()]
    if beside.can_be_narrow:
        tried.append(Strips(picture, 0.0, narrow=True).layout())
    # A picture is scaled to the width of its page, so a wide picture has small text: the width counts twice.
    areas = [each.width**2 * each.height for each in tried]
    narrow = len(tried) > 1 and areas[1] < (MORE_AREA if beside.has_empty_column else 1) * areas[0]
    return Strips(picture, wider, narrow=narrow).layout() if wider else tried[narrow]


class Strips(Lanes):
    """Places all states of a machine in strips, one strip for each part.

    If *narrow*, the small nodes of a compensation are below the compensating node, else right of it.
    """

    def __init__(self, picture: Picture, wider: float, *, narrow: bool = False) -> None:
        super().__init__(picture, narrow=narrow)
        self.wider = wider
        for child in picture.children:
            self.strips[child.group].branches.append((child, detail_layout(child)))
        self.probes: set[str] = {node.id for node in picture.nodes if node.phase == PROBING}
        # The number of strips, counted from the top, that can have a box beside them in the lane of compensation.
        self.covered: int = len(self.all) - self.ends_beside
        self.scopes: Scopes = Scopes(self.all, self.covered, goes_back=FAILED in self.ends or bool(self.compensated))

    @property
    def goes_back(self) -> bool:
        """Whether there are nodes in the lane of compensation."""
        return FAILED in self.ends or any(strip.under for strip in self.all)

    @property
    def ends_beside(self) -> bool:
        """Whether the end ``succeeded`` is right of the last part and not below it."""
        last = self.all[-1]
        alone = [edge.source for edge in self.picture.edges].count(last.forward.id) == 1
        return alone and not (last.small or last.lower or last.under or last.branches)

    @property
    def can_be_narrow(self) -> bool:
        """Whether `detail_layout` also tries a layout with small nodes below the compensating nodes.

        Two conditions must hold. First, at least one compensating node has small nodes. Second, `has_empty_column` is
        true, or the picture is simple. It is simple if no frame has two pieces, and if each compensation with small
        nodes has a compensating node and exactly one small node.
        """
        unders = [strip for strip in self.all if strip.under]
        plain = not self.scopes.apart and all(strip.lower is not None and len(strip.under) == 1 for strip in unders)
        return any(strip.lower is not None for strip in unders) and (plain or self.has_empty_column)

    @property
    def has_empty_column(self) -> bool:
        """Whether the small nodes of all compensations would fill less than half of a column right of them."""
        filled = sum(self.sizes[node.id][1] for strip in self.all for node in strip.under)
        return filled < sum(max(self.sizes[strip.forward.id][1], self._room_of_small(strip)) for strip in self.all) / 2

    def layout(self) -> Layout:
        """Place the nodes, then the lines of the edges, then the labels. Returns the layout."""
        self._measure()
        self._place()
        for edge in self.picture.edges:
            self._route(edge)
        self.place_labels()
        out = self.out
        out.frames += [frame for cluster in self.picture.clusters for frame in self._frames(cluster, 1)]
        out.height = max([out.height, *(box.bottom + 6 for box in self.boxes.values())])
        out.height = max([out.height, *(frame.box.bottom + 6 for frame in out.frames)])
        out.width = max(
            [self.right, *(box.right for box in self.boxes.values())]
            + [frame.box.right for frame in out.frames]
            + [x for route in self.routes for x, _ in route.points]
            + [route.label.right - 10 for route in self.routes if route.label is not None]
        )
        bands = list(self._bands())
        for strip in self.all:
            self._place_group(strip)
        out.bands[:0] = bands
        return out

    def _measure(self) -> None:
        """Find the heights of the strips, and the x coordinates that all strips share, from left to right."""

        def wide(nodes: Iterable[Node | None]) -> float:
            return max((self.sizes[node.id][0] for node in nodes if node is not None), default=0.0)

        strips = self.all
        self.depth: int = max(len(strip.scopes) for strip in strips)
        self.left: float = SIDE * self.depth
        self.forward_right: float = self.left + max(116.0, wide(strip.forward for strip in strips))
        small = wide(node for strip in strips for node in strip.small)
        self.small_left: float = self.forward_right + LOOP
        self.small_right: float = self.small_left + small if small else self.forward_right
        self.fork: float = max(self.small_right + FORK, self.forward_right + 46)
        only_end = FAILED in self.ends and not self.compensated  # the lane of compensation has no compensating node
        rises = any(node.phase in STUCK_PHASES for strip in strips for node in strip.small)
        self.beside_fork: float = self.fork + (BESIDE_PERSON if rises else BESIDE_FORK)
        self.back_left: float = self.fork + (ENTRY_OF_NONE if only_end and not rises else ENTRY)
        if self.scopes.apart:
            self.back_left += self.beside_fork - self.fork - BESIDE_FORK + 2 * SIDE * self.scopes.apart
        under = wide(node for strip in strips for node in strip.under)
        if self.narrow:
            rows = [
                [max(self.sizes[node.id][0], LEAST_UNDER) for node in strip.under] for strip in strips if strip.under
            ]
            under = max(sum(row) + APART * (len(row) - 1) for row in rows)
        lower = max(wide(strip.lower for strip in strips), END if FAILED in self.ends else 0.0)
        self.back_right: float = self.back_left + lower
        if self.narrow:
            self.back_right = max(self.back_right, self.back_left + OFF + RIGHT_OF_LANE + under - LEAST_UNDER / 2 + 24)
        self.lane: float = self.back_left + OFF if self.narrow else (self.back_left + self.back_right) / 2
        self.around: float = 0.0  # stays 0.0 if no small node is below a compensating node
        self.words: float = self.lane + 5 if self.compensated else self.fork + (3 if only_end else -8)
        if self.scopes.apart and not self.compensated:
            self.words = self.back_left + 2
        self.under_left: float = self.lane + 20 if only_end else self.back_right + (LOOP if self.compensated else 0.0)
        if only_end and under:  # the end ``failed`` is as wide as the lane of compensation
            self.back_right = max(self.back_right, self.under_left + under)
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
        """Move the compensating nodes *spare* points to the right, and the small nodes beside them twice as far."""
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
        room.append(self._room_of_small(strip))
        if self.narrow and strip.lower is not None and strip.under:
            room.append(self._lower_height(strip) + self._under_height(strip) * (not self._is_extended(strip)))
        elif strip.under:
            room.append(tall(strip.under) + (STUCK_LINES + self.more if strip.is_stuck_below else 0))
        if strip.lower is not None:
            room.append(self.sizes[strip.lower.id][1])
        return max(room)

    def _is_extended(self, strip: Strip) -> bool:
        """Whether extra height is added for the small nodes below the compensating node of *strip*.

        If not, the compensating node gets shorter instead. If a frame has two pieces, the node must keep its height,
        because lines from the parts below enter the node at its lower edge, below the frame's first piece.
        """
        below = self.narrow and bool(self.scopes.apart) and not strip.branches
        return below and strip.lower is not None and bool(strip.under)

    def _under_height(self, strip: Strip) -> float:
        """The height of the row of small nodes below a compensating node, with the labels above the row."""
        labels = BELOW + self.more + (len(strip.under) > 1) * (LABEL * LINE + self.more)
        return labels + max(self.sizes[node.id][1] for node in strip.under)

    def _above_small(self, node: Node) -> float:
        """The height of the label above *node*, if an edge connects *node* with the small node above it. Else 0."""
        joined = node.phase == PROBING or any(
            edge.target == node.id and edge.source in self.probes for edge in self.picture.edges
        )
        return joined * (14.0 + self.more)

    def _room_of_small(self, strip: Strip) -> float:
        """The height that all small nodes of *strip* need together in the forward lane, with room for their lines."""
        if not strip.small:
            return 0.0
        nodes = sum(self.sizes[node.id][1] for node in strip.small) + self.gap * (len(strip.small) - 1)
        loops = sum(map(self._above_small, strip.small[1:]))
        return BELOW_TRUNK + nodes + loops + (18 if strip.is_stuck_below else 0)

    def _lower_height(self, strip: Strip) -> float:
        """The minimum height of a compensating node that has small nodes below it, in points."""
        return max(60.0, self.sizes[strip.lower.id][1] if strip.lower is not None else 0.0)

    def _place(self) -> None:
        """Place the nodes from the top down."""
        tall = max(self.sizes[identity][1] for identity in self.ends.values())
        self.boxes[self.ends[PENDING]] = Box(self.left + PATH - END / 2, self.head, END, tall)
        if FAILED in self.ends:  # a saga whose first part is the pivot cannot fail
            self.boxes[self.ends[FAILED]] = Box(self.lane - END / 2, self.head, END, tall)
        self.start = self.head + tall
        top = self._below(self.start + 4, None, self.all[0])
        for strip, following in itertools.zip_longest(self.all, self.all[1:]):
            self._place_strip(strip, top)
            top = self._below(self._after(strip), strip, following)
        last = self.all[-1]
        left, top = (
            self.left + ASIDE + LOOP,
            self._after(last) + 8.0 * len(last.scopes) + self.more + 4 * bool(last.joining),
        )
        if self.ends_beside:
            left, top = self.forward_right + LOOP, last.top + (last.height - tall) / 2
        self.boxes[self.ends[SUCCEEDED]] = Box(left, top, GOOD_END, tall)
        self.out.height = max(last.bottom, last.shut, top + tall) + 6
        self._place_back()

    def _below(self, top: float, strip: Strip | None, following: Strip | None) -> float:
        """Leave room for the sides of frames and for labels between *strip* and the *following* strip.

        *top* is the y coordinate at which this room begins. Returns the y coordinate at which *following* begins.
        """
        here = strip.scopes if strip is not None else ()
        there = following.scopes if following is not None else ()
        shared = common(here, there)
        top += 8.0 * (len(here) - shared)
        if strip is not None and (strip.group is not None or len(here) > shared):
            strip.low = strip.shut = top + 3
            top += 10
        if strip is not None and self.narrow:
            above = (each for each in self.all if self._is_extended(each) and each.last == strip.number)
            top += sum(map(self._under_height, above))
        ending = len(self.scopes.ending(strip)) if strip is not None else 0
        if strip is not None and ending and (following is not None or len(here) == shared):
            top += 8.0 * ending
            strip.shut = top + 4
            top += 4
        end = top + 15 + self.more
        if strip is not None:
            strip.labels, strip.end = top, end
        else:
            self.labels: float = top
            self.labels_end: float = end
        rises = following is not None and bool(following.under)
        begin = max(len(there) - shared, len(self.scopes.beginning(following)) if following is not None else 0)
        return end + 17.0 * begin + (11 + self.more * bool(begin) if rises else 4)

    def _after(self, strip: Strip) -> float:
        """The y coordinate below *strip*, its branches, and the lines from `Strip.joining` to the happy path."""
        bottom = strip.bottom + 4 + (13 + self.more) * len(strip.joining)
        if strip.group is None:
            return bottom
        return bottom + 12 + strip.group.height + 4

    def _group_top(self, strip: Strip) -> float:
        """The y coordinate of the upper edge of the frame around the branches of *strip*."""
        return strip.bottom + 16 + (13 + self.more) * len(strip.joining)

    def _place_strip(self, strip: Strip, top: float) -> None:
        strip.top = top
        self.boxes[strip.forward.id] = Box(self.left, top, self.forward_right - self.left, strip.height)
        down, before = top + BELOW_TRUNK, None
        for node in strip.small:
            if before is not None:
                down += self.gap + self._above_small(node)
            self.boxes[node.id] = Box(self.small_left, down, *self.sizes[node.id])
            down, before = self.boxes[node.id].bottom, node

    def _place_back(self) -> None:
        """Place the end ``failed``, the compensating nodes, and the small nodes of the compensations.

        The end and each compensating node extend down beside the parts whose failure leads to them.
        """
        end = 0.0 if self.ends_beside else self.boxes[self.ends[SUCCEEDED]].bottom
        last = self.scopes.reach(-1, self.covered)
        if FAILED in self.ends and last >= 0:
            box = Box(self.back_left, self.head, self.back_right - self.back_left, 0.0)
            self._stretch(self.ends[FAILED], box, last, end)
            self.start: float = self.boxes[self.ends[FAILED]].bottom
        for strip in self.all:
            if strip.lower is not None:
                strip.reach = self._place_lower(strip, strip.lower, end)
            self._place_under(strip)

    def _place_under(self, strip: Strip) -> None:
        """Place the small nodes of a compensation: right of the compensating node, or side by side below it."""
        left, down = self.under_left, strip.top
        if self.narrow and strip.is_stuck_below:  # the stuck node fills the lane of compensation
            if self.scopes.apart:  # the label of the line to the stuck node must fit inside the frame's second piece
                left += LEFT_OF_STUCK
            wide = self.around - 10 - left
            self.boxes[strip.under[0].id] = Box(left, down, wide, strip.height - STUCK_LINES - self.more)
            return
        if self.narrow and strip.under:
            down = strip.reach - max(self.sizes[node.id][1] for node in strip.under)
        for node in reversed(strip.under) if self.narrow else strip.under:
            wide, tall = self.sizes[node.id]
            self.boxes[node.id] = Box(left, down, max(wide, LEAST_UNDER) if self.narrow else wide, tall)
            if self.narrow:
                left += self.boxes[node.id].width + APART
            else:
                down += tall + self.gap

    def _stretch(self, identity: str, box: Box, number: int, end: float) -> None:
        """Store *box* for a compensating node or for the end ``failed``, extended down to the bottom of strip *number*.

        If this is the last strip, and the y coordinate *end* is lower, the box is extended down to *end*.
        """
        last, following = self.all[number], self.all[number + 1 : number + 2]
        bottom = last.bottom
        if (
            following
            and not last.branches
            and any(not self.scopes.all[path].whole for path in self.scopes.closing(last))
        ):
            bottom = last.low + 6  # lines from the parts below enter the box below the frame's first piece
            self.entries[identity] = last.low - 1
        elif not following and not last.branches and not last.has_joining_under:
            bottom = max(bottom, end)
        self.boxes[identity] = box._replace(height=bottom - box.top)

    def _place_lower(self, strip: Strip, lower: Node, end: float) -> float:
        """Place a compensating node. Returns its lower edge, or the lower edge of the small nodes below it."""
        box = Box(self.back_left, strip.top, self.back_right - self.back_left, 0.0)
        self._stretch(lower.id, box, strip.last, 0.0 if self.scopes.is_framed(strip) else end)
        bottom = self.boxes[lower.id].bottom
        if not self.narrow or not strip.under:
            return bottom
        if self._is_extended(strip):
            return bottom + self._under_height(strip)
        self.boxes[lower.id] = box._replace(height=bottom - box.top - self._under_height(strip))
        return bottom

    def _place_group(self, strip: Strip) -> None:
        """Place the frame with the branches of a group below its strip, and add a line from the strip to the frame."""
        if strip.group is None:
            return
        left, top = self.left + ASIDE + 12, self._group_top(strip)
        self.out.add(strip.group, left, top)
        x = left + 8
        self.out.ties.append([(x, strip.bottom), (x, top)])

    def _bands(self) -> Iterable[Band]:
        """The backgrounds of both lanes. Each lane has a gap where the frame of a group's branches is."""
        left, right, middle = -14.0, self.out.width + 14, self.fork - 8
        below = "↑ COMPENSATION" if self.compensated else "GIVEN UP"
        top, first = 0.0, not self.picture.prefix
        ends = [self._after(strip) - 4 for strip in self.all if strip.group is not None]
        begins = [self._group_top(strip) for strip in self.all if strip.group is not None]
        for bottom, after in [*zip(begins, ends, strict=True), (self.out.height, 0.0)]:
            wide = (middle if self.goes_back else right) - left
            yield Band(Box(left, top, wide, bottom - top), "FORWARD ↓" if first else "", back=False)
            if self.goes_back:
                yield Band(Box(middle, top, right - middle, bottom - top), below if first else "", back=True)
            top, first = after, False

    def _frames(self, cluster: Cluster, level: int) -> Iterable[Frame]:
        scope = self.scopes.all.get(cluster.path)
        if scope is not None:
            pieces = [(self._first_piece(scope, level), self.left + PATH)]
            if scope.begins is not None:
                pieces.append((self._second_piece(scope, level, scope.begins), self.lane))
            for box, path in pieces:
                yield Frame(cluster, box)
                words = fitted(shorten(cluster.label, 40), CAPTION + 1, False, box.right - path - 12)
                self.out.texts.append(Text(words, path + 8, box.top + 9, CAPTION + 1, False, "small"))
        for inner in cluster.clusters:
            yield from self._frames(inner, level + 1)

    def _first_piece(self, scope: Scope, level: int) -> Box:
        """The rectangle of the frame in the forward lane. If the frame is whole, it spans both lanes."""
        first, last = self.all[scope.first], self.all[scope.last]
        top = first.top - (12 + self.more if first.under else 4) - 17 * (len(first.scopes) - level) - 15
        bottom = last.low - 7 - 8.0 * (level - common(last.scopes, self._following(last)) - 1)
        left, right = self.left - SIDE * (self.depth - level + 1), self._edge(level)
        if not scope.whole:
            right = self.beside_fork + SIDE * self.scopes.inside(scope)
        return Box(left, top, right - left, bottom - top)

    def _second_piece(self, scope: Scope, level: int, begins: int) -> Box:
        """The rectangle of the frame's second piece, which is in the lane of compensation."""
        first, last = self.all[begins], self.all[scope.ends]
        beginning, ending = self.scopes.beginning(first), self.scopes.ending(last)
        top = (
            first.top
            - (12 + self.more if first.under else 4)
            - 17 * (len(beginning) - beginning.index(scope.path) - 1)
            - 15
        )
        bottom = last.shut - 7 - 8.0 * ending.index(scope.path)
        low = max(strip.reach for strip in self.all[begins : scope.ends + 1])
        bottom = max(bottom, low + 8.0 * (len(ending) - ending.index(scope.path)))
        left, right = self.back_left - SIDE * (self.scopes.inside(scope) + 1), self._edge(level)
        return Box(left, top, right - left, bottom - top)

    def _following(self, strip: Strip) -> tuple[str, ...]:
        after = self.all[strip.number + 1 : strip.number + 2]
        return after[0].scopes if after else ()
