"""The words in the frame of a group in the steps view: its title, and the names of its branches."""

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
"""Left and right of the branches of a group, or of a choice, whose names are above them."""

_SILENT: Final = frozenset({StepState.NEVER, StepState.UNKNOWN})
"""States of a branch that its steps show by themselves."""


def lead_words(branch: FlowBranch, box: StepBox) -> list[str]:
    """The words on a branch's line before its first step: its name, and its state."""
    if box.each:
        return []
    boxes = branch.flow.boxes
    alone = len(boxes) == 1 and box.kind is not Kind.CHOICE and boxes[0].title == branch.name
    if alone:
        return []
    words = [fitted(branch.name, SMALL, True, 96)]
    if branch.mark is not None and len(boxes) > 1:
        words.append("" if branch.mark.state in _SILENT else str(branch.mark.state))
    return words


def lead_width(picture: FlowPicture, box: StepBox, leads: Collection[Sequence[str]]) -> float:
    """The room for names of branches left of their first steps."""
    lead = max(max(width(words, SMALL, True) for words in each) if each else 0.0 for each in leads)
    if picture.is_run and any(len(branch.flow.boxes) > 1 for branch in box.branches) and not box.each:
        lead = max(lead, width(StepState.COMPENSATED, SMALL, True))  # the same in every frame of a run
    return max(24.0, lead + 20)


def group_words(box: StepBox, wide: float, note: str | None) -> tuple[list[Text], float]:
    """The title of a group, its small print and its *note*, and where its branches begin."""
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
    """The name of a branch and its state: one below the other, or, in a frame that is *wide*, beside each other."""
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
