"""The steps view laid out: rows that are read like the lines of a text, or one column. Plain geometry; no colours.

A group is a frame around its branches, which fork at its left edge and join at its right one. The way back runs below
the boxes of a row, from each step to the one that is compensated next::

        ┌─────┐   ┌─────┐   ┌ fulfil ────────────┐
     ●──│ one │──▶│ two │──▶┃──[pack]────────────┃──▶ ...
        └▲──┬─┘   └▲──┬─┘   ┃──[weigh]──▶[stick]─┃
     ◀──────┘└─────┘  └◀────└────────────────────┘

A nested saga is a frame around its boxes, one in each row that it is broken over. Coordinates are points, y downwards.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import attrs
import msgspec

from fsm_mediator.diagram.flow import Flow, FlowBranch, FlowLine, FlowPicture, StepBox, StepState
from fsm_mediator.diagram.layout.geometry import Box, Point
from fsm_mediator.diagram.text import shorten, width
from fsm_mediator.machine.parts import Kind
from fsm_mediator.states import FAILED, PENDING, SUCCEEDED

RIGHT: Final = "right"
DOWN: Final = "down"
DIRECTIONS: Final = (RIGHT, DOWN)

PAGE: Final = 528.0
"""How wide a picture may be without its margins: with them 736 pixels, as wide as a page of a README."""

PAD: Final = 12.0
TITLE: Final = 11.0
SMALL: Final = 9.0
"""Sizes of text: 9 points are 12 pixels."""

LINE: Final = 1.25
LEAST_BOX, MOST_BOX, MOST_DOWN = 84.0, 140.0, 190.0
MARGIN: Final = 54.0
"""Left of the first box of a row: where it starts, and where the way back ends."""
GAP: Final = 22.0
CHANNEL: Final = 18.0
"""Right of a row after which there is another one."""
BETWEEN: Final = 30.0
"""Between two rows."""
PIVOT: Final = 18.0
"""Right of the pivot, for the line of no return."""
RAIL: Final = 12.0
"""Between the boxes and the way back."""
FRAME: Final = 9.0
ROOM_FOR_A_NOTE: Final = "↩ compensated"
NO_RETURN: Final = "no way back"


@attrs.frozen
class Text:
    """Words, left aligned: from *x* on, around *y*."""

    words: str
    x: float
    y: float
    size: float
    bold: bool
    tone: str


@attrs.frozen
class Way:
    """A line as it is drawn; *arrow*: whether it ends in an arrow's head."""

    line: FlowLine | None
    points: tuple[Point, ...]
    arrow: bool
    source: str
    target: str


@attrs.frozen
class Frame:
    """Around a group's branches, or around a nested saga (*box* is None)."""

    area: Box
    box: StepBox | None


@attrs.define
class StepsLayout:
    """Where everything is.

    Attributes:
        boxes: Of the steps, the ends and the groups, by id.
        lines: What is said in a step's box: words, size, bold, tone.
        ways: The lines.
        frames: Of groups and nested sagas, the outer ones first.
        bars: Where a group forks and joins, with its id.
        diamonds: Where a choice does, likewise.
        texts: All other words.
        pivots: Lines of no return.
        width: Of it all.
        height: Of it all.
        down: Whether it is one column.
    """

    boxes: dict[str, Box] = attrs.Factory(dict)
    lines: dict[str, list[tuple[str, float, bool, str]]] = attrs.Factory(dict)
    ways: list[Way] = attrs.Factory(list)
    frames: list[Frame] = attrs.Factory(list)
    bars: list[tuple[str, Box]] = attrs.Factory(list)
    diamonds: list[tuple[str, Box]] = attrs.Factory(list)
    texts: list[Text] = attrs.Factory(list)
    pivots: list[tuple[Point, Point]] = attrs.Factory(list)
    width: float = 0.0
    height: float = 0.0
    down: bool = False

    def add(self, other: StepsLayout, right: float, down: float) -> None:
        """Put *other* into this one, moved."""

        def box(each: Box) -> Box:
            return each._replace(left=each.left + right, top=each.top + down)

        def point(each: Point) -> Point:
            return each[0] + right, each[1] + down

        self.boxes |= {name: box(each) for name, each in other.boxes.items()}
        self.lines |= other.lines
        self.ways += [attrs.evolve(each, points=tuple(map(point, each.points))) for each in other.ways]
        self.frames += [attrs.evolve(each, area=box(each.area)) for each in other.frames]
        self.bars += [(name, box(each)) for name, each in other.bars]
        self.diamonds += [(name, box(each)) for name, each in other.diamonds]
        self.texts += [attrs.evolve(each, x=each.x + right, y=each.y + down) for each in other.texts]
        self.pivots += [(point(one), point(two)) for one, two in other.pivots]


