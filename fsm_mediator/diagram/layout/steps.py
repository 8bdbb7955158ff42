"""The layout of the steps view: steps in rows like words in lines of text, or in one column. No colours.

A group is a frame around its branches, which fork on its left and join on its right. The compensation path runs below
the boxes of a row. It leads from each step to the step that is compensated next::

        ┌─────┐   ┌─────┐   ┌ fulfil ────────────┐
     ●──│ one │──▶│ two │──▶┃──[pack]────────────┃──▶ ...
        └▲──┬─┘   └▲──┬─┘   ┃──[weigh]──▶[stick]─┃
     ◀──────┘└─────┘  └◀────└────────────────────┘

A nested saga is a frame around its boxes, one frame in each row. Coordinates are points; y increases downwards.
"""

from __future__ import annotations

import itertools
import math

import msgspec

from fsm_mediator.diagram.flow import Flow, FlowLine, FlowPicture, StepBox
from fsm_mediator.diagram.layout.geometry import LINE, Box, Frame, Layout, Line, Route, Shape, Text
from fsm_mediator.diagram.layout.step_groups import TIGHT, TIGHT_CHOICE, group_words, lead_width, lead_words, name_words
from fsm_mediator.diagram.layout.step_rows import Item, broken
from fsm_mediator.diagram.layout.step_sizes import (
    BESIDE,
    BETWEEN,
    CHANNEL,
    DOWN,
    FRAME,
    GAP,
    LEAST_BOX,
    MARGIN,
    MOST_BOX,
    MOST_DOWN,
    NO_RETURN,
    PAD,
    PAGE,
    PIVOT,
    RAIL,
    RIGHT,
    ROOM_FOR_A_NOTE,
    SHARES,
    SMALL,
    TITLE,
    fitted_note,
    is_frame,
    least_blank,
    note_of,
    path_through,
    small_print,
    titled,
)
from fsm_mediator.diagram.progress import StepState
from fsm_mediator.diagram.text import fitted, width
from fsm_mediator.machine.parts import Kind
from fsm_mediator.states import FAILED, PENDING, SUCCEEDED, name_of, scopes_of


def steps_layout(picture: FlowPicture, direction: str = RIGHT, width: int = PAGE) -> Layout:
    """The positions of all elements of *picture*, which is at most *width* pixels wide if its words fit.

    If *picture* consists of two pictures to compare, they are side by side if they fit, else one below the other.
    """
    room = width * 72 / 96 - 2 * PAD
    if picture.beside is None:
        return _Page(picture, direction).layout(room)
    half = (room - BESIDE) / 2
    layout, other = (_Page(each, direction).layout(half) for each in picture.halves)
    left, top = max(layout.width, half) + BESIDE, 0.0
    if left + other.width > room * TITLE / (TITLE - 1):
        layout, other = (_Page(each, direction).layout(room) for each in picture.halves)
        left, top = 0.0, layout.height + 62 + 12 * max(len(each.subheading) for each in picture.halves)
    layout.second = (left, top)
    layout.width = max(layout.width, left + max(other.width, half))
    layout.height = max(layout.height, top + other.height)
    layout.add(other, left, top)
    return layout


