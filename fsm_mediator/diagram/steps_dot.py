"""The steps view as DOT, with every position given: Graphviz only draws, as it does for the other views."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Final

from fsm_mediator.diagram.dot import FONT, font, graph_lines, table
from fsm_mediator.diagram.flow import FlowPicture, StepBox
from fsm_mediator.diagram.layout.geometry import Box
from fsm_mediator.diagram.layout.step_sizes import (
    SMALL,
    StepRoute,
    StepsLayout,
    Text,
    fitted,
    is_collapsed,
    is_frame,
    shown_mark,
    small_print,
)
from fsm_mediator.diagram.picture import EdgeKind
from fsm_mediator.diagram.progress import StepMark, StepState
from fsm_mediator.diagram.text import dot_name, dot_text, width
from fsm_mediator.diagram.themes import Paint, Theme
from fsm_mediator.machine.parts import Kind
from fsm_mediator.states import COMPENSATING, EXECUTING, FAILED, PENDING, STUCK, SUCCEEDED, WAITING

HEADING: Final = 15.0
MARGIN: Final = 12
_ROUND: Final = 6

SIGNS: Final = {
    StepState.DONE: "✓ ",
    StepState.COMPENSATED: "↩ ",
    StepState.FAILED: "✗ ",
    StepState.IN_DOUBT: "? ",
    StepState.STUCK: "! ",
    StepState.WAITING: "‖ ",
    StepState.RUNNING: "▶ ",
}
"""The text before a step's state, so that states differ without colour."""

_HERE: Final = frozenset({StepState.RUNNING, StepState.WAITING, StepState.STUCK})


def steps_lines(picture: FlowPicture, layout: StepsLayout, theme: Theme) -> list[str]:
    """The picture as the lines of a graph in DOT."""
    return list(_Writer(picture, layout, theme).lines())


