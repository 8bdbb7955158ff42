"""The sizes of elements of the steps view, and the words in a box. This module calculates no positions."""

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
"""The default and the minimum of a picture's width, in pixels, including margins.

`PAGE` is the width of the column in which GitHub shows a README.
"""

PAD: Final = 12.0
BESIDE: Final = 24.0
"""The distance between two pictures side by side, in points."""
TITLE: Final = 11.0
SMALL: Final = 9.0
"""The text sizes of titles and of all other words, in points. 9 points are 12 pixels."""

LEAST_BOX, MOST_BOX, MOST_DOWN = 84.0, 140.0, 190.0
SHARES: Final = (1.0, 0.8, 0.65, 0.5, 0.4, 0.3)
"""The maximum widths of rows that are tried, as shares of the width of the page.

Narrower rows can need less space: steps beside a tall group or above a wide group leave much blank space.
"""
SAVED: Final = 0.97
"""A narrower layout is used if its area is less than this share of the first layout's area."""
MARGIN: Final = 54.0
"""The width of the room left of the rows, in points. It has the circle at which runs start, and the end ``failed``."""
GAP: Final = 22.0
CHANNEL: Final = 18.0
"""The width of the room right of a row, in points. The line to the next row runs there."""
BETWEEN: Final = 30.0
"""The distance between two rows, in points."""
PIVOT: Final = 18.0
"""The width of the room right of the pivot, in points. It has the double line that marks the pivot."""
RAIL: Final = 12.0
"""The distance between the boxes of a row and the line from compensation to compensation below them, in points."""
FRAME: Final = 9.0
ROOM_FOR_A_NOTE: Final = "↩ compensated"
NO_RETURN: Final = "no way back"


def is_collapsed(box: StepBox) -> bool:
    """Whether *box* is a group over items that is drawn as one box, because its branch is a single step."""
    return box.each and len(box.branches[0].flow.boxes) == 1 and not box.branches[0].flow.boxes[0].branches


def is_frame(box: StepBox) -> bool:
    """Whether *box* is a group or a choice that is drawn as a frame around its branches."""
    return bool(box.branches) and not is_collapsed(box)


def least_blank(tried: Sequence[Layout]) -> Layout:
    """The layout with the smallest area if it saves enough area (see `SAVED`), else the first layout."""
    first, best = tried[0], min(tried, key=lambda each: each.width * each.height)
    return best if best.width * best.height < SAVED * first.width * first.height else first


def shown_mark(box: StepBox) -> StepBox:
    """The step that *box* shows with its mark and its small print.

    This is the single step of the branch if *box* is a collapsed group, else *box* itself.
    """
    return box.branches[0].flow.boxes[0] if is_collapsed(box) else box


def note_of(box: StepBox) -> str:
    """The text below a step's small print: its statistics, or a summary of its mark in a run."""
    inner = shown_mark(box)
    if inner.numbers is not None:
        return inner.numbers
    mark = inner.mark or box.mark
    return mark.note if mark is not None else ""


def titled(title: str, room: float) -> list[str]:
    """*title* as one or two lines that are at most *room* points wide. It is broken after ``_`` or ``-``."""
    if width(title, TITLE, True) <= room:
        return [title]
    cuts = [number + 1 for number, sign in enumerate(title[:-1]) if sign in "_-"]
    fitting = [cut for cut in cuts if width(title[:cut], TITLE, True) <= room]
    if not fitting:
        return [fitted(title, TITLE, True, room)]
    return [title[: fitting[-1]], fitted(title[fitting[-1] :], TITLE, True, room)]


def fitted_note(note: str, room: float) -> str:
    """*note*, cut to *room* points: whole pieces at its end are dropped. The pieces are separated by ``·``."""
    pieces = note.split(" · ")
    while len(pieces) > 1 and width(" · ".join(pieces), SMALL, True) > room:
        pieces.pop()
    return fitted(" · ".join(pieces), SMALL, True, room)


def small_print(box: StepBox) -> list[str]:
    """The lines below a step's title: its notes, then the marks of its compensation and of its retries."""
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
    """The y coordinate, in the layout *lane* of a branch, of the line that enters *box*."""
    area = lane.boxes[box.id]
    inner = [route.points[0][1] for route in lane.routes if route.edge.source == box.id and is_frame(box)]
    return min(inner) if inner else area.y
