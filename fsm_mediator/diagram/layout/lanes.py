"""Find the route of each edge of the detail view, and the position of its label. The nodes are already placed."""

from __future__ import annotations

from fsm_mediator.diagram.layout.geometry import LINE, Point
from fsm_mediator.diagram.layout.router import LABEL, MOST_END, Router, own_points
from fsm_mediator.diagram.layout.scopes import Scopes
from fsm_mediator.diagram.layout.strips import ASIDE, HEAD, LEVEL, ORDER, PATH, SIDE, Strip, common
from fsm_mediator.diagram.picture import Edge, EdgeKind, Node, Picture
from fsm_mediator.states import (
    COMPENSATING,
    EXECUTING,
    FAILED,
    PENDING,
    PROBING,
    RETRYING_COMPENSATION,
    STUCK,
    SUCCEEDED,
    WAITING,
)


class Lanes(Router):
    """The strips of a machine, the x coordinates that all strips share, and the routes between the nodes."""

    left: float  # the x of the left side of all strips
    right: float  # the x of the right side of all strips
    scopes: Scopes
    depth: int  # the maximum number of nested sagas that contain the same part
    small_left: float  # the x of the left side of the small nodes in the forward lane
    small_right: float  # the x of the right side of the widest small node in the forward lane
    fork: float  # the x of the vertical line from parts that are given up to the next compensation
    back_left: float  # the x of the left side of the compensating nodes
    lane: float  # the x of the vertical line that connects the compensating nodes
    around: float  # the x of lines that pass right of a compensating node whose small nodes are below it
    words: float  # the x at which labels of lines to stuck nodes begin
    start: float  # the y of the lower edge of the end ``failed``, or of ``pending`` if the machine cannot fail
    labels: float  # the y of the upper edge of the room for labels above the first strip
    labels_end: float  # the y of the lower edge of the room for labels above the first strip

    def __init__(self, picture: Picture, *, narrow: bool) -> None:
        super().__init__(picture)
        self.narrow = narrow
        forward = [node for node in picture.nodes if node.phase in (EXECUTING, WAITING)]
        self.strips: dict[str, Strip] = {node.path: Strip(node, number) for number, node in enumerate(forward)}
        self.all: list[Strip] = list(self.strips.values())
        self.ends: dict[str, str] = {node.phase: node.id for node in picture.nodes if not node.path}
        self.compensated: set[str] = {node.path for node in picture.nodes if node.phase == COMPENSATING}
        self.head: float = HEAD if not picture.prefix else 4.0
        self.more: float = 10.0 if picture.is_run else 0.0  # extra height of a label: a run shows record numbers in it
        self.gap: float = 6.0 + self.more  # the vertical distance between two small nodes
        for node in sorted(picture.nodes, key=lambda node: ORDER.get(node.phase, 0)):
            if node.path:
                self._put(node, self.strips[node.path])
        # By node id, for a node that ends below a frame's first piece: the y at which lines from parts below enter it.
        self.entries: dict[str, float] = {}
        self._find_joining()

    def _put(self, node: Node, strip: Strip) -> None:
        if node is strip.forward:
            return
        if node.phase == COMPENSATING:
            strip.lower = node
        elif node.phase == RETRYING_COMPENSATION or (
            node.phase == STUCK and (node.forward_only or node.path in self.compensated)
        ):
            strip.under.append(node)
        else:
            strip.small.append(node)

    def _find_joining(self) -> None:
        """Set `Strip.joining`: the nodes that lead to the next part or to ``succeeded``, except the executing node.

        The list has the small nodes of the forward lane from the last to the first, then the nodes in `Strip.under`.
        """
        done = {edge.source for edge in self.picture.edges if self._goes_on(edge)}
        for strip in self.all:
            nodes = [*reversed(strip.small), *strip.under]
            strip.joining = [node.id for node in nodes if node.id in done]

    def _goes_on(self, edge: Edge) -> bool:
        target, source = self.nodes[edge.target], self.nodes[edge.source]
        return target.phase in (EXECUTING, WAITING, SUCCEEDED) and bool(source.path) and source.path != target.path

    def _edge(self, level: int) -> float:
        """The x coordinate of a frame's right side. *level* is 1 for an outermost frame, 2 for a frame inside it."""
        return self.right + LEVEL * (self.depth - level + 1)

    def _route(self, edge: Edge) -> None:
        source, target = self.nodes[edge.source], self.nodes[edge.target]
        box, other = self.boxes[edge.source], self.boxes[edge.target]
        strip = self.strips.get(source.path)
        if (source.phase, target.phase) == (PENDING, FAILED):
            self.horizontal(edge, box.y)
        elif source.phase == PENDING:
            y = (self.labels + self.labels_end) / 2
            self.route(edge, (box.x, box.bottom), (box.x, other.top), at=(box.x + 4, y, 1, 0))
        elif strip is None:  # a succeeded saga is undone: the edge leads from the end into the lane of compensation
            points = self._up(edge, len(self.all), [(box.right, box.y), (self.lane, box.y)])
            at = ((box.right + points[1][0]) / 2, box.y - 3, 0.0, -1.0)
            self.route(edge, *points, at=(box.right + 4, at[1], 1.0, -1.0) if self.scopes.apart else at)
        elif strip is self.strips.get(target.path):
            self._route_within(edge, strip, source, target)
        elif self._goes_on(edge):
            self._route_executed(edge, strip, source)
        elif source is strip.lower or source in strip.under:
            self._route_compensated(edge, strip, source)
        else:
            self._route_failed(edge, strip, source)

    def _route_within(self, edge: Edge, strip: Strip, source: Node, target: Node) -> None:
        """Add the route of an edge between two nodes of the same part, the part of *strip*."""
        box, other = self.boxes[edge.source], self.boxes[edge.target]
        forward, lower, small = strip.forward, strip.lower, strip.small
        if source in small and target in small:
            self.vertical(edge, box.x, 1)
        elif source in (forward, *small) and (target is lower or target in strip.under):
            start = self._to_trunk(strip, source)
            y, end = strip.trunk - 3, (other.left, strip.trunk)
            at = (self.fork + 4 if self.narrow and not self.scopes.apart else self.words, y, 1.0, -1.0)
            if target is lower:
                at = (self.back_left - (4 if self.scopes.apart else 8) - SIDE * self.scopes.apart, y, -1.0, -1.0)
            self.route(edge, *start, end, at=at, key=(strip, "down"), own=own_points(start))
        elif source in strip.under and target is forward:
            x, y = box.x - 10, strip.bottom - 6
            self.route(edge, (x, box.bottom), (x, y), (other.right, y), at=(self.words, y - 3, 1, -1))
        elif self.narrow and (source in strip.under or target in strip.under):
            side, node = (-1, target) if source is lower else (1, source)
            y = None
            if len(strip.under) > 1:  # the edges of two small nodes have labels here, so one label is below the other
                high = (LABEL * LINE + self.more) / 2 + 3
                upper = node.phase == RETRYING_COMPENSATION
                y = min(box.bottom, other.bottom) + high if upper else max(box.top, other.top) - high
            self.vertical(edge, self.boxes[node.id].x + 20 * side, side, y=y)
        elif target in small or target in strip.under:
            loops = target.phase != PROBING
            self.horizontal(edge, other.y - (7 if loops else 0))
        else:
            self.horizontal(edge, box.y + 7, below=True)

    def _to_trunk(self, strip: Strip, source: Node) -> list[Point]:
        """The points from *source* to the trunk, the horizontal line out of a strip: see `Strip.trunk`."""
        box = self.boxes[source.id]
        if source is strip.forward:
            return [(box.right, strip.trunk)]
        if source is strip.small[0]:
            return [(box.x, box.top), (box.x, strip.trunk)]
        x = self.small_right + 12
        return [(box.right, box.y), (x, box.y), (x, strip.trunk)]

    def _route_executed(self, edge: Edge, strip: Strip, source: Node) -> None:
        """Add the route of an edge that leads from a done part to the next part, or to the end ``succeeded``."""
        box, other = self.boxes[edge.source], self.boxes[edge.target]
        ends = self.nodes[edge.target].phase == SUCCEEDED
        path = self.left + (ASIDE if ends or strip.group is not None else PATH)
        end = [(path, other.y), (other.left, other.y)] if ends else [(path, other.top)]
        if source is strip.forward and ends and other.top < box.bottom:
            self.horizontal(edge, other.y)
            return
        if source is strip.forward:
            at = (path + 4, (strip.labels + strip.end) / 2, 1.0, 0.0)
            if ends:
                at = ((path + other.left) / 2, other.y - 3, 0.0, -1.0)
            self.route(edge, (path, box.bottom), *end, at=at)
            return
        y = strip.bottom + 4 + (13 + self.more) * (1 + strip.joining.index(source.id))
        if source in strip.under:
            start, at = [(box.x + 10, box.bottom), (box.x + 10, y)], (self.words, y - 3, 1.0, -1.0)
        else:
            at = (self.small_left - 4, y - 3, -1.0, -1.0)
            start = [(box.x, box.bottom), (box.x, y)]
            if source is not strip.small[-1]:
                x = self.small_right + 5
                start = [(box.right, box.y + 8), (x, box.y + 8), (x, y)]
        start.append((path, y))
        self.route(edge, *start, *end, at=at, own=own_points(start))

    def _route_failed(self, edge: Edge, strip: Strip, source: Node) -> None:
        """Add the route of an edge that a run takes when the part of *strip* is given up.

        The route follows the trunk to the right, then leads up to the next compensation or to the end ``failed``.
        """
        box, start = self.boxes[edge.source], self._to_trunk(strip, source)
        key, at = None, (self.fork + 4, box.top - 7, 1.0, 1.0)
        if edge.kind is not EdgeKind.PERSON:
            key, at = (strip, "left"), (self.fork - 4, strip.trunk - 3, -1.0, -1.0)
        points = self._up(edge, strip.number, [*start, (self.fork, strip.trunk)])
        self.route(edge, *points, at=at, key=key, own=own_points(start), narrow=key is None)

    def _route_compensated(self, edge: Edge, strip: Strip, source: Node) -> None:
        """Add the route of an edge that a run takes when a compensation is done.

        The route leads up the lane of compensation, to the next compensation or to the end ``failed``.
        """
        box, own = self.boxes[edge.source], None
        start = [(self.lane, box.top)]
        at = (self.lane + 4, self._above(strip), 1.0, 0.0)
        if source in strip.under:
            y = strip.top - 8
            start = [(box.x, box.top), (box.x, y), (self.lane, y)]
            at, own = (box.x - 4, y - 3, -1.0, -1.0), 3 if strip.lower is not None else None
            if self.narrow and strip.lower is not None:
                start, own = [(box.right, box.y), (self.around, box.y), (self.around, y), (self.lane, y)], 4
                at = (self.around - 2, y - 3, -1.0, -1.0)
            elif self.narrow:
                at = (self.lane + 5, y - 3, 1.0, -1.0)
        points = self._up(edge, strip.number, start)
        self.route(edge, *points, at=at, own=own)

    def _above(self, strip: Strip) -> float:
        """The y coordinate of a label above *strip*, in the middle of the room for labels."""
        if strip.number == 0:
            return (self.labels + self.labels_end) / 2
        before = self.all[strip.number - 1]
        return (before.labels + before.end) / 2

    def _up(self, edge: Edge, number: int, start: list[Point]) -> list[Point]:
        """The points of a line that begins with *start* and leads up to the target of *edge*, around obstacles.

        *number* is the index of the strip in which the line starts.
        """
        other, path = self.boxes[edge.target], self.nodes[edge.target].path
        first = self.strips[path].number if path else -1
        scopes = self.all[number].scopes if number < len(self.all) else ()
        mine = self.strips[path].scopes if path else ()
        between = self.all[max(first, 0) : number]
        barriers = [strip.number for strip in between if strip.group is not None]
        barriers += [
            strip.number
            for strip in between
            if strip.number > first
            and any(self.scopes.all[each].whole and each not in {*scopes, *mine} for each in strip.scopes)
        ]
        x = start[-1][0]
        if barriers:
            channel = self._edge(common(scopes, mine)) - LEVEL / 2
            low = self.all[max(barriers)].low
            high = (self.strips[path].reach if path else self.start) + 9
            return [*start, (x, low), (channel, low), (channel, high), (self.lane, high), (self.lane, other.bottom)]
        if start[-1][1] < other.bottom:
            return [*start[:-1], (other.left, start[-1][1])]
        if x == self.lane:
            return [*start, (x, other.bottom)]
        y = self.entries.get(edge.target, other.bottom - 12 if other.height > MOST_END else other.y)
        return [*start, (x, y), (other.left, y)]
