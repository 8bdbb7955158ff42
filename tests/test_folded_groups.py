"""Large groups: a picture shows some branches, and says which branches it leaves out."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsm_mediator import Choose, Mediator, Parallel, Saga, Signal, StepRejectedError, step
from fsm_mediator.diagram.folding import branches_of, folded, ranges, rank_of, rank_of_state
from fsm_mediator.diagram.layout.detail import detail_layout
from fsm_mediator.diagram.layout.steps import steps_layout
from fsm_mediator.diagram.picture import VIEWS
from fsm_mediator.diagram.progress import StepState
from fsm_mediator.diagram.text import fitted, listed, shorten, width
from fsm_mediator.errors import DefinitionError
from fsm_mediator.exports import to_asl, to_bpmn
from fsm_mediator.statistics import Statistics
from tests.test_diagrams import overlaps, part
from tests.test_steps_view import check_can_be_read

pytestmark = pytest.mark.once

FORMATS = ("dot", "mermaid", "md", "svg")


def named(number, *, fails=(), back=True):
    """A step ``b<number>``. It rejects its call if *fails* has its number."""

    @step(name=f"b{number}")
    def act(order):
        if number in fails:
            raise StepRejectedError("no labels left")

    if back:
        act.compensation(lambda order: None)
    return act


def group(count, *, on_failure="settle", at_most=None, **settings):
    """A saga with a group of *count* different branches, ``b0`` and so on."""
    made = [named(number, **settings) for number in range(count)]
    return Saga("wide", [part("first"), Parallel("all", made, on_failure=on_failure, at_most=at_most)])


def run_of(saga, order=None, saga_id="o-1"):
    """A mediator that has run *saga*, and the run's id is ``o-1``."""
    mediator = Mediator(saga)
    mediator.run(saga, order, saga_id=saga_id, check=False)
    return mediator


def shown(diagram):
    """The names of the branches that a diagram shows, then the titles of boxes for branches that are left out."""
    if diagram.view == "steps":
        return [branch.name for box in diagram.picture.flow.boxes for branch in box.branches]
    return [child.heading.partition(" / ")[2] for child in diagram.picture.children]


def rest(diagram):
    """The only box of the diagram that stands for branches that are left out."""
    (box,) = (node for node in diagram.picture.all_nodes() if node.rest)
    return box


def check_is_readable(diagram):
    """No two elements of the diagram overlap."""
    if diagram.view == "steps":
        check_can_be_read(diagram.picture, steps_layout(diagram.picture, diagram.direction or "right"))
    else:
        assert overlaps(detail_layout(diagram.picture)) == []


@pytest.mark.parametrize("view", VIEWS)
def test_large_group_shows_its_first_branches_and_says_how_many_more_there_are(view):
    """The picture of a group of 1,000 different branches can be read: it has twelve of them, and names the others."""
    diagram = group(1000).diagram(view)

    assert shown(diagram) == [*(f"b{number}" for number in range(12)), "988 more"]
    assert rest(diagram).notes == ("b12 … b999",)
    assert "988 of 1,000 branches are not drawn: b12 … b999\nbranches=None" in rest(diagram).tooltip
    check_is_readable(diagram)
    assert len(diagram.to_svg()) < 300_000


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_says_which_branches_are_left_out(view, kind):
    """An SVG, a DOT text, a Mermaid chart and a table leave out the same branches, and each names them."""
    text = format(group(40).diagram(view), kind)

    assert "b11" in text
    assert not re.search(r"b13\b", text)
    assert re.search(r"28(&#160;| )more", text)
    assert "b12 … b39" in text


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("count", [1, 2, 11, 12])
def test_small_group_is_drawn_whole(view, count):
    """A group of up to twelve branches is drawn as if there were no limit."""
    saga = group(count)

    for kind in FORMATS:
        assert format(saga.diagram(view), kind) == format(saga.diagram(view, branches=None), kind)
    assert shown(saga.diagram(view)) == [f"b{number}" for number in range(count)]


