"""Preview: what a cancel or an undo would do is what it then does."""

from __future__ import annotations

import pytest

from fsm_mediator import Parallel, Saga, Signal, StepRejectedError
from fsm_mediator.errors import RefusedError, UnknownExecutionError
from tests.drivers import World


def undone(world):
    """The steps that were compensated, in order."""
    return [call.removeprefix("undo ") for call in world.calls if call.startswith("undo ")]


def test_undo_does_what_the_preview_says(drive, journal):
    """Before I undo a saga I see what will be compensated, in order, and what stays."""
    world = World()
    saga = Saga("s", [world.step("a"), world.step("mail", undo=None), world.step("b"), world.step("c")])
    mediator = drive(saga, journal=journal)
    mediator.run("s", saga_id="x")

    seen = mediator.preview("x")

    assert seen == ("undo", ("c", "b", "a"), ("mail",), None)
    assert mediator.outcome("x").succeeded
    assert world.calls == ["a", "mail", "b", "c"]
    outcome = mediator.undo("x")
    assert (tuple(undone(world)), outcome.leftovers) == seen[1:3]


def test_cancel_does_what_the_preview_says(drive, journal):
    """The same before I cancel one that waits."""
    world = World()
    mediator = drive(Saga("s", [world.step("a"), world.step("b"), Signal("go"), world.step("c")]), journal=journal)
    mediator.run("s", saga_id="x", check=False)

    seen = mediator.preview("x")

    assert seen == ("cancel", ("b", "a"), (), None)
    mediator.cancel("x")
    mediator.wait("x", check=False)
    assert tuple(undone(world)) == seen.compensates


def test_step_under_way_is_named(drive, journal):
    """What is being attempted is named, for nobody knows its effect yet."""
    world = World()
    mediator = drive(Saga("s", [world.step("a"), world.step("b", world.gate())]), journal=journal)
    mediator.start("s", saga_id="x")
    world.begun()

    seen = mediator.preview("x")

    assert seen == ("cancel", ("b", "a"), (), "b")
    world.go()
    mediator.wait("x")


def test_branches_are_looked_into(drive, journal):
    """A group is undone step by step in its branches."""
    world = World()
    inner = Saga("inner", [world.step("p"), world.step("q", undo=None)])
    mediator = drive(Saga("s", [world.step("a"), Parallel("g", [inner, world.step("r")])]), journal=journal)
    mediator.run("s", saga_id="x")

    seen = mediator.preview("x")

    assert seen == ("undo", ("g.inner.p", "g.r.r", "a"), ("g.inner.q",), None)
    outcome = mediator.undo("x")
    assert sorted(undone(world)) == ["a", "p", "r"]
    assert outcome.leftovers == seen.leftovers


def test_what_cannot_be_taken_back_is_refused(drive, journal):
    """After the pivot, or once it has failed, the preview says why, in the words of the verb."""
    world = World()
    pivoted = Saga("p", [world.step("pay", pivot=True, undo=None), Signal("go")])
    mediator = drive(pivoted, Saga("f", [world.step("no", StepRejectedError("no"))]), journal=journal)
    mediator.run("p", saga_id="x", check=False)
    mediator.run("f", saga_id="y", check=False)

    with pytest.raises(RefusedError, match="past its pivot"):
        mediator.preview("x")
    with pytest.raises(RefusedError, match="has ended in 'failed'"):
        mediator.preview("y")
    mediator.signal("x", "go")
    assert mediator.wait("x").succeeded
    with pytest.raises(RefusedError, match="cannot be undone"):
        mediator.preview("x")
    with pytest.raises(UnknownExecutionError):
        mediator.preview("unknown")
