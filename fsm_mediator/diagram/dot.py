"""DOT: a laid out picture as Graphviz's text. Positions are given (``layout=nop2``): Graphviz only draws.

Any ``dot`` draws it as it is: ``dot -Tsvg saga.dot``.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Final

from fsm_mediator.diagram.layout.geometry import CAPTION, LABEL, LINE, SMALL_PHASES, Box, Layout, Route, inset_of
from fsm_mediator.diagram.picture import Cluster, Edge, EdgeKind, Node, Picture
from fsm_mediator.diagram.text import dot_name, dot_text, markup, shorten, width
from fsm_mediator.diagram.themes import EDGES, NODES, Theme
from fsm_mediator.states import EXECUTING, FAILED, PENDING, STUCK, STUCK_PHASES, SUCCEEDED

FONT: Final = "Helvetica,Arial,sans-serif"
_ARROW: Final = 6
_CORNER: Final = 7


def digraph(name: str, lines: Iterable[str]) -> str:
    """A whole graph in DOT."""
    return "\n".join(["digraph " + dot_name(name) + " {", *lines, "}", ""])


def graph_lines(theme: Theme, graph: str, edge: str) -> list[str]:
    """The attributes of the graph, of its nodes and of its edges."""
    font = f'fontname="{FONT}"'
    return [
        f'\tgraph [layout=nop2 outputorder=edgesfirst bgcolor="{theme.ground}" {graph}]',
        f'\tnode [fixedsize=true {font} fontcolor="{theme.ink}" margin=0 label=""]',
        f"\tedge [{font} {edge}]",
    ]


def font(words: str, size: float, colour: str, *, bold: bool = False) -> str:
    """Words in a size and a colour, as a part of a label; nothing is shown as a space, which Graphviz requires."""
    inner = markup(words) or "&#160;"
    return f'<FONT POINT-SIZE="{size:g}" COLOR="{colour}">{f"<B>{inner}</B>" if bold else inner}</FONT>'


def table(rows: Iterable[str], wide: float, padding: int = 0) -> str:
    """A label of left aligned rows."""
    cells = "".join(f'<TR><TD ALIGN="LEFT">{row}</TD></TR>' for row in rows)
    return f'<TABLE BORDER="0" CELLBORDER="0" CELLSPACING="0" CELLPADDING="{padding}" WIDTH="{wide:g}">{cells}</TABLE>'


def dot_lines(picture: Picture, layout: Layout, theme: Theme) -> list[str]:
    """The picture as the lines of a graph in DOT."""
    return _Writer(picture, layout, theme).lines()


class _Writer:
    def __init__(self, picture: Picture, layout: Layout, theme: Theme) -> None:
        self.picture, self.layout, self.theme = picture, layout, theme
        self.high = round(layout.height)
        self.names = {node.id: dot_name(node.id) for node in picture.all_nodes()}

    def lines(self) -> list[str]:
        """The lines between the braces."""
        picture, theme = self.picture, self.theme
        ground = f'pad="0.32,0.3" fontname="{FONT}" fontcolor="{theme.ink}"'
        shown = f"{self._title()} _background={self._background()}"
        lines = graph_lines(theme, ground + shown, f"fontsize={LABEL:g} arrowsize={_ARROW / 10:g}")
        lines += self._clusters(picture.clusters, "\t")
        lines += self._children(picture, "\t")
        routed = list(zip(picture.all_edges(), self.layout.routes, strict=True))
        nodes = list(picture.all_nodes())
        if picture.is_run:
            # Graphviz draws edges in the order of their first nodes: the edges of the run go last, on top.
            weight = {node.id: 0 for node in nodes}
            for edge, _ in routed:
                if edge.reached:
                    weight[edge.source] = max(weight[edge.source], 1 + (edge.kind is not EdgeKind.LOOP))
            nodes.sort(key=lambda node: weight[node.id])
            routed.sort(key=lambda each: each[0].reached)
        lines += map(self._node, nodes)
        lines += itertools.starmap(self._edge, routed)
        return lines

    def _title(self) -> str:
        picture = self.picture
        wide = max(self.layout.width + 28, 200)
        heading = markup(shorten(picture.heading, int(wide / 10))) or "&#160;"
        rows = [f'<FONT POINT-SIZE="16"><B>{heading}</B></FONT>']
        rows += (font(shorten(line, int(wide / 5.5)), 9.5, self.theme.faint) for line in picture.subheading)
        high = 16 * LINE + len(picture.subheading) * 11.5 + 14
        lp = f"{round(wide / 2 - 14)},{round(self.high + high / 2)}"
        return f' label=<{table(rows, wide, 1)}> labelloc=t lp="{lp}"'

    def _background(self) -> str:
        """The lanes and the legend, in Graphviz's drawing language."""
        drawn = []

        def write(words: str, x: float, y: float, align: int, wide: int) -> None:
            drawn.append(
                f"F 7 {len(FONT)} -{FONT} c 7 -{self.theme.faint} T {x:g} {y:g} {align} {len(words) * wide} "
                f"{len(words.encode())} -{words}"
            )

        for box, label, back in self.layout.bands:
            colour = self.theme.back_band if back else self.theme.forward_band
            left, right, top, bottom = box.left, box.right, self.high - box.top, self.high - box.bottom
            corners = ((left, bottom), (right, bottom), (right, top), (left, top))
            drawn.append(f"c 7 -{colour} C 7 -{colour} P 4 {' '.join(f'{x:g} {y:g}' for x, y in corners)}")
            write(label, left + 8, bottom + 6 if back else top - 12, -1, 5)
        if legend := self._legend():
            write(legend, self.layout.width + 6, 6, 1, 4)
        return dot_text(" ".join(drawn))

    def _legend(self) -> str:
        """The meaning of the styles of lines in this picture."""
        kinds = {edge.kind for edge in self.picture.all_edges()}
        meanings = {
            "dashed: in doubt": bool(kinds & {EdgeKind.IN_DOUBT, EdgeKind.ASKED}),
            "dotted: a person says so": EdgeKind.PERSON in kinds,
            "double: the pivot, the ends": any(node.pivot for node in self.picture.all_nodes()),
            "numbers: the records of this run": self.picture.is_run,
        }
        return "   ".join(words for words, shown in meanings.items() if shown)

    def _clusters(self, clusters: Iterable[Cluster], indent: str) -> list[str]:
        lines = []
        for cluster in clusters:
            lines += self._frames(cluster.path, indent, cluster.nodes, cluster.clusters)
        return lines

    def _children(self, picture: Picture, indent: str) -> list[str]:
        lines = []
        for child in picture.children:
            lines += self._frames(child.prefix, indent, [node.id for node in child.all_nodes()], child.clusters)
            lines += self._children(child, indent)
        return lines

    def _frames(self, path: str, indent: str, nodes: Sequence[str], inner: Iterable[Cluster]) -> list[str]:
        """The frames of a cluster, one in each of its rows; the first contains its nodes."""
        lines = []
        frames = [frame for frame in self.layout.frames if frame.cluster.path == path]
        is_child = path.endswith("/")  # the machine of a branch, not a nested saga's part of this one
        tooltip = f"branch: {path.rstrip('/')}" if is_child else f"nested: {path}"
        size, ink = (CAPTION + 4, self.theme.ink) if is_child else (CAPTION + 1, self.theme.faint)
        for number, (cluster, box) in enumerate(frames):
            name = f"cluster_{path}" + (f"/{number + 1}" if number else "")
            label = shorten(cluster.label, 40)
            corners = (box.left, self.high - box.bottom, box.right, self.high - box.top)
            bb = ",".join(str(round(each)) for each in corners)
            lp = f"{round(box.left + 12 + width(label, size) / 2)},{round(self.high - box.top - 8)}"
            lines.append(f"{indent}subgraph {dot_name(name)} {{")
            lines.append(
                f'{indent}\tgraph [bb="{bb}" style="rounded,dashed" bgcolor=transparent '
                f'color="{self.theme.frame}" fontcolor="{ink}" fontsize={size:g} '
                f'label={dot_text(label)} lp="{lp}" tooltip={dot_text(tooltip)}]'
            )
            if number == 0:
                lines += [f"{indent}\t{self.names[node]}" for node in nodes]
                lines += self._clusters(inner, indent + "\t")
            lines.append(f"{indent}}}")
        return lines

    def _node(self, node: Node) -> str:
        theme, box, mark, look = self.theme, self.layout.boxes[node.id], node.mark, NODES[node.phase]
        line, ground = theme.nodes[node.phase]
        double = node.ended or (node.pivot and node.phase == EXECUTING)
        pen = 1.0 if node.phase in SMALL_PHASES - STUCK_PHASES else 1.6 if double and node.pivot else 1.3
        if node.pale:
            line, ground, pen = theme.pale, theme.ground, 0.9
        elif mark is not None:
            if mark.failed:
                line, pen = theme.nodes[STUCK].line, 2.2
            if mark.current:
                ground, pen = ground if mark.ended else theme.here, 3.0
        rim = 8 if double else 0
        size = f"width={(box.width - rim) / 72:.4g} height={(box.height - rim) / 72:.4g}"
        classes = [node.phase, *(["pivot"] if node.pivot else [])]
        if mark is not None:
            classes.append("reached" if mark.reached else "never")
            classes += [name for name in ("current", "failed", "undone") if getattr(mark, name)]
        name = self.names[node.id]
        return (
            f'\t{name} [pos="{round(box.x)},{round(self.high - box.y)}" {size} '
            f'shape={look.shape} style="{look.style}" color="{line}" fillcolor="{ground}" penwidth={pen:g}'
            f'{" peripheries=2" if double else ""} id={name} class="{" ".join(classes)}" '
            f"tooltip={dot_text(node.tooltip)} label=<{self._text(node, box, line)}>]"
        )

    def _text(self, node: Node, box: Box, line: str) -> str:
        theme, room, rows = self.theme, box.width - inset_of(node), []
        for number, (text, size, bold) in enumerate(self.layout.texts[node.id]):
            words = text if number else NODES[node.phase].sign + text
            colour = theme.pale_ink if node.pale else theme.ink if bold else theme.faint
            rows.append(font(words, size, colour if number or node.pale else line, bold=bold))
        if node.mark is not None and (note := node.mark.signed_note):
            rows.append(font(shorten(note, int(room / CAPTION / 0.58)), CAPTION, theme.ink, bold=True))
        is_end = not node.path and node.phase in (PENDING, SUCCEEDED, FAILED)
        return "<BR/>".join(rows) if is_end else table(rows, room)

    def _edge(self, edge: Edge, route: Route) -> str:
        theme, mark, look = self.theme, edge.mark, EDGES[edge.kind]
        whole = route.own is None or edge.reached
        colour = ink = theme.edges[edge.kind]
        classes, pen = edge.kind.value, look.pen
        if mark is None and edge.kind is EdgeKind.FORWARD and not whole:
            pen = 1.1
        elif edge.reached:
            pen += 1.2
            classes += " reached"
        elif edge.pale:
            colour, ink, pen = theme.pale, theme.pale_ink, 0.8
            classes += " never"
        if mark is not None and mark.failed:
            classes += " failed"
        label, tooltip = "", dot_text(edge.tooltip)
        if route.label is not None:
            lines, x, y = route.label
            words = f"<<B>{'<BR/>'.join(map(markup, lines))}</B>>" if edge.reached else dot_text("\n".join(lines))
            label = f' label={words} lp="{int(x)},{int(self.high - y)}" fontcolor="{ink}" labeltooltip={tooltip}'
        source = self.names[edge.source]
        return (
            f'\t{source} -> {self.names[edge.target]} [pos="{self._spline(route, whole)}" color="{colour}" '
            f'style={look.style} penwidth={pen:g}{"" if whole else " arrowhead=none"} class="{classes}" '
            f'id={source[:-1]}:{edge.event}" edgetooltip={tooltip}{label}]'
        )

    def _spline(self, route: Route, whole: bool) -> str:
        """The corners as rounded Bezier curves, up to an arrow's head, or to where another edge has the same line."""
        points = [(int(x), int(self.high - y)) for x, y in route.points]
        end = ""
        if whole:
            x, y = points[-1]
            before = points[-2]
            end = f"e,{x},{y} "
            points[-1] = (x - _sign(x - before[0]) * _ARROW, y - _sign(y - before[1]) * _ARROW)
        else:
            own = route.own or 0
            (x, y), after = points[own - 1], points[own]
            points[own:] = [(x + _sign(after[0] - x) * _CORNER, y + _sign(after[1] - y) * _CORNER)]
        x, y = points[0]
        if len(points) == 2:
            last = f"{points[1][0]},{points[1][1]}"
            return f"{end}{x},{y} {x},{y} {last} {last}"
        return end + _rounded(points)


def _rounded(points: Sequence[tuple[int, int]]) -> str:
    """Horizontal and vertical lines, as Bezier curves with round corners."""
    here_x, here_y = points[0]
    here = f"{here_x},{here_y}"
    drawn = [here]
    for (x, y), (next_x, next_y) in itertools.pairwise(points[1:]):
        in_x, in_y, out_x, out_y = _sign(here_x - x), _sign(here_y - y), _sign(next_x - x), _sign(next_y - y)
        reach = min(_CORNER, abs(here_x - x + here_y - y), abs(next_x - x + next_y - y))
        bend = reach * 3 // 7
        into = f"{x + in_x * reach},{y + in_y * reach}"
        here_x, here_y = x + out_x * reach, y + out_y * reach
        bent = f"{x + in_x * bend},{y + in_y * bend} {x + out_x * bend},{y + out_y * bend}"
        drawn.append(f"{here} {into} {into} {bent} {here_x},{here_y}")
        here = f"{here_x},{here_y}"
    end = f"{points[-1][0]},{points[-1][1]}"
    drawn.append(f"{here} {end} {end}")
    return " ".join(drawn)


def _sign(number: int) -> int:
    return (number > 0) - (number < 0)
