"""What can be chosen of a picture: what is hidden, its width, title and legend, labels, one file for two pages."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fsm_mediator.definition.saga import Saga
from fsm_mediator.definition.waits import Parallel
from fsm_mediator.diagram import Diagram
from fsm_mediator.diagram.history import Run
from fsm_mediator.diagram.layout.detail import detail_layout
from fsm_mediator.diagram.layout.steps import steps_layout
from fsm_mediator.diagram.picture import HIDDEN, VIEWS
from fsm_mediator.diagram.themes import DARK, LIGHT
from fsm_mediator.errors import DefinitionError
from fsm_mediator.mediator.sync import Mediator
from fsm_mediator.states import COMPENSATING, PENDING, STUCK_PHASES
from fsm_mediator.testing.strategies import histories, sagas
from fsm_mediator.verifier import verify
from tests.test_diagrams import OK, REJECTED, checkout, in_notebook, overlaps, part, run, with_pivot
from tests.test_steps_view import FIXED, check_can_be_read

pytestmark = pytest.mark.once


@settings(max_examples=40)
@given(data=st.data(), hide=st.frozensets(st.sampled_from(sorted(HIDDEN))), view=st.sampled_from(VIEWS))
def test_whatever_is_hidden_the_rest_can_be_read(data, hide, view):
    """What is left is laid out and drawn as if there were nothing else."""
    saga = data.draw(sagas(most=5, groups=True))
    records = tuple(data.draw(histories(saga)))
    state = records[-1].target if records else PENDING
    diagram = Diagram(saga, Run(saga_id="drawn", state=state, records=records), view=view, hide=hide)

    if view == "steps":
        check_can_be_read(diagram.picture, steps_layout(diagram.picture))
    else:
        assert overlaps(detail_layout(diagram.picture)) == []
    assert diagram.to_dot()
    assert diagram.to_mermaid()


def test_undone_run_of_one_step_keeps_its_end_apart():
    """Where only the path is shown, the end is not beside a step that was compensated: its compensation is there."""
    saga = Saga("order", [part("reserve")])
    mediator = Mediator(saga)
    mediator.run(saga, saga_id="o-1")
    outcome = mediator.undo("o-1")

    assert [record.event for record in outcome.history] == ["start", "executed", "undo", "compensated"]
    assert overlaps(detail_layout(outcome.diagram("detail", hide={"unreached"}).picture)) == []


def test_hidden_states_are_not_in_the_detail():
    """Without stuck states, retries and undo the machine is its steps and their order."""
    shown = with_pivot().diagram(hide={"stuck", "retrying", "undo"}).picture
    phases = {node.phase for node in shown.nodes}

    assert not phases & {COMPENSATING, "retrying", "probing", *STUCK_PHASES}
    assert {"executing.reserve", "executing.pay"} <= {node.id for node in shown.nodes}
    assert {edge.source for edge in shown.edges} | {edge.target for edge in shown.edges} <= {n.id for n in shown.nodes}


@pytest.mark.parametrize("view", VIEWS)
def test_only_the_path_of_a_run_is_shown(view):
    """A run that failed at its third step shows that step and those before it; nothing is pale but the other end."""
    saga = Saga("order", [part("reserve"), part("pay"), part("ship"), part("mail")])
    picture = run(saga, OK, OK, REJECTED, OK, OK).diagram(view, hide={"unreached"}).picture

    assert {"reserve", "pay", "ship"} == {node.title for node in picture.all_nodes() if node.title}
    assert all(edge.reached for edge in picture.all_edges())


def test_steps_without_marks_say_only_what_is_done():
    """Of the steps view retries, undo and stuck are marks and lines back: hidden, they are gone."""
    picture = checkout().diagram("steps", hide=HIDDEN).picture

    assert all((box.undo, box.attempts, box.sticks) == (None, 1, False) for box in picture.all_nodes())
    assert not picture.flow.back


@pytest.mark.parametrize("width", [300, 360, 500, 736, 1100])
def test_rows_are_as_wide_as_the_page(width):
    """A picture made for a phone's column is as wide as the phone, and its text is as large as anywhere."""
    for name in ("twelve", "checkout", "pivot"):
        picture = FIXED[name]().diagram("steps", width=width).picture
        layout = steps_layout(picture, width=width)
        assert (layout.width + 24) * 96 / 72 <= width
        assert min(size for lines in layout.lines.values() for _, size, _, _ in lines) * 96 / 72 >= 12


