"""Freshness: whether a file still shows what its diagram shows, and if not, what differs.

Text is compared as it is. An SVG is another one with another version of Graphviz, so that it carries the digest of the
DOT that it was drawn from: that is compared, and what the two pictures say is the difference. No Graphviz is needed.
"""

from __future__ import annotations

import difflib
import html
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from fsm_mediator.diagram.diagram import Diagram
from fsm_mediator.diagram.digest import digest_of
from fsm_mediator.diagram.text import clean
from fsm_mediator.errors import DefinitionError

COMPARED: Final = ("dot", "mmd", "md", "svg")
"""The formats that can be compared, by suffix."""

_DIGEST: Final = re.compile(r'<svg [^>]*data-dot="([0-9a-f]+)"')
_MOVES: Final = "<style>@keyframes "
_WORDS: Final = re.compile(r"<g><title>(.*?)</title>", re.DOTALL)


def difference(path: Path, diagram: Diagram, *, animate: bool | None = None) -> list[str]:
    """What *path* says and what it should say, as the lines of a unified diff; empty where it is fresh.

    Args:
        path: The file.
        diagram: What it should show.
        animate: Whether an SVG should move; None: as it does.

    Raises:
        DefinitionError: Its format cannot be compared.
    """
    kind = path.suffix[1:].lower()
    if kind not in COMPARED:
        raise DefinitionError(
            f"{str(path)!r} cannot be checked: a .{kind} is not compared; commit one of {', '.join(COMPARED)} instead"
        )
    there = path.read_text(encoding="utf-8") if path.exists() else ""
    if kind != "svg":
        return text_difference(path, there, format(diagram, {"mmd": "mermaid"}.get(kind, kind)))
    moves = animate if animate is not None else _MOVES in there
    frames = diagram.frames() if moves and diagram.run is not None else [diagram]
    found = _DIGEST.search(there)
    if found is not None and found.group(1) == digest_of(*(frame.to_dot() for frame in frames)):
        return []
    differences = text_difference(path, "\n".join(_said_by(there)), "\n".join(_said_in(frames)))
    return differences or [
        f"--- {path} (as it is)",
        f"+++ {path} (as it should be)",
        " it says the same, and is drawn in another way",
    ]


def text_difference(path: Path, there: str, wanted: str) -> list[str]:
    """Two texts as the lines of a unified diff."""
    names = (f"{path} (as it is)", f"{path} (as it should be)")
    return list(difflib.unified_diff(there.splitlines(), wanted.splitlines(), *names, lineterm="", n=0))


def _said_by(svg: str) -> list[str]:
    """What an SVG says to those who point at its parts, sorted: Graphviz has an order of its own."""
    return sorted({line for told in _WORDS.findall(svg) for line in html.unescape(told).splitlines() if line.strip()})


def _said_in(frames: Sequence[Diagram]) -> list[str]:
    """What diagrams would say, likewise."""
    pictures = [frame.picture for frame in frames]
    tooltips = [node.tooltip for picture in pictures for node in picture.all_nodes()]
    tooltips += [edge.tooltip for picture in pictures for edge in picture.all_edges()]
    return sorted({line for told in tooltips for line in clean(told).splitlines() if line.strip()})
