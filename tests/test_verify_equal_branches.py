"""`verify` walks a few of the equal branches of a group in the place of all, and misses nothing."""

from __future__ import annotations

import random

import pytest

from fsm_mediator import Choose, Parallel, Retry, Saga, Signal, Sleep, verify
from fsm_mediator.verifier import equal_branches
from fsm_mediator.verifier.equal_branches import EQUAL, with_few_branches
from tests.test_mutants import MUTANTS, made

ONE = Retry(attempts=1)
OF_GROUPS = [what for what, (_, _, on) in MUTANTS.items() if {"fanned", "limited"}.intersection(on)]


def fan(count, *, at_most=None, **settings):
    """A group of so many branches that differ in their names only, between two steps."""
    branches = [made(f"b{number}", retry=ONE, **settings) for number in range(count)]
    return Saga("fan", [made("first", retry=ONE), Parallel("all", branches, at_most=at_most), made("last", retry=ONE)])


def walked(saga, few, monkeypatch):
    """What `verify` says when so many equal branches are walked."""
    monkeypatch.setattr(equal_branches, "EQUAL", few)
    return verify(saga, most_nodes=5_000)


def drawn(luck):
    """A saga with a group of five equal branches, whose settings and neighbours are drawn."""
    settings = {
        "compensates": luck.random() < 0.6,
        "timeout": luck.choice([None, 1.0]),
        "repeatable": luck.random() < 0.8,
        "retry": luck.choice([ONE, Retry(attempts=2)]),
    }
    branches = [made(f"b{number}", **settings) for number in range(5)]
    on_failure = luck.choice(["cancel", "settle"])
    group = Parallel("all", branches, at_most=luck.choice([None, 1, 2, 4]), on_failure=on_failure)
    beside = [made("a", retry=ONE, compensates=luck.random() < 0.5)]
    return Saga("drawn", [*beside, group] if luck.random() < 0.5 else [group, *beside])


def test_a_thousand_equal_branches_are_walked_as_a_few():
    """However many there are, the search has the same situations, and the report says what it left out."""
    few, many = verify(fan(EQUAL)), verify(fan(1200))

    assert many.ok
    assert (many.nodes, many.moves) == (few.nodes, few.moves)
    assert f"{1200 - EQUAL} branches of all differ from others only in their names" in many.bounds
    assert "equal to others" not in few.bounds


def test_branches_that_differ_in_a_setting_are_all_walked():
    """A few of each kind: a time-out, attempts, a compensation, a wait, a group of their own make another kind."""
    kinds = [
        made("plain"),
        made("timed", timeout=1.0),
        made("once", retry=ONE),
        made("kept", compensates=False),
        made("never_again", repeatable=False),
        Sleep("nap", 1.0),
        Signal("word"),
        Signal("soon", timeout=1.0),
        Saga("two", [made("x"), made("y")]),
        Parallel("inner", [made("x"), made("y")]),
        Parallel("other", [made("x"), made("y", timeout=1.0)]),
        Choose("chosen", {"x": made("x"), "y": made("y")}, by=lambda p: "x"),
    ]
    every = [kind.named(f"{kind.name}{number}") for kind in kinds for number in range(EQUAL + 2)]

    few = with_few_branches(Saga("many", [Parallel("all", every)]))

    assert few.left_out == {"all": 2 * len(kinds)}
    assert set(few.saga.branches["all"]) == {f"{kind.name}{number}" for kind in kinds for number in range(EQUAL)}
    assert few.saga.parts[0].branches == tuple(few.saga.branches["all"])


@pytest.mark.parametrize(("at_most", "walked"), [(None, None), (1, 1), (2, 2), (500, EQUAL - 1), (1200, None)])
def test_some_branches_still_wait_for_their_turn(at_most, walked):
    """A group that begins some of its branches later does so with fewer branches as well."""
    (part,) = (part for part in with_few_branches(fan(1200, at_most=at_most)).saga.parts if part.path == "all")

    assert part.at_most == walked


@pytest.mark.parametrize("seed", [pytest.param(s, marks=[] if s < 2 else pytest.mark.torture) for s in range(24)])
def test_few_branches_come_to_what_five_come_to(seed, monkeypatch):
    """The same states, transitions, parks and verdicts, with and without the branches left out."""
    saga = drawn(random.Random(seed))  # noqa: S311 - no secret
    few, whole = walked(saga, EQUAL, monkeypatch), walked(saga, 5, monkeypatch)

    assert whole.complete
    assert whole.ok
    assert few.nodes < whole.nodes
    assert (few.states, few.unreached, few.transitions) == (whole.states, whole.unreached, whole.transitions)
    assert (few.parks, few.verdicts, few.broken_rules) == (whole.parks, whole.verdicts, whole.broken_rules)


@pytest.mark.parametrize("compensates", [True, False])
@pytest.mark.parametrize(
    "what",
    [what if at % 4 == 0 else pytest.param(what, marks=pytest.mark.torture) for at, what in enumerate(OF_GROUPS)],
)
def test_few_branches_break_the_rules_that_four_break(what, compensates, monkeypatch):
    """Whatever fault is in the rules of groups: branches that are left out hide nothing."""
    saga = fan(4, at_most=1 if "limited" in MUTANTS[what][2] else None, compensates=compensates)
    MUTANTS[what][1](monkeypatch.setattr)
    few, whole = walked(saga, EQUAL, monkeypatch), walked(saga, 4, monkeypatch)

    assert set(few.broken_rules) >= set(whole.broken_rules)
    assert few.broken_rules == whole.broken_rules or not whole.complete