def steps_layout(picture: FlowPicture, direction: str = RIGHT) -> StepsLayout:
    """Where everything in *picture* is."""
    return _Page(picture, direction).layout()


def is_collapsed(box: StepBox) -> bool:
    """Whether a group over items is drawn as one box: its branch is a single step."""
    return box.each and len(box.branches[0].flow.boxes) == 1 and not box.branches[0].flow.boxes[0].branches


def is_frame(box: StepBox) -> bool:
    """Whether it is drawn as a frame around branches."""
    return bool(box.branches) and not is_collapsed(box)


def shown_mark(box: StepBox) -> StepBox:
    """The step that a box speaks of: of a collapsed group, the one in its branches."""
    return box.branches[0].flow.boxes[0] if is_collapsed(box) else box


def titled(title: str, room: float) -> list[str]:
    """A title in one line or two, broken where a word ends."""
    if width(title, TITLE, True) <= room:
        return [title]
    cuts = [number + 1 for number, sign in enumerate(title[:-1]) if sign in "_-"]
    fitting = [cut for cut in cuts if width(title[:cut], TITLE, True) <= room]
    if not fitting:
        return [fitted(title, TITLE, True, room)]
    return [title[: fitting[-1]], fitted(title[fitting[-1] :], TITLE, True, room)]


def fitted(words: str, size: float, bold: bool, room: float) -> str:
    """*words*, cut to the room that there is."""
    most = len(words)
    while most > 2 and width(shorten(words, most), size, bold) > room:
        most -= 1
    return shorten(words, most)


def _said(note: str, room: float) -> str:
    """As many of a note's pieces as there is room for."""
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


@attrs.define
class _Item:
    """What stands in a row: a step, a group, or the end."""

    name: str
    box: StepBox | None
    width: float
    up: float
    down: float
    scopes: tuple[str, ...] = ()
    inner: StepsLayout | None = None
    x: float = 0.0
    y: float = 0.0
    row: int = 0

    @property
    def after(self) -> float:
        """The room that it takes to its right, besides the gap."""
        return PIVOT if self.box is not None and self.box.pivot else 0.0


class _Page:
    """The sizes that are the same everywhere in a picture."""

    def __init__(self, picture: FlowPicture, direction: str) -> None:
        self.picture = picture
        self.down = direction == DOWN
        shown = [box for box in picture.all_nodes() if not is_frame(box)]
        most = MOST_DOWN if self.down else MOST_BOX
        prints = [line for box in shown for line in small_print(box)]
        wants = [width(line, SMALL) for line in prints]
        for box in shown:
            whole, pieces = box.title, titled(box.title, most / 1.6)
            wants.append(
                width(whole, TITLE, True)
                if width(whole, TITLE, True) < 92
                else max(width(each, TITLE, True) for each in pieces)
            )
        if picture.is_run:
            wants.append(width(ROOM_FOR_A_NOTE, SMALL, True) + 4)
        self.wide = 2 * math.ceil(min(max([LEAST_BOX, *(want + 14 for want in wants)]), most) / 2)
        self.room = self.wide - 14
        self.texts = {box.id: self._text(box) for box in shown}
        lines = max((sum(size * LINE for _, size, _, _ in each) for each in self.texts.values()), default=20.0)
        self.high = 2 * math.ceil((lines + 12) / 2)

    def _text(self, box: StepBox) -> list[tuple[str, float, bool, str]]:
        text = [(each, TITLE, True, "ink") for each in titled(box.title, self.room)]
        text += [(fitted(each, SMALL, False, self.room), SMALL, False, "small") for each in small_print(box)]
        if self.picture.is_run:
            mark = shown_mark(box).mark or box.mark
            note = mark.note if mark is not None else ""
            text.append((_said(note, self.room - 14), SMALL, True, "note"))
        return text

    def layout(self) -> StepsLayout:
        """All of it."""
        flow = self.picture.flow
        layout = _Flow(self, flow, PAGE, whole=True, down=self.down).layout()
        layout.down = self.down
        return layout


