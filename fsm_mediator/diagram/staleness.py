"""Staleness: the difference between a diagram's file in a repository and the current diagram.

Text formats are compared directly. For an SVG, the digest of its DOT text is compared, because different versions of
Graphviz draw different SVGs. If the digests differ, the differences between the tooltips are reported. Graphviz is
not needed.
"""

from __future__ import annotations

import difflib
import html
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from fsm_mediator.diagram.diagram import Diagram
from fsm_mediator.diagram.text import clean, digest_of
from fsm_mediator.errors import DefinitionError

COMPARED: Final = ("dot", "mmd", "md", "svg")
"""The suffixes of the files that can be compared."""

_DIGEST: Final = re.compile(r'<svg [^>]*data-dot="([0-9a-f]+)"')
_MOVES: Final = "<style>@keyframes "
_TITLE: Final = re.compile(r'<g (?:id="[^"]*" )?class="(?:node|edge)\b[^"]*">\n<title>(.*?)</title>', re.DOTALL)


def difference(path: Path, diagram: Diagram, *, animate: bool | None = None) -> list[str]:
    """The difference between *path* and *diagram*, as the lines of a unified diff. Empty if the file is up to date.

    Args:
        path: The file.
        diagram: The diagram that the file should show.
        animate: Whether the SVG should be animated. If None, it should be animated if and only if the file is.

    Raises:
        DefinitionError: The file's format cannot be compared.
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
    differences = text_difference(path, "\n".join(_tooltips_of_svg(there)), "\n".join(_tooltips_of_diagram(frames)))
    return differences or [
        f"--- {path} (as it is)",
        f"+++ {path} (as it should be)",
        " it says the same, and is drawn in another way",
    ]


def text_difference(path: Path, there: str, wanted: str) -> list[str]:
    """The difference between the text *there* and the text *wanted*, as the lines of a unified diff.

    *path* is the name of the file in the diff.
    """
    names = (f"{path} (as it is)", f"{path} (as it should be)")
    return list(difflib.unified_diff(there.splitlines(), wanted.splitlines(), *names, lineterm="", n=0))


def _tooltips_of_svg(svg: str) -> list[str]:
    return _lines(map(html.unescape, _TITLE.findall(svg)))


def _tooltips_of_diagram(frames: Sequence[Diagram]) -> list[str]:
    shown = [each for frame in frames for each in (*frame.picture.all_nodes(), *frame.picture.all_edges())]
    return _lines(clean(each.tooltip) for each in shown)


def _lines(texts: Iterable[str]) -> list[str]:
    """All lines of *texts*, sorted and without repetitions. They are sorted because Graphviz uses its own order."""
    return sorted({line for text in texts for line in text.splitlines() if line.strip()})
