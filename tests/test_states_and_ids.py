"""States, paths and ids are taken apart by `states` and `ids`, however deep sagas and branches are nested."""

from __future__ import annotations

import pytest

from fsm_mediator.ids import branch_id, branch_name, group_of, parent_of, place_of, root_of
from fsm_mediator.states import (
    ABANDON,
    ENDED,
    EVENTS,
    FURTHER,
    PHASES,
    STUCK_PHASES,
    UNDRIVABLE,
    is_ended,
    is_in_phase,
    is_settled,
    is_stuck,
    is_within,
    name_of,
    outer_path,
    path_of,
    path_within,
    phase_of,
    scopes_of,
    split_name,
    split_state,
)


@pytest.mark.parametrize(
    ("path", "outer", "name", "scopes"),
    [
        ("pack", "", "pack", ()),
        ("shipping.pack", "shipping", "pack", ("shipping",)),
        ("order.shipping.pack", "order.shipping", "pack", ("order", "order.shipping")),
    ],
)
def test_path_has_a_name_and_the_sagas_around_it(path, outer, name, scopes):
    """A part's path names the nested sagas around it, the outermost first, then the part."""
    assert (outer_path(path), name_of(path), scopes_of(path)) == (outer, name, scopes)
    assert scopes_of(path.removesuffix(name)) == scopes  # a scope, as `Part.scope` holds it


def test_path_within_a_saga_is_found_by_whole_names():
    """A saga whose name only begins alike holds nothing of the other."""
    assert is_within("ship.pack.weigh", "ship")
    assert path_within("ship.pack.weigh", "ship") == "pack.weigh"
    assert split_name("pack.weigh") == ("pack", "weigh")
    assert not is_within("shipping.pack", "ship")
    assert not is_within("ship", "ship")


@pytest.mark.parametrize("parent", ["o-1", "o.1", "o-1/outer.left"])
def test_branch_id_is_taken_apart_as_it_was_built(parent):
    """The parent, the group and the name come back, whatever dots are in them."""
    built = branch_id(parent, "shipping.fan", "north")

    assert place_of(built) == "shipping.fan.north"
    assert (parent_of(built), group_of(built), branch_name(built)) == (parent, "shipping.fan", "north")
    assert group_of(place_of(built)) == "shipping.fan"
    assert root_of(built) == parent.split("/")[0]


def test_id_of_a_whole_has_no_parent_and_no_place():
    """An execution that is no branch is its own whole, also where its id holds dots."""
    assert (parent_of("o.1"), place_of("o.1"), root_of("o.1")) == ("", "o.1", "o.1")


@pytest.mark.parametrize(
    ("state", "phase", "path", "ended", "stuck"),
    [
        ("pending", "pending", "", False, False),
        ("executing.ship.pack", "executing", "ship.pack", False, False),
        ("waiting.word", "waiting", "word", False, False),
        ("compensating.a", "compensating", "a", False, False),
        ("stuck.a", "stuck", "a", False, True),
        ("stuck_executing.ship.pack", "stuck_executing", "ship.pack", False, True),
        ("succeeded", "succeeded", "", True, False),
        ("failed", "failed", "", True, False),
    ],
)
def test_state_tells_its_phase_its_part_and_whether_anything_moves_it(state, phase, path, ended, stuck):
    """A state is a phase and a path; ended and stuck ones move by a person's command only."""
    assert (split_state(state), phase_of(state), path_of(state)) == ((phase, path), phase, path)
    assert (is_ended(state), is_stuck(state), is_settled(state)) == (ended, stuck, ended or stuck)


@pytest.mark.parametrize(
    ("state", "phase", "is_in"),
    [
        ("executing.a", "executing", True),
        ("executing.a", "executing.a", True),
        ("executing.a", "executing.b", False),
        ("stuck_executing.a", "stuck", True),
        ("stuck_executing.a", "stuck_executing", True),
        ("stuck.a", "stuck_executing", False),
        ("failed", "failed", True),
        ("executing.a", "stuck", False),
        ("stuck_executing.a", "failed", False),
    ],
)
def test_state_is_found_by_its_phase(state, phase, is_in):
    """A list is filtered by a phase, by a whole state, and by `stuck` for both ways to be stuck."""
    assert is_in_phase(state, phase) is is_in


def test_names_of_phases_are_as_journaled():
    """The words that are in journals never change."""
    assert (
        *("pending", "executing", "retrying", "probing", "waiting"),
        *("compensating", "retrying_compensation", "stuck", "stuck_executing", "succeeded", "failed"),
    ) == PHASES
    assert (UNDRIVABLE, ABANDON) == ("undrivable", "abandon")
    assert frozenset({"succeeded", "failed"}) == ENDED
    assert frozenset({"stuck", "stuck_executing"}) == STUCK_PHASES
    assert list(EVENTS) == [
        *("start", "executed", "errored", "unsure", "retry_due", "rejected", "in_doubt", "exhausted", "compensated"),
        *("compensation_errored", "compensation_due", "compensation_exhausted", "retry", "settled_undone"),
        *("settled_done", "undo"),
    ]


def test_crashes_are_counted_anew_after_progress_and_after_a_persons_word():
    """What completes a part is progress; another attempt, and going back, are none."""
    progress = ("completes", "tries a stuck part", "takes a person's word", "compensates a saga")

    assert {event for event, words in EVENTS.items() if words.startswith(progress)} == FURTHER
