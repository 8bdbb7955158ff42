"""The detail view as a picture: whatever the saga and the run, it can be read, and little of it is blank."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
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
from fsm_mediator.states import COMPENSATING, FAILED, PENDING, RETRYING_COMPENSATION, STUCK
from fsm_mediator.testing.strategies import histories
from tests.test_diagrams import label_boxes, overlaps, part
from tests.test_steps_view import FIXED, any_saga, blank_share, touches

pytestmark = pytest.mark.once

MOST_BLANK = 0.35
IN_THE_WAY = 0.45
"""Of the class in `most_blank`."""


def most_blank(picture):
    """The bound of a machine: 35 %, but for one class, whose column right of all compensations is nearly empty.

    Few parts of it can be undone, some part has small nodes in that column, and no compensation is as tall as what is
    given up to it: the frame of a nested saga is in the way, or the line to the person that a part waits for.
    """
    phases: dict[str, set[str]] = {}
    for node in picture.nodes:
        phases.setdefault(node.path, set()).add(node.phase)
    undone = sum(COMPENSATING in each for each in phases.values())
    person = any(STUCK in each and COMPENSATING not in each for each in phases.values())
    column = person or any({RETRYING_COMPENSATION, STUCK} <= each for each in phases.values())
    way = person or any(node.scope for node in picture.nodes)
    own = IN_THE_WAY if column and way and undone < len(phases) - 1 else MOST_BLANK
    return max([own, *map(most_blank, picture.children)])


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
                assert not runs_along(frame.box, segment), (edge, frame.content.path)
                assert any(own) or not meet(segment, frame.box, -0.1), (edge, frame.content.path)
                assert not all(own) or contains(frame.box, segment), (edge, frame.content.path)
    check_labels(edges, layout)
    for frame in layout.frames:
        assert contains(Box(0, 0, layout.width + 1, layout.height + 1), frame.box)
    return layout


@settings(max_examples=25, deadline=None)
@given(saga=any_saga)
def test_whatever_the_saga_it_can_be_read_and_little_is_blank(saga):
    """With nested sagas, groups, probes, a pivot, or nothing that can be undone."""
    picture = saga.diagram().picture
    layout = check_can_be_read(picture)

    assert blank_share(layout) < most_blank(picture)
    assert layout.width < 900, "in a column of 736 pixels its least text is at least 6 pixels high"


KNOWN = {
    **{name: make() for name, make in FIXED.items()},
    **{f"gallery {name}": saga for name, saga in sagas().items()},
}


@pytest.mark.parametrize("saga", KNOWN.values(), ids=KNOWN)
def test_known_sagas_can_be_read_and_little_is_blank(saga):
    """The same of the gallery's sagas, and of sagas with every sort of part."""
    assert blank_share(check_can_be_read(saga.diagram().picture)) < MOST_BLANK


@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_every_run_can_be_read(data):
    """Whatever happened: the numbers of records and the notes in the boxes have their room."""
    saga = data.draw(any_saga)
    records = tuple(data.draw(histories(saga)))
    state = records[-1].target if records else PENDING
    picture = Diagram(saga, Run(saga_id="drawn", state=state, records=records)).picture

    assert blank_share(check_can_be_read(picture)) < most_blank(picture)


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


def test_compensation_reaches_past_no_frame():
    """A compensation ends where a nested saga begins, and above the branches of its own group."""
    plain = [part(name, back=False) for name in ("one", "two", "three")]
    inner = Saga("inner", [part("inside", back=False)])
    boxes = detail_layout(Saga("s", [part("first"), plain[0], inner, *plain[1:]]).diagram().picture).boxes
    group = Parallel("all", [part("left", back=False)])
    grouped = detail_layout(Saga("s", [part("first"), group, *plain]).diagram().picture).boxes

    assert boxes["executing.one"].bottom <= boxes["compensating.first"].bottom < boxes["executing.inner.inside"].top
    assert grouped["compensating.all"].bottom == grouped["waiting.all"].bottom
