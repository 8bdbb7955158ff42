"""Diagrams: a saga's machine, or one of its runs, as a picture.

The content of a picture is extracted once and then written as DOT, SVG, Mermaid or another format.

Graphviz is imported only when a picture is drawn.
"""

from __future__ import annotations

from fsm_mediator.diagram.diagram import Diagram, Look, run_diagram, saga_diagram
from fsm_mediator.diagram.picture import View

__all__ = ["Diagram", "Look", "View", "run_diagram", "saga_diagram"]
