"""The sizes of the steps view, and the words in a box. This module places nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

from fsm_mediator.diagram.flow import StepBox
from fsm_mediator.diagram.layout.geometry import Layout
from fsm_mediator.diagram.text import fitted, width
from fsm_mediator.machine.parts import Kind

Direction = Literal["right", "down"]
RIGHT: Final = "right"
DOWN: Final = "down"
DIRECTIONS: Final[tuple[Direction, ...]] = (RIGHT, DOWN)

PAGE: Final = 736
LEAST: Final = 300
"""The width of a picture in pixels, including margins: the default is `PAGE`, a README's column. The minimum is
`LEAST`.
"""

PAD: Final = 12.0
BESIDE: Final = 24.0
"""The distance between two pictures side by side, in points."""
TITLE: Final = 11.0
SMALL: Final = 9.0
"""Sizes of text in points. 9 points are 12 pixels."""

LEAST_BOX, MOST_BOX, MOST_DOWN = 84.0, 140.0, 190.0
SHARES: Final = (1.0, 0.8, 0.65, 0.5, 0.4, 0.3)
"""The shares of the room in which rows are tried. Steps beside a tall group or above a wide group leave much blank
space.
"""
SAVED: Final = 0.97
"""A narrower layout is used if its area is less than this share of the first layout's area."""
MARGIN: Final = 54.0
"""The room left of the first box of a row, in points. The run starts in it, and the way back ends in it."""
GAP: Final = 22.0
CHANNEL: Final = 18.0
"""The room right of a row that is followed by another row."""
BETWEEN: Final = 30.0
"""The distance between two rows."""
PIVOT: Final = 18.0
"""The room right of the pivot, for the double line after it."""
RAIL: Final = 12.0
"""The distance between the boxes and the way back."""
FRAME: Final = 9.0
ROOM_FOR_A_NOTE: Final = "↩ compensated"
NO_RETURN: Final = "no way back"


def is_collapsed(box: StepBox) -> bool:
    """Whether a group over items is drawn as one box: its branch is a single step."""
    return box.each and len(box.branches[0].flow.boxes) == 1 and not box.branches[0].flow.boxes[0].branches


def is_frame(box: StepBox) -> bool:
    """Whether a step is drawn as a frame around its branches."""
    return bool(box.branches) and not is_collapsed(box)


def least_blank(tried: Sequence[Layout]) -> Layout:
    """The first layout, or the layout with the smallest area if its area is much smaller."""
    first, best = tried[0], min(tried, key=lambda each: each.width * each.height)
    return best if best.width * best.height < SAVED * first.width * first.height else first


def shown_mark(box: StepBox) -> StepBox:
    """The step that gives a box its mark and its small print. For a collapsed group: the single step of its branch."""
    return box.branches[0].flow.boxes[0] if is_collapsed(box) else box


def note_of(box: StepBox) -> str:
    """The words below a step's small print: its numbers, or a summary of its mark in a run."""
    inner = shown_mark(box)
    if inner.numbers is not None:
        return inner.numbers
    mark = inner.mark or box.mark
    return mark.note if mark is not None else ""


def titled(title: str, room: float) -> list[str]:
    """A title in one or two lines. It is broken after ``_`` or ``-``."""
    if width(title, TITLE, True) <= room:
        return [title]
    cuts = [number + 1 for number, sign in enumerate(title[:-1]) if sign in "_-"]
    fitting = [cut for cut in cuts if width(title[:cut], TITLE, True) <= room]
    if not fitting:
        return [fitted(title, TITLE, True, room)]
    return [title[: fitting[-1]], fitted(title[fitting[-1] :], TITLE, True, room)]


def fitted_note(note: str, room: float) -> str:
    """As many pieces of a note as fit into *room* points."""
    pieces = note.split(" · ")
    while len(pieces) > 1 and width(" · ".join(pieces), SMALL, True) > room:
        pieces.pop()
    return fitted(" · ".join(pieces), SMALL, True, room)


def small_print(box: StepBox) -> list[str]:
    """The lines below a step's title."""
    inner = shown_mark(box)
    lines = [f"‖ {note}" if box.kind in (Kind.SIGNAL, Kind.SLEEP) else note for note in box.notes]
    marks = []
    if inner.undo is not None:
        marks.append(f"↩ {inner.undo}" if inner.undo else "↩")
    if inner.attempts != 1:
        marks.append(f"↻ {'∞' if inner.attempts is None else inner.attempts}")
    if inner.sticks:
        marks.append("!")
    return [*lines, "  ".join(marks)] if marks else lines


def path_through(lane: Layout, box: StepBox) -> float:
    """The y coordinate of the line through *box* in *lane*."""
    area = lane.boxes[box.id]
    inner = [route.points[0][1] for route in lane.routes if route.edge.source == box.id and is_frame(box)]
    return min(inner) if inner else area.y
