"""Themes: the colours of a picture. What a colour says, a shape, a line's style or a word says as well."""

from __future__ import annotations

from typing import Final, NamedTuple

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


class Paint(NamedTuple):
    """The colours of one sort of node: of its line and headline, and of its ground."""

    line: str
    ground: str


class Theme(NamedTuple):
    """The colours of a picture.

    Attributes:
        name: What it is called.
        ground: Behind everything.
        ink: Text.
        faint: Small print.
        pale: The lines of what a run never reached.
        pale_ink: Its text.
        forward_band: Behind the way forward.
        back_band: Behind the way back.
        frame: Around nested sagas.
        here: The ground of where a run stands now.
        nodes: Of nodes, by phase.
        edges: Of edges, by kind.
    """

    name: str
    ground: str
    ink: str
    faint: str
    pale: str
    pale_ink: str
    forward_band: str
    back_band: str
    frame: str
    here: str
    nodes: dict[str, Paint]
    edges: dict[EdgeKind, str]


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
"""Each colour of a theme in the light theme and in the dark one."""

_BLUE: Final = ("#1d5fb8", "#6fa8f5")
_PURPLE: Final = ("#6f42b5", "#b795f0")
_AMBER: Final = ("#95590a", "#e0a54a")
_RUST: Final = ("#a8452a", "#ee9275")
_GREY: Final = ("#4a4f57", "#b6bdc6")

_LOOP: Final = (_COLOURS["faint"], _COLOURS["ground"])
_STUCK: Final = (("#b0261d", "#f58a80"), ("#fdeae8", "#3a1715"))

_NODES: Final = {
    PENDING: (_GREY, _COLOURS["ground"]),
    EXECUTING: (_BLUE, ("#e9f1fc", "#16273f")),
    WAITING: (("#0b6e75", "#4fc1c9"), ("#e4f4f5", "#10292c")),
    RETRYING: _LOOP,
    PROBING: (_PURPLE, ("#f4eefc", "#261b3a")),
    COMPENSATING: (_AMBER, ("#fdf0d9", "#33260f")),
    RETRYING_COMPENSATION: _LOOP,
    STUCK: _STUCK,
    STUCK_EXECUTING: _STUCK,
    SUCCEEDED: (("#1a7340", "#5fcb8b"), ("#e6f5ec", "#12301f")),
    FAILED: (_GREY, ("#eceef1", "#262b32")),
}
"""The line and the ground of each phase's nodes."""

_EDGES: Final = {
    EdgeKind.FORWARD: _BLUE,
    EdgeKind.LOOP: ("#66717f", "#8b96a3"),
    EdgeKind.ASKED: _PURPLE,
    EdgeKind.GIVEN_UP: _RUST,
    EdgeKind.IN_DOUBT: _RUST,
    EdgeKind.BACKWARD: _AMBER,
    EdgeKind.PERSON: _GREY,
}


def _theme(name: str, column: int) -> Theme:
    """The theme whose colours are in that column of the tables."""
    return Theme(
        name,
        **{part: pair[column] for part, pair in _COLOURS.items()},
        nodes={phase: Paint(line[column], ground[column]) for phase, (line, ground) in _NODES.items()},
        edges={kind: pair[column] for kind, pair in _EDGES.items()},
    )


LIGHT: Final = _theme("light", 0)
DARK: Final = _theme("dark", 1)

_WRONG: Final = "#d1121f"

RED: Final = LIGHT._replace(
    name="red",
    here="#ffd9d9",
    nodes={phase: paint._replace(line=_WRONG) for phase, paint in LIGHT.nodes.items()},
    edges=dict.fromkeys(LIGHT.edges, _WRONG),
)
"""For a run that should not have been possible: the way it took is red, all else pale."""

THEMES: Final = {theme.name: theme for theme in (LIGHT, DARK, RED)}


def theme_of(name: str) -> Theme:
    """The theme called *name*.

    Raises:
        DefinitionError: There is none.
    """
    try:
        return THEMES[name]
    except (KeyError, TypeError):
        raise DefinitionError(f"there is no theme {name!r}; there are {', '.join(THEMES)}") from None
