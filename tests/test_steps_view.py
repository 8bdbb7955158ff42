"""The steps view: its steps, forks and way back are the machine's; it is laid out so that it can be read."""

from __future__ import annotations

import html
import itertools
import re
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from fsm_mediator.cli.commands import cli
from fsm_mediator.definition.saga import Saga
from fsm_mediator.definition.steps import step
from fsm_mediator.definition.waits import Choose, Parallel
from fsm_mediator.diagram import Diagram
from fsm_mediator.diagram.flow import flow_picture
from fsm_mediator.diagram.history import Run
from fsm_mediator.diagram.layout.geometry import Layout
from fsm_mediator.diagram.layout.router import LABEL
from fsm_mediator.diagram.layout.step_sizes import DIRECTIONS, PAGE, is_frame
from fsm_mediator.diagram.layout.steps import steps_layout
from fsm_mediator.diagram.progress import TIMES, StepState
from fsm_mediator.diagram.text import width
from fsm_mediator.errors import DefinitionError
from fsm_mediator.states import COMPENSATING, FAILED, PENDING, SUCCEEDED, path_of, phase_of
from fsm_mediator.testing.strategies import histories, sagas
from tests.test_diagrams import ERROR, OK, REJECTED, checkout, nested, part, run, with_pivot, with_waits

pytestmark = pytest.mark.once

LEAST = 11.0
"""Pixels of the least text, in a column of 736."""

any_saga = sagas(most=9, nested=True, groups=True)
FIXED = {
    "checkout": checkout,
    "nested": nested,
    "pivot": with_pivot,
    "waits": with_waits,
    "twelve": lambda: Saga("twelve", [part(f"step_{number}") for number in range(12)]),
    "nothing can be undone, in two rows": lambda: Saga(
        "plain", [part(f"s{number}", back=False) for number in range(6)]
    ),
    "in a group": lambda: Saga(
        "outer",
        [
            part("one"),
            Parallel(
                "all",
                [
                    Saga("long", [part(f"l{number}") for number in range(4)]),
                    Saga("chosen", [Choose("way", {"a": part("x"), "b": nested()}, by=str)]),
                    part("alone"),
                ],
            ),
            Parallel.each("items", Saga("item", [part("pick"), part("wrap")]), over=list),
        ],
    ),
}


def flows(flow, saga):
    """Every flow of a picture with the machine that it shows."""
    yield flow, saga.machine
    for box in flow.boxes:
        for branch in box.branches:
            known = saga.branches[box.path]
            yield from flows(branch.flow, known.get(branch.name) or known["*"])


def check_is_the_machine(saga):
    """The steps, forks and way back of the picture, walked in the machine itself."""
    for flow, machine in flows(flow_picture(saga, None, about=()).flow, saga):
        moves = {(move.event, move.source): move.target for move in machine.moves()}
        state, order = moves["start", PENDING], []
        while state != SUCCEEDED:
            order.append(path_of(state))
            state = moves["executed", state]
        assert [box.path for box in flow.boxes] == order
        names = [PENDING, *order, SUCCEEDED]
        shown = [(line.source, line.target) for line in flow.forward]
        assert sorted(shown) == sorted((flow.prefix + a, flow.prefix + b) for a, b in itertools.pairwise(names))
        back = {(line.source, line.target) for line in flow.back}
        real = {
            (flow.prefix + path_of(move.source), flow.prefix + (path_of(move.target) or move.target))
            for move in machine.moves()
            if move.event in ("rejected", "compensated", "settled_undone") and move.source != PENDING
        }
        assert back == real
        undone = [path_of(state) for state in machine.states if phase_of(state) == COMPENSATING]
        assert {box.path for box in flow.boxes if box.undo is not None} <= set(undone)
        for box in flow.boxes:
            names = (
                [name if name != "*" else "each" for name in machine.places[f"waiting.{box.path}"].part.branches]
                if box.branches
                else []
            )
            assert [branch.name for branch in box.branches] == names


@settings(max_examples=60)
@given(saga=any_saga)
def test_steps_forks_and_undo_order_are_those_of_the_machine(saga):
    """Whatever the saga, the picture says what its machine does, in the same order, forward and back."""
    check_is_the_machine(saga)


@pytest.mark.parametrize("saga", FIXED.values(), ids=FIXED)
def test_known_sagas_are_drawn_as_their_machines_are(saga):
    """The same of sagas with every sort of part."""
    check_is_the_machine(saga())


