"""Notebooks: an image that fits the page, and that untrusted notebooks show too.

JupyterLab shows an SVG in its full width. In an untrusted notebook, JupyterLab does not show an SVG at all. An HTML
image has neither problem, and scripts in the image cannot run. This module does not import notebook libraries.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from typing import Any, Final

import attrs

from fsm_mediator.diagram.text import markup

LEAST: Final = 0.5
"""The minimum scale at which a picture is shown. If the picture is wider than the page at this scale, it scrolls."""

_WIDTH: Final = re.compile(r'<svg [^>]*?width="([\d.]+)pt"')


@attrs.frozen(repr=False)
class NotebookImage:
    """An SVG that a notebook can show."""

    svg: str  # the SVG
    alt: str  # the alternative text, for readers who cannot see the picture
    text: str  # the text that a front end without pictures shows

    @property
    def html(self) -> str:
        """HTML with the picture as an image that is at most as wide as the page."""
        wide = _WIDTH.match(self.svg)
        least = f"min-width: {float(wide.group(1)) / 72 * 96 * LEAST:.0f}px; " if wide else ""
        data = base64.b64encode(self.svg.encode()).decode()
        return (
            f'<div style="overflow-x: auto"><img alt="{markup(self.alt)}" src="data:image/svg+xml;base64,{data}" '
            f'style="{least}max-width: 100%; height: auto"></div>'
        )

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> Mapping[str, Any]:  # noqa: ARG002 - as IPython calls it
        """The MIME bundle for a notebook: the picture as an HTML image, which front ends prefer, as SVG and as text."""
        return {"text/html": self.html, "image/svg+xml": self.svg, "text/plain": self.text}

    def __repr__(self) -> str:
        return self.text
