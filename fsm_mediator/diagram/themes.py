"""Themes: the look of the nodes of each phase, and of the edges of each kind.

Every meaning of a colour is also shown by a shape, a line style or a sign, for readers who do not see colours.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from fsm_mediator.diagram.picture import EdgeKind
from fsm_mediator.errors import DefinitionError
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

ThemeName = Literal["light", "dark", "auto", "red"]

Pair = tuple[str, str]
"""Two colours for the same purpose: the first in the light theme, the second in the dark theme."""


class Paint(NamedTuple):
    """The colours of a node: one for its line and headline, and one for its background."""

    line: str
    ground: str


class NodeLook(NamedTuple):
    """The look of all nodes of one phase."""

    sign: str  # the sign before the caption
    shape: str  # the shape in Graphviz
    style: str  # the style in Graphviz
    brackets: tuple[str, str]  # the brackets around a label in Mermaid, which select the shape
    line: Pair
    ground: Pair


class EdgeLook(NamedTuple):
    """The look of all edges of one kind."""

    style: str  # the line style in Graphviz
    pen: float  # the line width in Graphviz, in points
    arrow: str  # the arrow in Mermaid
    colour: Pair


class Theme(NamedTuple):
    """The colours of a picture."""

    name: str
    ground: str  # the background of the whole picture
    ink: str  # text
    faint: str  # small print
    pale: str  # the lines of elements that a run never reached
    pale_ink: str  # the text of elements that a run never reached
    forward_band: str  # the background of the forward lane
    back_band: str  # the background of the lane of compensation
    frame: str  # the frames around nested sagas
    here: str  # the background of a run's current node
    ramp: tuple[str, ...]  # the backgrounds of steps with statistics, from the lowest value to the highest
    nodes: dict[str, Paint]  # the colours of nodes, by phase
    edges: dict[EdgeKind, str]  # the colours of edges, by kind


_COLOURS: Final = {
    "ground": ("#ffffff", "#10151c"),
    "ink": ("#1b2430", "#e8edf3"),
    "faint": ("#56616f", "#a3aebb"),
    "pale": ("#ccd3db", "#3a444f"),
    "pale_ink": ("#7c8794", "#8591a0"),
    "forward_band": ("#f5f8fc", "#151c26"),
    "back_band": ("#fcf8f1", "#1d1a16"),
    "frame": ("#8a97a6", "#6d7a89"),
    "here": ("#fff3b0", "#453b06"),
}
RAMP: Final[tuple[Pair, ...]] = (
    ("#fff7e0", "#221d12"),
    ("#fee3a0", "#3b2d0c"),
    ("#fdc261", "#583f06"),
    ("#f99c38", "#784d04"),
    ("#ea7a1e", "#985304"),
)
"""The background colours of steps with statistics, from the lowest value to the highest.

