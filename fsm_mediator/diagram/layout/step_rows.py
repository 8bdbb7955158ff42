"""Break the items of the steps view into rows. This module calculates no positions."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from fsm_mediator.diagram.flow import StepBox
from fsm_mediator.diagram.layout.geometry import Layout
from fsm_mediator.diagram.layout.step_sizes import FRAME, GAP, PIVOT


@attrs.define
class Item:
    """An item of a row: a step, a group, or the end ``succeeded``. Lengths are in points.

    Attributes:
        name: The id of the box, or of the end.
        box: The step or group. None for the end.
        width: The width of the item.
        up: The distance from the item's line up to its upper edge.
        down: The distance from the item's line down to its lower edge.
        scopes: The paths of the nested sagas that contain the item. The outermost is first.
        inner: The layout of a group's frame. None for a step and for the end.
        x: The left edge.
        y: The y coordinate of the line that enters the item.
        row: The index of the item's row.
    """

    name: str
    box: StepBox | None
    width: float
    up: float
    down: float
    scopes: tuple[str, ...] = ()
    inner: Layout | None = None
    x: float = 0.0
    y: float = 0.0
    row: int = 0

    @property
    def after(self) -> float:
        """The width of the room right of the item, in addition to the gap. Only a pivot has such room."""
        return PIVOT if self.box is not None and self.box.pivot else 0.0


def broken(items: Sequence[Item], first_room: float, room: float) -> list[list[Item]]:
    """Break *items* into as few rows as possible, and return the rows.

    The rows are as even in width as possible with this number of rows. Breaks inside a nested saga are avoided.

    Args:
        items: The items, in the order of reading.
        first_room: The maximum width of the first row, in points.
        room: The maximum width of each other row, in points.
    """
    # For each number of items: the number of rows, their unevenness, and the index of the last row's first item.
    best: list[tuple[float, float, int]] = [(0, 0.0, 0)]
    for end in range(1, len(items) + 1):
        choices = []
        for first in range(end - 1, -1, -1):
            slack = (room if first else first_room) - _needs(items[first:end])
            if slack < 0 and end - first > 1:
                break
            torn = bool(first) and any(scope in items[first - 1].scopes for scope in items[first].scopes)
            rows, ragged, _ = best[first]
            choices.append((rows + 1, ragged + (max(slack, 0) / 50) ** 2 + 8 * torn, first))
        best.append(min(choices))
    rows_of: list[list[Item]] = []
    end = len(items)
    while end:
        first = best[end][2]
        rows_of.insert(0, list(items[first:end]))
        end = first
    return rows_of


def _needs(row: Sequence[Item]) -> float:
    return sum(item.width + item.after + 2 * FRAME * len(item.scopes) for item in row) + GAP * (len(row) - 1)