def overlap(one, other):
    """Whether two boxes have more than an edge in common."""
    return (
        one.left < other.right - 0.5
        and other.left < one.right - 0.5
        and one.top < other.bottom - 0.5
        and other.top < one.bottom - 0.5
    )


def check_can_be_read(picture, layout: Layout):
    """No box lies on another, no line runs through one, each line touches its own, no text leaves its box."""
    steps = {box.id: box for box in picture.all_nodes()}
    solid = {name: box for name, box in layout.boxes.items() if name not in steps or not is_frame(steps[name])}
    for (one, a), (other, b) in itertools.combinations(solid.items(), 2):
        assert not overlap(a, b), (one, other)
    for route in layout.routes:
        for (x, y), (to_x, to_y) in itertools.pairwise(route.points):
            assert x == pytest.approx(to_x) or y == pytest.approx(to_y), route
            for name, box in solid.items():
                inside = (
                    min(x, to_x) < box.right - 1
                    and max(x, to_x) > box.left + 1
                    and min(y, to_y) < box.bottom - 1
                    and max(y, to_y) > box.top + 1
                )
                assert not inside, (route, name, box)
        assert touches(layout.boxes[route.edge.source], route.points[0]), route
        if route.arrow:
            assert touches(layout.boxes[route.edge.target], route.points[-1]), route
    for name, lines in layout.lines.items():
        box = layout.boxes[name]
        assert all(width(words, size, bold) <= box.width - 8 for words, size, bold, _ in lines), name
        assert sum(size * 1.2 for _, size, _, _ in lines) <= box.height
    column = max((layout.width + 24) / 72 * 96, 736)
    least = min(
        [size for lines in layout.lines.values() for _, size, _, _ in lines]
        + [text.size for text in layout.texts or ()]
        or [9.0]
    )
    assert least / 72 * 96 * 736 / column >= LEAST


NEAR = 14.0
GRAIN = 4.0


