"""Diagrams of groups and choices: each branch is a machine of its own, and in a run goes its own way."""

from __future__ import annotations

import re

import pytest
from click.testing import CliRunner

from fsm_mediator import Choose, Mediator, Parallel, Saga, StepRejectedError, step
from fsm_mediator.cli.commands import cli
from fsm_mediator.diagram import Diagram
from fsm_mediator.diagram.history import frame_of, frames_of, number_of_records
from fsm_mediator.diagram.layout.detail import detail_layout
from tests.test_diagrams import overlaps, part

pytestmark = pytest.mark.once


@step
def stick(order):
    """A step that says no."""
    raise StepRejectedError("no labels left")


saga = Saga(
    "fulfilment",
    [
        part("reserve"),
        # Else the failed branch may end the other before it begins.
        Parallel("fulfil", [part("pack"), Saga("label", [part("weigh", back=False), stick])], on_failure="settle"),
        Choose("carrier", {"fast": part("courier"), "cheap": part("post")}, by=lambda order: order["by"]),
    ],
)
good = Saga(
    "chosen",
    [
        Choose("carrier", {"fast": part("courier"), "cheap": part("post")}, by=lambda order: order["by"]),
        Parallel.each("parcels", part("parcel"), over=lambda order: order["parcels"]),
    ],
)
ORDER = {"by": "fast", "parcels": list(range(12))}


def children(diagram):
    """The machines of the branches, by what stands over them."""
    return {child.heading: child for child in diagram.picture.children}


def taken(picture):
    """The records that a machine shows, in order."""
    shown = [(order, edge.event) for edge in picture.edges for order in edge.mark.orders]
    return [event for _, event in sorted(shown)]


@pytest.fixture
def failed(drive, journal):
    """A mediator with a run in which a branch failed, so that the other was undone."""
    mediator = drive(saga, journal=journal)
    mediator.run(saga.name, ORDER, saga_id="o-1", check=False)
    return mediator


def test_each_branch_s_machine_stands_below_in_a_frame_of_its_own():
    """Who looks at a saga with groups sees what each branch can do, named after group and branch."""
    shown = children(saga.diagram())

    assert list(shown) == ["fulfil / pack", "fulfil / label", "carrier / fast", "carrier / cheap"]
    assert [node.id for node in shown["fulfil / label"].nodes if node.phase == "executing"] == [
        "fulfil.label/executing.weigh",
        "fulfil.label/executing.stick",
    ]
    assert list(children(good.diagram())) == ["carrier / fast", "carrier / cheap", "parcels / each item"]


def test_machines_of_branches_neither_overlap_nor_make_a_ribbon():
    """The branches' machines stand beside or below each other: the picture stays as narrow as a page."""
    wide = Saga("wide", [Parallel("all", [part(f"branch_{number}") for number in range(9)])])
    layout = detail_layout(wide.diagram().picture)

    assert not overlaps(layout)
    frames = [frame.box for frame in layout.frames][1:]  # the first is the group's
    assert len(frames) == 9
    for number, one in enumerate(frames):
        for other in frames[:number]:
            beside = one.left >= other.right or other.left >= one.right
            assert beside or one.top >= other.bottom or other.top >= one.bottom
    assert layout.width < 1100


def test_run_shows_the_way_of_each_branch(failed):
    """In a run's picture each branch shows its own records: what failed, what was undone, what was never begun."""
    shown = children(failed.diagram("o-1"))

    assert taken(shown["fulfil / pack"]) == ["start", "executed", "undo", "compensated"]
    assert taken(shown["fulfil / label"]) == ["start", "executed", "rejected"]
    assert taken(shown["carrier / fast"]) == []
    marks = {node.id: node.mark for node in shown["fulfil / label"].nodes}
    assert marks["fulfil.label/executing.stick"].failed
    assert marks["fulfil.label/failed"].current
    assert not any(node.mark.reached for node in shown["carrier / cheap"].nodes)
    assert "no labels left" in failed.diagram("o-1").to_svg()


def test_chosen_branch_stands_out_from_the_others(drive, journal):
    """What was chosen has a way; what was not is pale."""
    mediator = drive(good, journal=journal)
    mediator.run(good.name, ORDER, saga_id="o-2")
    shown = children(mediator.diagram("o-2"))

    assert taken(shown["carrier / fast"]) == ["start", "executed"]
    assert taken(shown["carrier / cheap"]) == []


def test_items_with_the_same_course_are_drawn_once_with_their_number(drive, journal):
    """Of eleven items ten go well: the picture has one machine for the ten, and one for the other."""

    def send(number):
        if number == 4:
            raise StepRejectedError("no such address")

    saga = Saga("parcels", [Parallel.each("send", step(send), over=list, at_most=1, on_failure="settle")])
    mediator = drive(saga, journal=journal)
    mediator.run("parcels", list(range(11)), saga_id="o-3", check=False)
    diagram = mediator.diagram("o-3")

    assert list(children(diagram)) == ["send / 0 and 9 more like it", "send / 4"]
    (node,) = (node for node in diagram.picture.nodes if node.phase == "waiting")
    assert "1 failed · 10 done" in node.mark.signed_note
    frames = [detail_layout(frame.picture) for frame in diagram.frames()]
    assert all(frame.boxes == frames[-1].boxes for frame in frames)


