"""The detail view as a picture: whatever the saga and the run, it can be read, and little of it is blank."""

from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import given, settings, target
from hypothesis import strategies as st

from diagrams.generate import RUNS, run_as_captioned, sagas
from fsm_mediator.definition.saga import Saga
from fsm_mediator.definition.waits import Parallel
from fsm_mediator.diagram import Diagram
from fsm_mediator.diagram.history import Run
from fsm_mediator.diagram.layout.detail import detail_layout
from fsm_mediator.diagram.layout.geometry import Box
from fsm_mediator.diagram.layout.router import CAPTION
from fsm_mediator.diagram.text import width
from fsm_mediator.retry import Retry
from fsm_mediator.states import FAILED, PENDING
from fsm_mediator.testing.strategies import histories
from tests.test_diagrams import label_boxes, overlaps, part
from tests.test_steps_view import FIXED, any_saga, blank_share, touches

pytestmark = pytest.mark.once

MOST_BLANK = 0.35


def segments(points):
    """The straight pieces of a line, as boxes without a width or without a height."""
    for (x, y), (to_x, to_y) in itertools.pairwise(points):
        assert x == to_x or y == to_y, points
        yield Box(min(x, to_x), min(y, to_y), abs(x - to_x), abs(y - to_y))


def meet(one, other, by=1.0):
    """Whether two boxes have more than *by* in common, across and down."""
    return (
        one.left < other.right - by
        and other.left < one.right - by
        and one.top < other.bottom - by
        and other.top < one.bottom - by
    )


def contains(frame, box):
    """Whether a frame is around a box."""
    return frame.left <= box.left and box.right <= frame.right and frame.top <= box.top and box.bottom <= frame.bottom


def runs_along(frame, segment):
    """Whether a line runs on a side of a frame, so that one hides the other."""
    if segment.width:
        return min(abs(segment.top - frame.top), abs(segment.top - frame.bottom)) < 2 and (
            min(segment.right, frame.right) - max(segment.left, frame.left) > 2
        )
    return min(abs(segment.left - frame.left), abs(segment.left - frame.right)) < 2 and (
        min(segment.bottom, frame.bottom) - max(segment.top, frame.top) > 2
    )


def check_labels(edges, layout):
    """A line that joins another one ends on it; labels keep off each other, nodes and lines."""
    boxes = layout.boxes
    drawn = [piece for route in layout.routes if route.own is None for piece in segments(route.points)]
    for edge, route in zip(edges, layout.routes, strict=True):
        if route.own is not None:
            x, y = route.points[route.own - 1]
            assert any(meet(Box(x, y, 0, 0), each, -0.5) for each in drawn), edge
    labels = [(edge, Box(*area)) for edge, area in label_boxes(edges, layout.routes)]
    for (one, a), (other, b) in itertools.combinations(labels, 2):
        assert not meet(a, b), (one, other)
    for edge, area in labels:
        assert not any(meet(area, box) for box in boxes.values()), edge
        for frame in layout.frames:
            apart = not meet(area, frame.box)
            assert apart or contains(frame.box, area), (edge, frame.content.path)
        for another, route in zip(edges, layout.routes, strict=True):
            for piece in segments(route.points[: None if route.own is None else route.own + 1]):
                line = Box(piece.left - 1, piece.top - 1, piece.width + 2, piece.height + 2)
                assert not meet(area, line), (edge, another)


def check_can_be_read(picture):
    """Nodes and labels keep apart, each line touches its own nodes and no other, frames keep off others' lines."""
    layout = detail_layout(picture)
    edges, boxes = list(picture.all_edges()), layout.boxes
    assert overlaps(layout) == []
    for name, lines in layout.lines.items():
        assert all(width(*line[:3]) <= boxes[name].width - 16 for line in lines), name
        assert all(line[1] >= CAPTION for line in lines)
    for edge, route in zip(edges, layout.routes, strict=True):
        assert touches(boxes[edge.source], route.points[0]), edge
        assert touches(boxes[edge.target], route.points[-1]), edge
        for segment in segments(route.points):
            for name, box in boxes.items():
                grown = Box(segment.left - 1, segment.top - 1, segment.width + 2, segment.height + 2)
                assert not meet(grown, box, 2), (edge, name)
            for frame in layout.frames:
                own = [contains(frame.box, boxes[node]) for node in (edge.source, edge.target)]
                pieces = [each.box for each in layout.frames if each.content.path == frame.content.path]
                ours = any(contains(piece, boxes[node]) for piece in pieces for node in (edge.source, edge.target))
                assert not runs_along(frame.box, segment), (edge, frame.content.path)
                assert ours or not meet(segment, frame.box, -0.1), (edge, frame.content.path)
                assert not all(own) or contains(frame.box, segment), (edge, frame.content.path)
    check_labels(edges, layout)
    for frame in layout.frames:
        assert contains(Box(0, 0, layout.width + 1, layout.height + 1), frame.box)
    assert all(route.label.right <= layout.width + 14 for route in layout.routes if route.label is not None)
    return layout


@settings(max_examples=25, deadline=None)
@given(saga=any_saga)
def test_whatever_the_saga_it_can_be_read_and_little_is_blank(saga):
    """With nested sagas, groups, probes, a pivot, or nothing that can be undone."""
    layout = check_can_be_read(saga.diagram().picture)

    target(blank_share(layout))
    assert blank_share(layout) < MOST_BLANK
    assert layout.width < 900, "in a column of 736 pixels its least text is at least 6 pixels high"


KNOWN = {
    **{name: make() for name, make in FIXED.items()},
    **{f"gallery {name}": saga for name, saga in sagas().items()},
}


