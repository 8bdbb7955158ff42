"""Diagrams: what they show is what the machine is and what the run did, in every format, whatever the names are."""

from __future__ import annotations

import collections
import html
import itertools
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import graphviz
import msgspec
import pygraphviz
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from fsm_mediator.definition.saga import Saga
from fsm_mediator.definition.steps import FunctionStep, step
from fsm_mediator.definition.waits import Choose, Parallel, Signal, Sleep
from fsm_mediator.diagram import Diagram, run_diagram, saga_diagram
from fsm_mediator.diagram.detail_dot import detail_lines
from fsm_mediator.diagram.dot import digraph
from fsm_mediator.diagram.layout.detail import detail_layout
from fsm_mediator.diagram.layout.router import LABEL
from fsm_mediator.diagram.mermaid import to_mermaid
from fsm_mediator.diagram.picture import Picture, picture_of
from fsm_mediator.diagram.render import normalise_svg
from fsm_mediator.diagram.staleness import difference
from fsm_mediator.diagram.text import listed, width
from fsm_mediator.diagram.themes import NODES, THEMES
from fsm_mediator.errors import DefinitionError, MediatorError, MissingExtraError, StepRejectedError
from fsm_mediator.execution.execution import Execution
from fsm_mediator.execution.outcome import Outcome
from fsm_mediator.machine.machine import CompiledMachine, compile_machine
from fsm_mediator.machine.parts import Kind, Part
from fsm_mediator.records import (
    Abandoned,
    Acceptance,
    Begin,
    Failure,
    Happened,
    OperatorRetry,
    OperatorSettled,
    OperatorUndo,
    Raised,
    Returned,
    TimedOut,
)
from fsm_mediator.retry import Retry
from fsm_mediator.states import PHASES

pytestmark = pytest.mark.once

ROOT = Path(__file__).parent.parent
PATIENT = Retry(attempts=3, wait_initial=0.5, wait_jitter=0)


def part(name, *, back=True, probe=False, **settings) -> FunctionStep:
    """A step of that name."""

    def execute(payload): ...
    def compensate(payload): ...
    def asks(payload): ...

    execute.__qualname__, compensate.__qualname__, asks.__qualname__ = f"{name}.do", f"{name}.undo", f"{name}.ask"
    made = step(name=name, **settings)(execute)
    if back:
        made.compensation(compensate)
    if probe:
        made.probing(asks)
    return made


def checkout() -> Saga:
    """A saga with retries, a time-out and a probe."""
    return Saga(
        "checkout",
        [
            part("reserve", retry=PATIENT),
            part("charge", retry=PATIENT, timeout=2.0, probe=True),
            part("notify", back=False, retry=Retry(attempts=1)),
        ],
    )


def nested() -> Saga:
    """A saga in which another is nested twice, and in that another one."""
    packing = Saga("packing", [part("pick"), part("wrap", back=False)])
    shipping = Saga("shipping", [part("book"), packing, part("label")])
    return Saga("order", [part("reserve"), shipping, shipping.named("returns"), part("notify", back=False)])


def with_pivot() -> Saga:
    """A saga with a point of no return."""
    return Saga(
        "order",
        [
            part("reserve", timeout=1.0, probe=True),
            part("pay", back=False, pivot=True, probe=True, timeout=2.0),
            part("ship", back=False),
            part("tell", back=False, retry=Retry(attempts=1)),
        ],
    )


def with_waits() -> Saga:
    """A saga with every sort of wait."""

    def by_weight(order): ...
    def parcels(order): ...

    return Saga(
        "order",
        [
            Signal("approval", timeout=3600.0),
            part("reserve"),
            Parallel("deliveries", [part("parcel"), Saga("letter", [part("write", back=False), part("stamp")])]),
            Choose("way", {"road": part("drive"), "air": part("fly", back=False)}, by=by_weight),
            part("charge", timeout=1.0),
            Parallel.each("parcels", part("label"), over=parcels, at_most=2),
            Sleep("rest", 30.0),
            Sleep("appointment", by_weight),
        ],
    )


def after_the_pivot() -> Saga:
    """A saga with waits after the point of no return: a branch there only goes forward."""
    waits = [Signal("pickup", timeout=60.0), Signal("thanks"), Parallel("tell", [part("mail", back=False)])]
    return Saga("order", [part("reserve"), part("pay", back=False, pivot=True), *waits])


def waits_before_the_pivot() -> Saga:
    """A saga whose node of waits is wide, and that of being stuck narrow."""
    nights = [Sleep(name, 1.0) for name in ("a_long_night", "another_long_night", "a_third_long_night")]
    told = Parallel("tell", [part("mail", back=False, retry=Retry(attempts=2))])
    again = part("send", back=False, retry=Retry(attempts=4))
    return Saga("order", [*nights, part("pay", back=False, pivot=True), again, told])


MACHINES = {
    "one": lambda: Saga("one", [part("only")]).machine,
    "one, as plain as can be": lambda: Saga("one", [part("only", back=False, retry=Retry(attempts=1))]).machine,
    "checkout": lambda: checkout().machine,
    "pivot": lambda: with_pivot().machine,
    "nested": lambda: nested().machine,
    "waits": lambda: with_waits().machine,
    "waits before the pivot": lambda: waits_before_the_pivot().machine,
    "waits after the pivot": lambda: after_the_pivot().machine,
    "only forward": lambda: after_the_pivot().branches["tell"]["mail"].machine,
    "every state": lambda: compile_machine(with_pivot().parts, every=True),
    "forty": lambda: Saga("forty", [part(f"s{n}", back=n % 3 > 0, probe=n % 7 == 0) for n in range(40)]).machine,
}


@pytest.fixture(params=list(MACHINES.values()), ids=list(MACHINES))
def machine(request):
    """Machines of every shape that a saga's can have."""
    return request.param()


@st.composite
def machines(draw) -> CompiledMachine:
    """Sagas of every shape."""
    count = draw(st.integers(1, 12))
    longer = draw(st.sampled_from(["", "_of_the_whole_order"]))
    pivot = draw(st.integers(0, count * 2))
    parts: list[FunctionStep | Saga] = [
        part(
            f"s{number}{longer}",
            back=draw(st.booleans()) and number < pivot,
            probe=draw(st.booleans()),
            pivot=number == pivot,
            retry=draw(st.sampled_from([None, Retry(attempts=1), Retry(attempts=4)])),
            timeout=draw(st.sampled_from([None, 1.5])),
        )
        for number in range(count)
    ]
    split = draw(st.integers(0, count))
    if split < count - 1:
        parts[split : split + 2] = [Saga("inner", parts[split : split + 2])]
    placed = list(Saga("any", parts).parts)
    for number, each in enumerate(placed):
        if draw(st.integers(0, 5)) == 0 and not each.pivot:
            kind = draw(st.sampled_from([Kind.SIGNAL, Kind.SLEEP, Kind.GROUP]))
            placed[number] = Part(
                path=each.path,
                scope=each.scope,
                kind=kind,
                seconds=1.0,
                forward_only=each.forward_only,
                group_compensates=kind is Kind.GROUP,
            )
    return compile_machine(placed)


# Runs, fed by hand: every call takes a tenth of a second.

OK = Returned()
ERROR = Raised(ValueError("card declined"))
REJECTED = Raised(StepRejectedError("no such address"))
LOST = TimedOut(2.0)