class _Flow:
    """The steps of one machine, in rows."""

    def __init__(self, page: _Page, flow: Flow, limit: float, *, whole: bool, down: bool = False) -> None:
        self.page, self.flow, self.limit, self.whole, self.down = page, flow, limit, whole, down
        self.left = MARGIN if whole and not down else 0.0
        self.out = StepsLayout()
        self.ids = {box.id for box in flow.boxes}
        self.backs = [line for line in flow.back if whole or line.target in self.ids]
        self.items = [self._item(box) for box in flow.boxes]
        if whole:
            wide = width("✓ succeeded", SMALL + 0.5, True) + 16
            self.items.append(_Item(flow.prefix + SUCCEEDED, None, wide, 11, 11))

    def _item(self, box: StepBox) -> _Item:
        names = box.scope.split(".")[:-1]
        scopes = tuple(".".join(names[: depth + 1]) for depth in range(len(names)))
        half = self.page.high / 2
        if is_frame(box):
            room = self.limit - self.left - 2 * FRAME * len(scopes) - (CHANNEL if self.whole else 0)
            inner, path = _group(self.page, box, room)
            return _Item(box.id, box, inner.width, path, inner.height - path, scopes, inner)
        return _Item(box.id, box, self.page.wide, half, half, scopes)

    def layout(self) -> StepsLayout:
        """Where they are."""
        rows = self._rows()
        y = 0.0
        for number, row in enumerate(rows):
            y = self._place(row, y, number)
        self._ends(rows)
        self._frames(rows)
        out = self.out
        for line in self.flow.forward:
            self._forward(line)
        self._all_back()
        for item in self.items:
            if item.box is not None and item.box.pivot:
                self._pivot(item)
        rights = [box.right for box in out.boxes.values()] + [frame.area.right for frame in out.frames]
        rights += [text.x + width(text.words, text.size, text.bold) for text in out.texts]
        rights += [x for way in out.ways for x, _ in way.points]
        out.width = max(rights)
        bottoms = [box.bottom for box in out.boxes.values()] + [frame.area.bottom for frame in out.frames]
        bottoms += [way_y for way in out.ways for _, way_y in way.points]
        out.height = max(y, *bottoms) if not self.whole else max(bottoms) + 8
        return out

    # Rows.

    def _rows(self) -> list[list[_Item]]:
        """The fewest rows, as even as can be; rather not broken within a nested saga."""
        if self.down:
            return [[item] for item in self.items]
        items = self.items
        best: list[tuple[float, float, int]] = [(0, 0.0, 0)]  # rows, raggedness and the row's first item, for each end
        for end in range(1, len(items) + 1):
            ways = []
            for first in range(end - 1, -1, -1):
                slack = self._slack(items[first:end], first > 0)
                if slack < 0 and end - first > 1:
                    break
                torn = bool(first) and any(scope in items[first - 1].scopes for scope in items[first].scopes)
                rows, ragged, _ = best[first]
                ways.append((rows + 1, ragged + (max(slack, 0) / 50) ** 2 + 8 * torn, first))
            best.append(min(ways))
        rows_of: list[list[_Item]] = []
        end = len(items)
        while end:
            first = best[end][2]
            rows_of.insert(0, items[first:end])
            end = first
        return rows_of

    def _slack(self, row: Sequence[_Item], later: bool) -> float:
        """How much room a row leaves."""
        needs = sum(item.width + item.after + 2 * FRAME * len(item.scopes) for item in row) + GAP * (len(row) - 1)
        return self.limit - CHANNEL - self.left - (CHANNEL if later and not self.whole else 0) - needs

    def _place(self, row: list[_Item], top: float, number: int) -> float:
        """Put a row below *top*; returns where it ends."""
        ups, downs = [], []
        x = self.left + (CHANNEL if number and not self.whole and not self.down else 0)
        railed = bool(self.backs) and not self.down
        for index, item in enumerate(row):
            before = row[index - 1].scopes if index else ()
            after = row[index + 1].scopes if index + 1 < len(row) else ()
            opened = sum(scope not in before for scope in item.scopes)
            closed = sum(scope not in after for scope in item.scopes)
            x += FRAME * opened
            item.x, item.row = x, number
            x += item.width + item.after + FRAME * closed + GAP
            deep_up, deep_down = len(item.scopes), len(item.scopes)
            if self.down:
                deep_up, deep_down = self._edges(number)
            pivot = 14 if item.box is not None and item.box.pivot and not self.down else 0
            ups.append(max(item.up, self.page.high / 2 + pivot if item.box is not None else item.up) + 19 * deep_up)
            rail = self.page.high / 2 + RAIL + 4 if railed else 0
            downs.append(max(item.down, rail) + (12 if self.down else 7) * deep_down)
        y = top + max(ups)
        for item in row:
            item.y = y
        if self.down:
            self._center(row[0])
        for item in row:
            self._put(item)
        last = row[-1] is self.items[-1]
        gap = 0.0 if last else (BETWEEN if not self.down else GAP + (12 if row[0].after else 0))
        return y + max(downs) + gap

    def _edges(self, number: int) -> tuple[int, int]:
        """How many nested sagas begin before the item in this row of one, and how many end after it."""
        here = self.items[number].scopes
        before = self.items[number - 1].scopes if number else ()
        after = self.items[number + 1].scopes if number + 1 < len(self.items) else ()
        return sum(each not in before for each in here), sum(each not in after for each in here)

    def _center(self, item: _Item) -> None:
        widest = max([*(each.width for each in self.items), self.page.wide + 2 * RAIL + 16])
        item.x = (widest - item.width) / 2 + (FRAME + 12) * max(len(each.scopes) for each in self.items)

    def _put(self, item: _Item) -> None:
        area = Box(item.x, item.y - item.up, item.width, item.up + item.down)
        self.out.boxes[item.name] = area
        if item.inner is not None:
            self.out.frames.append(Frame(area, item.box))
            self.out.add(item.inner, area.left, area.top)
        elif item.box is not None:
            self.out.lines[item.name] = self.page.texts[item.name]

    def _ends(self, rows: list[list[_Item]]) -> None:
        if not self.whole:
            return
        first = rows[0][0]
        wide = width("✗ failed", SMALL, True) + 8
        prefix, boxes = self.flow.prefix, self.out.boxes
        if self.down:
            middle = first.x + first.width / 2
            top = first.y - first.up - 22 - 19 * len(first.scopes)
            boxes[prefix + PENDING] = Box(middle - 5, top - 10, 10, 10)
            if self.flow.fails:
                rail = middle + self.page.wide / 2 + RAIL
                boxes[prefix + FAILED] = Box(rail - wide / 2, top - 14, wide, 18)
            self._shift(0, 16 - top)
            return
        boxes[prefix + PENDING] = Box(18, first.y - 5, 10, 10)
        if self.flow.fails:
            boxes[prefix + FAILED] = Box(0, self._rail(first) - 9, min(wide, MARGIN - 8), 18)

    def _shift(self, right: float, down: float) -> None:
        moved = StepsLayout()
        moved.add(self.out, right, down)
        self.out = moved
        for item in self.items:
            item.x += right
            item.y += down

    def _frames(self, rows: list[list[_Item]]) -> None:
        """Around nested sagas, one in each row."""
        frames: list[tuple[int, Frame, Text]] = []
        lines = [self.items] if self.down else rows
        for row in lines:
            scopes = dict.fromkeys(scope for item in row for scope in item.scopes)
            for scope in scopes:
                inside = [item for item in row if scope in item.scopes]
                level = scope.count(".") + 1
                deeper = max(len(item.scopes) for item in inside) - level
                rail = self.page.high / 2 + RAIL if self.backs and not self.down else 0
                pad = FRAME - 2
                right_rail = self.page.wide / 2 + RAIL + 4 if self.down and self.backs else 0
                beside = 12 if self.down else 0  # room for its name beside the way forward
                left = min(item.x - (FRAME * deeper) - pad for item in inside) - beside
                right = max(
                    max(item.x + item.width + item.after, item.x + item.width / 2 + right_rail) + FRAME * deeper + pad
                    for item in inside
                )
                top = min(item.y - max(item.up, self.page.high / 2) - 19 * deeper for item in inside) - 17
                bottom = max(item.y + max(item.down, rail) + 6 * deeper for item in inside) + 6
                area = Box(left, top, right - left, bottom - top)
                room = inside[0].x + inside[0].width / 2 - left if self.down else area.width
                name = fitted(scope.rpartition(".")[2], SMALL, True, room - 12)
                frames.append((level, Frame(area, None), Text(name, left + 7, top + 9, SMALL, True, "small")))
        for _, frame, text in sorted(frames, key=lambda each: each[0]):
            self.out.frames.insert(0, frame)
            self.out.texts.append(text)

    # Lines.

    def _rail(self, item: _Item) -> float:
        """How high, in the row of *item*, the way back runs."""
        return item.y + self.page.high / 2 + RAIL

    def _bottom(self, row: int) -> float:
        return max(
            max(item.y + max(item.down, self.page.high / 2 + (RAIL + 4 if self.backs else 0)) + 7 * len(item.scopes), 0)
            for item in self.items
            if item.row == row
        )

    def _far(self, row: int, out: float) -> float:
        """Right of everything in a row."""
        ends = (item.x + item.width + item.after + FRAME * len(item.scopes) for item in self.items if item.row == row)
        return max(ends) + out

    def _forward(self, line: FlowLine) -> None:
        here = {item.name: item for item in self.items}
        target = here.get(line.target)
        boxes = self.out.boxes
        if target is None or (line.source not in boxes):
            return  # the lines at the ends of a branch are its group's
        box, into = boxes[line.source], boxes[line.target]
        source = here.get(line.source)
        if self.down:
            points = [(box.x, box.bottom), (into.x, into.top)]
        elif source is None or source.row == target.row:
            y = target.y
            points = [(box.right, y), (into.left, y)]
        else:
            y, far = self._bottom(source.row) + BETWEEN - 13, self._far(source.row, CHANNEL - 4)
            near = into.left - GAP + 8 - FRAME * len(target.scopes)
            points = [
                (box.right, source.y),
                (far, source.y),
                (far, y),
                (near, y),
                (near, target.y),
                (into.left, target.y),
            ]
        self.out.ways.append(Way(line, tuple(points), True, line.source, line.target))

    def _all_back(self) -> None:
        """From the furthest step on; one that joins another's way to the same step is drawn as far as that."""
        order = {item.name: number for number, item in enumerate(self.items)}
        met: set[str] = set()
        for line in sorted(self.backs, key=lambda each: -order[each.source]):
            whole = line.target not in met or bool(line.reached)
            met.add(line.target)
            self._back(line, self.items[order[line.source]], whole)

    def _back(self, line: FlowLine, source: _Item, whole: bool) -> None:
        here = {item.name: item for item in self.items}
        box, into = self.out.boxes[line.source], self.out.boxes[line.target]
        target = here.get(line.target)
        framed, framed_into = source.inner is not None, target is not None and target.inner is not None
        if self.down:
            middle = source.x + source.width / 2
            rail = middle + self.page.wide / 2 + RAIL
            points = [(rail, box.top)] if framed else [(box.right, box.y - 7), (rail, box.y - 7)]
            if whole and (target is None or framed_into):
                points.append((rail, into.bottom))
            elif whole:
                points += [(rail, into.y + 7), (into.right, into.y + 7)]
            elif framed:
                return
            self.out.ways.append(Way(line, tuple(points), whole, line.source, line.target))
            return
        rail = self._rail(source)
        points = [(box.left, rail)] if framed else [(box.x - 10, box.bottom), (box.x - 10, rail)]
        if not whole and not framed:
            self.out.ways.append(Way(line, tuple(points), False, line.source, line.target))
            return
        row = 0 if target is None else target.row
        end = rail
        if source.row != row:
            first = min(item.x - FRAME * len(item.scopes) for item in self.items if item.row == source.row)
            near = first - GAP + 2
            gap = self._bottom(row) + 8
            far = self._far(row, CHANNEL - 11)
            end = self._rail(self.items[0]) if target is None else self._rail(target)
            points += [(near, rail), (near, gap)]
            if target is None:
                points += [(near, end)] if near > into.right else []
            else:
                points += [(far, gap), (far, end)]
        if target is None or framed_into:
            points.append((into.right, end))
        else:
            points += [(into.x + 10, end), (into.x + 10, into.bottom)]
        self.out.ways.append(Way(line, tuple(_plain(points)), True, line.source, line.target))

    def _pivot(self, item: _Item) -> None:
        half = self.page.high / 2
        if self.down:
            y = item.y + item.down + 13
            left, right = item.x - 4, item.x + item.width + RAIL + 8
            self.out.pivots.append(((left, y), (right, y)))
            self.out.texts.append(Text(NO_RETURN, item.x + item.width / 2 + 8, y + 11, SMALL, True, "pivot"))
            return
        x = item.x + item.width + PIVOT - 3
        self.out.pivots.append(((x, item.y - half - 4), (x, item.y + half + 4)))
        long = width(NO_RETURN, SMALL, True)
        self.out.texts.append(Text(NO_RETURN, x - long + 6, item.y - half - 11, SMALL, True, "pivot"))


