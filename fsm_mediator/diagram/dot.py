"""DOT: a picture, laid out and painted, as Graphviz's text. Positions are given (``layout=nop2``): Graphviz only draws.

Any ``dot`` draws it as it is: ``dot -Tsvg saga.dot``.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Sequence
from typing import Final

from fsm_mediator.diagram.highlights import Mark
from fsm_mediator.diagram.layout.geometry import CAPTION, LABEL, LINE, Box, Layout, Route, inset_of
from fsm_mediator.diagram.picture import Cluster, Edge, EdgeKind, Node, Picture
from fsm_mediator.diagram.text import dot_name, dot_text, markup, shorten, width
from fsm_mediator.diagram.themes import Theme
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

FONT: Final = "Helvetica,Arial,sans-serif"

SHAPES: Final[dict[str, tuple[str, str]]] = {
    PENDING: ("ellipse", "filled"),
    EXECUTING: ("box", "rounded,filled"),
    WAITING: ("note", "filled"),
    RETRYING: ("box", "rounded,filled"),
    PROBING: ("box", "rounded,dashed,filled"),
    COMPENSATING: ("box", "filled"),
    RETRYING_COMPENSATION: ("box", "rounded,filled"),
    STUCK: ("octagon", "filled"),
    STUCK_EXECUTING: ("octagon", "filled"),
    SUCCEEDED: ("ellipse", "filled"),
    FAILED: ("ellipse", "filled"),
}
"""Every phase's shape and style: told apart without colour."""

SIGNS: Final[dict[str, str]] = {
    RETRYING: "↻ ",
    RETRYING_COMPENSATION: "↻ ",
    PROBING: "? ",
    WAITING: "‖ ",
    STUCK: "! ",
    STUCK_EXECUTING: "! ",
    SUCCEEDED: "✓ ",
    FAILED: "✗ ",
    COMPENSATING: "↩ ",
}
"""What stands before a node's caption."""

_STYLES: Final[dict[EdgeKind, tuple[str, float]]] = {
    EdgeKind.FORWARD: ("solid", 1.8),
    EdgeKind.LOOP: ("solid", 0.9),
    EdgeKind.ASKED: ("dashed", 0.9),
    EdgeKind.GIVEN_UP: ("solid", 1.1),
    EdgeKind.IN_DOUBT: ("dashed", 1.1),
    EdgeKind.BACKWARD: ("solid", 1.6),
    EdgeKind.PERSON: ("dotted", 1.2),
}
_ARROW: Final = 6
_CORNER: Final = 7


def to_dot(picture: Picture, layout: Layout, theme: Theme) -> str:
    """The picture as DOT."""
    return "\n".join(["digraph " + dot_name(picture.name) + " {", *body(picture, layout, theme), "}", ""])


def body(picture: Picture, layout: Layout, theme: Theme) -> list[str]:
    """What stands between the braces, a line each."""
    return _Writer(picture, layout, theme).lines()


