"""Write a picture in the detail view as DOT. The text has the positions of all elements."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from fsm_mediator.diagram.dot import Canvas, font, pen_of, table
from fsm_mediator.diagram.layout.geometry import Box, Layout, Route, Text
from fsm_mediator.diagram.layout.router import CAPTION, MOST_END, SMALL_PHASES, inset_of
from fsm_mediator.diagram.picture import Cluster, Edge, EdgeKind, Node, Picture
from fsm_mediator.diagram.text import dot_id, dot_name, dot_text, markup, shorten
from fsm_mediator.diagram.themes import EDGES, NODES, Theme
from fsm_mediator.states import EXECUTING, FAILED, PENDING, STUCK, STUCK_PHASES, SUCCEEDED

_LEFT: Final = -14
"""The left edge of the lanes, in points."""


def detail_lines(picture: Picture, layout: Layout, theme: Theme, legend: bool | None = None) -> list[str]:
    """The lines of the DOT text of *picture*, without the first and the last line of the graph."""
    return list(_Writer(picture, layout, theme, legend).lines())


class _Writer(Canvas):
    def __init__(self, picture: Picture, layout: Layout, theme: Theme, legend: bool | None) -> None:
        super().__init__(layout, theme, legend)
        self.picture = picture
        self.names = {node.id: dot_name(node.id) for node in picture.all_nodes()}

    def lines(self) -> Iterator[str]:
        """The lines of the DOT text between the opening and the closing brace of the graph."""
        picture, theme = self.picture, self.theme
        yield from self.head()
        for box, label, back in self.layout.bands:
            colour = theme.back_band if back else theme.forward_band
            yield from self.cluster(box, f'style=filled color="{colour}" fillcolor="{colour}"')
            if label:
                yield from self.words(Text(label, box.left + 8, box.top + 9, CAPTION, False, "small"))
        for frame in self.layout.frames:
            if frame.content.path.endswith("//"):
                yield from self._frames(frame.content.path, (), ())
        for one, other in itertools.chain.from_iterable(map(itertools.pairwise, self.layout.ties)):
            (x, y), (to_x, to_y) = min(one, other), max(one, other)
            stroke = Box(x - 0.5, min(y, to_y) - 0.5, to_x - x + 1, abs(to_y - y) + 1)
            yield from self.cluster(stroke, f'style=filled penwidth=0 fillcolor="{theme.frame}"')
        yield from self._clusters(picture.clusters)
        yield from self._children(picture)
        yield from self.title(picture.heading, [line for line in picture.subheading if line.strip()], (_LEFT, 0.0))
        yield from self.ramp(picture.numbers, picture.scale, self.layout.height + 14, _LEFT)
        yield from self.meanings(self._meanings(), self.layout.height + (30 if picture.numbers else 14), _LEFT)
        routed = list(zip(picture.all_edges(), self.layout.routes, strict=True))
        nodes = list(picture.all_nodes())
        if picture.is_run:
            # Graphviz draws edges in the order of the nodes at which they start. Nodes on the run's path come last, so
            # that the edges of the run are drawn on top.
            weight = {node.id: 0 for node in nodes}
            for edge, _ in routed:
                if edge.reached:
                    weight[edge.source] = max(weight[edge.source], 1 + (edge.kind is not EdgeKind.LOOP))
            nodes.sort(key=lambda node: weight[node.id])
            routed.sort(key=lambda each: each[0].reached)
        yield from map(self._node, nodes)
        yield from itertools.starmap(self._edge, routed)

    def _meanings(self) -> Iterator[tuple[str, bool]]:
        """Yield each entry of the legend, and whether this picture has an element that the entry explains."""
        kinds = {edge.kind for edge in self.picture.all_edges()}
        nodes = list(self.picture.all_nodes())
        if self.picture.numbers is not None:
            yield self.picture.numbers[1], True
            yield "width of a line: how often it was taken", True
        yield "↻ an attempt is repeated later", False
        yield "? a probe asks whether an attempt took effect", False
        yield "↩ an effect is undone", False
        yield "! a person must act", False
        yield "dashed: in doubt", bool(kinds & {EdgeKind.IN_DOUBT, EdgeKind.ASKED})
        yield "dotted: a person says so", EdgeKind.PERSON in kinds
        yield "double: the pivot, the ends", any(node.pivot for node in nodes)
        yield "numbers: the records of this run", self.picture.is_run

    def _clusters(self, clusters: Iterable[Cluster]) -> Iterator[str]:
        for cluster in clusters:
            yield from self._frames(cluster.path, cluster.nodes, cluster.clusters)

    def _children(self, picture: Picture) -> Iterator[str]:
        for child in picture.children:
            yield from self._frames(child.prefix, [node.id for node in child.all_nodes()], child.clusters)
            yield from self._children(child)

    def _frames(self, path: str, nodes: Sequence[str], inner: Iterable[Cluster]) -> Iterator[str]:
        """Yield the DOT of all frames around the nested saga, branch or group with the path *path*.

        A nested saga can have two frames, one in each lane. The first frame contains the *nodes* and the *inner*
        clusters.
        """
        is_child = path.endswith("/")  # True for a branch or a group, False for a nested saga
        tooltip = f"branch: {path.rstrip('/')}" if is_child else f"nested: {path}"
        style = f'style="rounded,{"solid" if path.endswith("//") else "dashed"}" color="{self.theme.frame}"'
        for number, (cluster, box) in enumerate(each for each in self.layout.frames if each.content.path == path):
            inside = [f"\t{self.names[node]}" for node in nodes] if number == 0 else []
            inside += self._clusters(inner) if number == 0 else []
            size, tone = (CAPTION + 4, "ink") if is_child else (CAPTION + 1, "small")
            inside += self.words(Text(shorten(cluster.label, 40), box.left + 12, box.top + 9, size, False, tone))
            name = path + (f"/{number + 1}" if number else "")
            yield from self.cluster(box, f"{style} bgcolor=transparent", tooltip, inside, name)

    def _node(self, node: Node) -> str:
        theme, box, mark, look = self.theme, self.layout.boxes[node.id], node.mark, NODES[node.phase]
        line, ground = theme.nodes[node.phase]
        double = node.ended or (node.pivot and node.phase == EXECUTING)
        pen = 1.0 if node.phase in SMALL_PHASES - STUCK_PHASES else 1.6 if double and node.pivot else 1.3
        if node.rest:
            line, ground = theme.frame, theme.ground
        if self.picture.numbers is not None:
            ground = theme.ground if node.level is None else theme.ramp[node.level]
        elif node.pale:
            line, ground, pen = theme.pale, theme.ground, 0.9
        elif mark is not None:
            if mark.failed:
                line, pen = theme.nodes[STUCK].line, 2.2
            if mark.current:
                ground, pen = ground if mark.ended else theme.here, 3.0
        shape, style = look.shape, f"{look.style},dashed" if node.rest else look.style
        if node.phase == FAILED and box.height > MOST_END:
            shape, style = "box", "rounded,filled"
        rim = 8 if double else 0
        classes = [node.phase, *(["pivot"] if node.pivot else [])]
        if mark is not None:
            classes.append("reached" if mark.reached else "never")
            classes += [name for name in ("current", "failed", "undone") if getattr(mark, name)]
        how = (
            f'shape={shape} style="{style}" color="{line}" fillcolor="{ground}" penwidth={pen:g}'
            f'{" peripheries=2" if double else ""} id={dot_id(node.id)} class="{" ".join(classes)}" '
            f"label=<{self._text(node, box, line)}>"
        )
        inner = Box(box.left + rim / 2, box.top + rim / 2, box.width - rim, box.height - rim)
        return self.shape(node.id, inner, how, node.tooltip)

    def _text(self, node: Node, box: Box, line: str) -> str:
        theme, rows = self.theme, []
        is_end = not node.path and node.phase in (PENDING, SUCCEEDED, FAILED)
        room = box.width - (10 if is_end else inset_of(node))
        for number, (text, size, bold, tone) in enumerate(self.layout.lines[node.id]):
            colour = (
                theme.pale_ink
                if node.pale
                else {"line": line, "ink": theme.ink, "note": theme.ink}.get(
                    tone, theme.ink if node.level else theme.faint
                )
            )
            rows.append(font(text if number else NODES[node.phase].sign + text, size, colour, bold=bold))
        if node.mark is not None and (note := node.mark.signed_note):
            rows.append(font(shorten(note, int(room / CAPTION / 0.58)), CAPTION, theme.ink, bold=True))
        return "<BR/>".join(rows) if is_end else table(rows, room)

    def _edge(self, edge: Edge, route: Route) -> str:
        theme, mark, look, reached = self.theme, edge.mark, EDGES[edge.kind], edge.reached
        whole = route.own is None or reached
        colour = ink = theme.edges[edge.kind]
        classes, pen = edge.kind.value, look.pen
        if mark is None and edge.kind is EdgeKind.FORWARD and not whole:
            pen = 1.1
        elif reached:
            pen += 1.2
            classes += " reached"
        elif edge.share:
            pen = pen_of(edge.share)
        elif mark is not None or edge.share == 0:  # a run never took the edge
            colour, ink, pen = theme.pale, theme.pale_ink, 0.8
            classes += " never"
        if mark is not None and mark.failed:
            classes += " failed"
        label = ""
        if route.label is not None:
            lines, x, y, _ = route.label
            words = f"<<B>{'<BR/>'.join(map(markup, lines))}</B>>" if reached else dot_text("\n".join(lines))
            label = f' label={words} lp="{self.pos(int(x), int(y))}" fontcolor="{ink}"'
        points = route.points if whole else _joining(route)
        source = self.names[edge.source]
        return (
            f'\t{source} -> {self.names[edge.target]} [pos="{self.spline(points, whole)}" color="{colour}" '
            f'style={look.style} penwidth={pen:g}{"" if whole else " arrowhead=none"} class="{classes}" '
            f"id={dot_id(edge.source + '/' + edge.event)} edgetooltip={dot_text(edge.tooltip)}{label}]"
        )


def _joining(route: Route) -> Sequence[tuple[float, float]]:
    """The points of *route* up to the corner where it joins another edge's line, plus one point on that line.

    This last point is at most 7 pt from the corner.
    """
    own = route.own or 0
    (x, y), (after_x, after_y) = route.points[own - 1], route.points[own]

    def near(here: float, there: float) -> float:
        return here + max(-7, min(7, there - here))

    return [*route.points[:own], (near(x, after_x), near(y, after_y))]