def _plain(points: Sequence[Point]) -> list[Point]:
    """*points* without those that are where the one before is."""
    kept = list(points[:1])
    for point in points[1:]:
        if point != kept[-1]:
            kept.append(point)
    return kept


def _group(page: _Page, box: StepBox, limit: float) -> tuple[StepsLayout, float]:
    """A group's frame with its branches, and how far below its top the way forward enters it."""
    out = StepsLayout()
    notes = " · ".join(box.notes)
    leads = {branch.name: _lead(branch, box) for branch in box.branches}
    lead = max(max(width(words, SMALL, True) for words in each) if each else 0.0 for each in leads.values())
    if page.picture.is_run and any(len(branch.flow.boxes) > 1 for branch in box.branches) and not box.each:
        lead = max(lead, width(StepState.COMPENSATED, SMALL, True))  # the same in every frame of a run
    lead = max(24.0, lead + 20)
    lanes = [_Flow(page, branch.flow, limit - lead - 26, whole=False).layout() for branch in box.branches]
    wide = max(lead + max(lane.width for lane in lanes) + 24, width(box.title, TITLE, True) + 30)
    wide = max(wide, min(limit, width(box.title, TITLE, True) + width(notes, SMALL) + 40))
    words = [Text(fitted(box.title, TITLE, True, wide - 24), 12, 13, TITLE, True, "ink")]
    beside = width(words[0].words, TITLE, True) + 20
    y = 13.0
    if notes and beside + width(notes, SMALL) + 8 <= wide:
        words.append(Text(notes, beside, 13, SMALL, False, "small"))
    elif notes:
        y += 13
        words.append(Text(fitted(notes, SMALL, False, wide - 24), 12, y, SMALL, False, "small"))
    if page.picture.is_run:
        y += 12
        words.append(
            Text(fitted(box.mark.note if box.mark else "", SMALL, True, wide - 24), 12, y, SMALL, True, "note")
        )
    out.texts += words
    y += 14
    middles = []
    for branch, lane in zip(box.branches, lanes, strict=True):
        first, last = branch.flow.boxes[0], branch.flow.boxes[-1]
        into, end = lane.boxes[first.id], lane.boxes[last.id]
        enter, leave = _path(lane, first), _path(lane, last)
        out.add(lane, lead, y)
        at, off = y + enter, y + leave
        middles.append(at)
        reached = branch.mark is None or branch.mark.state is not StepState.NEVER
        line = next(each for each in branch.flow.forward if each.target == first.id)
        join = next((each for each in branch.flow.forward if each.source == last.id), line)
        line = msgspec.structs.replace(line, reached=reached if branch.mark is not None else None)
        out.ways.append(Way(line, ((0, at), (lead + into.left, at)), True, box.id, first.id))
        out.ways.append(Way(join, ((lead + end.right, off), (wide, off)), False, last.id, box.id))
        for number, words_of in enumerate(leads[branch.name]):
            tone = "note" if number else "ink"
            out.texts.append(Text(words_of, 10, at - 8 + 17 * number, SMALL, True, tone))
        y += lane.height + 12
    out.width, out.height = wide, max(y - 2, middles[0] + page.high / 2 + RAIL + 6)
    top, bottom = middles[0] - 11, max(way.points[0][1] for way in out.ways if way.target == box.id) + 11
    if box.kind is Kind.CHOICE:
        for x in (0.0, wide):
            out.diamonds.append((box.id, Box(x - 8, middles[0] - 8, 16, 16)))
            out.bars.append((box.id, Box(x - 0.75, middles[0], 1.5, bottom - 11 - middles[0])))
    else:
        out.bars += [(box.id, Box(x - 2, top, 4, bottom - top)) for x in (0.0, wide)]
    return out, middles[0]


_SILENT: Final = frozenset({StepState.NEVER, StepState.UNKNOWN})
"""States of a branch that its steps show by themselves."""


def _path(lane: StepsLayout, box: StepBox) -> float:
    """How high in *lane* the way through *box* is."""
    area = lane.boxes[box.id]
    inner = [way.points[0][1] for way in lane.ways if way.source == box.id and is_frame(box)]
    return min(inner) if inner else area.y


def _lead(branch: FlowBranch, box: StepBox) -> list[str]:
    """What stands on a branch's line before its first step: its name, and what became of it."""
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