class _Writer:
    def __init__(self, picture: Picture, layout: Layout, theme: Theme) -> None:
        self.picture = picture
        self.layout = layout
        self.theme = theme
        self.high = round(layout.height)
        self.paints: dict[tuple[EdgeKind, bool, bool | None], tuple[str, str]] = {}
        self.names = {node.id: dot_name(node.id) for node in picture.all_nodes()}

    def lines(self) -> list[str]:
        """All of it."""
        picture, theme = self.picture, self.theme
        ground = f'bgcolor="{theme.ground}" pad="0.32,0.3" fontname="{FONT}" fontcolor="{theme.ink}"'
        shown = f"{self._title()} _background={self._background()}"
        lines = [
            f"\tgraph [layout=nop2 outputorder=edgesfirst {ground}{shown}]",
            f'\tnode [fixedsize=true fontname="{FONT}" fontcolor="{theme.ink}" margin=0 label=""]',
            f'\tedge [fontname="{FONT}" fontsize={LABEL:g} arrowsize={_ARROW / 10:g}]',
        ]
        lines += self._clusters(picture.clusters, "\t")
        lines += self._children(picture, "\t")
        routed = list(zip(picture.all_edges(), self.layout.routes, strict=True))
        nodes = list(picture.all_nodes())
        if picture.is_run:
            # Edges are drawn in the order of the nodes they leave: those that were taken go last, on top.
            weight = {node.id: 0 for node in nodes}
            for edge, _ in routed:
                if edge.mark is not None and edge.mark.reached:
                    weight[edge.source] = max(weight[edge.source], 1 + (edge.nature is not EdgeKind.LOOP))
            nodes.sort(key=lambda node: weight[node.id])
            routed.sort(key=lambda each: each[0].mark is not None and each[0].mark.reached)
        lines += map(self._node, nodes)
        lines += itertools.starmap(self._edge, routed)
        return lines

    def _title(self) -> str:
        picture, theme = self.picture, self.theme
        wide = max(self.layout.width + 28, 200)
        rows = [f'<FONT POINT-SIZE="16"><B>{markup(shorten(picture.heading, int(wide / 10))) or "&#160;"}</B></FONT>']
        rows += [
            f'<FONT POINT-SIZE="9.5" COLOR="{theme.faint}">{markup(shorten(line, int(wide / 5.5))) or "&#160;"}</FONT>'
            for line in picture.subheading
        ]
        table = "".join(f'<TR><TD ALIGN="LEFT">{row}</TD></TR>' for row in rows)
        label = f'<TABLE BORDER="0" CELLBORDER="0" CELLSPACING="0" CELLPADDING="1" WIDTH="{wide:g}">{table}</TABLE>'
        high = 16 * LINE + len(picture.subheading) * 11.5 + 14
        return f' label=<{label}> labelloc=t lp="{round(wide / 2 - 14)},{round(self.high + high / 2)}"'

    def _background(self) -> str:
        """The lanes, in Graphviz's drawing language."""
        drawn = []
        for box, label, back in self.layout.bands:
            colour = self.theme.back_band if back else self.theme.forward_band
            left, right, top, bottom = box.left, box.right, self.high - box.top, self.high - box.bottom
            corners = ((left, bottom), (right, bottom), (right, top), (left, top))
            drawn.append(f"c 7 -{colour} C 7 -{colour} P 4 {' '.join(f'{x:g} {y:g}' for x, y in corners)}")
            y = bottom + 6 if back else top - 12
            drawn.append(
                f"F 7 {len(FONT)} -{FONT} c 7 -{self.theme.faint} T {left + 8:g} {y:g} -1 {len(label) * 5} "
                f"{len(label.encode())} -{label}"
            )
        legend = self._legend()
        if legend:
            x, y = self.layout.width + 6, 6
            drawn.append(
                f"F 7 {len(FONT)} -{FONT} c 7 -{self.theme.faint} T {x:g} {y:g} 1 {len(legend) * 4} "
                f"{len(legend.encode())} -{legend}"
            )
        return dot_text(" ".join(drawn))

    def _legend(self) -> str:
        """What the styles of lines say, as far as they occur."""
        natures = {edge.nature for edge in self.picture.all_edges()}
        told = []
        if EdgeKind.IN_DOUBT in natures or EdgeKind.ASKED in natures:
            told.append("dashed: in doubt")
        if EdgeKind.PERSON in natures:
            told.append("dotted: a person says so")
        if any(node.pivot for node in self.picture.all_nodes()):
            told.append("double: the pivot, the ends")
        if self.picture.is_run:
            told.append("numbers: the records of this run")
        return "   ".join(told)

    def _clusters(self, clusters: Iterable[Cluster], indent: str) -> list[str]:
        lines = []
        for cluster in clusters:
            lines += self._frames(cluster.path, indent, [self.names[node] for node in cluster.nodes], cluster.clusters)
        return lines

    def _children(self, picture: Picture, indent: str) -> list[str]:
        lines = []
        for child in picture.children:
            inner = [self.names[node.id] for node in child.all_nodes()]
            lines += self._frames(child.prefix, indent, inner, child.clusters)
            lines += self._children(child, indent)
        return lines

    def _frames(self, path: str, indent: str, nodes: list[str], inner: Iterable[Cluster]) -> list[str]:
        """A cluster's frame; what it holds belongs to the first, where it is broken over rows."""
        lines = []
        frames = [frame for frame in self.layout.frames if frame.cluster.path == path]
        for number, (cluster, box) in enumerate(frames):
            name = f"cluster_{path}" + (f"/{number + 1}" if number else "")
            label = shorten(cluster.label, 40)
            of_a_child = path.endswith("/")  # a machine of its own, not a nested saga's part of this one
            told = f"branch: {path.rstrip('/')}" if of_a_child else f"nested: {path}"
            size, ink = (CAPTION + 4, self.theme.ink) if of_a_child else (CAPTION + 1, self.theme.faint)
            corners = (box.left, self.high - box.bottom, box.right, self.high - box.top)
            bb = ",".join(str(round(each)) for each in corners)
            lp = (box.left + 12 + width(label, size) / 2, self.high - box.top - 8)
            lines.append(f"{indent}subgraph {dot_name(name)} {{")
            lines.append(
                f'{indent}\tgraph [bb="{bb}" style="rounded,dashed" bgcolor=transparent '
                f'color="{self.theme.frame}" fontcolor="{ink}" fontsize={size:g} '
                f'label={dot_text(label)} lp="{round(lp[0])},{round(lp[1])}" tooltip={dot_text(told)}]'
            )
            if number == 0:
                lines += [f"{indent}\t{node}" for node in nodes]
                lines += self._clusters(inner, indent + "\t")
            lines.append(f"{indent}}}")
        return lines

    def _node(self, node: Node) -> str:
        theme, box = self.theme, self.layout.boxes[node.id]
        mark = node.mark
        pale = mark is not None and not mark.reached
        line, ground = theme.nodes[node.phase]
        shape, style = SHAPES[node.phase]
        pen, rims = (1.3, 1)
        if node.phase in (RETRYING, RETRYING_COMPENSATION, PROBING):
            pen = 1.0
        if node.pivot and node.phase == EXECUTING:
            pen, rims = 1.6, 2
        if node.ended:
            rims = 2
        if mark is not None and mark.failed:
            line = theme.nodes[STUCK].line
            pen = 2.2
        if mark is not None and mark.current:
            pen = 3.0
            ground = ground if mark.ended else theme.here
        if pale:
            line, ground, pen = theme.pale, theme.ground, 0.9
        rim = 8 * (rims - 1)
        wide, high = (box.width - rim) / 72, (box.height - rim) / 72
        classes = [node.phase, *(["pivot"] if node.pivot else []), *_classes(mark)]
        name = self.names[node.id]
        pen_and_rims = f"penwidth={pen:g}{' peripheries=2' if rims == 2 else ''}"
        return (
            f'\t{name} [pos="{round(box.x)},{round(self.high - box.y)}" width={wide:.4g} height={high:.4g} '
            f'shape={shape} style="{style}" color="{line}" fillcolor="{ground}" {pen_and_rims} '
            f'id={name} class="{" ".join(classes)}" '
            f"tooltip={dot_text(node.tooltip)} label=<{self._text(node, box, line, pale)}>]"
        )

    def _text(self, node: Node, box: Box, line: str, pale: bool) -> str:
        theme = self.theme
        room = box.width - inset_of(node)
        said = []
        for number, (text, size, bold) in enumerate(self.layout.texts[node.id]):
            colour = line if number == 0 else theme.ink if bold else theme.faint
            inner = markup(SIGNS.get(node.phase, "") + text if number == 0 else text) or "&#160;"
            said.append(
                f'<FONT POINT-SIZE="{size:g}" COLOR="{theme.pale_ink if pale else colour}">'
                f"{f'<B>{inner}</B>' if bold else inner}</FONT>"
            )
        if node.mark is not None and (note := _noted(node.mark)):
            inner = markup(shorten(note, int(room / CAPTION / 0.58)))
            said.append(f'<FONT POINT-SIZE="{CAPTION:g}" COLOR="{theme.ink}"><B>{inner}</B></FONT>')
        if not node.path and node.phase in (PENDING, SUCCEEDED, FAILED):
            return "<BR/>".join(said)
        rows = '</TD></TR><TR><TD ALIGN="LEFT">'.join(said)
        return (
            f'<TABLE BORDER="0" CELLBORDER="0" CELLSPACING="0" CELLPADDING="0" WIDTH="{room:g}">'
            f'<TR><TD ALIGN="LEFT">{rows}</TD></TR></TABLE>'
        )

    def _edge(self, edge: Edge, route: Route) -> str:
        mark = edge.mark
        taken = mark is not None and mark.reached
        whole = route.own is None or taken
        how = (edge.nature, whole, None if mark is None else taken)
        paint = self.paints.get(how)
        if paint is None:
            self.paints[how] = paint = self._paint(*how)
        drawn, ink = paint
        if mark is not None and mark.failed:
            drawn = drawn.replace('reached"', 'reached failed"')
        label, tooltip = "", dot_text(edge.tooltip)
        if route.label is not None:
            lines, x, y = route.label
            said = f"<<B>{'<BR/>'.join(map(markup, lines))}</B>>" if taken else _words(lines)
            label = f' label={said} lp="{int(x)},{int(self.high - y)}" {ink} labeltooltip={tooltip}'
        source = self.names[edge.source]
        return (
            f'\t{source} -> {self.names[edge.target]} [pos="{self._spline(route, whole)}" {drawn} '
            f'id={source[:-1]}:{edge.event}" edgetooltip={tooltip}{label}]'
        )

    def _paint(self, nature: EdgeKind, whole: bool, taken: bool | None) -> tuple[str, str]:
        """How a line of a sort is drawn, and the colour of its text; *taken*: whether a run took it."""
        theme = self.theme
        style, pen = _STYLES[nature]
        colour = ink = theme.edges[nature]
        told = nature.value
        if taken is None:
            pen = 1.1 if nature is EdgeKind.FORWARD and not whole else pen
        elif taken:
            pen += 1.2
            told += " reached"
        else:
            colour, ink, pen = theme.pale, theme.pale_ink, 0.8
            told += " never"
        head = "" if whole else " arrowhead=none"
        return f'color="{colour}" style={style} penwidth={pen:g}{head} class="{told}"', f'fontcolor="{ink}"'

    def _spline(self, route: Route, whole: bool) -> str:
        """The corners as Bezier curves, rounded, ending in an arrow's head; or where another edge goes the same way."""
        high = self.high
        way = [(int(x), int(high - y)) for x, y in route.points]
        end = ""
        if whole:
            x, y = way[-1]
            end = f"e,{x},{y} "
            before = way[-2]
            way[-1] = (x - _sign(x - before[0]) * _ARROW, y - _sign(y - before[1]) * _ARROW)
        else:
            own = route.own or 0
            (x, y), after = way[own - 1], way[own]
            way[own:] = [(x + _sign(after[0] - x) * _CORNER, y + _sign(after[1] - y) * _CORNER)]
        x, y = way[0]
        if len(way) == 2:
            last = f"{way[1][0]},{way[1][1]}"
            return f"{end}{x},{y} {x},{y} {last} {last}"
        return end + _rounded(way)