def run(saga, *answers) -> Outcome:
    """The outcome of an execution to which *answers* came, each a tenth of a second after the one before."""
    execution = Execution(saga, Acceptance("o-1", saga.name, saga.version, saga.fingerprint, None, 0.0))
    at = 100.0
    execution.feed(Begin(), at)
    for answer in answers:
        while execution.effect is not None and execution.effect.kind == "wait":
            at = execution.due_at or at
            execution.advance(at)
        at += 0.1
        execution.feed(answer, at)
    return execution.outcome()


RUNS = {
    "succeeded": lambda: run(checkout(), OK, OK, OK),
    "retried": lambda: run(checkout(), OK, ERROR, LOST, Returned(Happened(1)), OK),
    "failed": lambda: run(checkout(), OK, ERROR, ERROR, ERROR, OK),
    "stuck": lambda: run(checkout(), OK, OK, REJECTED, *[ERROR] * 10),
    "stuck executing": lambda: run(checkout(), OK, Abandoned(4.0)),
    "in progress": lambda: run(checkout(), OK, ERROR),
    "undone": lambda: run(checkout(), OK, OK, OK, OperatorUndo("wrong order"), OK, OK),
    "settled": lambda: run(checkout(), OK, Abandoned(4.0), OperatorSettled(done=False, reason="looked")),
    "tried again": lambda: run(checkout(), OK, Abandoned(4.0), OperatorRetry("mended"), OK, OK),
}


@pytest.fixture(params=list(RUNS.values()), ids=list(RUNS))
def outcome(request):
    """Runs that ended, or stand, in every way there is."""
    return request.param()


def picture(machine, **more) -> Picture:
    """What is shown of a machine."""
    return picture_of(machine, "x", **more)


def in_notebook(shown) -> dict[str, str]:
    """The bundle that IPython gets of a picture on the last line of a cell, by media type."""
    from IPython.core.formatters import DisplayFormatter  # takes a third of a second

    bundle, _ = DisplayFormatter().format(shown)
    return dict(bundle)


# What is shown.


def test_detail_shows_every_state_and_every_transition_once(machine):
    """The detail picture is the machine: no state and no transition is missing, doubled or made up."""
    shown = picture(machine)

    assert [node.id for node in shown.nodes] == list(machine.states)
    assert [(edge.event, edge.source, edge.target) for edge in shown.edges] == list(machine.moves())


def test_picture_is_of_the_built_machine_not_of_the_parts():
    """A transition that was taken out of the built machine is not drawn: the picture cannot drift from what runs."""
    machine = checkout().machine
    del machine.events["executed"].transitions["executing.charge"]

    shown = picture(machine)

    assert [(edge.event, edge.source, edge.target) for edge in shown.edges] == list(machine.moves())
    assert not any(edge.source == "executing.charge" and edge.event == "executed" for edge in shown.edges)


def test_small_print_tells_callbacks_attempts_waits_and_time_out():
    """A step's node says what it calls and how long that may take, its retry node how often and how far apart."""
    said = {node.id: " ".join((node.caption, node.title, *node.notes)) for node in picture(checkout().machine).nodes}

    assert said["executing.charge"] == "executing charge charge.do time-out 2 s"
    assert said["compensating.charge"] == "compensating charge charge.undo"
    assert said["probing.charge"] == "probing charge charge.ask"
    assert said["retrying.charge"] == "retrying charge up to 3 attempts 0.5 s to 1 s"
    assert said["executing.notify"] == "executing notify notify.do one attempt"


def test_small_print_comes_from_what_is_bound_in_the_machine():
    """What a node says is called is the effect that entering its state sets off, whatever the part says."""
    machine = checkout().machine
    bound: Any = machine.states["executing.charge"].on_enter[0]
    bound.callback = replace(bound.callback, label="another.function", is_coroutine=True)

    said = {node.id: node.notes for node in picture(machine).nodes}

    assert said["executing.charge"] == ("async another.function", "time-out 2 s")


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ("waiting.approval", ("waiting · signal", "time-out 1 h")),
        ("waiting.deliveries", ("waiting · group", "for parcel, letter")),
        ("waiting.way", ("waiting · choice", "one of road, air", "as by_weight says")),
        ("waiting.parcels", ("waiting · group", "for a branch for each item", "of parcels", "2 at a time")),
        ("waiting.rest", ("waiting · sleep", "for 30 s")),
        ("waiting.appointment", ("waiting · sleep", "as by_weight says")),
    ],
)
def test_waits_say_what_for(state, said):
    """A signal, a group, a choice and a sleep say which of them they are, and how long they wait."""
    node = next(node for node in picture(with_waits().machine).nodes if node.id == state)

    assert (node.caption, *node.notes) == said


def test_nested_sagas_are_frames_within_frames():
    """A nested saga's nodes, and no others, stand in its frame; a saga nested in it in a frame within."""
    shown = picture(nested().machine)
    shipping, returns = shown.clusters

    assert (shipping.path, returns.path) == ("shipping", "returns")
    assert [inner.path for inner in shipping.clusters] == ["shipping.packing"]
    assert {node.partition(".")[2] for node in shipping.nodes} == {"shipping.book", "shipping.label"}
    (packing,) = shipping.clusters
    assert {node.partition(".")[2] for node in packing.nodes} == {"shipping.packing.pick", "shipping.packing.wrap"}
    read = pygraphviz.AGraph(saga_diagram(nested()).to_dot())
    (frame,) = (
        inner for outer in read.subgraphs() for inner in outer.subgraphs() if inner.name == "cluster_shipping.packing"
    )
    inside = {name.partition(".")[2] for name in frame.nodes()}
    assert inside == {"shipping.packing.pick", "shipping.packing.wrap"}


def test_children_s_machines_are_drawn_right_below_their_group_in_frames_of_their_own():
    """The machine of a group's branch is part of the picture, below its group and above the next part."""
    parcel = Saga("parcel", [part("pack")])
    of = Saga(
        "order",
        [part("pay"), Choose("way", {"left": parcel, "right": parcel}, by=lambda payload: "left"), part("ship")],
    )
    shown = saga_diagram(of).picture
    alone = picture(of.branches["way"]["left"].machine)
    layout = detail_layout(shown)

    assert [child.heading for child in shown.children] == ["way / left", "way / right"]
    ids = [node.id for node in shown.all_nodes()]
    assert len(ids) == len(set(ids)) == len(shown.nodes) + 2 * len(alone.nodes)
    assert "way.left/pending" in ids
    own = max(layout.boxes[node.id].bottom for node in shown.nodes if node.path == "way")
    after = min(layout.boxes[node.id].top for node in shown.nodes if node.path == "ship")
    assert all(own < layout.boxes[node.id].top < after for child in shown.children for node in child.nodes)
    assert not overlaps(layout)


# How it is laid out.


def overlaps(layout):
    """Nodes that lie on each other."""
    boxes = sorted(layout.boxes.items())
    return [
        (one, other)
        for (one, a), (other, b) in itertools.combinations(boxes, 2)
        if a.left < b.right and b.left < a.right and a.top < b.bottom and b.top < a.bottom
    ]


def segments(route):
    """The straight pieces of a route."""
    return list(itertools.pairwise(route.points))


def is_happy(edge):
    """Whether an edge is on the way of a run in which all goes well at once."""
    return edge.event in ("start", "executed") and edge.source.split(".")[0] in ("pending", "executing", "waiting")


