"""Holds: no new attempt begins until the hold is lifted, and nothing else changes."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from fsm_mediator import DeadlineExceededError, Parallel, Saga, SQLiteJournal, StepRejectedError
from fsm_mediator.conformance import conforms
from fsm_mediator.errors import DefinitionError, RefusedError, UnknownExecutionError
from fsm_mediator.journal.notes import UNHOLD
from fsm_mediator.journal.protocol import new_token
from fsm_mediator.mediator.holding import add_hold
from tests.drivers import World, core_of, eventually


def held(mediator, saga_id="x"):
    """Whether the next attempt of the execution was announced and waits."""
    (entry,) = [each for each in mediator.executions() if each.saga_id == saga_id]
    return entry.state.startswith(("executing", "compensating")) and entry.wake_at is not None


def test_attempt_under_way_ends_and_no_other_begins(drive, journal):
    """I hold an execution in the midst of a step: the step ends, and the next one begins when I lift the hold."""
    world = World()
    saga = Saga("s", [world.step("a", world.gate()), world.step("b")])
    mediator = drive(saga, journal=journal)
    mediator.start(saga, saga_id="x")
    world.begun()
    mediator.hold("x", reason="look first", actor="ann")
    world.go()

    eventually(lambda: held(mediator))
    assert world.calls == ["a"]
    assert [note.actor for note in mediator.holds()] == ["ann"]

    mediator.unhold("x")
    assert mediator.wait("x").succeeded
    assert world.calls == ["a", "b"]
    assert mediator.holds() == []


@pytest.mark.parametrize("subject", [{"saga": "s"}, {"step": "a"}, {"saga": "s", "step": "a"}])
def test_saga_or_step_is_held_for_what_begins_later(drive, journal, subject):
    """I hold a saga or a step by name: what is started then is accepted and waits, and other sagas go on."""
    world = World()
    saga, other = Saga("s", [world.step("a"), world.step("b")]), Saga("t", [world.step("c")])
    mediator = drive(saga, other, journal=journal)
    mediator.hold(**subject)
    mediator.start(saga, saga_id="x")
    assert mediator.run(other).succeeded

    eventually(lambda: held(mediator))
    assert world.calls == ["c"]

    mediator.unhold(**subject)
    assert mediator.wait("x").succeeded


def test_held_step_lets_others_run(drive, journal):
    """A hold of one step holds that step alone."""
    world = World()
    saga = Saga("s", [world.step("a"), world.step("b"), world.step("c")])
    mediator = drive(saga, journal=journal)
    mediator.hold(step="b")
    mediator.start(saga, saga_id="x")
    eventually(lambda: held(mediator))
    assert world.calls == ["a"]
    mediator.unhold(step="b")
    assert mediator.wait("x").succeeded


def test_branches_are_held_with_the_whole(drive, journal):
    """A hold of an execution holds its branches."""
    world = World()
    saga = Saga("s", [world.step("first", world.gate()), Parallel("g", [world.step("a"), world.step("b")])])
    mediator = drive(saga, journal=journal)
    mediator.start(saga, saga_id="x")
    world.begun()
    mediator.hold("x")
    world.go()
    eventually(
        lambda: len(mediator.executions(parent="x")) == 2 and held(mediator, "x/g.a") and held(mediator, "x/g.b")
    )
    assert world.calls == ["first"]
    mediator.hold(saga="s", step="a")
    mediator.unhold("x")
    eventually(lambda: mediator.outcome("x/g.b").succeeded)
    assert world.calls == ["first", "b"]
    mediator.unhold(saga="s", step="a")
    assert mediator.wait("x").succeeded


def test_compensations_go_on_unless_they_are_held_too(drive, journal):
    """A hold lets an execution be undone; with compensations=True not even that begins."""
    world = World()
    saga = Saga("s", [world.step("a"), world.step("b", StepRejectedError("no"))])
    mediator = drive(saga, journal=journal)
    mediator.hold(step="a")
    mediator.start(saga, saga_id="x")
    eventually(lambda: held(mediator))
    mediator.unhold(step="a")
    assert mediator.wait("x", check=False).failed
    assert world.calls == ["a", "b", "undo a"]

    mediator.hold(step="a", compensations=True)
    mediator.hold(step="b")
    mediator.start(saga, saga_id="y")
    eventually(lambda: held(mediator, "y"))
    mediator.unhold(step="a")
    eventually(lambda: world.calls[3:] == ["a"])
    mediator.hold(step="a", compensations=True)
    mediator.unhold(step="b")
    eventually(lambda: mediator.outcome("y").state == "compensating.a" and held(mediator, "y"))
    assert world.calls[3:] == ["a", "b"]
    mediator.unhold(step="a")
    assert mediator.wait("y", check=False).failed
    assert world.calls[3:] == ["a", "b", "undo a"]


def test_cancel_takes_hold_of_a_held_execution(drive, journal):
    """I cancel what is held: it compensates at once, and the step that waited is never called."""
    world = World()
    saga = Saga("s", [world.step("a"), world.step("b")])
    mediator = drive(saga, journal=journal)
    mediator.hold(step="b")
    mediator.start(saga, saga_id="x")
    eventually(lambda: held(mediator))

    mediator.cancel("x", "too late")

    assert mediator.wait("x", check=False).failed
    assert world.calls == ["a", "undo a"]


def test_deadline_takes_hold_of_a_held_execution(drive, journal):
    """What is held when its deadline passes compensates."""
    world = World()
    saga = Saga("s", [world.step("a"), world.step("b")])
    mediator = drive(saga, journal=journal)
    mediator.hold(step="b")
    mediator.start(saga, saga_id="x", deadline=0.3)

    outcome = mediator.wait("x", check=False)

    assert outcome.failed
    assert isinstance(outcome.error, DeadlineExceededError)
    assert "b" not in world.calls


def test_parked_execution_is_woken_when_the_hold_is_lifted(drive, journal):
    """A long hold costs no driver: the execution is released, and claimed again when the hold is lifted."""
    world = World()
    saga = Saga("s", [world.step("a"), world.step("b")])
    mediator = drive(saga, journal=journal, park_after=0.0)
    mediator.hold(step="b")
    mediator.start(saga, saga_id="x")
    eventually(lambda: held(mediator) and mediator.executions()[0].driver is None)

    mediator.unhold(step="b")

    assert eventually(lambda: mediator.outcome("x").succeeded)
    assert world.calls == ["a", "b"]


def test_execution_of_a_dead_driver_stays_held(drive, journal):
    """Another mediator that recovers a held execution knows the hold."""
    world = World()
    saga = Saga("s", [world.step("a"), world.step("b")])
    first = drive(saga, journal=journal)
    first.hold(step="b")
    first.start(saga, saga_id="x")
    eventually(lambda: held(first))
    first.close()

    second = drive(saga, journal=journal)
    second.executions()
    assert [note.step for note in second.holds()] == ["b"]
    second.unhold(step="b")
    assert second.wait("x").succeeded
    assert world.calls == ["a", "b"]


def test_another_process_knows_a_hold_by_its_heartbeat(drive, tmp_path):
    """A hold said through one journal holds what is driven through another one on the same file."""
    world = World()
    saga = Saga("s", [world.step("a", world.gate()), world.step("b")])
    drives = drive(saga, journal=SQLiteJournal(tmp_path / "sagas.db", durability="normal"))
    says = drive(saga, journal=SQLiteJournal(tmp_path / "sagas.db", durability="normal"))
    drives.start(saga, saga_id="x")
    world.begun()
    says.hold("x")
    eventually(lambda: core_of(drives).owned.holds.any)
    world.go()
    eventually(lambda: held(says))
    assert world.calls == ["a"]

    says.unhold("x")
    assert eventually(lambda: says.outcome("x").succeeded)
    assert world.calls == ["a", "b"]


@pytest.mark.parametrize(
    "script",
    [
        {},
        {"a": (OSError("1"), OSError("2"), "done")},
        {"b": (OSError("1"), StepRejectedError("no"))},
        {"c": (StepRejectedError("no"),), "undo": (OSError("1"), "undone")},
    ],
)
def test_hold_can_only_delay(drive, journal, script):
    """Whatever happens to it, an execution that is held at each step takes the same way as one that is not."""
    ways = {}
    for saga_id in ("free", "held"):
        world = World()
        undo = script.get("undo", ("undone",))
        saga = Saga("s", [world.step(name, *script.get(name, ()), undo=undo) for name in "abc"])
        mediator = drive(saga, journal=journal)
        if saga_id == "held":
            for name in "abc":
                mediator.hold(saga="s", step=name, compensations=True)
        mediator.start(saga, saga_id=saga_id)
        if saga_id == "held":
            for name in "abc":
                eventually(lambda: held(mediator, "held") or mediator.outcome("held").ended)  # noqa: B023
                mediator.unhold(saga="s", step=name)
        outcome = mediator.wait(saga_id, check=False)
        ways[saga_id] = [(each.event, each.source, each.target, each.attempt) for each in outcome.history], world.calls
        conforms(outcome.history, saga).raise_for_violations()
        mediator.close()

    assert ways["held"] == ways["free"]


def test_hold_that_is_not_there_is_refused(drive, journal):
    """A mistyped unhold is an error, not silence; so is a hold of nothing."""
    mediator = drive(Saga("s", [World().step("a")]), journal=journal)
    mediator.run("s", saga_id="x")
    mediator.hold("x")
    with pytest.raises(RefusedError, match="step 'b' is not held"):
        mediator.unhold(step="b")
    for nothing in ({}, {"saga_id": "x", "step": "a"}, {"step": 5}):
        with pytest.raises(DefinitionError, match="hold what"):
            mediator.hold(**nothing)
    with pytest.raises(UnknownExecutionError):
        mediator.hold("unknown")


def test_heartbeat_lets_begin_what_another_process_no_longer_holds(drive, journal):
    """The hold is lifted by another way: the driver that waits learns of it at its heartbeat, and at the first one."""
    world = World()
    saga = Saga("s", [world.step("a")])
    mediator = drive(saga, journal=journal)
    mediator.hold(saga="s")
    mediator.start(saga, saga_id="x")
    eventually(lambda: held(mediator))
    core = core_of(mediator)
    core.heartbeat()
    assert world.calls == []
    assert not core.owned.holds.refresh()  # each note is read once

    (note,) = mediator.holds()
    add_hold(journal, replace(note, kind=UNHOLD), new_token())
    core.heartbeat()

    assert eventually(lambda: mediator.outcome("x").succeeded)
