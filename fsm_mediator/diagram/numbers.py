"""Statistics on a picture: on its boxes and lines, and as a colour of each step, from pale (low) to strong (high).

This module chooses only the index of a colour. It contains no colours and writes no format.
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
"""The relative error of statistics: one per cent. A value may be this much below the limit of its colour."""

MOST_LISTED: Final = 150
"""The maximum number of characters that the statistics have in an alternative text."""

_SERIES: Final = (1.0, 3.0)


class StepNumbers(msgspec.Struct, frozen=True, kw_only=True):
    """The statistics of one step."""

    note: str  # the text that is written in the step's box
    value: float | None = None  # the value that the box's colour shows. None for no colour
    tooltip: str = ""  # all statistics of the step, one per line

    def level(self, limits: Sequence[float]) -> int | None:
        """The index of the colour that shows the step's value. 0 is the palest colour. None if the step has no value.

        *limits* is the result of `limits_of`.
        """
        return None if self.value is None else sum(self.value >= limit * (1 - ERROR) for limit in limits)


_NONE: Final = StepNumbers(note="")


@attrs.frozen(kw_only=True, eq=False)
class Numbers:
    """The statistics of a saga's steps and transitions, for one picture."""

    name: str  # the name of the statistic as one word, for the title
    heading: str  # the name of the statistic in a few words
    legend: str  # the meaning of signs in the notes, and of boxes without a colour
    about: tuple[str, ...]  # the lines below the title
    steps: Mapping[str, StepNumbers]  # the statistics of each step, by the step's id
    flows: Mapping[str, Mapping[str, int]]  # by `Flow.prefix`: how often each ``event source target`` happened
    words: Callable[[float], str]  # a function that writes a step's value in words


def limits_of(every: Sequence[Numbers]) -> list[float]:
    """The lowest value of each colour except the palest. The lowest limit is first.

    The limits are taken from the series …, 0.1, 0.3, 1, 3, 10, 30, …. They are the four largest numbers of the series
    that are not above the largest value of a step.
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
    """A copy of *picture* with the statistics *numbers* on its steps and lines. *beside* is the picture at its right.

    *every* has the statistics of both pictures, so that a colour or a line's width has the same meaning in both.
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
    words = [f"{box.title} {box.numbers}" for box in flow.all_boxes() if not box.rest]
    on = f"; beside it: {beside.subheading[0]}" if beside is not None and beside.subheading else ""
    return msgspec.structs.replace(picture, flow=flow, beside=beside, **_about(picture, numbers, limits, words, on))


def with_numbers_on_states(picture: Picture, numbers: Numbers) -> Picture:
    """A copy of *picture* with the statistics *numbers* on its states and transitions.

    The statistics of a part are on the state that executes the part.
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
    """The number of times that the most frequent transition happened. At least 1."""
    return max([1, *(count for each in every for counts in each.flows.values() for count in counts.values())])


def _about(
    picture: Picture | FlowPicture, numbers: Numbers, limits: Sequence[float], words: Sequence[str], on: str = ""
) -> dict[str, Any]:
    """The title, the texts and the legend of a picture with statistics, as values of the picture's fields."""
    listing = listed(words, MOST_LISTED)
    return {
        "subheading": numbers.about,
        "heading": f"{picture.heading} · {numbers.name}",
        "numbers": (numbers.heading, numbers.legend),
        "scale": scale_of(limits, numbers.words),
        "alt": f"Numbers on the steps of the saga {picture.name} ({numbers.heading}): {listing}{on}.",
    }


def scale_of(limits: Sequence[float], words: Callable[[float], str]) -> tuple[str, ...]:
    """The meaning of each colour, for example ``≥ 3 s``. The palest colour is first."""
    return tuple([f"< {words(limits[0])}", *(f"≥ {words(limit)}" for limit in limits)] if limits else [])