@settings(max_examples=60)
@given(machine=machines())
def test_no_nodes_overlap_and_no_line_runs_through_a_node(machine):
    """Whatever the saga, every node can be read: nothing lies on it."""
    shown = picture(machine)
    layout = detail_layout(shown)

    assert overlaps(layout) == []
    for edge, route in zip(shown.edges, layout.routes, strict=True):
        for (x, y), (to_x, to_y) in segments(route):
            assert x == to_x or y == to_y, f"{edge.event} of {edge.source} is not straight: {route.points}"
            for name, box in layout.boxes.items():
                inside = (
                    min(x, to_x) < box.right - 1
                    and max(x, to_x) > box.left + 1
                    and min(y, to_y) < box.bottom - 1
                    and max(y, to_y) > box.top + 1
                )
                assert not inside, f"{edge.event} from {edge.source} to {edge.target} runs through {name}"


@settings(max_examples=60)
@given(machine=machines())
def test_every_line_begins_and_ends_at_its_nodes(machine):
    """A line begins at the edge of the node it leaves and ends at the edge of the one it enters."""
    shown = picture(machine)
    layout = detail_layout(shown)

    for edge, route in zip(shown.edges, layout.routes, strict=True):
        for name, (x, y) in ((edge.source, route.points[0]), (edge.target, route.points[-1])):
            box = layout.boxes[name]
            beside = x in (box.left, box.right) and box.top <= y <= box.bottom
            above = y in (box.top, box.bottom) and box.left <= x <= box.right
            assert beside or above, f"{edge.event} from {edge.source} to {edge.target} misses {name}: {x, y} {box}"


def label_boxes(edges, routes):
    """The room that each label takes, a little less than it is laid out for."""
    for edge, route in zip(edges, routes, strict=True):
        if route.label is not None:
            wide = max(width(line, LABEL) for line in route.label.lines) * 0.9
            high = len(route.label.lines) * LABEL
            yield edge, (route.label.x - wide / 2, route.label.y - high / 2, wide, high)


@settings(max_examples=60)
@given(machine=machines())
@example(machine=waits_before_the_pivot().machine)
def test_no_label_lies_on_a_node_a_line_or_another_label(machine):
    """Whatever the saga, every label can be read."""
    shown = picture(machine)
    layout = detail_layout(shown)
    labels = list(label_boxes(shown.edges, layout.routes))

    def together(one, other):
        (a, b, c, d), (e, f, g, h) = one, other
        return a < e + g - 1 and e < a + c - 1 and b < f + h - 1 and f < b + d - 1

    for (edge, box), (another, other) in itertools.combinations(labels, 2):
        assert not together(box, other), f"{edge.event} of {edge.source} and {another.event} of {another.source}"
    for edge, box in labels:
        for name, node in layout.boxes.items():
            assert not together(box, node), f"{edge.event} of {edge.source} lies on {name}"
        for another, route in zip(shown.edges, layout.routes, strict=True):
            own = route.points if route.own is None else route.points[: route.own + 1]
            for (x, y), (to_x, to_y) in itertools.pairwise(own):
                line = (min(x, to_x) - 1, min(y, to_y) - 1, abs(x - to_x) + 2, abs(y - to_y) + 2)
                assert not together(box, line), f"{another.event} of {another.source} runs through {edge.event}"


@settings(max_examples=60)
@given(machine=machines())
def test_happy_path_is_a_straight_line_that_nothing_crosses(machine):
    """What goes well is a straight line downward, and no other line crosses it; others may only join it."""
    shown = picture(machine)
    layout = detail_layout(shown)
    routes = list(zip(shown.edges, layout.routes, strict=True))
    happy = [(edge, route) for edge, route in routes if is_happy(edge)]
    for edge, route in happy:
        if edge.target != "succeeded":
            ((x, y), (to_x, to_y)) = route.points
            assert x == to_x
            assert y < to_y
        (x, y), (_, to_y) = route.points[:2]
        for another, other in routes:
            for (ax, ay), (bx, by) in segments(other):
                crosses = ay == by and y < ay < to_y and min(ax, bx) < x < max(ax, bx)
                assert not crosses, f"{another.event} of {another.source} crosses the happy path"


@settings(max_examples=60)
@given(machine=machines())
def test_compensation_comes_back_on_the_right(machine):
    """Forward goes down, compensation comes back up on the right of it, the ends stand apart."""
    shown = picture(machine)
    boxes = detail_layout(shown).boxes
    by_part: dict[str, dict[str, Any]] = collections.defaultdict(dict)
    for node in shown.nodes:
        by_part[node.path][node.phase] = boxes[node.id]

    for phases in by_part.values():
        forward = phases.get("executing") or phases.get("waiting")
        below = [box for phase, box in phases.items() if phase not in ("executing", "waiting")]
        if forward is not None:
            assert all(box.left > forward.right for box in below)
    for edge in shown.edges:
        source, target = boxes[edge.source], boxes[edge.target]
        if edge.event == "compensated":
            assert target.bottom < source.top
        if is_happy(edge) and edge.target != "succeeded":
            assert target.top > source.bottom
    assert boxes["failed"].top == boxes["pending"].top
    assert boxes["failed"].left > boxes["pending"].right


@pytest.mark.parametrize("count", [1, 5, 12, 40])
def test_long_sagas_stay_as_narrow_as_short_ones(count):
    """From 1 to 40 steps a picture is a page wide: its text stays as large in a column."""
    layout = detail_layout(picture(Saga("s", [part(f"step_{n}") for n in range(count)]).machine))

    assert layout.width < 736


def test_every_phase_has_its_own_look_without_colour():
    """Who sees no colours sees shapes, lines and signs: nodes that stand in the same place look different."""
    looks = {phase: (look.shape, look.style, look.sign) for phase, look in NODES.items()}
    alike = {("retrying", "retrying_compensation"), ("stuck", "stuck_executing")}

    for one, other in itertools.combinations(PHASES, 2):
        assert looks[one] != looks[other] or (one, other) in alike