def blank_share(layout: Layout) -> float:
    """The share of the canvas with no box, line, frame or text within a fifth of an inch (14 points)."""
    columns, rows = int(layout.width // GRAIN) + 1, int(layout.height // GRAIN) + 1
    near = [bytearray(columns) for _ in range(rows)]
    areas = [(box.left, box.top, box.right, box.bottom) for box in layout.boxes.values()]
    areas += [(t.x, t.y - 5, t.x + width(t.words, t.size, t.bold), t.y + 5) for t in layout.texts]
    for area in (frame.box for frame in layout.frames):
        areas += [(area.left, y, area.right, y) for y in (area.top, area.bottom)]
        areas += [(x, area.top, x, area.bottom) for x in (area.left, area.right)]
    for points in [*(route.points for route in layout.routes), *layout.ties]:
        for (x, y), (to_x, to_y) in itertools.pairwise(points):
            areas.append((min(x, to_x), min(y, to_y), max(x, to_x), max(y, to_y)))
    for label in (route.label for route in layout.routes if route.label is not None):
        half, high = max(width(line, LABEL) for line in label.lines) / 2, len(label.lines) * LABEL / 2
        areas.append((label.x - half, label.y - high, label.x + half, label.y + high))
    for left, top, right, bottom in areas:
        first, last = max(0, int((left - NEAR) // GRAIN)), min(columns, int((right + NEAR) // GRAIN))
        for row in near[max(0, int((top - NEAR) // GRAIN)) : int((bottom + NEAR) // GRAIN)]:
            row[first:last] = b"\1" * (last - first)
    return 1 - sum(map(sum, near)) / (columns * rows)


def touches(box, point):
    """Whether a point is on a box's edge."""
    x, y = point
    beside = min(abs(x - box.left), abs(x - box.right)) < 1 and box.top - 1 <= y <= box.bottom + 1
    return beside or (min(abs(y - box.top), abs(y - box.bottom)) < 1 and box.left - 1 <= x <= box.right + 1)


@pytest.mark.parametrize("direction", DIRECTIONS)
@settings(max_examples=60)
@given(saga=any_saga)
def test_whatever_the_saga_it_can_be_read(direction, saga):
    """Boxes, lines and texts keep apart, and the text is large enough in a README's column."""
    picture = flow_picture(saga, None, about=())
    layout = steps_layout(picture, direction)
    check_can_be_read(picture, layout)
    assert blank_share(layout) < 0.35


def in_each_other(deep, sort):
    """Groups, choices or nested sagas *deep* in each other, with a step before each and a step beside each branch."""
    inner: list[Any] = [part("deepest"), part("last")]
    for level in range(deep):
        branch = Saga(f"branch_{level}", inner)
        if sort == "choices":
            branches: dict[str, Any] = {"the_usual_branch": branch, "other": part(f"beside_{level}")}
            inner = [part(f"before_{level}"), Choose(f"choice_{level}", branches, by=str)]
        elif sort == "groups":
            inner = [part(f"before_{level}"), Parallel(f"group_{level}", [branch, part(f"beside_{level}")])]
        else:
            inner = [Saga(f"nested_{level}", [Parallel(f"group_{level}", [branch, part(f"beside_{level}")])])]
    return Saga("deep", inner)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("sort", ["groups", "choices", "nested sagas with groups"])
@pytest.mark.parametrize("deep", [3, 6, 7])
def test_deep_nesting_can_be_read(deep, sort, direction):
    """Groups in groups are within the page: where they would not be, the names of branches are above them."""
    picture = flow_picture(in_each_other(deep, sort), None, about=())
    layout = steps_layout(picture, direction)
    check_can_be_read(picture, layout)
    assert (layout.width + 24) / 72 * 96 <= PAGE + (0 if deep < 7 else 40)
    assert blank_share(layout) < 0.35


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("saga", FIXED.values(), ids=FIXED)
def test_known_sagas_can_be_read(saga, direction):
    """The same of sagas with every sort of part."""
    picture = flow_picture(saga(), None, about=())
    layout = steps_layout(picture, direction)
    check_can_be_read(picture, layout)
    assert layout.width <= PAGE
    assert blank_share(layout) < 0.35


def touches_right(boxes, route):
    """Whether a line ends without an arrow at the right side of a group."""
    box = boxes[route.edge.target]
    return not route.arrow and abs(route.points[-1][0] - box.right) < 1


@pytest.mark.parametrize("page", [390, PAGE])
@pytest.mark.parametrize("name", ["waits", "in a group"])
def test_every_branch_ends_at_the_join_of_its_group(name, page):
    """The bar or the line at the right of a group is as long as its branches, in however many rows these are."""
    layout = steps_layout(flow_picture(FIXED[name](), None, about=()), width=page)
    forks = [shape for shape in layout.shapes if shape.kind == "fork"]
    ends = [(route.edge.target, route.points[-1]) for route in layout.routes if touches_right(layout.boxes, route)]

    assert ends
    for group, (x, y) in ends:
        bars = [fork.box for fork in forks if fork.step == group]
        assert any(bar.left - 1 <= x <= bar.right + 1 and bar.top - 1 <= y <= bar.bottom + 1 for bar in bars), group


@settings(max_examples=40)
@given(data=st.data())
def test_every_run_can_be_drawn_and_nothing_moves(data):
    """Whatever happened, the boxes are where they are at its beginning, and the end says how it ended."""
    saga = data.draw(sagas(most=5, groups=True))
    records = tuple(data.draw(histories(saga)))
    state = records[-1].target if records else PENDING
    diagram = Diagram(saga, Run(saga_id="drawn", state=state, records=records), view="steps")
    layout = steps_layout(diagram.picture)
    check_can_be_read(diagram.picture, layout)
    assert steps_layout(diagram.frames()[0].picture).boxes == layout.boxes
    states = {box.path: box.mark.state for box in diagram.picture.flow.boxes}
    if state == SUCCEEDED:
        assert set(states.values()) == {StepState.DONE}
    if state == FAILED and records:
        assert not set(states.values()) & {StepState.RUNNING, StepState.WAITING, StepState.STUCK}
    if path_of(state):
        assert states[path_of(state)] in (StepState.RUNNING, StepState.WAITING, StepState.STUCK)


def test_run_marks_what_became_of_each_step_and_names_what_is_left():
    """A failed run: what was compensated, what failed, what stays, what was never reached."""
    saga = Saga("order", [part("reserve"), part("mail", back=False), part("pay"), part("ship")])
    diagram = run(saga, OK, OK, REJECTED, OK).diagram("steps")
    states = {box.title: box.mark.state for box in diagram.picture.all_nodes()}

    assert list(states.values()) == [StepState.COMPENSATED, StepState.DONE, StepState.FAILED, StepState.NEVER]
    assert "left over: mail" in diagram.picture.subheading
    assert "left over: mail" in diagram.alt
    assert "left over" in diagram.to_dot()


def test_stuck_and_retried_steps_say_so():
    """A compensation that was given up waits for a person in its step's box."""
    marks = {
        box.title: box.mark
        for box in run(checkout(), OK, OK, REJECTED, *[ERROR] * 10).diagram("steps").picture.all_nodes()
    }

    assert marks["charge"].state is StepState.STUCK
    retried = {box.title: box.mark for box in run(checkout(), OK, ERROR).diagram("steps").picture.all_nodes()}
    assert retried["charge"].state is StepState.WAITING
    assert retried["charge"].attempts == 1


def test_group_over_items_is_drawn_once_with_their_number(drive, journal):
    """A hundred items are one box, which counts them."""
    saga = Saga("parcels", [Parallel.each("send", part("parcel"), over=lambda order: order)])
    mediator = drive(saga, journal=journal)
    mediator.run("parcels", list(range(24)), saga_id="o-1")
    diagram = mediator.diagram("o-1", view="steps")

    (box,) = diagram.picture.flow.boxes
    assert box.notes[0] == f"{TIMES} 24"
    assert len(steps_layout(diagram.picture).lines) == 1


def test_direction_belongs_to_the_steps_view():
    """A direction that does not exist, or of another view, is refused with what there is."""
    with pytest.raises(DefinitionError, match="right, down"):
        checkout().diagram("steps", direction="up")  # type: ignore[arg-type]
    with pytest.raises(DefinitionError, match="'detail'"):
        checkout().diagram("detail", direction="down")


@pytest.mark.parametrize("view", ["steps", "detail"])
def test_a_function_without_a_name_is_called_a_lambda(view):
    """No picture has the name that Python gives it, neither as text, nor in a tooltip, nor escaped."""
    way = Choose("way", {"rail": step(name="rail")(lambda order: 1)}, by=lambda order: "rail")
    diagram = Saga("trip", [step(name="book")(lambda order: 1), way]).diagram(view)

    for text in (diagram.to_svg(), diagram.to_dot(), diagram.to_mermaid(), diagram.to_markdown_table(), diagram.alt):
        assert "lambda>" not in html.unescape(text)
    assert "calls a lambda" in html.unescape(diagram.to_svg())


@pytest.mark.parametrize("saga", FIXED.values(), ids=FIXED)
def test_every_format_is_there(saga, tmp_path):
    """SVG with its text for those who cannot see it, PNG, PDF, DOT, Mermaid and a table."""
    diagram = saga().diagram("steps")
    for kind in ("svg", "png", "pdf", "dot", "mmd", "md"):
        assert diagram.render(tmp_path / f"steps.{kind}").stat().st_size > 100
    svg = (tmp_path / "steps.svg").read_text()
    assert 'aria-label="Steps of the saga' in svg
    assert "data-dot" in svg
    assert len(diagram.alt) <= 300
    chart = diagram.to_mermaid()
    assert len(re.findall(r"^ *subgraph ", chart, re.MULTILINE)) == len(re.findall(r"^ *end$", chart, re.MULTILINE))


def test_steps_are_drawn_from_the_command_line(tmp_path):
    """`fsm-mediator render --view steps --direction down` writes what Python draws."""
    words = [
        "render",
        "tests.test_group_diagrams:saga",
        "-o",
        str(tmp_path / "x.dot"),
        "--view",
        "steps",
        "--direction",
        "down",
    ]
    result = CliRunner().invoke(cli, words)

    assert result.exit_code == 0, result.output
    from tests.test_group_diagrams import saga

    assert (tmp_path / "x.dot").read_text() == saga.diagram("steps", direction="down").to_dot()


def test_chart_of_many_branches_is_within_what_mermaid_draws():
    """A group of 400 named branches: some are drawn, the others are counted, even if all are wanted."""
    saga = Saga("wide", [part("first"), Parallel("all", [part(f"b{number}") for number in range(400)])])

    chart = saga.diagram("steps", branches=None).to_mermaid()

    assert chart == saga.diagram("steps").to_mermaid()
    assert len(chart) <= 50_000
    assert len(re.findall(r"-->|-\.->", chart)) <= 500
    assert "388 more" in chart
    assert "b12 … b399" in chart
    few = Saga("few", [Parallel("all", [part(f"b{number}") for number in range(14)])])
    assert "b13" in few.diagram("steps", branches=None).to_mermaid()
