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
        edges: Of edges, by nature.
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


def _nodes(
    *,
    forward: Paint,
    wait: Paint,
    loop: Paint,
    probe: Paint,
    back: Paint,
    stuck: Paint,
    good: Paint,
    bad: Paint,
    start: Paint,
) -> dict[str, Paint]:
    return {
        PENDING: start,
        EXECUTING: forward,
        WAITING: wait,
        RETRYING: loop,
        PROBING: probe,
        COMPENSATING: back,
        RETRYING_COMPENSATION: loop,
        STUCK: stuck,
        STUCK_EXECUTING: stuck,
        SUCCEEDED: good,
        FAILED: bad,
    }


LIGHT: Final = Theme(
    name="light",
    ground="#ffffff",
    ink="#1b2430",
    faint="#56616f",
    pale="#ccd3db",
    pale_ink="#7c8794",
    forward_band="#f5f8fc",
    back_band="#fcf8f1",
    frame="#8a97a6",
    here="#fff3b0",
    nodes=_nodes(
        forward=Paint("#1d5fb8", "#e9f1fc"),
        wait=Paint("#0b6e75", "#e4f4f5"),
        loop=Paint("#56616f", "#ffffff"),
        probe=Paint("#6f42b5", "#f4eefc"),
        back=Paint("#95590a", "#fdf0d9"),
        stuck=Paint("#b0261d", "#fdeae8"),
        good=Paint("#1a7340", "#e6f5ec"),
        bad=Paint("#4a4f57", "#eceef1"),
        start=Paint("#4a4f57", "#ffffff"),
    ),
    edges={
        EdgeKind.FORWARD: "#1d5fb8",
        EdgeKind.LOOP: "#66717f",
        EdgeKind.ASKED: "#6f42b5",
        EdgeKind.GIVEN_UP: "#a8452a",
        EdgeKind.IN_DOUBT: "#a8452a",
        EdgeKind.BACKWARD: "#95590a",
        EdgeKind.PERSON: "#4a4f57",
    },
)

DARK: Final = Theme(
    name="dark",
    ground="#10151c",
    ink="#e8edf3",
    faint="#a3aebb",
    pale="#3a444f",
    pale_ink="#8591a0",
    forward_band="#151c26",
    back_band="#1d1a16",
    frame="#6d7a89",
    here="#453b06",
    nodes=_nodes(
        forward=Paint("#6fa8f5", "#16273f"),
        wait=Paint("#4fc1c9", "#10292c"),
        loop=Paint("#a3aebb", "#10151c"),
        probe=Paint("#b795f0", "#261b3a"),
        back=Paint("#e0a54a", "#33260f"),
        stuck=Paint("#f58a80", "#3a1715"),
        good=Paint("#5fcb8b", "#12301f"),
        bad=Paint("#b6bdc6", "#262b32"),
        start=Paint("#b6bdc6", "#10151c"),
    ),
    edges={
        EdgeKind.FORWARD: "#6fa8f5",
        EdgeKind.LOOP: "#8b96a3",
        EdgeKind.ASKED: "#b795f0",
        EdgeKind.GIVEN_UP: "#ee9275",
        EdgeKind.IN_DOUBT: "#ee9275",
        EdgeKind.BACKWARD: "#e0a54a",
        EdgeKind.PERSON: "#b6bdc6",
    },
)

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