def luminance(colour):
    """How bright a colour is, as WCAG counts it."""
    channels = [int(colour[index : index + 2], 16) / 255 for index in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    """How much two colours differ, from 1 to 21."""
    bright, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", THEMES.values(), ids=THEMES.keys())
def test_text_can_be_read_in_both_themes(theme):
    """Text stands out from its ground as WCAG asks (4.5 to 1); what was never reached is pale, and still legible."""
    bands = (theme.ground, theme.forward_band, theme.back_band)

    for line, ground in theme.nodes.values():
        for on in (ground, theme.here):
            assert contrast(theme.ink, on) >= 4.5
            assert contrast(theme.faint, on) >= 4.5
        assert contrast(line, ground) >= 4.5
    for colour in theme.edges.values():
        assert min(contrast(colour, band) for band in bands) >= 4.5
    assert min(contrast(theme.pale_ink, band) for band in bands) >= 3


# Runs.


def marks(diagram):
    """What the run did, by node."""
    return {node.id: node.mark for node in diagram.picture.nodes}


def path(diagram):
    """The records that a diagram shows, in order: number, event, source, target."""
    return sorted(
        (order, edge.event, edge.source, edge.target) for edge in diagram.picture.edges for order in edge.mark.orders
    )


def test_run_shows_its_records_in_order_and_where_it_stands(outcome):
    """Every record is on the edge it tells of, with its number; one node is where the run stands; the rest is pale."""
    shown = outcome.diagram()
    seen = {"pending", *(record.target for record in outcome.history)}

    assert path(shown) == [(r.seq, r.event, r.source, r.target) for r in outcome.history]
    assert [name for name, mark in marks(shown).items() if mark.current] == [outcome.state]
    assert {name for name, mark in marks(shown).items() if mark.reached} == seen


def test_run_counts_attempts_and_adds_up_times():
    """A step that was attempted three times says so, with the time it took; its wait says how long that was."""
    seen = marks(run(checkout(), OK, ERROR, ERROR, OK, OK).diagram())

    assert seen["executing.charge"].attempts == 3
    assert seen["executing.charge"].seconds == pytest.approx(0.3)
    assert seen["executing.charge"].note == "3 attempts · 0.3 s"
    assert seen["retrying.charge"].orders == [3, 5]
    assert seen["retrying.charge"].seconds == pytest.approx(0.5 + 1.0)
    assert seen["executing.reserve"].note == "1 attempt · 0.1 s"
    assert not seen["executing.charge"].failed


def test_attempts_after_a_person_s_retry_are_counted_on():
    """What was attempted before a person's retry is not forgotten by the picture."""
    seen = marks(run(checkout(), OK, ERROR, Abandoned(4.0), OperatorRetry("mended"), OK, OK).diagram())

    assert seen["executing.charge"].attempts == 3


@pytest.mark.parametrize(("answers", "begun"), [((OK, OK), 0), ((OK, ERROR, OK), 1)])
def test_attempt_that_was_taken_back_before_it_began_is_not_counted(answers, begun):
    """A cancel that comes before an announced attempt has begun leaves no attempt in the picture."""
    outcome = run(checkout(), *answers)
    *before, last = outcome.history
    cancelled = msgspec.structs.replace(last, event="rejected", target="compensating.reserve", attempt=begun)
    shown = msgspec.structs.replace(outcome, history=(*before, cancelled), state="compensating.reserve")

    assert marks(shown.diagram())["executing.charge"].attempts == begun


def test_failed_run_tells_what_gave_up_why_and_what_was_undone():
    """The step that gave up is marked, with its errors as tooltip; what was done before is marked as undone."""
    shown = run(checkout(), OK, ERROR, ERROR, REJECTED, OK).diagram()
    seen = marks(shown)
    tips = {node.id: node.tooltip for node in shown.picture.nodes}

    assert {name for name, mark in seen.items() if mark.failed} == {"executing.charge"}
    assert {name for name, mark in seen.items() if mark.undone} == {"executing.reserve"}
    assert "ValueError: card declined" in tips["executing.charge"]
    assert "StepRejectedError: no such address" in tips["executing.charge"]
    assert "card declined" not in tips["executing.reserve"]
    assert seen["failed"].note == "ended here"
    rejected = next(edge for edge in shown.picture.edges if edge.mark and edge.mark.failed)
    assert (rejected.event, rejected.source) == ("rejected", "executing.charge")
    assert "no such address" in rejected.tooltip


def test_stuck_run_marks_what_could_not_be_compensated():
    """Who opens the picture of a stuck run sees the compensation that was given up, and that it stands there now."""
    seen = marks(RUNS["stuck"]().diagram())

    assert seen["compensating.charge"].failed
    assert seen["compensating.charge"].attempts == 10
    assert seen["stuck.charge"].note == "now"
    assert not seen["executing.charge"].undone
    assert not seen["compensating.reserve"].reached


def test_what_a_person_said_is_in_the_tooltip():
    """The reason that a person gave for settling a step is told where it was given."""
    shown = RUNS["settled"]().diagram()

    assert "looked" in next(node.tooltip for node in shown.picture.nodes if node.id == "stuck_executing.charge")
    assert "looked" in next(
        edge.tooltip
        for edge in shown.picture.edges
        if edge.event == "settled_undone" and edge.mark and edge.mark.reached
    )


def test_taken_lines_stand_out_and_the_rest_is_pale():
    """In DOT the lines of a run's path are heavier than all others, and the others are in the pale colour."""
    read = pygraphviz.AGraph(RUNS["failed"]().diagram().to_dot())
    taken = [edge for edge in read.edges() if "reached" in edge.attr["class"].split()]
    others = [edge for edge in read.edges() if "never" in edge.attr["class"].split()]

    assert len(taken) + len(others) == len(read.edges())
    assert min(float(edge.attr["penwidth"]) for edge in taken) > 2 * max(
        float(edge.attr["penwidth"]) for edge in others
    )
    assert {edge.attr["color"] for edge in others} == {THEMES["light"].pale}
    assert THEMES["light"].pale not in {edge.attr["color"] for edge in taken}


def test_run_under_other_settings_is_drawn_on_the_machine_it_ran_on():
    """A run journaled when a step still had retries is drawn whole after the retries were taken away."""
    outcome = RUNS["retried"]()
    fewer = Saga("checkout", [part("reserve"), part("charge", retry=Retry(attempts=1), probe=True), part("notify")])

    shown = msgspec.structs.replace(outcome, saga=fewer).diagram()

    assert [(r.seq, r.event, r.source, r.target) for r in outcome.history] == path(shown)


# Time travel.


def test_frames_are_the_run_record_by_record(outcome):
    """There is a frame before the first record and after each; the last one is the run as it is."""
    frames = outcome.diagram().frames()

    assert len(frames) == len(outcome.history) + 1
    stands = ["pending", *(record.target for record in outcome.history)]
    for number, (frame, state) in enumerate(zip(frames, stands, strict=True)):
        assert [name for name, mark in marks(frame).items() if mark.current] == [state]
        assert len(path(frame)) == number
    assert marks(frames[-1]) == marks(outcome.diagram())


def test_nothing_moves_from_frame_to_frame(outcome):
    """Nodes and lines stay where they are while time passes: only their looks change."""
    layouts = [detail_layout(frame.picture) for frame in outcome.diagram().frames()]

    assert all(layout.boxes == layouts[0].boxes for layout in layouts)
    ways = [[route.points for route in layout.routes] for layout in layouts]
    assert all(way == ways[0] for way in ways)


def test_frames_of_a_machine_are_itself():
    """A picture of no run has one frame."""
    shown = checkout().diagram()

    assert shown.frames() == [shown]


def test_animated_svg_shows_each_form_in_its_turn_and_the_last_where_nothing_moves():
    """The animated SVG is one file without scripts; a viewer that does not animate shows the run as it is."""
    shown = RUNS["retried"]().diagram()
    moving = shown.to_svg(animate=True)
    root = parsed(moving)

    assert_harmless(moving)
    style = next(root.iter(f"{SVG}style")).text or ""
    assert style.count("@keyframes") > 3
    assert "prefers-reduced-motion" in style
    at_rest = [text for text in texts_of(root, hidden=False) if text.strip()]
    assert sorted(at_rest) == sorted(text for text in texts_of(parsed(frame_svg(shown)), hidden=False) if text.strip())
    assert len(moving) < 4 * len(shown.to_svg())
    ids = [element.get("id") for element in root.iter() if element.get("id")]
    assert len(ids) == len(set(ids))


def frame_svg(shown):
    """The last frame, alone."""
    return shown.frames()[-1].to_svg()


def parsed(text) -> ET.Element:
    """XML, read strictly."""
    return ET.fromstring(text)  # noqa: S314 - it is our own


def texts_of(root, *, hidden):
    """The texts of an SVG, those that are hidden only where asked for."""
    found = []

    def walk(element):
        if element.get("visibility") == "hidden" and not hidden:
            return
        if element.tag == f"{SVG}text":
            found.append("".join(element.itertext()))
        for child in element:
            walk(child)

    walk(root)
    return found


def test_gif_is_refused_with_what_there_is_instead(tmp_path):
    """A GIF is refused by a message that names the animated SVG; nothing is written."""
    with pytest.raises(DefinitionError, match=r"GIF is not supported.*run\.svg.*animate=True"):
        RUNS["succeeded"]().diagram().render(tmp_path / "run.gif")
    assert list(tmp_path.iterdir()) == []


# Formats.


def test_dot_parses_to_exactly_the_states_and_transitions(machine):
    """What Graphviz reads in our DOT are the machine's states and its transitions, no more and no less."""
    shown = picture(machine)
    read = pygraphviz.AGraph(digraph("x", detail_lines(shown, detail_layout(shown), THEMES["light"])))

    assert sorted(read.nodes()) == sorted(machine.states)
    assert collections.Counter(read.edges()) == collections.Counter((m.source, m.target) for m in machine.moves())


def test_graphviz_object_is_a_digraph_of_the_same_source():
    """`to_graphviz` gives a `graphviz.Digraph`, to add to and render; its source says what our DOT says."""
    shown = checkout().diagram()
    digraph = shown.to_graphviz()

    assert isinstance(digraph, graphviz.Digraph)
    ours, theirs = pygraphviz.AGraph(shown.to_dot()), pygraphviz.AGraph(digraph.source)
    assert ours.to_string() == theirs.to_string()


def test_mermaid_has_every_node_and_every_edge(machine):
    """The Mermaid chart shows each state once and each transition once, with its event in words."""
    shown = picture(machine)
    lines = to_mermaid(shown, THEMES["light"]).splitlines()

    assert lines[0] == "flowchart TB"
    nodes = [line.split('"')[0].strip() for line in lines if ":::" in line]
    assert len(nodes) == len(set(nodes)) == len(machine.states)
    said = collections.Counter(line.split('|"')[1].split('"|')[0] for line in lines if '|"' in line)
    assert said == collections.Counter(edge.label for edge in shown.edges)


def test_markdown_of_a_machine_is_its_table_of_transitions():
    """The table has a row for each transition: from, event, to, and what the event does."""
    saga = checkout()
    rows = [row.split(" | ") for row in saga.diagram().to_markdown_table().splitlines()[2:]]

    told = sorted((event, source.strip("| "), target) for source, event, target, _ in rows)
    assert told == sorted(map(tuple, saga.machine.moves()))


def test_markdown_of_a_run_is_its_records(outcome):
    """The table of a run has a row for each record, in order, with its number and the error."""
    rows = [row.strip("| ").split(" | ") for row in outcome.diagram().to_markdown_table().splitlines()[2:]]

    assert [(int(row[0]), row[2], row[3], row[4]) for row in rows] == [
        (record.seq, record.source, record.event, record.target) for record in outcome.history
    ]


@pytest.mark.parametrize(
    ("name", "begins"),
    [
        ("a.svg", b"<svg"),
        ("a.png", b"\x89PNG"),
        ("a.pdf", b"%PDF"),
        ("a.PNG", b"\x89PNG"),
        ("a.dot", b'digraph "checkout"'),
        ("a.mmd", b"flowchart TB"),
        ("a.md", b"| from |"),
    ],
)
def test_render_takes_the_format_from_the_suffix(name, begins, tmp_path):
    """`render` writes what the suffix says and gives the path back."""
    written = checkout().diagram().render(str(tmp_path / name))

    assert written == tmp_path / name
    assert written.read_bytes().startswith(begins)


@pytest.mark.parametrize("name", ["a.jpg", "a", "svg", ".svg"])
def test_render_refuses_other_suffixes_and_names_the_known_ones(name, tmp_path):
    """A suffix that says no format is an error that lists those there are; nothing is written."""
    with pytest.raises(DefinitionError, match=r"svg.*png.*pdf.*dot.*mmd.*md"):
        checkout().diagram().render(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_render_refuses_to_animate_what_cannot_move(tmp_path):
    """Only an SVG can move; asking another format to is an error, not a still picture."""
    with pytest.raises(DefinitionError, match=r"\.png file cannot be animated"):
        RUNS["failed"]().diagram().render(tmp_path / "a.png", animate=True)


def test_animated_svg_is_written_when_asked_for(tmp_path):
    """An .svg stands still unless it is asked to move."""
    shown = RUNS["succeeded"]().diagram()

    assert "@keyframes" not in shown.render(tmp_path / "still.svg").read_text()
    assert "@keyframes" in shown.render(tmp_path / "moving.svg", animate=True).read_text()


def test_format_spec_gives_each_text():
    """f-strings give the texts: ``f"{diagram:mermaid}"``."""
    shown = checkout().diagram()

    assert f"{shown:dot}" == shown.to_dot()
    assert f"{shown:mermaid}" == shown.to_mermaid()
    assert f"{shown:md}" == shown.to_markdown_table()
    assert f"{shown:svg}" == shown.to_svg()
    assert f"{shown}" == str(shown) == "<Diagram of saga 'checkout': detail, light>"
    with pytest.raises(DefinitionError, match="dot, mermaid, md, svg"):
        f"{shown:jpg}"


def test_unknown_view_and_theme_are_refused_with_what_there_is():
    """A typo in a view or theme is an error that names what there is; a type checker sees it before."""
    with pytest.raises(DefinitionError, match=r"'details'.*steps, detail"):
        checkout().diagram("details")  # type: ignore[arg-type]
    with pytest.raises(DefinitionError, match='view="steps"'):
        checkout().diagram("overview")  # type: ignore[arg-type]
    with pytest.raises(DefinitionError, match=r"'neon'.*light, dark"):
        checkout().diagram().with_(theme="neon")  # type: ignore[arg-type]
    with pytest.raises(DefinitionError, match=r"cannot hide stucks; there are retrying, stuck"):
        checkout().diagram(hide={"stucks"})  # type: ignore[arg-type]


def test_with_changes_view_and_theme_only():
    """`with_` gives the same diagram in another view or theme."""
    light = RUNS["failed"]().diagram()
    dark = light.with_(theme="dark", view="steps")

    assert (dark.view, dark.theme, dark.run) == ("steps", "dark", light.run)
    assert THEMES["dark"].ground in dark.to_dot()
    assert THEMES["light"].ground not in dark.to_dot()


def test_saga_and_outcome_give_their_diagrams():
    """`saga.diagram()` and `outcome.diagram()` are the functions of this package."""
    outcome = RUNS["succeeded"]()

    assert outcome.saga.diagram("steps").to_dot() == saga_diagram(outcome.saga, "steps").to_dot()
    assert outcome.diagram().to_dot() == run_diagram(outcome).to_dot()


def test_alt_says_the_machine_and_the_run_in_words():
    """Who cannot see a picture is told what it shows; the SVG carries it."""
    shown = checkout().diagram()

    assert "reserve, then charge, then notify, then succeeded" in shown.alt
    assert "compensates charge, then reserve" in shown.alt
    assert "failed" in RUNS["failed"]().diagram().alt
    root = parsed(shown.to_svg())
    assert root.get("role") == "img"
    assert root.get("aria-label") == shown.alt


# Names that nobody checked.

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = [
    '"><script>alert(1)</script>',
    "</text></svg><script>alert(1)</script>",
    '"]; evil [label="x"]; "',
    "\\",
    '\\"',
    "\\N \\G \\E \\T \\H \\L \\l \\r",
    "a\nb\r\nc\td",
    "&lt;b&gt; &amp; &#60;",
    "<B>bold</B><IMG SRC='file:///etc/passwd'/>",
    "--> evil\n  click evil call alert(1)\nend",
    '%%{init: {"securityLevel": "loose"}}%%',
    '"]:::x\nevil["',
    "`**markdown**` | $$x$$ [a](javascript:alert(1)) ![b](http://example.org/x.png)",
    "\x00\x01\x1b[31m\x1f\ufffe\ud800",
    "\u202egnp.exe\u2066",
    "l\u00e9\u4e2d\U0001f600\u0645",
    "x" * 200,
    "1. a list",
    "   ",
    "",
]
hostile = st.one_of(
    st.sampled_from(HOSTILE),
    st.text(st.characters(codec=None), max_size=60),
    st.text(alphabet="<>&\"'\\;{}[]()|#%`\n-=/ aN", max_size=40),
)
MUST_NOT_BE = re.compile(r"^(script|foreignObject|image|a|use|iframe|animate|set|handler)$", re.IGNORECASE)


def hostile_run(text) -> Outcome:
    """A run in which everything that is free text is *text*."""
    saga = Saga("checkout", [part("reserve", timeout=1.0), part("charge", probe=True)], version=f".{text}")
    for state in saga.machine.states.values():
        bound: Any = state.on_enter[0]
        if getattr(bound, "callback", None) is not None:
            bound.callback = replace(bound.callback, label=text)
    outcome = run(saga, OK, ERROR, REJECTED, OK)
    records = [
        msgspec.structs.replace(r, saga_id=text, reason=text, step=text, error=Failure(text, text), value=text)
        for r in outcome.history
    ]
    return msgspec.structs.replace(outcome, saga_id=text, history=tuple(records))


def assert_harmless(svg):
    """Hold that an SVG does nothing: no scripts, links, foreign elements or handlers; return its root."""
    root = parsed(svg)
    for element in root.iter():
        assert element.tag.startswith(SVG)
        assert not MUST_NOT_BE.match(element.tag.removeprefix(SVG)), element.tag
        for name, value in element.attrib.items():
            assert not name.lower().startswith("on"), name
            assert "href" not in name.lower(), name
            assert not re.match(r"\s*(javascript|data):", value, re.IGNORECASE), value
    return root


@pytest.fixture(scope="module")
def usual_tags():
    """The elements that our SVGs are made of."""
    shown = (run(checkout(), OK, ERROR).diagram(), checkout().diagram("steps"))
    return {element.tag for each in shown for element in parsed(each.to_svg()).iter()}


@settings(max_examples=40)
@given(text=hostile)
def test_hostile_text_cannot_leave_its_place_in_an_svg(usual_tags, text):
    """An SVG stays an SVG whatever errors, reasons and callbacks are called: no script, no link, no element more."""
    outcome = hostile_run(text)
    for diagram in (outcome.diagram(), outcome.saga.diagram("steps")):
        root = assert_harmless(diagram.to_svg())
        assert {element.tag for element in root.iter()} <= usual_tags


@pytest.mark.parametrize("text", ['a <b> & "c" \\N é', "&lt;b&gt; &amp;", "\\", "100% {x} $y #z"])
def test_tooltip_says_exactly_what_the_error_said(text):
    """An error's text reaches the reader's eye as it was, entities, backslashes and all."""
    root = parsed(hostile_run(text).diagram().to_svg())
    titles = ["".join(title.itertext()) for title in root.iter(f"{SVG}title")]

    assert any(f"\n{text}: {text}" in title or f" {text}: {text}" in title for title in titles)


@settings(max_examples=60)
@given(text=hostile)
def test_hostile_text_cannot_inject_dot(text):
    """Graphviz reads the same nodes, edges and frames in our DOT, whatever the free text in it says."""
    shown = hostile_run(text).diagram()
    with_text = pygraphviz.AGraph(shown.to_dot())
    moves = collections.Counter((edge.source, edge.target) for edge in shown.picture.edges)

    assert sorted(with_text.nodes()) == sorted(node.id for node in shown.picture.nodes)
    assert collections.Counter(with_text.edges()) == moves
    assert all(each.name.removeprefix("cluster_").isdigit() for each in with_text.subgraphs()), "lanes and words"
    assert with_text.graph_attr["layout"] == "nop2"


@settings(max_examples=60)
@given(text=hostile)
def test_labels_in_markup_are_well_formed(text):
    """Graphviz refuses a label whose markup is broken, and shows nothing in its place: ours never is."""
    labels = re.findall(r'label=<(.*?)> (?:lp|tooltip)="', hostile_run(text).diagram().to_dot())

    assert len(labels) > 10
    for label in labels:
        root = parsed(f"<x>{label}</x>")
        assert {each.tag for each in root.iter()} <= {"x", "TABLE", "TR", "TD", "FONT", "B", "BR"}
        assert all("".join(font.itertext()) for font in root.iter("FONT"))


MERMAID_LINE = re.compile(
    r"""flowchart\ TB
    |\ +acc(Title|Descr):\ [\w\ .,]*
    |\ +subgraph\ \w+\["(?:[^"\[\]{}<>()|%`;#&\\]|\#47;)*"\]
    |\ +end
    |\ +\w+(\(|\(\[|\[/|\[|\{\{|\(\(\()"(?P<label>[^"]*)"(\)|\]\)|/\]|\]|\}\}|\)\)\)):::\w+
    |\ +\w+\ (==>|-->|-\.->)\|"[\w\ .,·…]+"\|\ \w+
    |\ +classDef\ \w+\ fill:\#\w{6},stroke:\#\w{6},color:\#\w{6},stroke-width:[\d.]+px(,stroke-dasharray:5\ 3)?
    |\ +style\ \w+\ fill:\#\w{6},stroke:\#\w{6},color:\#\w{6},stroke-dasharray:5\ 3
    |\ +linkStyle\ [\d,]+\ stroke:\#\w{6}(,stroke-width:\dpx)?""",
    re.VERBOSE,
)
IN_A_LABEL = re.compile(r"(?:[\w .,:·…▶■✗↩]|#\d+;|</?[bi]>|<br/>)*")


@settings(max_examples=80)
@given(text=hostile)
def test_hostile_text_cannot_inject_mermaid(text):
    """Every line of a Mermaid chart is one of eight harmless kinds, and a label holds nothing that Mermaid acts on."""
    shown = hostile_run(text).diagram()
    plain = hostile_run("x").diagram()
    lines = shown.to_mermaid().removesuffix("\n").split("\n")

    for line in lines:
        found = MERMAID_LINE.fullmatch(line)
        assert found, line
        assert IN_A_LABEL.fullmatch(found["label"] or ""), line
    assert len(lines) == len(plain.to_mermaid().splitlines())


@settings(max_examples=80)
@given(text=hostile)
def test_hostile_text_stays_in_its_cell(text):
    """A table in Markdown has the same rows and cells whatever is in them, and no markup of the text's own."""
    outcome = hostile_run(text)
    for table in (outcome.diagram().to_markdown_table(), outcome.saga.diagram().to_markdown_table()):
        rows = table.removesuffix("\n").split("\n")
        columns = rows[1].count("|")
        for row in rows:
            assert len(re.findall(r"(?<!\\)(?:\\\\)*\|", row)) == columns, row
            assert "<" not in row
            assert "](" not in row.replace("\\]", "")
    assert len(outcome.diagram().to_markdown_table().splitlines()) == len(outcome.history) + 2


@settings(max_examples=25)
@given(text=hostile)
def test_hostile_states_and_events_leave_no_mark_and_raise_nothing(text):
    """Records that no machine wrote, whatever they say, do not break the picture of what is known."""
    outcome = run(checkout(), OK, OK)
    strange = msgspec.structs.replace(outcome.history[-1], seq=4, event=text, source=text, target=text)
    broken = msgspec.structs.replace(outcome, history=(*outcome.history, strange), state=text)
    shown = broken.diagram()

    assert "image/svg+xml" in in_notebook(shown)
    assert_harmless(shown.to_svg())
    for frame in shown.frames():
        assert frame.to_mermaid()
    assert path(shown) == path(outcome.diagram())


def test_long_names_are_shortened_in_the_picture_and_whole_in_the_tooltip():
    """A name of 200 characters does not make a picture a ribbon; pointing at the node tells it whole."""
    name = "authorise_" + "x" * 190
    shown = Saga("s", [part(name), part("other")]).diagram()

    assert detail_layout(shown.picture).width < 1200
    titles = [title.text or "" for title in parsed(shown.to_svg()).iter(f"{SVG}title")]
    assert any(title.startswith((f"executing.{name}\n", f"executing.{name} ")) for title in titles)


def test_svg_differs_in_no_way_that_names_its_maker():
    """An SVG carries neither version nor date of the Graphviz that drew it, and no links that only hold tooltips."""
    svg = checkout().diagram().to_svg()

    assert svg.startswith("<svg ")
    assert "graphviz" not in svg.lower()
    assert "xlink" not in svg
    assert normalise_svg(svg.replace(' role="img"', "", 1), "x", "y").count("<title>") == svg.count("<title>")


def test_each_element_of_an_svg_has_one_tooltip_also_for_its_label():
    """Wherever the reader points at a line or its label, the tooltip is that of the transition."""
    diagram = checkout().diagram()
    edges = [g for g in parsed(diagram.to_svg()).iter(f"{SVG}g") if g.get("class", "").startswith("edge ")]
    labels = [edge for edge in edges if edge.find(f"{SVG}text") is not None]
    titles = [[title.text for title in edge.iter(f"{SVG}title")] for edge in edges]

    assert sorted(titles) == sorted([each.tooltip] for each in diagram.picture.all_edges())
    assert labels


def test_links_around_labels_of_other_programs_become_tooltips():
    """The pictures of other libraries, which the documentation shows, stay well-formed and keep all tooltips."""
    import pygraphviz

    dot = 'digraph x { a -> b [label="go" edgetooltip="one" labeltooltip="two"] a [tooltip="three"] }'
    svg = normalise_svg(pygraphviz.AGraph(string=dot).draw(format="svg", prog="dot").decode(), "x", "y")

    assert {"one", "two", "three"} <= {title.text for title in parsed(svg).iter(f"{SVG}title")}
    assert "<a" not in svg


# Notebooks, and where no Graphviz is.


@pytest.fixture
def no_pygraphviz(monkeypatch, tmp_path):
    """Neither pygraphviz nor a dot on the PATH."""
    monkeypatch.setitem(sys.modules, "pygraphviz", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def test_notebook_shows_an_svg_and_no_mermaid(outcome):
    """JupyterLab would take Mermaid before SVG, so the bundle never holds both."""
    bundle = in_notebook(outcome.diagram())

    assert bundle["image/svg+xml"] == outcome.diagram().to_svg()
    assert "text/vnd.mermaid" not in bundle
    assert bundle["text/plain"].startswith("<Diagram of run 'o-1'")


def test_notebook_without_graphviz_shows_mermaid(no_pygraphviz):
    """Without Graphviz a notebook shows the Mermaid chart, and who renders none its text."""
    shown = checkout().diagram()
    bundle = in_notebook(shown)

    assert set(bundle) == {"text/plain", "text/vnd.mermaid"}
    assert bundle["text/vnd.mermaid"] == bundle["text/plain"] == shown.to_mermaid()


@pytest.mark.parametrize("broken", ["to_svg", "to_mermaid", "both"])
def test_notebook_repr_never_raises(broken, monkeypatch):
    """Whatever goes wrong while a picture is made, a notebook gets something to show."""

    def fail(self, **_):
        raise RuntimeError("no picture today")

    for name in ("to_svg", "to_mermaid") if broken == "both" else (broken,):
        monkeypatch.setattr(Diagram, name, fail)
    bundle = in_notebook(checkout().diagram())

    assert bundle["text/plain"]
    assert ("image/svg+xml" in bundle) == (broken == "to_mermaid")
    assert ("text/vnd.mermaid" in bundle) == (broken == "to_svg")
    if broken == "both":
        assert "RuntimeError" in bundle["text/plain"]


@pytest.mark.parametrize("name", ["a.svg", "a.png", "a.pdf"])
def test_without_graphviz_the_error_names_both_cures(name, no_pygraphviz):
    """Who can draw nothing is told of the extra and of Graphviz's own dot; nothing is written."""
    with pytest.raises(MissingExtraError, match=r"'dot' is on the PATH.*pip install 'fsm-mediator\[diagrams\]'"):
        checkout().diagram().render(no_pygraphviz / name)
    assert not (no_pygraphviz / name).exists()


def test_texts_need_no_graphviz(no_pygraphviz, tmp_path):
    """DOT, Mermaid and tables are made without Graphviz."""
    shown = RUNS["failed"]().diagram()

    for name in ("a.dot", "a.mmd", "a.md"):
        assert shown.render(tmp_path / name).stat().st_size > 500


def a_dot(folder, code):
    """A program called dot, as Graphviz has one: reads DOT, takes -T, writes to its output."""
    program = folder / "dot"
    program.write_text(f"#!{sys.executable}\nimport sys, pygraphviz\n{code}\n")
    program.chmod(0o755)


def test_without_pygraphviz_a_dot_on_the_path_draws(no_pygraphviz):
    """A dot on the PATH serves as well, and draws the same."""
    a_dot(
        no_pygraphviz,
        "g = pygraphviz.AGraph(sys.stdin.read())\n"
        "prog = g.graph_attr['layout']\n"
        "sys.stdout.buffer.write(g.draw(format=sys.argv[1].removeprefix('-T'), prog=prog))",
    )
    shown = RUNS["failed"]().diagram()
    by_dot = shown.to_svg()
    png = shown.render(no_pygraphviz / "a.png").read_bytes()

    del sys.modules["pygraphviz"]
    assert by_dot == shown.with_().to_svg()
    assert png.startswith(b"\x89PNG")


def test_dot_that_fails_is_an_error_of_ours_with_what_it_said(no_pygraphviz):
    """When the program dot fails, its own words are in the error."""
    a_dot(no_pygraphviz, "sys.exit('out of paper')")

    with pytest.raises(MediatorError, match=r"could not draw.*out of paper"):
        checkout().diagram().to_svg()


def test_pygraphviz_that_fails_is_an_error_of_ours(monkeypatch):
    """When pygraphviz fails, the error is one of this library's."""

    def fail(*_, **__):
        raise ValueError("no such program")

    monkeypatch.setattr(pygraphviz.AGraph, "draw", fail)

    with pytest.raises(MediatorError, match=r"could not draw.*no such program"):
        checkout().diagram().to_svg()


# The same every time.

SCRIPT = """
import sys
from tests.test_diagrams import RUNS, nested
for shown in (nested().diagram(), RUNS["stuck"]().diagram("steps")):
    sys.stdout.write(shown.to_dot() + shown.to_mermaid() + shown.to_markdown_table() + shown.to_svg())
"""


def test_pictures_are_the_same_in_every_process():
    """The same saga gives the same text and the same SVG, run after run, whatever the hash seed."""
    first, second = (
        subprocess.run(
            [sys.executable, "-c", SCRIPT],
            cwd=ROOT,
            env={"PYTHONHASHSEED": seed, "PATH": "", "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    )

    assert first == second
    assert len(first) > 100_000


def test_picture_of_a_machine_is_kept_and_of_a_run_is_not():
    """A run that went on is drawn anew; the machine's own picture is made once."""
    saga = checkout()

    assert saga.diagram().picture is saga.diagram().picture
    assert saga.diagram().picture is not saga.diagram("steps").picture
    assert saga.diagram().to_svg() is saga.diagram().to_svg()
    assert saga.diagram().to_svg() != saga.diagram().with_(theme="dark").to_svg()
    assert run_diagram(run(saga, OK)).picture != run_diagram(run(saga, OK, OK)).picture


@pytest.mark.parametrize("module", ["graphviz", "pygraphviz"])
def test_diagrams_import_nothing_heavy_before_something_is_drawn(module):
    """To import the package, and to get DOT, Mermaid and tables, needs no Graphviz and loads none."""
    code = (
        "import sys; from fsm_mediator.saga import Saga; from fsm_mediator.steps import step\n"
        "d = Saga('s', [step(name='a')(lambda payload: None)]).diagram(); d.to_dot(); d.to_mermaid(); d.alt\n"
        f"sys.exit({module!r} in sys.modules)"
    )

    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


# The gallery.


def test_gallery_is_fresh():
    """The pictures in diagrams/ are those of the sagas as they are; else: python diagrams/generate.py."""
    done = subprocess.run(
        [sys.executable, "diagrams/generate.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr


def test_gallery_check_fails_with_a_diff_where_a_picture_is_stale(tmp_path):
    """A picture that has drifted, is missing or is drawn no more fails the check, and the diff says which."""
    for kept in [each for kind in ("dot", "mmd", "svg") for each in (ROOT / "diagrams").rglob(f"*.{kind}")]:
        copy = tmp_path / kept.relative_to(ROOT / "diagrams")
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(kept.read_bytes())
    stale = tmp_path / "checkout" / "detail.mmd"
    stale.write_text(stale.read_text().replace("place_order", "place_oder"))
    (tmp_path / "checkout" / "failed.dot").unlink()
    drawn = tmp_path / "checkout" / "stuck.svg"
    drawn.write_bytes((tmp_path / "checkout" / "succeeded.svg").read_bytes())
    (tmp_path / "old.dot").write_text("digraph {}")

    done = subprocess.run(
        [sys.executable, "diagrams/generate.py", "--check", "--into", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1
    assert "place_oder" in done.stdout
    assert "+++ checkout/failed.dot" in done.stdout
    assert "old.dot: nothing draws it any more" in done.stdout
    assert "+++ checkout/stuck.svg" in done.stdout
    assert "+++ checkout/detail.dot" not in done.stdout
    assert "+++ checkout/detail.svg" not in done.stdout


def test_every_picture_of_the_gallery_s_page_is_there():
    """The page shows no picture that is missing, and each is a harmless SVG."""
    page = (ROOT / "diagrams" / "README.md").read_text(encoding="utf-8")
    shown = re.findall(r"\]\(([^)]+)\)", page)

    assert len(shown) > 30
    for name in shown:
        assert (ROOT / "diagrams" / name).is_file()
        if name.endswith(".svg"):
            assert_harmless((ROOT / "diagrams" / name).read_text(encoding="utf-8"))
    assert html.escape(page, quote=False).count("&lt;") == 0


def test_gallery_shows_every_example_s_saga_and_the_readme_s():
    """Whoever adds an example finds it in the gallery: nothing is to be registered."""
    shown = {path.name for path in (ROOT / "diagrams").iterdir() if path.is_dir() and path.name != "__pycache__"}
    examples = {
        path.parent.name
        for path in (ROOT / "examples").glob("*/__init__.py")
        if re.search(r"^(saga|definition)\b", path.read_text(encoding="utf-8"), re.MULTILINE)
    }

    assert examples
    assert shown == examples | {"readme", "checkout", "fulfilment"}


def test_readme_opens_with_the_pictures_of_its_own_saga():
    """The first pictures of the README are its code's saga and the failing run that it prints, for any page."""
    opening = (ROOT / "README.md").read_text(encoding="utf-8").partition("```python")[0]
    drawn = [ROOT / name for name in re.findall(r'src="([^"]+)"', opening)]

    assert [path.stem for path in drawn] == ["steps", "failed"]
    assert all(path.is_file() for path in drawn)
    assert "user_lifecycle · bob" in drawn[-1].read_text(encoding="utf-8")
    assert all("prefers-color-scheme:dark" in path.read_text(encoding="utf-8") for path in drawn)


# Freshness.


@pytest.mark.parametrize("suffix", ["svg", "dot", "mmd", "md"])
def test_file_is_fresh_until_the_saga_changes(suffix, tmp_path):
    """A committed picture is compared with what would be drawn; what differs is told as a diff."""
    path = checkout().diagram().render(tmp_path / f"checkout.{suffix}")
    assert difference(path, checkout().diagram()) == []

    differences = difference(path, Saga("checkout", [part("reserve"), part("charge")]).diagram())

    assert differences[0] == f"--- {path} (as it is)"
    assert any(line.startswith("-") and "notify" in line for line in differences)


def test_svg_drawn_in_another_way_is_stale_though_it_says_the_same(tmp_path):
    """An SVG in other colours is not the one that is asked for."""
    path = checkout().diagram().render(tmp_path / "checkout.svg")

    assert "drawn in another way" in difference(path, checkout().diagram().with_(theme="dark"))[-1]


def test_animated_svg_is_compared_frame_by_frame(tmp_path):
    """An animation is fresh while every frame is; it is not taken for the still picture."""
    shown = RUNS["retried"]().diagram()
    path = shown.render(tmp_path / "run.svg", animate=True)

    assert difference(path, shown) == []
    assert difference(path, RUNS["failed"]().diagram()) != []


def test_what_is_made_of_dots_cannot_be_checked(tmp_path):
    """A PNG cannot be compared; the error names what can."""
    with pytest.raises(DefinitionError, match="commit one of dot, mmd, md, svg"):
        difference(tmp_path / "checkout.png", checkout().diagram())


def test_long_list_of_parts_leaves_out_whole_names():
    """A list of branches names the first and the last, and says how many it leaves out; no name is cut."""
    assert listed(["pack", "ship"], 20) == "pack, ship"
    assert listed([f"step_{n}" for n in range(10)], 43) == "step_0, step_1, step_2, … 6 more …, step_9"