@pytest.mark.parametrize("saga", KNOWN.values(), ids=KNOWN)
def test_known_sagas_can_be_read_and_little_is_blank(saga):
    """The same of the gallery's sagas, and of sagas with every sort of part."""
    assert blank_share(check_can_be_read(saga.diagram().picture)) < MOST_BLANK


@pytest.mark.parametrize("name", ["checkout", "pivot", "twelve", "gallery readme"])
def test_detail_of_usual_sagas_fits_a_phone_without_what_goes_wrong(name):
    """Without retries and stuck states no text is smaller than 8 pixels in a column of 390."""
    svg = KNOWN[name].diagram(hide={"retrying", "stuck"}).to_svg()
    wide = float(re.findall(r'<svg[^>]* width="([\d.]+)pt"', svg)[0])
    least = min(map(float, re.findall(r'font-size="([\d.]+)"', svg)))

    assert least * 390 / wide >= 8


@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_every_run_can_be_read(data):
    """Whatever happened: the numbers of records and the notes in the boxes have their room."""
    saga = data.draw(any_saga)
    records = tuple(data.draw(histories(saga)))
    state = records[-1].target if records else PENDING
    picture = Diagram(saga, Run(saga_id="drawn", state=state, records=records)).picture

    layout = check_can_be_read(picture)

    target(blank_share(layout))
    assert blank_share(layout) < MOST_BLANK


@pytest.mark.parametrize("folder", sagas())
@pytest.mark.parametrize("name", RUNS)
def test_runs_of_the_gallery_can_be_read(folder, name):
    """The same with the runs of branches."""
    assert blank_share(check_can_be_read(run_as_captioned(folder, name).picture)) < MOST_BLANK


def test_branches_are_right_below_their_group_and_tied_to_it():
    """Between a group and its branches there is nothing but a short line."""
    saga = Saga("order", [part("one"), Parallel("all", [part("left"), part("right")]), part("two")])
    layout = detail_layout(saga.diagram().picture)
    (group,) = (frame.box for frame in layout.frames if frame.content.path.endswith("//"))

    ((start, end),) = layout.ties
    assert touches(layout.boxes["waiting.all"], start)
    assert touches(group, end)
    assert end[1] - start[1] < 30
    assert layout.boxes["executing.two"].top > group.bottom


def test_small_node_is_below_its_compensation_where_few_parts_can_be_undone():
    """Beside the others there would be nothing; a saga whose parts can all be undone has them side by side."""
    retry = Retry(attempts=1)
    plain = [part(name, back=False) for name in ("one", "three", "four", "five", "six")]
    few = Saga("few", [plain[0], part("reserve_goods", compensation_retry=retry), *plain[1:]])
    all_of_them = Saga("all", [part(name, compensation_retry=retry) for name in ("one", "reserve_goods", "three")])
    boxes, others = (detail_layout(saga.diagram().picture).boxes for saga in (few, all_of_them))

    assert boxes["stuck.reserve_goods"].top > boxes["compensating.reserve_goods"].bottom
    assert boxes["stuck.reserve_goods"].left < boxes["compensating.reserve_goods"].right
    assert others["stuck.reserve_goods"].left > others["compensating.reserve_goods"].right


def test_what_is_given_up_is_beside_what_it_is_given_up_to():
    """Parts that cannot be undone are beside the compensation before them, or beside the end: no line goes up to it."""
    plain = [part(name, back=False) for name in ("one", "two", "four", "five")]
    picture = Saga("s", [*plain[:2], part("three"), *plain[2:]]).diagram().picture
    layout = detail_layout(picture)
    boxes = layout.boxes

    for name, above in (
        ("one", FAILED),
        ("two", FAILED),
        ("four", "compensating.three"),
        ("five", "compensating.three"),
    ):
        (route,) = (
            route
            for edge, route in zip(picture.all_edges(), layout.routes, strict=True)
            if (edge.source, edge.target) == (f"executing.{name}", above)
        )
        assert len(route.points) == 2, name
        assert touches(boxes[above], route.points[-1])
    assert boxes[FAILED].bottom < boxes["compensating.three"].top


def test_compensation_reaches_past_a_nested_saga_without_compensations():
    """The frame is then in the forward lane only; a compensation ends above the branches of its own group."""
    plain = [part(name, back=False) for name in ("one", "two", "three")]
    inner = Saga("inner", [part("inside", back=False)])
    layout = detail_layout(Saga("s", [part("first"), plain[0], inner, *plain[1:]]).diagram().picture)
    group = Parallel("all", [part("left", back=False)])
    grouped = detail_layout(Saga("s", [part("first"), group, *plain]).diagram().picture).boxes
    (frame,) = (frame.box for frame in layout.frames)

    assert layout.boxes["executing.three"].bottom <= layout.boxes["compensating.first"].bottom
    assert frame.right < layout.boxes["compensating.first"].left
    assert grouped["compensating.all"].bottom <= grouped["stuck.all"].bottom == grouped["waiting.all"].bottom


def test_nested_saga_that_is_given_up_to_the_part_before_it_has_two_frames():
    """One is in the forward lane, and one is around its compensations; elsewhere one frame is around both lanes."""
    last = Saga("inner", [part("plain", back=False), part("undone")])
    first = Saga("inner", [part("undone"), part("plain", back=False)])
    apart, whole = (
        [frame.box for frame in layout.frames]
        for layout in (detail_layout(Saga("s", [part("one"), inner]).diagram().picture) for inner in (last, first))
    )
    boxes = detail_layout(Saga("s", [part("one"), last]).diagram().picture).boxes

    assert len(whole) == 1
    assert [contains(apart[0], boxes[f"executing.inner.{name}"]) for name in ("plain", "undone")] == [True, True]
    assert contains(apart[1], boxes["compensating.inner.undone"])
    assert boxes["compensating.one"].bottom >= boxes["executing.inner.plain"].bottom