class _Writer:
    def __init__(self, picture: FlowPicture, layout: StepsLayout, theme: Theme) -> None:
        self.picture, self.layout, self.theme = picture, layout, theme
        self.high = round(layout.height)
        self.steps = {box.id: box for box in picture.all_nodes()}
        self.texts = 0

    def lines(self) -> Iterator[str]:
        """The lines between the braces."""
        theme, layout = self.theme, self.layout
        graph = f'pad="{MARGIN / 72:.3f}" fontname="{FONT}" fontcolor="{theme.ink}"'
        yield from graph_lines(theme, graph, "arrowsize=0.55")
        for number, frame in enumerate(layout.frames):
            yield from self._frame(number, frame.area, frame.box)
        for name, area in layout.boxes.items():
            step = self.steps.get(name)
            if step is not None and is_collapsed(step):
                yield from self._cards(name, area, step)
        for name, area in layout.boxes.items():
            step = self.steps.get(name)
            if step is None:
                yield self._end(name, area)
            elif not is_frame(step):
                yield self._step(step, area)
            else:
                yield self._anchor(name, area)
        for number, (name, bar) in enumerate(layout.bars):
            colour = self._fork(name)
            yield self._shape(f"bar{number}", bar, f'shape=box style=filled penwidth=0 fillcolor="{colour}"')
        for number, (name, diamond) in enumerate(layout.diamonds):
            colour = self._fork(name)
            paint = f'shape=diamond style=filled color="{colour}" fillcolor="{theme.ground}" penwidth=1.4'
            yield self._shape(f"choice{number}", diamond, paint)
        pivot = theme.nodes[STUCK].line
        for number, ((x, y), (to_x, to_y)) in enumerate(layout.pivots):
            for side in (0, 3):
                box = Box(x + side, y, 1.2, to_y - y) if x == to_x else Box(x, y + side, to_x - x, 1.2)
                yield self._shape(
                    f"pivot{number}-{side}", box, f'shape=box style=filled penwidth=0 fillcolor="{pivot}"'
                )
        yield from map(self._text, layout.texts)
        yield from self._title()
        yield from self._legend()
        routes = sorted(layout.routes, key=lambda route: route.line is not None and bool(route.line.reached))
        yield from map(self._route, routes)

    def _pos(self, x: float, y: float) -> str:
        return f"{x:g},{self.high - y:g}"

    def _shape(self, name: str, box: Box, how: str, more: str = "") -> str:
        size = f"width={box.width / 72:.4g} height={box.height / 72:.4g}"
        return f'\t{dot_name(name)} [pos="{self._pos(box.x, box.y)}" {size} {how} tooltip=" "{more}]'

    def _fork(self, name: str) -> str:
        """The colour of the bars at which a group forks and joins."""
        return self.theme.pale if _is_pale(self.steps[name].mark) else self.theme.edges[EdgeKind.FORWARD]

    def _frame(self, number: int, area: Box, step: StepBox | None) -> Iterator[str]:
        theme = self.theme
        paint = f'style="rounded,dashed" bgcolor=transparent color="{theme.frame}"'
        if step is not None:
            pale = _is_pale(step.mark)
            line, _ = paint_of(step, self.theme)
            pen = 2 if step.mark is not None and step.mark.state in (*_HERE, StepState.FAILED) else 0.8
            paint = (
                f'style="filled" fillcolor="{theme.forward_band}" penwidth={pen} '
                f'color="{theme.pale if pale or pen < 1 else line}"'
            )
            if step.each:
                for by in (6, 3):
                    yield from self._cluster(f"{number}-{by}", area.moved(by, by), paint, step.tooltip)
        yield from self._cluster(str(number), area, paint, step.tooltip if step is not None else "a nested saga")

    def _cluster(self, name: str, area: Box, paint: str, tooltip: str) -> Iterator[str]:
        corners = (area.left, self.high - area.bottom, area.right, self.high - area.top)
        bb = ",".join(f"{each:g}" for each in corners)
        yield f"\tsubgraph {dot_name(f'cluster_{name}')} {{"
        yield f'\t\tgraph [bb="{bb}" {paint} tooltip={dot_text(tooltip)}]'
        yield "\t}"

    def _cards(self, name: str, area: Box, step: StepBox) -> Iterator[str]:
        """The cards of a stack behind a box, on the side without lines."""
        line, _ = paint_of(step, self.theme)
        paint = f'shape=box style="rounded,filled" color="{line}" fillcolor="{self.theme.ground}" penwidth=0.9'
        for by in (6, 3):
            right, down = (-by, by) if self.layout.down else (by, -by)
            yield self._shape(f"{name}/{by}", area.moved(right, down), paint)

    def _anchor(self, name: str, area: Box) -> str:
        """An invisible node, at which the lines of a group end."""
        return self._shape(name, Box(area.left, area.top, 1, 1), "style=invis", f" id={dot_name(name)}")

    def _step(self, step: StepBox, area: Box) -> str:
        theme = self.theme
        line, ground = paint_of(step, self.theme)
        mark = shown_mark(step).mark or step.mark
        pale = _is_pale(mark)
        pen = 2.4 if mark is not None and mark.state in (*_HERE, StepState.FAILED) else 1.3
        wait = step.kind in (Kind.SIGNAL, Kind.SLEEP)
        style = "filled" if wait else "rounded,filled"
        if mark is not None and mark.state is StepState.IN_DOUBT:
            style += ",dashed"
        rows = []
        marks = small_print(step)
        undoing = shown_mark(step).undo is not None
        texts = self.layout.lines[step.id]
        titles = sum(tone == "ink" for *_, tone in texts)
        for number, (words, size, bold, tone) in enumerate(texts):
            shown, colour = words, theme.ink if tone == "ink" else theme.faint
            if tone == "note":
                colour = line
                shown = fitted(_signed(words, mark), size, bold, area.width - 12)
            elif tone == "small" and undoing and number == titles + len(marks) - 1:
                colour = theme.nodes[COMPENSATING].line
            rows.append(font(shown, size, theme.pale_ink if pale else colour, bold=bold))
        label = table(rows, area.width - 14)
        shape = "note" if wait else "box"
        name = dot_name(step.id)
        classes = " ".join(["step", step.kind.value, *([mark.state.replace(" ", "-")] if mark is not None else [])])
        return (
            f'\t{name} [pos="{self._pos(area.x, area.y)}" width={area.width / 72:.4g} height={area.height / 72:.4g} '
            f'shape={shape} style="{style}" color="{line}" fillcolor="{ground}" penwidth={pen:g} id={name} '
            f'class="{classes}" tooltip={dot_text(step.tooltip)} label=<{label}>]'
        )

    def _end(self, name: str, area: Box) -> str:
        theme, state = self.theme, self.picture.state
        phase = next(each for each in (PENDING, SUCCEEDED, FAILED) if name.endswith(each))
        line, ground = theme.nodes[phase]
        shown = state is None or phase in (state, PENDING)
        if phase == PENDING:
            return self._shape(name, area, f'shape=circle style=filled color="{line}" fillcolor="{line}"')
        size = SMALL + 0.5 if phase == SUCCEEDED else SMALL
        words = f"{'✓' if phase == SUCCEEDED else '✗'} {phase}"
        ink = theme.pale_ink if not shown else line
        line, ground = (line, ground) if shown else (theme.pale, theme.ground)
        pen = 2.4 if state == phase else 1.2
        label = font(words, size, ink, bold=True)
        how = f'shape=box style="rounded,filled" color="{line}" fillcolor="{ground}" penwidth={pen} label=<{label}>'
        return self._shape(name, area, how, f" id={dot_name(name)}")

    def _text(self, text: Text) -> str:
        theme = self.theme
        tones = {"ink": theme.ink, "small": theme.faint, "note": theme.ink, "pivot": theme.nodes[STUCK].line}
        return self._words(text.words, text.x, text.y, text.size, text.bold, tones[text.tone])

    def _words(self, words: str, x: float, y: float, size: float, bold: bool, colour: str) -> str:
        """Words outside of boxes, left aligned in every font."""
        self.texts += 1
        wide = width(words, size, bold) + 4
        label = table([font(words, size, colour, bold=bold)], wide)
        high = size * 1.6  # room for the line, so that Graphviz does not warn
        area = Box(x, y - high / 2, wide + 4, high)
        return self._shape(f"text{self.texts}", area, f"shape=none label=<{label}>")

    def _title(self) -> Iterator[str]:
        room = max(self.layout.width, 240)
        top = -12.0 * len(self.picture.subheading) - 26
        words = fitted(self.picture.heading, HEADING, True, room)
        yield self._words(words, 0, top, HEADING, True, self.theme.ink)
        for number, line in enumerate(self.picture.subheading):
            yield self._words(
                fitted(line, SMALL, False, room), 0, top + 16 + 12 * number, SMALL, False, self.theme.faint
            )

    def _legend(self) -> Iterator[str]:
        """The meanings of the signs in this picture."""
        shown = list(self.steps.values())
        meanings = ["↩ can be undone"] if any(box.undo is not None for box in shown) else []
        meanings += ["↻ attempts"] if any(box.attempts != 1 for box in shown) else []
        meanings += ["! may wait for a person"] if any(box.sticks for box in shown) else []
        room, line, y = max(self.layout.width, 240), "", self.layout.height + 14
        for each in meanings:
            longer = f"{line}   {each}" if line else each
            if line and width(longer, SMALL) > room:
                yield self._words(line, 0, y, SMALL, False, self.theme.faint)
                longer, y = each, y + 12
            line = longer
        if line:
            yield self._words(line, 0, y, SMALL, False, self.theme.faint)

    def _route(self, route: StepRoute) -> str:
        theme, line = self.theme, route.line
        back = line is not None and line.back
        colour = theme.edges[EdgeKind.BACKWARD if back else EdgeKind.FORWARD]
        pen, style = (0.9, "dashed") if back else (1.5, "solid")
        reached = None if line is None else line.reached
        if reached is False:
            colour, pen = theme.pale, 0.8
        elif reached:
            pen += 0.9
        spline = self._spline(route)
        head = "" if route.arrow else " arrowhead=none"
        tooltip = dot_text(line.tooltip if line is not None else "")
        return (
            f'\t{dot_name(route.source)} -> {dot_name(route.target)} [pos="{spline}" color="{colour}" style={style} '
            f"penwidth={pen:g}{head} edgetooltip={tooltip}]"
        )

    def _spline(self, route: StepRoute) -> str:
        points = [(float(round(x)), float(round(self.high - y))) for x, y in route.points]
        start = ""
        if any(abs(x - each.x) + abs(y - each.y) < 2 for _, each in self.layout.diamonds for x, y in route.points[-1:]):
            points[-1] = _towards(points[-1], points[-2], 8)  # the choice's diamond stands there
        if route.arrow:
            (x, y), (from_x, from_y) = points[-1], points[-2]
            long = max(abs(x - from_x), abs(y - from_y)) or 1.0
            cut = min(5.5, long)
            start = f"e,{x:g},{y:g} "
            points[-1] = (x - (x - from_x) / long * cut, y - (y - from_y) / long * cut)
        drawn = [f"{points[0][0]:g},{points[0][1]:g}"]
        here = points[0]
        for corner, after in itertools.pairwise(points[1:]):
            reach = min(_ROUND, _far(here, corner), _far(corner, after) / 2)
            into, out = _towards(corner, here, reach), _towards(corner, after, reach)
            drawn += [*_straight(here, into), _p(_towards(corner, here, reach / 2.2))]
            drawn += [_p(_towards(corner, after, reach / 2.2)), _p(out)]
            here = out
        drawn += _straight(here, points[-1])
        return start + " ".join(drawn)


