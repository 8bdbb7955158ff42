"""Mermaid: a picture as a flowchart, for READMEs, MkDocs and wherever no Graphviz is. Mermaid lays it out itself.

Every character of a name that could mean something to Mermaid is written as its number, so that a name can neither end
its label nor begin a directive.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from fsm_mediator.diagram.highlights import Mark
from fsm_mediator.diagram.picture import Cluster, Edge, EdgeKind, Node, Picture
from fsm_mediator.diagram.text import clean, numbers, shorten
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

MOST_EDGES: Final = 500
"""Beyond as many edges Mermaid refuses to draw, unless its page raises ``maxEdges``."""

_SHAPES: Final[dict[str, tuple[str, str]]] = {
    PENDING: ("([", "])"),
    EXECUTING: ("(", ")"),
    WAITING: ("[/", "/]"),
    RETRYING: ("([", "])"),
    PROBING: ("([", "])"),
    COMPENSATING: ("[", "]"),
    RETRYING_COMPENSATION: ("([", "])"),
    STUCK: ("{{", "}}"),
    STUCK_EXECUTING: ("{{", "}}"),
    SUCCEEDED: ("(((", ")))"),
    FAILED: ("(((", ")))"),
}
_ARROWS: Final[dict[EdgeKind, str]] = {
    EdgeKind.FORWARD: "==>",
    EdgeKind.LOOP: "-->",
    EdgeKind.ASKED: "-.->",
    EdgeKind.GIVEN_UP: "-->",
    EdgeKind.IN_DOUBT: "-.->",
    EdgeKind.BACKWARD: "==>",
    EdgeKind.PERSON: "-.->",
}


def to_mermaid(picture: Picture, theme: Theme) -> str:
    """The picture as a Mermaid flowchart."""
    return _Writer(picture, theme).text()


class _Writer:
    def __init__(self, picture: Picture, theme: Theme) -> None:
        self.picture = picture
        self.theme = theme
        self.nodes = {node.id: node for node in picture.all_nodes()}
        self.names = _names(self.nodes)
        self.frames: list[str] = []

    def text(self) -> str:
        """All of it."""
        picture = self.picture
        # Mermaid lays out what it reads first first: the way forward is to be the straight one.
        edges = sorted(picture.all_edges(), key=lambda edge: edge.nature is not EdgeKind.FORWARD)
        lines = ["flowchart TB", f"  accTitle: {plain_text(picture.heading)}", f"  accDescr: {plain_text(picture.alt)}"]
        if len(edges) > MOST_EDGES:
            lines.append(f"  %% {len(edges)} edges: more than Mermaid draws unless the page sets maxEdges")
        lines += self._inside(picture)
        lines += [self._edge(edge) for edge in edges]
        lines += self._classes()
        lines += self._links(edges)
        # Mermaid would fill them in yellow.
        look = f"fill:{self.theme.ground},stroke:{self.theme.frame},color:{self.theme.ink},stroke-dasharray:5 3"
        lines += [f"  style {frame} {look}" for frame in self.frames]
        return "\n".join([*lines, ""])

    def _inside(self, picture: Picture) -> Iterable[str]:
        framed = {name for cluster in picture.clusters for name in _within(cluster)}
        yield from (self._node(node, "  ") for node in picture.nodes if node.id not in framed)
        for cluster in picture.clusters:
            yield from self._frame(cluster, "  ")
        for child in picture.children:
            self.frames.append(_name(child.prefix, ""))
            yield f'  subgraph {self.frames[-1]}["{chart_label(child.heading, 60)}"]'
            yield from ("  " + line for line in self._inside(child))
            yield "  end"

    def _frame(self, cluster: Cluster, indent: str) -> Iterable[str]:
        self.frames.append(_name("saga_" + cluster.path, ""))
        yield f'{indent}subgraph {self.frames[-1]}["{chart_label(cluster.label, 60)}"]'
        for name in cluster.nodes:
            yield self._node(self.nodes[name], indent + "  ")
        for inner in cluster.clusters:
            yield from self._frame(inner, indent + "  ")
        yield f"{indent}end"

    def _node(self, node: Node, indent: str) -> str:
        before, after = _SHAPES[node.phase]
        lines = [chart_label(node.caption, 60)]
        if node.title:
            lines.append(f"<b>{chart_label(node.title, 60)}</b>")
        lines += (chart_label(note, 60) for note in node.notes)
        mark = node.mark
        if mark is not None and mark.note:
            lines.append(f"<i>{chart_label(_signed(mark), 60)}</i>")
        style = _style(node)
        return f'{indent}{self.names[node.id]}{before}"{"<br/>".join(lines)}"{after}:::{style}'

    def _edge(self, edge: Edge) -> str:
        label = edge.label
        if edge.mark is not None and edge.mark.reached:
            label = f"{numbers(edge.mark.orders)} · {label}"
        return (
            f'  {self.names[edge.source]} {_ARROWS[edge.nature]}|"{chart_label(label, 60)}"| {self.names[edge.target]}'
        )

    def _classes(self) -> Iterable[str]:
        theme = self.theme
        used = dict.fromkeys(_style(node) for node in self.nodes.values())
        for style in used:
            phase, *how = style.split("__")
            line, ground = theme.nodes[phase]
            ink, pen, dashes = theme.ink, "1.5px", ",stroke-dasharray:5 3" if phase == PROBING else ""
            if "never" in how:
                line, ground, ink = theme.pale, theme.ground, theme.pale_ink
            if "pivot" in how:
                pen = "4px"
            if "failed" in how:
                line, pen = theme.nodes[STUCK].line, "3px"
            if "current" in how:
                ground, pen = theme.here, "4px"
            yield f"  classDef {style} fill:{ground},stroke:{line},color:{ink},stroke-width:{pen}{dashes}"

    def _links(self, edges: list[Edge]) -> Iterable[str]:
        theme = self.theme
        styles: dict[str, list[int]] = {}
        for number, edge in enumerate(edges):
            mark = edge.mark
            pale = mark is not None and not mark.reached
            colour = theme.pale if pale else theme.edges[edge.nature]
            pen = "" if mark is None else ",stroke-width:1px" if pale else ",stroke-width:4px"
            styles.setdefault(f"stroke:{colour}{pen}", []).append(number)
        for style, which in styles.items():
            yield f"  linkStyle {','.join(map(str, which))} {style}"


def _within(cluster: Cluster) -> Iterable[str]:
    yield from cluster.nodes
    for inner in cluster.clusters:
        yield from _within(inner)


def _style(node: Node) -> str:
    """The name of a node's class."""
    how = ["pivot"] if node.pivot and node.phase == EXECUTING else []
    mark = node.mark
    if mark is not None:
        if not mark.reached:
            how.append("never")
        if mark.failed:
            how.append("failed")
        if mark.current and not mark.ended:
            how.append("current")
    return "__".join([node.phase, *how])


def _signed(mark: Mark) -> str:
    sign = "■ " if mark.ended else "▶ " if mark.current else "✗ " if mark.failed else "↩ " if mark.undone else ""
    return f"{sign}{mark.note}"


def _names(nodes: Iterable[str]) -> dict[str, str]:
    """A name for each node that Mermaid takes for nothing else, and that tells which node it is."""
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


_MEANING: Final = re.compile(r"[^\w .,:·…▶■✗↩]|(?<=^\d)\.|(?<=^\d\d)\.")  # a number and a dot would begin a list


def chart_label(text: str, most: int) -> str:
    """*text* for a quoted label: all but letters, digits and some harmless signs as numbers."""
    return _MEANING.sub(lambda found: f"#{ord(found.group())};", shorten(text, most))


def plain_text(text: str) -> str:
    """*text* for where Mermaid knows no escapes: only what cannot mean anything."""
    return re.sub(r"[^\w .,]", " ", re.sub(r"\s+", " ", clean(text))).strip()[:500]
