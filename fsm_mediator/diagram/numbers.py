"""Numbers on a picture: statistics on its boxes and lines, and their classes in the colour ramp.

No colours, no format.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import attrs
import msgspec

from fsm_mediator.diagram.flow import Flow, FlowPicture
from fsm_mediator.diagram.picture import Picture
from fsm_mediator.diagram.text import listed
from fsm_mediator.states import EXECUTING, WAITING

LEVELS: Final = 5
"""The number of colours in the ramp."""

ERROR: Final = 0.01
"""Values are exact to one per cent. A value at most one per cent below a colour's limit gets this colour."""

MOST_LISTED: Final = 150
"""The maximum number of characters for the numbers in an alternative text."""

_SERIES: Final = (1.0, 3.0)


class StepNumbers(msgspec.Struct, frozen=True, kw_only=True):
    """The numbers of one step."""

    note: str  # a few words for its box
    value: float | None = None  # the value that its colour shows. None for no colour
    tooltip: str = ""  # all numbers of the step, one per line

    def level(self, limits: Sequence[float]) -> int | None:
        """The class of the step's value in the colour ramp. None if the step has no value."""
        return None if self.value is None else sum(self.value >= limit * (1 - ERROR) for limit in limits)


_NONE: Final = StepNumbers(note="")


@attrs.frozen(kw_only=True, eq=False)
class Numbers:
    """The numbers of a saga's steps and transitions."""

    name: str  # the name of the numbers in one word, for the title
    heading: str  # the name of the numbers in a few words
    legend: str  # the meaning of signs in the notes, and of boxes without a colour
    about: tuple[str, ...]  # lines below the title
    steps: Mapping[str, StepNumbers]  # by the id of the step
    flows: Mapping[str, Mapping[str, int]]  # by the prefix of the flow: the count of each ``event source target``
    words: Callable[[float], str]  # a value of a step, in words


def limits_of(every: Sequence[Numbers]) -> list[float]:
    """The lower limit of each colour except the palest.

    The limits are the largest numbers of the series 0.1, 0.3, 1, 3, 10, 30, … that a step reaches. The series continues
    in both directions.
    """
    most = max((step.value for numbers in every for step in numbers.steps.values() if step.value), default=0.0)
    if most <= 0:
        return []
    power = math.floor(math.log10(most))
    series = [figure * 10.0**exponent for exponent in range(power - 3, power + 1) for figure in _SERIES]
    return [limit for limit in series if limit <= most * (1 + ERROR)][1 - LEVELS :]


def with_numbers(
    picture: FlowPicture, numbers: Numbers, every: Sequence[Numbers], beside: FlowPicture | None = None
) -> FlowPicture:
    """*picture* with the *numbers* of its steps, and with the picture *beside* it.

    *every* has the numbers of both pictures. A colour, and the width of a line, has the same meaning in both.
    """
    limits, most = limits_of(every), _most_of(every)
    start = len(picture.flow.prefix)

    def place(flow: Flow) -> Flow:
        boxes = []
        for box in flow.boxes:
            branches = tuple(msgspec.structs.replace(each, flow=place(each.flow)) for each in box.branches)
            step = numbers.steps.get(box.id[start:], _NONE)
            level, tooltip = step.level(limits), f"{box.tooltip}\n{step.tooltip}"
            boxes.append(
                msgspec.structs.replace(box, branches=branches, numbers=step.note, level=level, tooltip=tooltip)
            )
        counts = numbers.flows.get(flow.prefix[start:], {})
        lines = []
        for line in flow.lines:
            count = sum(counts.get(" ".join(move), 0) for move in line.moves)
            tooltip = f"{line.tooltip}\n{count:,} times"
            lines.append(msgspec.structs.replace(line, share=count / most, tooltip=tooltip))
        return msgspec.structs.replace(flow, boxes=tuple(boxes), lines=tuple(lines))

    flow = place(picture.flow)
    words = [f"{box.title} {box.numbers}" for box in flow.all_boxes()]
    on = f"; beside it: {beside.subheading[0]}" if beside is not None and beside.subheading else ""
    return msgspec.structs.replace(picture, flow=flow, beside=beside, **_about(picture, numbers, limits, words, on))


def with_numbers_on_states(picture: Picture, numbers: Numbers) -> Picture:
    """*picture* with the *numbers* of its parts and transitions.

    A part's numbers are on the state that executes the part.
    """
    limits, most = limits_of([numbers]), _most_of([numbers])
    words: list[str] = []

    def place(part: Picture) -> Picture:
        counts, start = numbers.flows.get(part.prefix, {}), len(part.prefix)
        nodes, edges = [], []
        for node in part.nodes:
            step = numbers.steps.get(part.prefix + node.path)
            if step is not None and node.phase in (EXECUTING, WAITING):
                words.append(f"{node.title} {step.note}")
                tooltip = f"{node.tooltip}\n{step.tooltip}"
                shown = {"numbers": step.note, "level": step.level(limits), "tooltip": tooltip}
                nodes.append(msgspec.structs.replace(node, **shown))
            else:
                nodes.append(node)
        for edge in part.edges:
            count = counts.get(f"{edge.event} {edge.source[start:]} {edge.target[start:]}", 0)
            tooltip = f"{edge.tooltip}\n{count:,} times"
            edges.append(msgspec.structs.replace(edge, share=count / most, tooltip=tooltip))
        children = tuple(map(place, part.children))
        return msgspec.structs.replace(part, nodes=tuple(nodes), edges=tuple(edges), children=children)

    return msgspec.structs.replace(place(picture), **_about(picture, numbers, limits, words))


def _most_of(every: Sequence[Numbers]) -> int:
    """The count of the most frequent transition."""
    return max([1, *(count for each in every for counts in each.flows.values() for count in counts.values())])


def _about(
    picture: Picture | FlowPicture, numbers: Numbers, limits: Sequence[float], words: Sequence[str], on: str = ""
) -> dict[str, Any]:
    """The title, the texts and the legend of a picture with numbers."""
    listing = listed(words, MOST_LISTED)
    return {
        "subheading": numbers.about,
        "heading": f"{picture.heading} · {numbers.name}",
        "numbers": (numbers.heading, numbers.legend),
        "scale": scale_of(limits, numbers.words),
        "alt": f"Numbers on the steps of the saga {picture.name} ({numbers.heading}): {listing}{on}.",
    }


def scale_of(limits: Sequence[float], words: Callable[[float], str]) -> tuple[str, ...]:
    """The meaning of each colour, the palest first."""
    return tuple([f"< {words(limits[0])}", *(f"≥ {words(limit)}" for limit in limits)] if limits else [])
