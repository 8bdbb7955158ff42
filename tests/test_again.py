"""Again: an execution that has ended is run once more, as a new one, linked both ways."""

from __future__ import annotations

import pytest

from fsm_mediator import AesGcm, Saga, SagaFailedError, Signal, SQLiteJournal, StepRejectedError
from fsm_mediator.errors import PayloadError, RefusedError, UnknownExecutionError
from fsm_mediator.mediator.again import id_of_next
from tests.drivers import World


def failing(world, *script, version="1", **settings):
    """A saga of two steps, the second of which does *script*."""
    return Saga("order", [world.step("reserve"), world.step("pay", *script, **settings)], version=version)


def no():
    """A refusal of the step."""
    return StepRejectedError("no")


def test_failed_one_is_run_again_with_its_payload(drive, journal):
    """What failed is run once more as another execution, which succeeds; each names the other, and who asked for it."""
    world = World()
    mediator = drive(failing(world, no(), "paid"), journal=journal)
    with pytest.raises(SagaFailedError):
        mediator.run("order", {"sku": 5}, saga_id="o-1", attributes={"tenant": "acme"})

    again = mediator.again("o-1", actor="ann", reason="the bank is back")

    assert again == ("o-1~2", "1", "1", False)
    assert mediator.wait("o-1~2").succeeded
    assert mediator.outcome("o-1").failed
    old, new = mediator.notes("o-1"), mediator.notes("o-1~2")
    assert [(note.kind, note.value, note.actor, note.reason) for note in old if note.kind != "attributes"] == [
        ("run_again", {"id": "o-1~2", "version": "1"}, "ann", "the bank is back")
    ]
    assert ("runs_again", {"id": "o-1", "version": "1"}) in [(note.kind, note.value) for note in new]
    assert [entry.saga_id for entry in mediator.executions(attributes={"tenant": "acme"})] == ["o-1~2", "o-1"]
    assert world.calls == ["reserve", "pay", "undo reserve", "reserve", "pay"]


def test_same_call_joins_the_same_execution(drive, journal):
    """A call that is repeated starts nothing more; the execution that repeats it is run again under the next id."""
    world = World()
    mediator = drive(failing(world, no()), journal=journal)
    mediator.run("order", 1, saga_id="o-1", check=False)
    for _ in range(3):
        assert mediator.again("o-1").saga_id == "o-1~2"
        mediator.wait("o-1~2", check=False)
    assert world.calls.count("pay") == 2
    assert len([note for note in mediator.notes("o-1") if note.kind == "run_again"]) == 1

    assert mediator.again("o-1~2").saga_id == "o-1~3"
    assert mediator.again("o-1", new_id="another").saga_id == "another"
    mediator.wait("o-1~3", check=False)
    mediator.wait("another", check=False)


def test_leftovers_are_named_and_refused(drive, journal):
    """What left effects behind is not run again unseen."""
    world = World()
    saga = Saga("order", [world.step("mail", undo=None), world.step("pay", no())])
    mediator = drive(saga, journal=journal)
    mediator.run("order", 1, saga_id="o-1", check=False)

    with pytest.raises(RefusedError, match=r"mail.*despite_leftovers"):
        mediator.again("o-1")
    assert len(mediator.executions()) == 1
    mediator.again("o-1", despite_leftovers=True)
    mediator.wait("o-1~2", check=False)


def test_what_has_succeeded_or_goes_on_is_refused(drive, journal):
    """A success is repeated only on purpose, and what goes on not at all."""
    world = World()
    mediator = drive(failing(world), Saga("waits", [world.step("a"), Signal("go")]), journal=journal)
    mediator.run("order", 1, saga_id="good")
    mediator.run("waits", 1, saga_id="on", check=False)

    with pytest.raises(RefusedError, match=r"has succeeded.*even_if_succeeded"):
        mediator.again("good")
    assert mediator.again("good", even_if_succeeded=True).saga_id == "good~2"
    assert mediator.wait("good~2").succeeded
    with pytest.raises(RefusedError, match="has not ended"):
        mediator.again("on", even_if_succeeded=True)
    with pytest.raises(UnknownExecutionError):
        mediator.again("unknown")


def test_another_definition_is_said(drive, journal):
    """It runs under today's definition, and the answer says that it is another version."""
    world = World()
    first = drive(failing(world, no()), journal=journal)
    first.run("order", 1, saga_id="o-1", check=False)
    first.close()

    today = drive(failing(World(), version="2"), journal=journal)
    again = today.again("o-1")

    assert (again.version, again.earlier_version, again.is_other_definition) == ("2", "1", True)
    assert today.wait("o-1~2").succeeded


def test_id_that_ended_earlier_says_how_to_run_it_again(drive, journal):
    """I run an id that failed yesterday: the error tells that nothing was run, and what to call."""
    mediator = drive(failing(World(), no()), journal=journal)
    with pytest.raises(SagaFailedError) as first:
        mediator.run("order", 1, saga_id="o-1")
    assert not hasattr(first.value, "__notes__")

    with pytest.raises(SagaFailedError) as second:
        mediator.run("order", 1, saga_id="o-1")

    assert "mediator.again('o-1')" in "".join(second.value.__notes__)


def test_ids_of_the_next():
    """The number at the end of an id counts; another sign does not."""
    assert [id_of_next(each) for each in ("a", "a~2", "a~9", "a~x", "a~0", "a~2~2")] == [
        *("a~2", "a~3", "a~10", "a~x~2", "a~0~2", "a~2~3")
    ]


def test_sealed_payload_is_run_again(drive, tmp_path):
    """A journal with a cipher runs its executions again as well; without the key it says so, and starts nothing."""
    pytest.importorskip("cryptography")
    path, cipher = tmp_path / "sagas.db", AesGcm({"k": b"0" * 32})
    mediator = drive(failing(World(), no(), "paid"), journal=SQLiteJournal(path, cipher=cipher))
    mediator.run("order", {"sku": 5}, saga_id="o-1", check=False)
    assert mediator.again("o-1", reason="why").saga_id == "o-1~2"
    assert mediator.wait("o-1~2").succeeded
    mediator.close()

    blind = drive(failing(World()), journal=SQLiteJournal(path))
    with pytest.raises(PayloadError):
        blind.again("o-1", new_id="other")
    assert len(blind.executions()) == 2