class _Page:
    """The texts of all boxes of a picture, and the width and height that all these boxes have."""

    def __init__(self, picture: FlowPicture, direction: str, *, tight: bool = False) -> None:
        self.picture = picture
        self.tight = tight  # whether the name of a branch is above it and not left of it, so that a group is less wide
        self.down = direction == DOWN
        shown = [box for box in picture.all_nodes() if not is_frame(box)]
        most = MOST_DOWN if self.down else MOST_BOX
        prints = [line for box in shown for line in small_print(box)]
        wants = [width(line, SMALL) for line in prints]
        for box in shown:
            whole = width(box.title, TITLE, True)
            pieces = [width(each, TITLE, True) for each in titled(box.title, most / 1.6)]
            wants.append(whole if whole < 92 else max(pieces))
        if picture.is_run:
            wants.append(width(ROOM_FOR_A_NOTE, SMALL, True) + 4)
        if picture.numbers is not None:
            wants += [width(note_of(box), SMALL, True) for box in shown]
        self.wide = 2 * math.ceil(min(max([LEAST_BOX, *(want + 14 for want in wants)]), most) / 2)
        self.room = self.wide - 14
        self.texts = {box.id: self._text(box) for box in shown}
        lines = max((sum(size * LINE for _, size, _, _ in each) for each in self.texts.values()), default=20.0)
        self.high = 2 * math.ceil((lines + 12) / 2)

    def _text(self, box: StepBox) -> list[Line]:
        text = [(each, TITLE, True, "ink") for each in titled(box.title, self.room)]
        text += [(fitted(each, SMALL, False, self.room), SMALL, False, "small") for each in small_print(box)]
        if self.picture.is_run:
            text.append((fitted_note(note_of(box), self.room - 14), SMALL, True, "note"))
        elif self.picture.numbers is not None:
            text.append((fitted_note(note_of(box), self.room), SMALL, True, "note"))
        return text

    def layout(self, limit: float) -> Layout:
        """The positions of all elements. The layout is at most *limit* points wide if the boxes fit."""
        flow = self.picture.flow
        shares = [_Flow(self, flow, limit * share, whole=True, down=self.down) for share in SHARES]
        layout = least_blank([each.layout() for each in shares])
        if layout.width > limit and not self.tight:
            other = _Page(self.picture, DOWN if self.down else RIGHT, tight=True).layout(limit)
            layout = other if other.width < layout.width else layout
        layout.down = self.down
        return layout