The colours differ in lightness, for readers who cannot distinguish all hues. Text is readable on each of them.
"""

_GROUND, _FAINT = _COLOURS["ground"], _COLOURS["faint"]
_BLUE, _PURPLE = ("#1d5fb8", "#6fa8f5"), ("#7d50c4", "#b795f0")
_AMBER, _RUST = ("#95590a", "#e0a54a"), ("#a8452a", "#ee9275")
_GREY, _DIM = ("#4a4f57", "#b6bdc6"), ("#66717f", "#8b96a3")
_OVAL, _RINGS, _HEXAGON = ("([", "])"), ("(((", ")))"), ("{{", "}}")
_RETRY = NodeLook("↻ ", "box", "rounded,filled", _OVAL, _FAINT, _GROUND)
_STUCK = NodeLook("! ", "octagon", "filled", _HEXAGON, ("#b0261d", "#f58a80"), ("#fdeae8", "#3a1715"))

NODES: Final[dict[str, NodeLook]] = {
    PENDING: NodeLook("", "ellipse", "filled", _OVAL, _GREY, _GROUND),
    EXECUTING: NodeLook("", "box", "rounded,filled", ("(", ")"), _BLUE, ("#e9f1fc", "#16273f")),
    WAITING: NodeLook("‖ ", "note", "filled", ("[/", "/]"), ("#0b6e75", "#4fc1c9"), ("#e4f4f5", "#10292c")),
    RETRYING: _RETRY,
    PROBING: NodeLook("? ", "box", "rounded,dashed,filled", _OVAL, _PURPLE, ("#f4eefc", "#261b3a")),
    COMPENSATING: NodeLook("↩ ", "box", "filled", ("[", "]"), _AMBER, ("#fdf0d9", "#33260f")),
    RETRYING_COMPENSATION: _RETRY,
    STUCK: _STUCK,
    STUCK_EXECUTING: _STUCK,
    SUCCEEDED: NodeLook("✓ ", "ellipse", "filled", _RINGS, ("#1a7340", "#5fcb8b"), ("#e6f5ec", "#12301f")),
    FAILED: NodeLook("✗ ", "ellipse", "filled", _RINGS, _GREY, ("#eceef1", "#262b32")),
}

EDGES: Final[dict[EdgeKind, EdgeLook]] = {
    EdgeKind.FORWARD: EdgeLook("solid", 1.8, "==>", _BLUE),
    EdgeKind.LOOP: EdgeLook("solid", 0.9, "-->", _DIM),
    EdgeKind.ASKED: EdgeLook("dashed", 0.9, "-.->", _PURPLE),
    EdgeKind.FAILURE: EdgeLook("solid", 1.1, "-->", _RUST),
    EdgeKind.IN_DOUBT: EdgeLook("dashed", 1.1, "-.->", _RUST),
    EdgeKind.BACKWARD: EdgeLook("solid", 1.6, "==>", _AMBER),
    EdgeKind.PERSON: EdgeLook("dotted", 1.2, "-.->", _DIM),
}


def _theme(name: str, column: int) -> Theme:
    """The theme *name*, made from one colour of each `Pair`. *column* is 0 for the light colour, 1 for the dark one."""
    return Theme(
        name,
        **{part: pair[column] for part, pair in _COLOURS.items()},
        ramp=tuple(pair[column] for pair in RAMP),
        nodes={phase: Paint(look.line[column], look.ground[column]) for phase, look in NODES.items()},
        edges={kind: look.colour[column] for kind, look in EDGES.items()},
    )


LIGHT: Final = _theme("light", 0)
DARK: Final = _theme("dark", 1)
RED: Final = LIGHT._replace(
    name="red",
    here="#ffd9d9",
    nodes={phase: paint._replace(line="#d1121f") for phase, paint in LIGHT.nodes.items()},
    edges=dict.fromkeys(LIGHT.edges, "#d1121f"),
)
"""The theme for a run that should be impossible: the path of the run is red, and everything else is pale."""

AUTO: Final = LIGHT._replace(name="auto")
"""The light theme, for an SVG that becomes dark on a dark page."""

THEMES: Final[dict[ThemeName, Theme]] = {"light": LIGHT, "dark": DARK, "auto": AUTO, "red": RED}


def dark_sheet() -> str:
    """The ``<style>`` element for SVGs of the theme `AUTO`. It makes the SVG dark if the reader's page is dark."""
    pairs = [*_COLOURS.values(), *RAMP, *(look.colour for look in EDGES.values())]
    pairs += [pair for look in NODES.values() for pair in (look.line, look.ground)]
    kinds = ("fill", "stroke")
    rules = (f"[{kind}='{light}']{{{kind}:{dark}}}" for light, dark in dict(pairs).items() for kind in kinds)
    return f"<style>@media (prefers-color-scheme:dark){{{''.join(rules)}}}</style>"


def check_theme(name: str) -> ThemeName:
    """Return *name* if it is the name of a theme.

    Raises:
        DefinitionError: There is no such theme.
    """
    for known in THEMES:
        if name == known:
            return known
    raise DefinitionError(f"there is no theme {name!r}; there are {', '.join(THEMES)}")


def theme_of(name: str) -> Theme:
    """The theme called *name*.

    Raises:
        DefinitionError: There is no such theme.
    """
    return THEMES[check_theme(name)]