@functools.lru_cache(256)
def _words(lines: tuple[str, ...]) -> str:
    """A label of plain text."""
    return dot_text("\n".join(lines))


def _rounded(way: Sequence[tuple[int, int]]) -> str:
    """A way of horizontal and vertical lines, as Bezier curves with round corners."""
    here_x, here_y = way[0]
    here = f"{here_x},{here_y}"
    drawn = [here]
    for (x, y), (next_x, next_y) in itertools.pairwise(way[1:]):
        in_x, in_y, out_x, out_y = _sign(here_x - x), _sign(here_y - y), _sign(next_x - x), _sign(next_y - y)
        reach = min(_CORNER, abs(here_x - x + here_y - y), abs(next_x - x + next_y - y))
        bend = reach * 3 // 7
        into = f"{x + in_x * reach},{y + in_y * reach}"
        here_x, here_y = x + out_x * reach, y + out_y * reach
        bent = f"{x + in_x * bend},{y + in_y * bend} {x + out_x * bend},{y + out_y * bend}"
        drawn.append(f"{here} {into} {into} {bent} {here_x},{here_y}")
        here = f"{here_x},{here_y}"
    end = f"{way[-1][0]},{way[-1][1]}"
    drawn.append(f"{here} {end} {end}")
    return " ".join(drawn)


def _noted(mark: Mark) -> str:
    """A run's note on a node, with signs for what else a colour says."""
    sign = "■ " if mark.ended else "▶ " if mark.current else "✗ " if mark.failed else "↩ " if mark.undone else ""
    return f"{sign}{mark.note}"


def _classes(mark: Mark | None) -> list[str]:
    if mark is None:
        return []
    told = [name for name in ("current", "failed", "undone") if getattr(mark, name)]
    return ["reached" if mark.reached else "never", *told]


def _sign(number: int) -> int:
    return (number > 0) - (number < 0)