def test_outcome_alone_knows_no_branches_and_shows_none(failed):
    """An outcome has the records of one execution: its picture says nothing of the branches, neither pale nor done."""
    assert failed.outcome("o-1").diagram().picture.children == ()


def test_frames_go_through_the_records_of_all_branches_and_nothing_moves(failed):
    """Time travel takes one record a frame, whoever's it is, and what stands somewhere stays there."""
    diagram = failed.diagram("o-1")
    frames = diagram.frames()

    def count(shown):
        pictures = [shown.picture, *shown.picture.children]
        return sum(len(edge.mark.orders) for each in pictures for edge in each.edges)

    assert [count(frame) for frame in frames] == list(range(len(frames)))
    assert count(frames[-1]) == count(diagram)
    layouts = [detail_layout(frame.picture) for frame in frames]
    assert all(layout.boxes == layouts[0].boxes for layout in layouts)


def test_one_frame_is_the_same_as_in_all_frames(failed):
    """A page that shows a run after its n-th record draws the n-th frame, without the others."""
    run = failed.diagram("o-1").run
    frames = frames_of(run)

    assert number_of_records(run) == len(frames) - 1
    for number, frame in enumerate(frames):
        assert Diagram(saga, frame_of(run, number)).to_dot() == Diagram(saga, frame).to_dot()


def test_branches_are_drawn_from_the_command_line_as_well(tmp_path, monkeypatch):
    """`fsm-mediator render --id` shows the branches that the journal has."""
    monkeypatch.chdir(tmp_path)
    with Mediator(saga, journal="sagas.db") as mediator:
        mediator.run(saga.name, ORDER, saga_id="o-1", check=False)
        wanted = mediator.diagram("o-1", view="steps").to_dot()

    words = ["render", f"{__name__}:saga", "--journal", "sagas.db", "--id", "o-1", "-o", "o-1.dot"]
    result = CliRunner().invoke(cli, words)

    assert result.exit_code == 0, result.output
    assert (tmp_path / "o-1.dot").read_text() == wanted
    assert "fulfil.label/stick" in wanted


def test_branch_is_drawn_alone_by_its_own_id(tmp_path, monkeypatch):
    """An execution that is a branch can be looked at by itself, as `fsm-mediator list` names it."""
    monkeypatch.chdir(tmp_path)
    with Mediator(saga, journal="sagas.db") as mediator:
        mediator.run(saga.name, ORDER, saga_id="o-1", check=False)
        wanted = mediator.diagram("o-1/fulfil.label", view="steps").to_dot()

    words = ["render", f"{__name__}:saga", "--journal", "sagas.db", "--id", "o-1/fulfil.label", "-o", "label.dot"]
    result = CliRunner().invoke(cli, words)

    assert result.exit_code == 0, result.output
    assert (tmp_path / "label.dot").read_text() == wanted


def test_mermaid_and_dot_frame_each_branch(failed):
    """Both texts put the states of a branch into a frame that bears its name."""
    mermaid, dot = failed.diagram("o-1").to_mermaid(), failed.diagram("o-1").to_dot()

    assert len(re.findall(r'^ *subgraph \S+\["(?:fulfil|carrier) ', mermaid, re.MULTILINE)) == 4
    frames = [name for name in re.findall(r'subgraph "cluster_(.*)"', dot) if not name.isdigit()]
    assert len(frames) == 6, "two groups, with two branches each"
    assert "fulfil / label" in dot


def test_frames_of_a_mermaid_chart_have_names_of_their_own():
    """Two groups over items, one within the other, do not become one frame."""
    inner = Saga("inner", [Parallel.each("items", part("item"), over=lambda order: order)])
    nested = Saga("outer", [Parallel.each("orders", inner, over=lambda order: order)])
    chart = nested.diagram().to_mermaid()

    frames = re.findall(r"^ *subgraph (\S+)\[", chart, re.MULTILINE)
    assert len(frames) == len(set(frames)) == 2
    assert re.findall(r"^ *style (\S+) ", chart, re.MULTILINE) == frames


def test_frames_within_a_frame_stand_off_its_edges():
    """The branches of a branch stand within its frame, not on its lines."""
    inner = Saga("inner", [Parallel("both", [part("left"), part("right")])])
    boxes = {
        frame.content.path: frame.box
        for frame in detail_layout(Saga("outer", [Parallel("all", [inner, part("alone")])]).diagram().picture).frames
    }
    around = boxes["all.inner/"]

    for name in ("all.inner/both.left/", "all.inner/both.right/"):
        assert around.left + 8 < boxes[name].left
        assert boxes[name].right + 8 < around.right
        assert around.top < boxes[name].top
        assert boxes[name].bottom + 8 < around.bottom