def _straight(one: tuple[float, float], other: tuple[float, float]) -> list[str]:
    """A straight line as a Bezier curve; its control points differ from its ends, or cairo does not draw it."""
    thirds = [(one[0] + (other[0] - one[0]) * part, one[1] + (other[1] - one[1]) * part) for part in (1 / 3, 2 / 3)]
    return [_p(each) for each in (*thirds, other)]


def paint_of(step: StepBox, theme: Theme) -> Paint:
    """The colours of a step: of its line and its ground."""
    mark = shown_mark(step).mark or step.mark
    wait = step.kind in (Kind.SIGNAL, Kind.SLEEP)
    paint = theme.nodes[WAITING if wait else EXECUTING]
    if mark is None:
        return paint
    if _is_pale(mark):
        return Paint(theme.pale, theme.ground)
    if mark.state in (StepState.FAILED, StepState.STUCK, StepState.IN_DOUBT) or mark.leftover:
        paint = theme.nodes[STUCK]
    elif mark.state is StepState.COMPENSATED:
        paint = theme.nodes[COMPENSATING]
    elif mark.state is StepState.DONE:
        paint = theme.nodes[SUCCEEDED]
    return Paint(paint.line, theme.here) if mark.state in _HERE else paint


def _p(point: tuple[float, float]) -> str:
    return f"{point[0]:.2f},{point[1]:.2f}"


def _far(one: tuple[float, float], other: tuple[float, float]) -> float:
    return abs(one[0] - other[0]) + abs(one[1] - other[1])


def _towards(one: tuple[float, float], other: tuple[float, float], by: float) -> tuple[float, float]:
    long = _far(one, other) or 1.0
    return one[0] + (other[0] - one[0]) / long * by, one[1] + (other[1] - one[1]) / long * by


def _signed(words: str, mark: StepMark | None) -> str:
    return f"{SIGNS.get(mark.state, '')}{words}" if mark is not None and words else words


def _is_pale(mark: StepMark | None) -> bool:
    return mark is not None and mark.state is StepState.NEVER