def test_title_stands_in_place_of_the_name():
    """`title=` is the heading of every format."""
    diagram = checkout().diagram("steps", title="How an order goes")

    assert "How an order goes" in diagram.to_svg()
    assert "accTitle: How an order goes" in diagram.to_mermaid()
    assert "How an order goes" in diagram.with_(view="detail").to_dot()


@pytest.mark.parametrize("view", VIEWS)
def test_legend_is_that_of_the_picture_all_or_none(view):
    """By default a legend explains the signs in the picture; on demand all signs, or none."""
    saga = Saga("plain", [part("only", pivot=True, back=False)])
    usual, every, none = (saga.diagram(view, legend=legend).to_dot() for legend in (None, True, False))
    word = {"steps": "diamonds: one branch is chosen", "detail": "a probe asks"}[view]

    assert word in every
    assert word not in usual
    assert len(none) < len(usual) < len(every)


@pytest.mark.parametrize("view", VIEWS)
def test_label_of_a_step_is_its_name_in_pictures(view):
    """A step's label is for people; its name stays what journals and code say."""
    saga = Saga("order", [part("charge", label="Charge the card")])
    diagram = saga.diagram(view)

    assert "Charge" in diagram.to_svg()
    assert "Charge the card" in diagram.to_mermaid()
    assert saga.parts[0].path == "charge"
    assert saga.fingerprint == Saga("order", [part("charge")]).fingerprint


@pytest.mark.parametrize("label", ["", "  ", 7])
def test_label_that_is_no_text_is_refused(label):
    """A label must be a text."""
    with pytest.raises(DefinitionError, match="label must be a text"):
        part("charge", label=label)


@pytest.mark.parametrize("animate", [False, True])
def test_one_file_is_light_and_dark(animate):
    """An SVG of the theme `auto` is light, and every colour of it has a rule for a dark page."""
    svg = run(checkout(), OK, REJECTED, OK).diagram("steps", theme="auto").to_svg(animate=animate)
    sheet = re.search(r"<style>@media \(prefers-color-scheme:dark\)\{(.*?)\}</style>", svg)

    assert sheet is not None
    assert svg.count("prefers-color-scheme") == 1
    rules = dict(re.findall(r"\[fill='(#\w+)'\]\{fill:(#\w+)\}", sheet[1]))
    used = set(re.findall(r' (?:fill|stroke)="(#\w+)"', svg))
    assert LIGHT.ground in used
    assert used <= rules.keys()
    assert rules[LIGHT.ink] == DARK.ink
    ET.fromstring(svg)  # noqa: S314 - our own text


def test_alternative_text_is_short():
    """Whatever the saga, its alternative text is no page: at most 300 characters."""
    saga = Saga("long", [part(f"a_rather_long_name_{number}") for number in range(40)])

    assert all(len(saga.diagram(view).alt) <= 300 for view in VIEWS)


def test_mermaid_beyond_its_limits_falls_back_to_the_steps():
    """A chart that Mermaid would refuse is that of the steps, and says so."""
    saga = Saga("wide", [Parallel("many", [part(f"branch_{number}") for number in range(40)])])
    chart = saga.diagram(branches=None).to_mermaid()

    assert chart.startswith("%% every state would be ")
    assert len(chart) <= 50_000
    assert chart.endswith(saga.diagram("steps", branches=None).to_mermaid())


