"""Mermaid: a picture of the detail view as a flowchart, for READMEs, MkDocs and systems without Graphviz.

Mermaid computes the positions of all elements.

Characters of a name that are special in Mermaid are written as their code numbers. Therefore a name can neither end
its label nor begin a directive.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from fsm_mediator.diagram.flow import FlowPicture
from fsm_mediator.diagram.picture import Cluster, Edge, EdgeKind, Node, Picture
from fsm_mediator.diagram.text import clean, numbers, shorten
from fsm_mediator.diagram.themes import EDGES, NODES, Theme
from fsm_mediator.states import EXECUTING, PROBING, STUCK

MOST_EDGES: Final = 500
MOST_TEXT: Final = 50_000
"""The maximum number of edges, and of characters, in a chart.

Mermaid refuses a larger chart, unless the page that shows the chart sets higher limits.
"""

MOST: Final = 60
"""The maximum number of characters in one line of a label."""


def to_mermaid(picture: Picture, theme: Theme) -> str:
    """The text of a Mermaid flowchart that shows *picture*."""
    return _Writer(picture, theme).text()


def is_drawable(chart: str, edges: int) -> bool:
    """Whether Mermaid draws *chart*, which has this number of *edges*. See `MOST_EDGES` and `MOST_TEXT`."""
    return edges <= MOST_EDGES and len(chart) <= MOST_TEXT


class _Writer:
    def __init__(self, picture: Picture, theme: Theme) -> None:
        self.picture, self.theme = picture, theme
        self.nodes = {node.id: node for node in picture.all_nodes()}
        self.names = _names(self.nodes)
        self.frames: list[str] = []

    def text(self) -> str:
        """The text of the whole chart."""
        picture, theme = self.picture, self.theme
        # Mermaid lays out edges in the order of the text. The happy path comes first, so that it is straight.
        edges = sorted(picture.all_edges(), key=lambda edge: edge.kind is not EdgeKind.FORWARD)
        lines = chart_head(picture, "TB")
        lines += self._inside(picture)
        lines += map(self._edge, edges)
        lines += self._classes()
        lines += self._links(edges)
        lines += (f"  style {frame} {frame_style(theme)}" for frame in self.frames)
        return "\n".join([*lines, ""])

    def _inside(self, picture: Picture) -> Iterable[str]:
        framed = {name for cluster in picture.clusters for name in _within(cluster)}
        yield from (self._node(node) for node in picture.nodes if node.id not in framed)
        for cluster in picture.clusters:
            yield from self._frame("saga_" + cluster.path, cluster.label, self._in_cluster(cluster))
        for child in picture.children:
            yield from self._frame(child.prefix, child.heading, self._inside(child))

    def _in_cluster(self, cluster: Cluster) -> Iterable[str]:
        yield from (self._node(self.nodes[name]) for name in cluster.nodes)
        for inner in cluster.clusters:
            yield from self._frame("saga_" + inner.path, inner.label, self._in_cluster(inner))

    def _frame(self, name: str, label: str, inside: Iterable[str]) -> Iterable[str]:
        self.frames.append(_name(name, ""))
        yield f'  subgraph {self.frames[-1]}["{chart_label(label)}"]'
        yield from ("  " + line for line in inside)
        yield "  end"

    def _node(self, node: Node) -> str:
        before, after = NODES[node.phase].brackets
        lines = [chart_label(node.caption), *([f"<b>{chart_label(node.title)}</b>"] if node.title else [])]
        lines += map(chart_label, node.notes)
        if node.numbers:
            lines.append(f"<b>{chart_label(node.numbers)}</b>")
        if node.mark is not None and node.mark.note:
            lines.append(f"<i>{chart_label(node.mark.signed_note)}</i>")
        return f'  {self.names[node.id]}{before}"{"<br/>".join(lines)}"{after}:::{_style(node)}'

    def _edge(self, edge: Edge) -> str:
        taken = f"{numbers(edge.mark.orders)} · " if edge.mark is not None and edge.reached else ""
        arrow, label = EDGES[edge.kind].arrow, chart_label(taken + edge.label)
        return f'  {self.names[edge.source]} {arrow}|"{label}"| {self.names[edge.target]}'

    def _classes(self) -> Iterable[str]:
        theme = self.theme
        for style in dict.fromkeys(map(_style, self.nodes.values())):
            phase, *more = style.split("__")
            line, ground = theme.nodes[phase]
            ink, pen, dashes = theme.ink, "1.5px", ",stroke-dasharray:5 3" if phase == PROBING else ""
            if "rest" in more:
                line, ground, dashes = theme.frame, theme.ground, ",stroke-dasharray:5 3"
            if "never" in more:
                line, ground, ink = theme.pale, theme.ground, theme.pale_ink
            if "pivot" in more:
                pen = "4px"
            if "failed" in more:
                line, pen = theme.nodes[STUCK].line, "3px"
            if "current" in more:
                ground, pen = theme.here, "4px"
            yield f"  classDef {style} fill:{ground},stroke:{line},color:{ink},stroke-width:{pen}{dashes}"

    def _links(self, edges: list[Edge]) -> Iterable[str]:
        styles: dict[str, list[str]] = {}
        for number, edge in enumerate(edges):
            colour = self.theme.pale if edge.pale else self.theme.edges[edge.kind]
            pen = ",stroke-width:1px" if edge.pale else ",stroke-width:4px" if edge.reached else ""
            styles.setdefault(f"stroke:{colour}{pen}", []).append(str(number))
        yield from (f"  linkStyle {','.join(links)} {style}" for style, links in styles.items())


def chart_head(picture: Picture | FlowPicture, direction: str) -> list[str]:
    """The first lines of a chart: its direction, title and description."""
    title, description = plain_text(picture.heading), plain_text(picture.alt)
    return [f"flowchart {direction}", f"  accTitle: {title}", f"  accDescr: {description}"]


def frame_style(theme: Theme) -> str:
    """The Mermaid style of a frame. Without a style, Mermaid fills a frame with yellow."""
    return f"fill:{theme.ground},stroke:{theme.frame},color:{theme.ink},stroke-dasharray:5 3"


def _within(cluster: Cluster) -> Iterable[str]:
    yield from cluster.nodes
    for inner in cluster.clusters:
        yield from _within(inner)


def _style(node: Node) -> str:
    """The name of the Mermaid class that sets a node's colours. It is made from the node's phase and marks."""
    mark = node.mark
    words = {
        "pivot": node.pivot and node.phase == EXECUTING,
        "never": node.pale,
        "failed": mark is not None and mark.failed,
        "current": mark is not None and mark.current and not mark.ended,
        "rest": node.rest > 0,
    }
    return "__".join([node.phase, *(word for word, holds in words.items() if holds)])


def _names(nodes: Iterable[str]) -> dict[str, str]:
    """The identifier of each node in the chart, by the node's id. No two nodes have the same identifier.

    The identifier contains the node's id, unless Mermaid would read the id as syntax.
    """
    names: dict[str, str] = {}
    taken: set[str] = set()
    for number, node in enumerate(nodes):
        name = _name(node, f"n{number}")
        names[node] = name if name not in taken else f"{name}_{number}"
        taken.add(names[node])
    return names


_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.\-/]{0,80}")


def _name(text: str, otherwise: str) -> str:
    if not _NAME.fullmatch(text):
        return otherwise or "x" + text.encode("utf-8", "replace").hex()[:80]
    return text.replace(".", "__").replace("-", "_").replace("/", "___")


# The dot in a label such as "1. pack" is matched too, because Mermaid would take the label for a list.
_MEANING: Final = re.compile(r"[^\w .,:·…▶■✗↩]|(?<=^\d)\.|(?<=^\d\d)\.")


def chart_label(text: str) -> str:
    """*text* as the content of a quoted label. Each character that is special in Mermaid is written as a number."""
    return _MEANING.sub(lambda found: f"#{ord(found.group())};", shorten(text, MOST))


def plain_text(text: str) -> str:
    """*text* without special characters, for titles. Mermaid has no escapes in titles."""
    return re.sub(r"[^\w .,]", " ", re.sub(r"\s+", " ", clean(text))).strip()[:500]