@pytest.mark.parametrize("view", VIEWS)
def test_number_of_branches_can_be_chosen(view):
    """``branches=3`` shows three branches of each group, and ``branches=None`` shows all."""
    saga = group(14)

    assert shown(saga.diagram(view)) == [*(f"b{number}" for number in range(12)), "2 more"]
    assert rest(saga.diagram(view)).notes == ("b12, b13",)
    assert shown(saga.diagram(view, branches=3)) == ["b0", "b1", "b2", "11 more"]
    assert shown(saga.diagram(view).with_(branches=None)) == [f"b{number}" for number in range(14)]
    assert not any(node.rest for node in saga.diagram(view, branches=None).picture.all_nodes())


@pytest.mark.parametrize("most", [0, -1, True, "all", "3", 2.0])
def test_impossible_number_of_branches_is_refused(most):
    """A wrong number of branches is an error that says what can be given."""
    with pytest.raises(DefinitionError, match="at least 1, or None for all"):
        group(2).diagram(branches=most)


def test_setting_of_branches_is_a_number_or_all():
    """In a file and on the command line, ``all`` stands for None."""
    assert [branches_of(setting) for setting in ("all", "7", 7)] == [None, 7, 7]
    for wrong in ("none", "-1", "0", "", 0, None):
        with pytest.raises(DefinitionError, match="is not a number of branches to draw"):
            branches_of(wrong)


@pytest.mark.parametrize("direction", ["right", "down"])
@pytest.mark.parametrize("view", VIEWS)
def test_failed_branch_of_a_run_is_shown_wherever_it_is(view, direction):
    """In a run that failed in branch 30 of 40, the picture shows this branch, between its neighbours in their order."""
    diagram = run_of(group(40, fails={30})).diagram("o-1", view)
    if view == "steps":
        diagram = diagram.with_(direction=direction)

    assert shown(diagram) == [*(f"b{number}" for number in range(11)), "b30", "28 more"]
    box = rest(diagram)
    assert "not drawn: b11 … b29, b31 … b39\n" in box.tooltip
    assert box.notes == ("b11 … b29, b31 … b39",)
    assert box.mark.note == "compensated" if view == "steps" else box.mark.branches == "28 compensated"
    assert "no labels left" in diagram.to_svg()
    check_is_readable(diagram)


@pytest.mark.parametrize("view", VIEWS)
def test_branches_that_wait_are_shown_before_branches_that_are_done(view):
    """While a run waits for two of its 30 branches, the picture shows these two."""
    waits = [Saga(f"w{number}", [Signal(f"s{number}"), named(number)]) for number in (20, 25)]
    made = [named(number) for number in range(30) if number not in (20, 25)]
    made[20:20], made[25:25] = [waits[0]], [waits[1]]
    saga = Saga("wide", [Parallel("all", made)])
    with Mediator(saga) as mediator:
        mediator.start(saga, None, saga_id="o-1")
        mediator.recover()
        diagram = mediator.diagram("o-1", view)

        assert {"w20", "w25"} <= set(shown(diagram))
        assert shown(diagram)[:10] == [f"b{number}" for number in range(10)]
        mediator.cancel("o-1")


def test_branch_that_failed_is_preferred_to_branches_that_ended_because_of_it():
    """If a failed branch ends its siblings before they begin, it is the cause, and the picture shows it first."""
    diagram = run_of(group(40, fails={20}, on_failure="cancel", at_most=1)).diagram("o-1", "steps")
    causes = [name for name in shown(diagram.with_(branches=1)) if "more" not in name]
    ended = [run for run in diagram.run.branches.values() if run.records[0].source == run.records[-1].source]

    assert causes == ["b20"]
    assert ended, "some branches never began"
    assert {rank_of(run) for run in ended} == {max(rank_of(run) for run in diagram.run.branches.values())}