@pytest.mark.parametrize("view", VIEWS)
def test_ids_in_an_svg_are_unique_names_of_xml(view):
    """Ids can be used in a book: each once, and no character that XML's names do not have."""
    saga = Saga("wide", [Parallel("many", [Saga("x", [part("a"), part("b")]), part("c"), part("d"), part("e")])])
    ids = re.findall(r' id="([^"]*)"', saga.diagram(view, branches=2).to_svg())

    assert len(ids) == len(set(ids))
    assert all(re.fullmatch(r"[\w·.\-]+", each) for each in ids)


@pytest.mark.parametrize(
    ("look", "said"),
    [
        ({"hide": {"errors"}}, "cannot hide errors; there are retrying, stuck, undo, unreached"),
        ({"width": 10}, "a width of at least 300"),
        ({"width": 0}, "a width of at least 300"),
        ({"view": "detail", "width": 500}, "'detail' cannot be drawn"),
    ],
)
def test_what_cannot_be_chosen_is_refused_with_what_can(look, said):
    """A typo is an error that names what there is."""
    with pytest.raises(DefinitionError, match=said):
        Diagram(checkout(), **{"view": "steps", **look})


def test_saga_outcome_and_report_show_themselves():
    """The last expression of a cell may be a saga, an outcome or a report of `verify`."""
    outcome = run(checkout(), OK, REJECTED, OK)
    report = verify(checkout())

    assert "image/svg+xml" in in_notebook(outcome.saga)
    assert "o-1" in in_notebook(outcome)["image/svg+xml"]
    assert in_notebook(outcome)["text/plain"] == repr(outcome)
    assert in_notebook(report) == {"text/plain": str(report)}


@pytest.mark.parametrize("view", VIEWS)
def test_lines_of_a_chart_can_be_seen_on_both_pages_of_github(view):
    """GitHub puts a chart on a page that is white or nearly black: each line has a contrast of 3 on both."""

    def luminance(colour):
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        red, green, blue = (part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    for colour in re.findall(r"linkStyle .*stroke:(#\w+)", with_pivot().diagram(view).to_mermaid()):
        for page in ("#ffffff", "#0d1117"):
            darker, lighter = sorted((luminance(colour), luminance(page)))
            assert (lighter + 0.05) / (darker + 0.05) >= 3, (colour, page)


def check_groups(saga):
    """Frames of groups lie on nothing but their own branches; each is tied to its column."""
    layout = detail_layout(saga.diagram().picture)
    outer = [frame.box for frame in layout.frames if frame.content.path.endswith("//")]
    for number, one in enumerate(outer):
        for other in outer[:number]:
            apart = one.left >= other.right or other.left >= one.right or one.top >= other.bottom
            inside = any(a.left < b.left and a.right > b.right for a, b in ((one, other), (other, one)))
            assert apart or one.bottom <= other.top or inside
        for band in layout.bands:
            box = band.box
            beside = one.left >= box.right or box.left >= one.right or one.top >= box.bottom or one.bottom <= box.top
            inside = (one.left <= box.left and one.right >= box.right) and one.top <= box.top
            assert beside or inside, (one, box)
        for route in layout.routes:
            for x, y in route.points:
                crossed = one.left < x < one.right and one.top < y < one.bottom
                assert not crossed or "/" in route.edge.source, (route, one)
    assert len(layout.ties) == len(outer)
    for points, frame in zip(layout.ties, outer, strict=False):
        assert len(points) >= 2
        assert any(abs(points[-1][0] - box.left) < 1 or abs(points[-1][1] - box.top) < 1 for box in outer), frame
        assert any(abs(points[0][1] - box.bottom) < 1 for box in layout.boxes.values())


@settings(max_examples=50)
@given(saga=sagas(most=7, nested=True, groups=True))
def test_branches_are_below_their_group_and_tied_to_it(saga):
    """Whatever the saga, no frame lies on another's line or lane, and each group's frame is tied to the group."""
    check_groups(saga)


@pytest.mark.parametrize("saga", FIXED.values(), ids=FIXED)
def test_branches_of_known_sagas_are_below_their_group(saga):
    """The same of sagas with every sort of part."""
    check_groups(saga())
