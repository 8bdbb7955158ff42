"""Who did it: every verb takes an actor, and its record, its item and the timeline name it."""

from __future__ import annotations

import pytest

from fsm_mediator import Saga, Signal, SQLiteJournal
from fsm_mediator.errors import RefusedError
from fsm_mediator.journal.protocol import Commit
from fsm_mediator.narration import timeline
from fsm_mediator.records import InboxItem
from fsm_mediator.states import STUCK_PHASES, phase_of
from tests.commits import acceptance
from tests.drivers import World
from tests.test_verbs import stuck_saga

ANN = "ann"


def actor_of(outcome, event):
    """The actor of the last record of this event."""
    return next(record.actor for record in reversed(outcome.history) if record.event == event)


def fragile(world):
    """A saga whose second step fails once, and whose first cannot be undone at first."""
    return Saga(
        "fragile",
        [world.step("a", undo=(OSError("no"), OSError("no"), OSError("no"), "undone")), world.step("b", OSError("no"))],
    )


def test_retry_names_its_actor(drive, journal):
    """I see in the history who had the step tried again, beside the reason."""
    mediator = drive(fragile(World()), journal=journal)
    assert mediator.run("fragile", saga_id="o-1", check=False).stuck

    outcome = mediator.retry("o-1", "the power is back", actor=ANN)

    assert outcome.failed
    assert actor_of(outcome, "retry") == ANN
    assert "by ann: the power is back" in timeline(outcome.history)


@pytest.mark.parametrize("done", [True, False])
def test_resolve_names_its_actor(drive, journal, done):
    """I see in the history who settled the step by hand, whatever they said."""
    saga = stuck_saga(World()) if done else fragile(World())
    mediator = drive(saga, journal=journal)
    stuck = mediator.run(saga, saga_id="o-1", check=False)
    assert phase_of(stuck.state) in STUCK_PHASES

    outcome = mediator.resolve("o-1", reason="I looked", done=done, actor=ANN)

    assert actor_of(outcome, "settled_done" if done else "settled_undone") == ANN


def test_undo_names_its_actor(drive, journal):
    """I see in the history who had a finished saga undone."""
    mediator = drive(Saga("s", [World().step("a")]), journal=journal)
    mediator.run("s", saga_id="o-1")

    assert actor_of(mediator.undo("o-1", actor=ANN), "undo") == ANN


def test_signal_and_cancel_name_their_actor(drive, journal):
    """I see in the history who approved, and who cancelled; the picture says it as well."""
    world = World()
    saga = Saga("s", [world.step("a"), Signal("go"), world.step("b"), Signal("stop")])
    mediator = drive(saga, journal=journal)
    mediator.run("s", saga_id="o-1", check=False)
    mediator.signal("o-1", "go", 1, actor="bob")
    assert mediator.wait("o-1", check=False).awaits_signal

    mediator.cancel("o-1", "too late", actor=ANN)
    outcome = mediator.wait("o-1", check=False)

    assert [record.actor for record in outcome.history if record.step == "go"] == ["bob"]
    assert actor_of(outcome, "rejected") == ANN
    assert "by ann: too late" in outcome.diagram().to_svg()


def test_nobody_is_named_unless_somebody_says_a_name(drive, journal):
    """A verb without an actor is journaled without one."""
    mediator = drive(fragile(World()), journal=journal)
    mediator.run("fragile", saga_id="o-1", check=False)

    assert actor_of(mediator.retry("o-1", "again"), "retry") is None


def test_an_actor_is_a_text(drive, journal):
    """A user object where a name belongs is refused before anything is written."""
    mediator = drive(fragile(World()), journal=journal)
    for verb in (mediator.retry, mediator.undo, mediator.cancel):
        with pytest.raises(RefusedError, match="actor= must be a name"):
            verb("o-1", actor=object())


def test_an_item_keeps_its_actor(journal):
    """What waits in an inbox says whose it is, whatever the journal."""
    journal.write(Commit("o-1", (), None, held=False, acceptance=acceptance("o-1")))
    journal.post("o-1", InboxItem("cancel", reason="enough", at=1.0, actor="ann \udce4"))

    (item,) = journal.inbox("o-1")
    assert item.actor is not None
    assert item.actor.startswith("ann ")
    assert (item.reason, item.at) == ("enough", 1.0)


def test_file_of_before_gives_items_without_an_actor(tmp_path):
    """What was in an inbox before actors existed is read on."""
    journal = SQLiteJournal(tmp_path / "sagas.db")
    journal.write(Commit("o-1", (), None, held=False, acceptance=acceptance("o-1")))
    journal.post("o-1", InboxItem("cancel", at=1.0))

    assert journal.inbox("o-1")[0].actor is None