@pytest.mark.parametrize("view", VIEWS)
def test_chosen_branch_is_shown_wherever_it_is(view):
    """The picture of a run shows the branch that was chosen, although the choice has 40 branches."""
    ways = {f"b{number}": named(number) for number in range(40)}
    saga = Saga("choice", [Choose("way", ways, by=lambda order: order)])
    mediator = run_of(saga, "b33")

    assert "b33" in shown(mediator.diagram("o-1", view))
    assert shown(mediator.outcome("o-1").diagram("steps"))[-2:] == ["b33", "28 more"]
    assert mediator.diagram("o-1", "steps").to_dot().count(">28 more<") == 1
    assert "one of 40" in mediator.diagram("o-1", "steps").to_dot()
    check_is_readable(mediator.diagram("o-1", view))


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("knows_branches", [True, False], ids=["with branches", "outcome alone"])
def test_no_element_moves_in_the_frames_of_a_run(view, knows_branches):
    """All frames of an animation show the same branches. A branch that fails late is also in the first frame."""
    ways = {f"b{number}": named(number) for number in range(5)}
    group_of_5 = Parallel("all", [named(number, fails={3}) for number in range(5)], on_failure="settle")
    saga = Saga("both", [Choose("way", ways, by=lambda order: order), group_of_5])
    mediator = run_of(saga, "b4")
    diagram = mediator.diagram("o-1", view) if knows_branches else mediator.outcome("o-1").diagram(view)
    diagram = diagram.with_(branches=2)
    frames = diagram.frames()

    if view == "steps" or knows_branches:
        assert {"b4", "3 more"} <= set(shown(diagram))
    assert all(shown(frame) == shown(diagram) for frame in frames)
    layout_of = detail_layout if view == "detail" else steps_layout
    assert all(layout_of(frame.picture).boxes == layout_of(diagram.picture).boxes for frame in frames)
    assert "@keyframes" in diagram.to_svg(animate=True)


def test_items_with_many_different_paths_are_counted():
    """Items share a picture if they took the same path. If there are too many paths, no item is lost without a word."""

    @step
    def send(number):
        if number % 2:
            raise StepRejectedError(f"no address {number}")

    saga = Saga("items", [Parallel.each("send", send, over=list, on_failure="settle")])
    diagram = run_of(saga, list(range(6))).diagram("o-1").with_(branches=1)

    assert shown(diagram) == ["1 and 2 more like it", "3 more"]
    assert rest(diagram).notes == ("0, 2, 4",)
    assert rest(diagram).mark.branches == "3 done"


def test_leftovers_of_branches_that_are_left_out_are_named():
    """The list of leftovers below the title has the effects of all branches, whether they are drawn or not."""
    mediator = run_of(group(16, fails={3}, back=False))
    outcome = mediator.outcome("o-1")
    (line,) = (line for line in mediator.diagram("o-1", "steps").picture.subheading if "left over" in line)

    assert set(line.removeprefix("left over: ").split(", ")) == {f"b{number}" for number in range(16) if number != 3}
    assert rest(mediator.diagram("o-1", "steps")).mark.leftover
    assert outcome.leftovers


@pytest.mark.parametrize("hide", [{"unreached"}, {"undo", "stuck"}])
@pytest.mark.parametrize("view", VIEWS)
def test_hidden_elements_and_large_groups_go_together(view, hide):
    """With ``hide``, the picture of a large group can still be read. Branches without a path count as unreached."""
    saga = group(30, fails={20})
    diagram = run_of(saga).diagram("o-1", view).with_(hide=hide)

    assert "b20" in shown(diagram)
    assert "18 more" in shown(diagram)
    check_is_readable(diagram)


def test_group_inside_a_branch_is_folded_as_well():
    """The limit holds for each group, and the branches of a branch have their own box."""
    inner = Saga("inner", [Parallel("deep", [named(number) for number in range(15)])])
    saga = Saga("outer", [Parallel("all", [inner, part("alone")])])

    for view in VIEWS:
        assert rest(saga.diagram(view)).id == "all.inner/deep.…/…"
        assert rest(saga.diagram(view)).title == "3 more"
        check_is_readable(saga.diagram(view))


def test_exports_have_every_branch():
    """An export is a definition that other tools run or check, so it leaves out nothing."""
    saga = group(14)

    assert 'name="b13"' in to_bpmn(saga)
    (states,) = (state for state in to_asl(saga)["States"].values() if state["Type"] == "Parallel")
    assert len(states["Branches"]) == 14


