"""The words in the frame of a group in the steps view: the group's title, and the names of its branches."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from fsm_mediator.diagram.flow import FlowBranch, FlowPicture, StepBox
from fsm_mediator.diagram.layout.geometry import Text
from fsm_mediator.diagram.layout.step_sizes import SMALL, TITLE
from fsm_mediator.diagram.progress import StepState
from fsm_mediator.diagram.text import fitted, width
from fsm_mediator.machine.parts import Kind

TIGHT: Final = (14.0, 14.0)
TIGHT_CHOICE: Final = (20.0, 17.0)
"""The room left and right of the branches, in points, if the branches' names are above them.

`TIGHT_CHOICE` is for a choice, and `TIGHT` is for any other group.
"""

_SILENT: Final = frozenset({StepState.NEVER, StepState.UNKNOWN})
"""The states of a branch that are not written, because the colours of the branch's steps show them."""


def lead_words(branch: FlowBranch, box: StepBox) -> list[str]:
    """The name of a branch and, in a run, its state. Empty if the picture shows no name for the branch.

    A branch over an item has no name. If a branch is a single step with the same name, the picture shows only the step.
    """
    boxes = branch.flow.boxes
    if box.each or boxes[0].rest:
        return []
    alone = len(boxes) == 1 and box.kind is not Kind.CHOICE and boxes[0].title == branch.name
    if alone:
        return []
    words = [fitted(branch.name, SMALL, True, 96)]
    if branch.mark is not None and len(boxes) > 1:
        words.append("" if branch.mark.state in _SILENT else str(branch.mark.state))
    return words


def lead_width(picture: FlowPicture, box: StepBox, leads: Collection[Sequence[str]]) -> float:
    """The width of the room left of the branches' first steps, in points. It has the branches' names.

    *leads* has the result of `lead_words` for each branch of *box*.
    """
    lead = max(max(width(words, SMALL, True) for words in each) if each else 0.0 for each in leads)
    if picture.is_run and any(len(branch.flow.boxes) > 1 for branch in box.branches) and not box.each:
        lead = max(lead, width(StepState.COMPENSATED, SMALL, True))  # so all frames of an animation have the same width
    return max(24.0, lead + 20)


def group_words(box: StepBox, wide: float, note: str | None) -> tuple[list[Text], float]:
    """The texts at the top of a group's frame, and the y coordinate of the lowest text.

    The texts are the group's title, its small print, and *note* if it is not None. *wide* is the frame's width.
    """
    notes = " · ".join(box.notes)
    words = [Text(fitted(box.title, TITLE, True, wide - 24), 12, 13, TITLE, True, "ink")]
    beside = width(words[0].words, TITLE, True) + 20
    y = 13.0
    if notes and beside + width(notes, SMALL) + 8 <= wide:
        words.append(Text(notes, beside, 13, SMALL, False, "small"))
    elif notes:
        y += 13
        words.append(Text(fitted(notes, SMALL, False, wide - 24), 12, y, SMALL, False, "small"))
    if note is not None:
        y += 12
        words.append(Text(fitted(note, SMALL, True, wide - 24), 12, y, SMALL, True, "note"))
    return words, y


def name_words(lead: Sequence[str], y: float, wide: float | None) -> list[Text]:
    """Place *lead*, a branch's name and its state, at the y coordinate *y*.

    If *wide* is None, the state is below the name. Otherwise *wide* is the width of the frame, and the state is to the
    right of the name, if it fits.
    """
    words: list[Text] = []
    x = 10.0
    for number, each in enumerate(lead):
        tone = "note" if number else "ink"
        if wide is None:
            words.append(Text(each, 10, y + 17 * number, SMALL, True, tone))
        elif x + width(each, SMALL, True) <= wide - 8:
            words.append(Text(each, x, y, SMALL, True, tone))
            x += width(each, SMALL, True) + 8
    return words