class _Flow:
    """Places the steps of one machine: of the whole saga (*whole*), or of one branch of a group."""

    def __init__(self, page: _Page, flow: Flow, limit: float, *, whole: bool, down: bool = False) -> None:
        self.page, self.flow, self.limit, self.whole, self.down = page, flow, limit, whole, down
        self.left = MARGIN if whole and not down else 0.0
        self.out = Layout()
        self.ids = {box.id for box in flow.boxes}
        self.backs = [line for line in flow.back if whole or line.target in self.ids]
        self.items = [self._item(box) for box in flow.boxes]
        if whole and any(line.target == flow.prefix + SUCCEEDED for line in flow.lines):
            wide = width("✓ succeeded", SMALL + 0.5, True) + 16
            self.items.append(Item(flow.prefix + SUCCEEDED, None, wide, 11, 11))

    def _item(self, box: StepBox) -> Item:
        scopes = scopes_of(box.scope)
        half = self.page.high / 2
        if is_frame(box):
            room = self.limit - self.left - 2 * FRAME * len(scopes) - (CHANNEL if self.whole else 0)
            inner, path = _group(self.page, box, room)
            return Item(box.id, box, inner.width, path, inner.height - path, scopes, inner)
        return Item(box.id, box, self.page.wide, half, half, scopes)

    def layout(self) -> Layout:
        """Place the rows of steps, then the lines between the steps. Returns the layout."""
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
        rights = [box.right for box in out.boxes.values()] + [frame.box.right for frame in out.frames]
        rights += [text.x + width(text.words, text.size, text.bold) for text in out.texts]
        rights += [x for route in out.routes for x, _ in route.points]
        out.width = max(rights)
        bottoms = [box.bottom for box in out.boxes.values()] + [frame.box.bottom for frame in out.frames]
        bottoms += [route_y for route in out.routes for _, route_y in route.points]
        out.height = max(y, *bottoms) if not self.whole else max(bottoms) + 8
        return out

    # Methods that place rows.

    def _rows(self) -> list[list[Item]]:
        if self.down:
            return [[item] for item in self.items]
        room = self.limit - CHANNEL - self.left
        return broken(self.items, room, room if self.whole else room - CHANNEL)

    def _place(self, row: list[Item], top: float, number: int) -> float:
        """Place *row*, which has the index *number*, below the y coordinate *top*. Returns the top of the next row."""
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
        """The numbers of nested sagas that begin and that end in row *number*, if each row has only one item."""
        here = self.items[number].scopes
        before = self.items[number - 1].scopes if number else ()
        after = self.items[number + 1].scopes if number + 1 < len(self.items) else ()
        return sum(each not in before for each in here), sum(each not in after for each in here)

    def _center(self, item: Item) -> None:
        widest = max([*(each.width for each in self.items), self.page.wide + 2 * RAIL + 16])
        item.x = (widest - item.width) / 2 + (FRAME + 12) * max(len(each.scopes) for each in self.items)

    def _put(self, item: Item) -> None:
        area = Box(item.x, item.y - item.up, item.width, item.up + item.down)
        self.out.boxes[item.name] = area
        if item.inner is not None:
            self.out.frames.append(Frame(item.box, area))
            self.out.add(item.inner, area.left, area.top)
        elif item.box is not None:
            self.out.lines[item.name] = self.page.texts[item.name]

    def _ends(self, rows: list[list[Item]]) -> None:
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
        moved = Layout()
        moved.add(self.out, right, down)
        self.out = moved
        for item in self.items:
            item.x += right
            item.y += down

    def _frames(self, rows: list[list[Item]]) -> None:
        """Add the frames around nested sagas. In rows, a saga has one frame in each row that has steps of the saga."""
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
                beside = 12 if self.down else 0  # room for the saga's name left of the line to its first step
                left = min(item.x - (FRAME * deeper) - pad for item in inside) - beside
                right = max(
                    max(item.x + item.width + item.after, item.x + item.width / 2 + right_rail) + FRAME * deeper + pad
                    for item in inside
                )
                top = min(item.y - max(item.up, self.page.high / 2) - 19 * deeper for item in inside) - 17
                bottom = max(item.y + max(item.down, rail) + 6 * deeper for item in inside) + 6
                area = Box(left, top, right - left, bottom - top)
                room = inside[0].x + inside[0].width / 2 - left if self.down else area.width
                name = fitted(name_of(scope), SMALL, True, room - 12)
                frames.append((level, Frame(None, area), Text(name, left + 7, top + 9, SMALL, True, "small")))
        for _, frame, text in sorted(frames, key=lambda each: each[0]):
            self.out.frames.insert(0, frame)
            self.out.texts.append(text)

    # Methods that place lines.

    def _rail(self, item: Item) -> float:
        """The y coordinate, in the row of *item*, of the line that shows the compensation path."""
        return item.y + self.page.high / 2 + RAIL

    def _bottom(self, row: int) -> float:
        return max(
            max(item.y + max(item.down, self.page.high / 2 + (RAIL + 4 if self.backs else 0)) + 7 * len(item.scopes), 0)
            for item in self.items
            if item.row == row
        )

    def _far(self, row: int, out: float) -> float:
        """The x coordinate that is *out* points right of all elements in the row with the index *row*."""
        ends = (item.x + item.width + item.after + FRAME * len(item.scopes) for item in self.items if item.row == row)
        return max(ends) + out

    def _forward(self, line: FlowLine) -> None:
        here = {item.name: item for item in self.items}
        target = here.get(line.target)
        boxes = self.out.boxes
        if target is None or (line.source not in boxes):
            return  # `_group` adds the lines into a branch and out of it
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
        self.out.routes.append(Route(line, tuple(points)))

    def _all_back(self) -> None:
        """Add the compensation path. If two steps lead to the same step, the earlier one's line joins the other."""
        order = {item.name: number for number, item in enumerate(self.items)}
        met: set[str] = set()
        for line in sorted(self.backs, key=lambda each: -order[each.source]):
            whole = line.target not in met or bool(line.reached)
            met.add(line.target)
            self._back(line, self.items[order[line.source]], whole)

    def _back(self, line: FlowLine, source: Item, whole: bool) -> None:
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
            self.out.routes.append(Route(line, tuple(points), arrow=whole))
            return
        rail = self._rail(source)
        points = [(box.left, rail)] if framed else [(box.x - 10, box.bottom), (box.x - 10, rail)]
        if not whole and not framed:
            self.out.routes.append(Route(line, tuple(points), arrow=False))
            return
        row = 0 if target is None else target.row
        end = rail
        if source.row != row:
            first = min(item.x - FRAME * len(item.scopes) for item in self.items if item.row == source.row)
            near = first - GAP + 2
            gap = self._bottom(row) + 8
            far = self._far(row, CHANNEL - 11)
            end = self._rail(self.items[0]) if target is None else self._rail(target)
            points.append((near, rail))
            if target is None and near < into.right - 4:
                self.out.routes.append(Route(line, (*points, (near, into.bottom))))
                return
            if target is None:
                points.append((near, end))
            else:
                points += [(near, gap), (far, gap), (far, end)]
        if target is None or framed_into:
            points.append((into.right, end))
        else:
            points += [(into.x + 10, end), (into.x + 10, into.bottom)]
        self.out.routes.append(Route(line, tuple(point for point, _ in itertools.groupby(points))))

    def _pivot(self, item: Item) -> None:
        half = self.page.high / 2
        if self.down:
            y = item.y + item.down + 13
            left, right = item.x - 4, item.x + item.width + RAIL + 8
            strokes = [Box(left, y + side, right - left, 1.2) for side in (0, 3)]
            self.out.shapes += [Shape("pivot", item.name, each) for each in strokes]
            self.out.texts.append(Text(NO_RETURN, item.x + item.width / 2 + 8, y + 11, SMALL, True, "pivot"))
            return
        x = item.x + item.width + PIVOT - 3
        self.out.shapes += [
            Shape("pivot", item.name, Box(x + side, item.y - half - 4, 1.2, 2 * half + 8)) for side in (0, 3)
        ]
        long = width(NO_RETURN, SMALL, True)
        self.out.texts.append(Text(NO_RETURN, x - long + 6, item.y - half - 11, SMALL, True, "pivot"))