def test_statistics_of_a_large_group_fold_both_pictures(journal):
    """Two pictures side by side leave out the same branches, and do not list the box of the others as a step."""
    saga = group(14)
    with Mediator(saga, journal=journal) as mediator:
        mediator.run(saga, None, saga_id="o-1")
        week = Statistics.read(saga, journal)
    diagram = week.diagram("p95", beside=week)

    boxes = [box for half in diagram.picture.halves for box in half.flow.all_boxes() if box.rest]
    assert [box.title for box in boxes] == ["2 more", "2 more"]
    assert "2 more" not in week.diagram("p95", branches=2).alt
    assert "2 more" in shown(week.diagram("p95"))
    assert diagram.to_dot()
    assert "2 more" in week.diagram("p95", view="detail").to_dot()


@given(names=st.lists(st.integers(0, 60), unique=True), most=st.integers(1, 20) | st.none())
def test_shown_and_left_out_branches_are_all_branches_in_their_order(names, most):
    """Each branch is either shown or left out. The shown branches have the lowest ranks."""
    shown, rest = folded(names, most, lambda name: name % 5)

    assert sorted(shown + rest, key=names.index) == names
    assert [*shown] == [name for name in names if name in shown]
    assert [*rest] == [name for name in names if name in rest]
    assert len(shown) == len(names) if most is None else len(shown) == min(most, len(names))
    assert max((name % 5 for name in shown), default=0) <= min((name % 5 for name in rest), default=5)


@pytest.mark.parametrize(
    ("left_out", "words"),
    [
        ("cdef", "c … f"),
        ("a", "a"),
        ("ab", "a, b"),
        ("abcfh", "a … c, f, h"),
        ("bdfhjlnp", "b, d, f, h, j, l, n, p"),
        ("bdfhjlnpr", "b … r"),
    ],
)
def test_names_that_are_left_out_are_written_as_ranges(left_out, words):
    """Ranges are exact, unless they are too long for a box: then there is one range from the first to the last name."""
    names = "abcdefghijklmnopqrs"

    assert ranges(names, set(left_out)) == words
    assert ranges(names, set(left_out), 400).count(left_out[-1]) == 1


@given(names=st.lists(st.text("ab i", min_size=1, max_size=9), min_size=3, max_size=90), most=st.integers(5, 60))
def test_list_of_names_keeps_as_many_as_fit(names, most):
    """A list of names that is too long keeps as many of its first names as fit, and its last name."""
    words = listed(names, most)
    whole = ", ".join(names)
    fitting = [
        short
        for kept in range(1, len(names) - 1)
        if len(short := f"{', '.join(names[:kept])}, … {len(names) - kept - 1} more …, {names[-1]}") <= most
    ]

    assert words == (whole if len(whole) <= most else fitting[-1] if fitting else shorten(whole, most))


@given(
    words=st.text("iIWm …漢\n", max_size=80),
    size=st.sampled_from((9.0, 12.5)),
    room=st.floats(0, 300),
    bold=st.booleans(),
)
def test_text_is_cut_no_more_than_its_room_needs(words, size, room, bold):
    """A text that is too wide loses as few characters as possible."""
    cut = fitted(words, size, bold, room)

    wider = [shorten(words, most) for most in range(len(cut) + 1, len(words) + 1)]
    assert all(width(each, size, bold) > room for each in wider if len(each) > len(cut))
    assert width(cut, size, bold) <= room or len(cut) <= 2


@pytest.mark.parametrize("state", StepState)
def test_special_branches_are_shown_before_branches_that_are_done(state):
    """Every state of a branch has a rank, so no picture fails for lack of one. Done and never reached come last."""
    usual = {StepState.DONE, StepState.UNKNOWN, StepState.NEVER}

    assert (rank_of_state(state) < rank_of_state(StepState.DONE)) == (state not in usual)
    assert rank_of_state(state) <= rank_of_state(StepState.NEVER)
