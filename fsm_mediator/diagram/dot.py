"""DOT: shapes, words and lines at fixed positions, written in Graphviz's language.

The DOT text selects the layout ``nop2``, so Graphviz draws the elements at these positions. Therefore every version of
Graphviz draws the same picture: ``dot -Tsvg saga.dot``.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from fsm_mediator.diagram.layout.geometry import Box, Layout, Point, Text
from fsm_mediator.diagram.text import dot_name, dot_text, fitted, markup, width
from fsm_mediator.diagram.themes import Theme
from fsm_mediator.states import STUCK

FONT: Final = "Helvetica,Arial,sans-serif"
MARGIN: Final = 12
HEADING: Final = 15.0
PRINT: Final = 9.0
"""The text sizes of the title and of all other words around a picture, in points."""

MOST_PEN: Final = 5.0
"""The width of the line that was taken most often in many runs, in points."""

_ARROW: Final = 5.5
_CORNER: Final = 6.0


def digraph(name: str, lines: Iterable[str]) -> str:
    """The DOT text of a whole graph. *lines* are the lines between its braces."""
    return "\n".join(["digraph " + dot_name(name) + " {", *lines, "}", ""])


def font(words: str, size: float, colour: str, *, bold: bool = False) -> str:
    """The markup of *words* in a Graphviz label, with a text size in points and a colour.

    Empty *words* become a space, because Graphviz refuses empty text.
    """
    inner = markup(words) or "&#160;"
    return f'<FONT POINT-SIZE="{size:g}" COLOR="{colour}">{f"<B>{inner}</B>" if bold else inner}</FONT>'


def table(rows: Iterable[str], wide: float) -> str:
    """The markup of a Graphviz label with left-aligned *rows*. *wide* is the width of the label in points."""
    cells = "".join(f'<TR><TD ALIGN="LEFT">{row}</TD></TR>' for row in rows)
    return f'<TABLE BORDER="0" CELLBORDER="0" CELLSPACING="0" CELLPADDING="0" WIDTH="{wide:g}">{cells}</TABLE>'


class Canvas:
    """Writes the elements of a DOT graph that both views have, for example the title and the legend."""

    def __init__(self, layout: Layout, theme: Theme, legend: bool | None) -> None:
        self.layout: Layout = layout
        self.theme: Theme = theme
        self.legend: bool | None = legend
        self.high: int = round(layout.height)
        self.clusters: int = 0

    def head(self) -> list[str]:
        """The DOT lines with the default attributes of the graph, of its nodes and of its edges."""
        theme, words = self.theme, f'fontname="{FONT}"'
        paper = f'bgcolor="{theme.ground}" pad="{MARGIN / 72:.3f}" class={theme.name}'
        return [
            f"\tgraph [layout=nop2 outputorder=edgesfirst {paper} {words}]",
            f'\tnode [fixedsize=true {words} fontcolor="{theme.ink}" margin=0 label=""]',
            f"\tedge [{words} fontsize=8.5 arrowsize=0.55]",
        ]

    def pos(self, x: float, y: float) -> str:
        """A point as DOT text. In DOT, y increases upwards."""
        return f"{x:g},{self.high - y:g}"

    def shape(self, name: str, box: Box, how: str, tooltip: str = " ") -> str:
        """The DOT line of a node that fills *box*. *how* is the text of the node's other attributes."""
        size = f"width={box.width / 72:.4g} height={box.height / 72:.4g}"
        return f'\t{dot_name(name)} [pos="{self.pos(box.x, box.y)}" {size} {how} tooltip={dot_text(tooltip)}]'

    def cluster(self, box: Box, how: str, tooltip: str = " ", inside: Iterable[str] = (), name: str = "") -> list[str]:
        """The DOT lines of a frame or a filled area. *how* is the text of its attributes.

        *inside* has the DOT lines of the elements in the frame.
        """
        self.clusters += 1
        bb = f"{self.pos(box.left, box.bottom)},{self.pos(box.right, box.top)}"
        return [
            f"\tsubgraph {dot_name(f'cluster_{name or self.clusters}')} {{",
            f'\t\tgraph [bb="{bb}" {how} tooltip={dot_text(tooltip)}]',
            *("\t" + each for each in inside),
            "\t}",
        ]

    def words(self, text: Text, tooltip: str = " ") -> list[str]:
        """The DOT lines of a text outside of all nodes. The text begins at its position in every font."""
        theme = self.theme
        colour = {"ink": theme.ink, "note": theme.ink, "pivot": theme.nodes[STUCK].line}.get(text.tone, theme.faint)
        wide = width(text.words, text.size, text.bold) + 8
        label = table([font(text.words, text.size, colour, bold=text.bold)], wide)
        area = Box(text.x, text.y - text.size * 0.8, wide, text.size * 1.6)
        how = f'peripheries=0 bgcolor=transparent label=<{label}> lp="{self.pos(area.x, area.y)}"'
        return self.cluster(area, how, tooltip)

    def title(self, heading: str, below: Sequence[str], place: Point = (0.0, 0.0), room: float = 0.0) -> Iterator[str]:
        """The DOT lines of a picture's title, and of the texts *below* the title.

        *place* is the upper left corner of the picture, which is below these texts. *room* is the maximum width of the
        texts in points. 0 means the width of the picture.
        """
        left, room, top = place[0], max(room or self.layout.width, 240), place[1] - 12.0 * len(below) - 26
        yield from self.words(Text(fitted(heading, HEADING, True, room), left, top, HEADING, True, "ink"))
        for number, line in enumerate(below):
            words = fitted(line, PRINT, False, room)
            yield from self.words(Text(words, left, top + 16 + 12 * number, PRINT, False, "small"))

    def meanings(self, known: Iterable[tuple[str, bool]], top: float, left: float = 0.0) -> Iterator[str]:
        """The DOT lines of the legend below a picture. The legend has as many lines of text as its entries need.

        *known* has each entry of the legend, and whether the picture has an element that the entry explains.
        """
        room, lines = max(self.layout.width, 240), [""]
        for each in (words for words, needed in known if (needed if self.legend is None else self.legend)):
            longer = f"{lines[-1]}   {each}" if lines[-1] else each
            if lines[-1] and width(longer, PRINT) > room:
                lines.append(each)
            else:
                lines[-1] = longer
        for number, line in enumerate(filter(None, lines)):
            yield from self.words(Text(line, left, top + 12 * number, PRINT, False, "small"))

    def ramp(
        self, numbers: tuple[str, str] | None, scale: Sequence[str], top: float, left: float = 0.0
    ) -> Iterator[str]:
        """The DOT lines of a text line that explains each colour of the statistics in a picture.

        *numbers* is `FlowPicture.numbers`. If it is None, or if the picture has no legend, there are no lines.
        """
        if self.legend is False or numbers is None:
            return
        yield from self.words(Text(numbers[0], left, top, PRINT, True, "small"))
        left += width(numbers[0], PRINT, True) + 14
        for colour, words in zip(self.theme.ramp, scale, strict=False):
            paint = f'shape=box style=filled color="{self.theme.faint}" penwidth=0.8 fillcolor="{colour}"'
            yield self.shape(f"colour {colour}", Box(left, top - 5, 14, 10), paint)
            yield from self.words(Text(words, left + 19, top, PRINT, False, "small"))
            left += 19 + width(words, PRINT) + 16

    def spline(self, points: Sequence[Point], arrow: bool, gap: float = 0.0) -> str:
        """The DOT text of a path through *points* with round corners. If *arrow*, an arrowhead is at its end.

        The path ends before the last of *points*, at the distance *gap* from it.
        """
        points = [(round(x), round(self.high - y)) for x, y in points]
        if gap:
            points[-1] = _towards(points[-1], points[-2], gap)
        end = ""
        if arrow:
            end = f"e,{points[-1][0]:g},{points[-1][1]:g} "
            points[-1] = _towards(points[-1], points[-2], min(_ARROW, _far(points[-1], points[-2])))
        here = points[0]
        drawn = [f"{here[0]:g},{here[1]:g}"]
        for corner, after in itertools.pairwise(points[1:]):
            before, beyond = _far(here, corner), _far(corner, after)
            reach = min(_CORNER, before, beyond / 2)
            bend = reach / 2.2
            (x, y), (back_x, back_y), (on_x, on_y) = corner, _step(corner, here, before), _step(corner, after, beyond)
            into, out = (x + back_x * reach, y + back_y * reach), (x + on_x * reach, y + on_y * reach)
            drawn.append(
                f"{_straight(here, into)} {x + back_x * bend:.6g},{y + back_y * bend:.6g} "
                f"{x + on_x * bend:.6g},{y + on_y * bend:.6g} {out[0]:.6g},{out[1]:.6g}"
            )
            here = out
        drawn.append(_straight(here, points[-1]))
        return end + " ".join(drawn)


def pen_of(share: float) -> float:
    """The width, in points, of a line in a picture with statistics.

    *share* is how often the line was taken, divided by how often the most frequent line was taken.
    """
    return max(0.8, MOST_PEN * share)


def _straight(one: Point, other: Point) -> str:
    """A straight line as a Bezier curve.

    Its control points are in its middle. If they were at its ends, cairo would not draw the line.
    """
    middle = f"{(one[0] + other[0]) / 2:.6g},{(one[1] + other[1]) / 2:.6g}"
    return f"{middle} {middle} {other[0]:.6g},{other[1]:.6g}"


def _far(one: Point, other: Point) -> float:
    return abs(one[0] - other[0]) + abs(one[1] - other[1])


def _step(one: Point, other: Point, long: float) -> Point:
    """The way from *one* to *other*, divided by its length *long*. The length may be 0."""
    return (other[0] - one[0]) / (long or 1.0), (other[1] - one[1]) / (long or 1.0)


def _towards(one: Point, other: Point, by: float) -> Point:
    x, y = _step(one, other, _far(one, other))
    return one[0] + x * by, one[1] + y * by