def _group(page: _Page, box: StepBox, limit: float) -> tuple[Layout, float]:
    """The layout of a group's frame and branches, and the distance from the frame's top to the line that enters it."""
    out = Layout()
    leads = {branch.name: lead_words(branch, box) for branch in box.branches}
    lead, after = lead_width(page.picture, box, leads.values()), 24.0
    if page.tight:
        lead, after = TIGHT_CHOICE if box.kind is Kind.CHOICE else TIGHT
    lanes = [_Flow(page, branch.flow, limit - lead - after - 2, whole=False).layout() for branch in box.branches]
    wide = max(lead + max(lane.width for lane in lanes) + after, width(box.title, TITLE, True) + 30)
    wide = max(wide, min(limit, width(box.title, TITLE, True) + width(" · ".join(box.notes), SMALL) + 40))
    noted = page.picture.is_run or page.picture.numbers is not None
    out.texts, y = group_words(box, wide, note_of(box) if noted else None)
    y += 17
    middles: list[float] = []
    joins: list[float] = []
    for branch, lane in zip(box.branches, lanes, strict=True):
        first, last = branch.flow.boxes[0], branch.flow.boxes[-1]
        into, end = lane.boxes[first.id], lane.boxes[last.id]
        enter, leave = path_through(lane, first), path_through(lane, last)
        above = page.tight and any(leads[branch.name])
        y += 15 * above
        out.add(lane, lead, y)
        at, off = y + enter, y + leave
        middles.append(at)
        joins.append(off)
        reached = branch.mark is None or branch.mark.state is not StepState.NEVER
        line = next(each for each in branch.flow.forward if each.target == first.id)
        join = next((each for each in branch.flow.forward if each.source == last.id), None)
        line = msgspec.structs.replace(line, source=box.id, reached=reached if branch.mark is not None else None)
        out.routes.append(Route(line, ((0, at), (lead + into.left, at))))
        if join is not None:  # None if the picture hides the edge
            join = msgspec.structs.replace(join, target=box.id)
            out.routes.append(Route(join, ((lead + end.right, off), (wide, off)), arrow=False))
        out.texts += name_words(leads[branch.name], (y - 7 if above else at - 8), wide if above else None)
        y += lane.height + 12
    out.width, out.height = wide, max(y - 2, middles[0] + page.high / 2 + RAIL + 6)
    top = middles[0] - 11
    for x, lowest in ((0.0, max(middles)), (wide, max(middles[0], *joins))):
        bottom = lowest + 11
        if box.kind is Kind.CHOICE:
            out.shapes.append(Shape("fork", box.id, Box(x - 0.75, middles[0], 1.5, bottom - 11 - middles[0])))
            out.shapes.append(Shape("choice", box.id, Box(x - 8, middles[0] - 8, 16, 16)))
        else:
            out.shapes.append(Shape("fork", box.id, Box(x - 2, top, 4, bottom - top)))
    return out, middles[0]
