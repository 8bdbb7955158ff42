"""Diagrams: a saga's machine and its runs as pictures, extracted once, rendered as DOT, SVG, Mermaid and more.

Nothing here imports Graphviz before something is drawn.
"""

from __future__ import annotations

from fsm_mediator.diagram.diagram import Diagram, Look, run_diagram, saga_diagram
from fsm_mediator.diagram.picture import View

__all__ = ["Diagram", "Look", "View", "run_diagram", "saga_diagram"]
