"""The steps view as DOT. The text has the positions of all elements, so Graphviz only draws them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from fsm_mediator.diagram.dot import Canvas, font, pen_of, table
from fsm_mediator.diagram.flow import FlowPicture, StepBox
from fsm_mediator.diagram.layout.geometry import Box, Layout, Route, Shape
from fsm_mediator.diagram.layout.step_sizes import SMALL, is_collapsed, is_frame, shown_mark, small_print
from fsm_mediator.diagram.picture import EdgeKind
from fsm_mediator.diagram.progress import StepMark, StepState
from fsm_mediator.diagram.text import dot_id, dot_name, dot_text, fitted
from fsm_mediator.diagram.themes import Paint, Theme
from fsm_mediator.machine.parts import Kind
from fsm_mediator.states import COMPENSATING, EXECUTING, FAILED, PENDING, STUCK, SUCCEEDED, WAITING

SIGNS: Final = {
    StepState.DONE: "✓ ",
    StepState.COMPENSATED: "↩ ",
    StepState.FAILED: "✗ ",
    StepState.IN_DOUBT: "? ",
    StepState.STUCK: "! ",
    StepState.WAITING: "‖ ",
    StepState.RUNNING: "▶ ",
}
"""The sign that is written before each state of a step, for readers who do not see colours."""

_HERE: Final = frozenset({StepState.RUNNING, StepState.WAITING, StepState.STUCK})


def steps_lines(picture: FlowPicture, layout: Layout, theme: Theme, legend: bool | None = None) -> list[str]:
    """The lines of the DOT text of *picture*, without the first and the last line of the graph."""
    return list(_Writer(picture, layout, theme, legend).lines())


class _Writer(Canvas):
    def __init__(self, picture: FlowPicture, layout: Layout, theme: Theme, legend: bool | None) -> None:
        super().__init__(layout, theme, legend)
        self.picture = picture
        self.steps = {box.id: box for box in picture.all_nodes()}

    def lines(self) -> Iterator[str]:
        """The lines of the DOT text between the opening and the closing brace of the graph."""
        layout, picture = self.layout, self.picture
        yield from self.head()
        for frame in layout.frames:
            yield from self._frame(frame.box, frame.content)
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
            else:  # a group has an invisible node, because an edge in DOT needs a node at each end
                how = f"style=invis id={dot_id(name)}"
                yield self.shape(name, Box(area.left, area.top, 1, 1), how)
        for number, shape in enumerate(layout.shapes):
            yield self.shape(f"{shape.kind}{number}", shape.box, self._paint(shape))
        for text in layout.texts:
            yield from self.words(text)
        most = max(len(half.subheading) for half in picture.halves)
        second = layout.second or (0.0, 0.0)
        room = second[0] or layout.width
        for place, half in zip(((0.0, 0.0), second), picture.halves, strict=False):
            below = [*half.subheading, *[" "] * (most - len(half.subheading))]
            yield from self.title(half.heading, below, place, room)
            room = layout.width - second[0]
        yield from self.ramp(picture.numbers, picture.scale, layout.height + 14)
        yield from self.meanings(self._meanings(), layout.height + (30 if picture.numbers else 14))
        yield from map(self._route, sorted(layout.routes, key=lambda route: bool(route.edge.reached)))

    def _paint(self, shape: Shape) -> str:
        """The DOT attributes of a fork, a join, a choice, or a line after the pivot."""
        theme = self.theme
        colour = theme.pale if _is_pale(self.steps[shape.step].mark) else theme.edges[EdgeKind.FORWARD]
        if shape.kind == "choice":
            return f'shape=diamond style=filled color="{colour}" fillcolor="{theme.ground}" penwidth=1.4'
        if shape.kind == "pivot":
            colour = theme.nodes[STUCK].line
        return f'shape=box style=filled penwidth=0 fillcolor="{colour}"'

    def _frame(self, area: Box, step: StepBox | None) -> Iterator[str]:
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
            for by in (6, 3) if step.each else ():
                yield from self.cluster(area.moved(by, by), paint, step.tooltip)
        yield from self.cluster(area, paint, step.tooltip if step is not None else "a nested saga")

    def _cards(self, name: str, area: Box, step: StepBox) -> Iterator[str]:
        """The two boxes behind the box of a group over items, which make it look like a stack of cards.

        They stick out on the side of the box that has no lines.
        """
        line, _ = paint_of(step, self.theme)
        paint = f'shape=box style="rounded,filled" color="{line}" fillcolor="{self.theme.ground}" penwidth=0.9'
        for by in (6, 3):
            right, down = (-by, by) if self.layout.down else (by, -by)
            yield self.shape(f"{name}/{by}", area.moved(right, down), paint)

    def _step(self, step: StepBox, area: Box) -> str:
        theme = self.theme
        line, ground = paint_of(step, self.theme)
        mark = shown_mark(step).mark or step.mark
        pale = _is_pale(mark)
        pen = 2.4 if mark is not None and mark.state in (*_HERE, StepState.FAILED) else 1.3
        wait = step.kind in (Kind.SIGNAL, Kind.SLEEP)
        style = "filled" if wait else "rounded,filled"
        if step.rest or (mark is not None and mark.state is StepState.IN_DOUBT):
            style += ",dashed"
        rows = []
        marks = small_print(step)
        undoing = shown_mark(step).undo is not None
        texts = self.layout.lines[step.id]
        titles = sum(tone == "ink" for *_, tone in texts)
        for number, (words, size, bold, tone) in enumerate(texts):
            shown, colour = words, theme.ink if tone == "ink" else theme.faint
            if self.picture.numbers is not None:
                colour = theme.ink if tone != "small" or shown_mark(step).level else theme.faint
            elif tone == "note":
                colour = line
                shown = fitted(_signed(words, mark), size, bold, area.width - 12)
            elif tone == "small" and undoing and number == titles + len(marks) - 1:
                colour = theme.nodes[COMPENSATING].line
            rows.append(font(shown, size, theme.pale_ink if pale else colour, bold=bold))
        label = table(rows, area.width - 14)
        classes = " ".join(["step", step.kind.value, *([mark.state.replace(" ", "-")] if mark is not None else [])])
        how = (
            f'shape={"note" if wait else "box"} style="{style}" color="{line}" fillcolor="{ground}" penwidth={pen:g} '
            f'id={dot_id(step.id)} class="{classes}" label=<{label}>'
        )
        return self.shape(step.id, area, how, step.tooltip)

    def _end(self, name: str, area: Box) -> str:
        theme, state = self.theme, self.picture.state
        phase = next(each for each in (PENDING, SUCCEEDED, FAILED) if name.endswith(each))
        line, ground = theme.nodes[phase]
        shown = state is None or phase in (state, PENDING)
        if phase == PENDING:
            return self.shape(name, area, f'shape=circle style=filled color="{line}" fillcolor="{line}"')
        size = SMALL + 0.5 if phase == SUCCEEDED else SMALL
        words = f"{'✓' if phase == SUCCEEDED else '✗'} {phase}"
        ink = theme.pale_ink if not shown else line
        line, ground = (line, ground) if shown else (theme.pale, theme.ground)
        pen = 2.4 if state == phase else 1.2
        label = font(words, size, ink, bold=True)
        how = f'shape=box style="rounded,filled" color="{line}" fillcolor="{ground}" penwidth={pen} label=<{label}>'
        return self.shape(name, area, f"{how} id={dot_id(name)}")

    def _meanings(self) -> Iterator[tuple[str, bool]]:
        """Yield each entry of the legend, and whether this picture has an element that the entry explains."""
        shown = list(self.steps.values())
        if self.picture.numbers is not None:
            yield self.picture.numbers[1], True
            yield "width of a line: how often it was taken", True
        yield "↩ can be undone", any(box.undo is not None for box in shown)
        yield "↻ attempts", any(box.attempts != 1 for box in shown)
        yield "! may wait for a person", any(box.sticks for box in shown)
        yield "thin dashed line: the way back", False
        yield "double red line: no way back after the pivot", False
        yield "bars: branches in parallel", False
        yield "diamonds: one branch is chosen", False
        yield "stack: a branch for each item", False
        yield "dashed frame: a nested saga", False
        yield from ((f"{sign}{state}", False) for state, sign in SIGNS.items() if self.picture.is_run)

    def _route(self, route: Route) -> str:
        theme, line = self.theme, route.edge
        colour = theme.edges[EdgeKind.BACKWARD if line.back else EdgeKind.FORWARD]
        pen, style = (0.9, "dashed") if line.back else (1.5, "solid")
        if line.share is not None:
            pen = pen_of(line.share)
        if line.reached is False or line.share == 0:
            colour, pen = theme.pale, 0.8
        elif line.reached:
            pen += 0.9
        x, y = route.points[-1]
        diamonds = [shape.box for shape in self.layout.shapes if shape.kind == "choice"]
        gap = 8 if any(abs(x - each.x) + abs(y - each.y) < 2 for each in diamonds) else 0
        spline = self.spline(route.points, route.arrow, gap)
        head = "" if route.arrow else " arrowhead=none"
        return (
            f'\t{dot_name(line.source)} -> {dot_name(line.target)} [pos="{spline}" color="{colour}" style={style} '
            f"penwidth={pen:g}{head} edgetooltip={dot_text(line.tooltip)}]"
        )


def paint_of(step: StepBox, theme: Theme) -> Paint:
    """The colours of the line and the background of a step's box."""
    inner = shown_mark(step)
    if inner.numbers is not None:
        return Paint(theme.faint, theme.ground if inner.level is None else theme.ramp[inner.level])
    mark = inner.mark or step.mark
    if step.rest and mark is None:
        return Paint(theme.frame, theme.ground)
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


def _signed(words: str, mark: StepMark | None) -> str:
    return f"{SIGNS.get(mark.state, '')}{words}" if mark is not None and words else words


def _is_pale(mark: StepMark | None) -> bool:
    return mark is not None and mark.state is StepState.NEVER
