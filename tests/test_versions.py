"""Definitions change while executions are in flight: each ends as what it was started as, or is parked and reported."""

from __future__ import annotations

import pytest

from fsm_mediator import DefinitionChangedError, DefinitionError, Mediator, Retry, Saga, SQLiteJournal, step
from fsm_mediator.definition.shape import Shape
from tests.drivers import MORTAL, Died


def made(done, *names, halts=None, retry=None):
    """Steps that write down what they do; one of them may end the run."""

    def one(name):
        def execute(order):
            if name == halts:
                raise Died
            done.append(name)

        made_step = step(name=name, retry=retry)(execute)
        made_step.compensation(lambda order: done.append(f"undo {name}"))
        return made_step

    return [one(name) for name in names]


@pytest.fixture
def left(drive, tmp_path):
    """A journal with an execution of version 1 that was left in its second step."""

    def leave():
        with pytest.raises(Died):
            drive(
                Saga("order", made([], "reserve", "charge", halts="charge"), version=1),
                journal=SQLiteJournal(tmp_path / "sagas.db"),
                **MORTAL,
            ).run("order", saga_id="old")
        return SQLiteJournal(tmp_path / "sagas.db")

    return leave


def test_both_versions_are_registered(drive, left):
    """What was started as version 1 ends as version 1, while version 2 starts new ones."""
    journal = left()
    one: list[str] = []
    two: list[str] = []
    v1 = Saga("order", made(one, "reserve", "charge"), version=1)
    v2 = Saga("order", made(two, "reserve", "check", "charge"), version=2)
    mediator = drive(v1, v2, journal=journal)

    mediator.recover()
    mediator.run("order", saga_id="new")

    assert one == ["charge"]
    assert two == ["reserve", "check", "charge"]
    assert mediator.outcome("old").saga is v1
    assert mediator.outcome("new").saga is v2


def test_the_old_version_is_gone(drive, left, caplog):
    """It is left where it stands and reported, with what differs; nothing is lost, and it goes on once it is back."""
    journal = left()
    done: list[str] = []
    newer = drive(Saga("order", made(done, "reserve", "check", "charge"), version=2), journal=journal)

    assert newer.recover() == []
    assert "old" in caplog.text
    with pytest.raises(DefinitionChangedError, match="check"):
        newer.outcome("old")
    assert [entry.state for entry in newer.executions()] == ["executing.charge"]

    drive(Saga("order", made(done, "reserve", "charge"), version=1), journal=journal).recover()
    assert done == ["charge"]


def test_what_is_read_live_may_change(drive, left):
    """Retry numbers, time-outs and functions are not part of the shape: a deploy may change them at any time."""
    journal = left()
    done: list[str] = []
    patient = Saga("order", made(done, "reserve", "charge", retry=Retry(attempts=7)), version=1)

    assert [outcome.state for outcome in drive(patient, journal=journal).recover()] == ["succeeded"]


def test_the_same_version_with_another_shape_is_told_apart(drive, left, caplog):
    """Forgetting to raise the version does not drive an execution by the wrong machine."""
    journal = left()
    done: list[str] = []
    changed = drive(Saga("order", made(done, "reserve", "pay"), version=1), journal=journal)

    assert changed.recover() == []
    assert done == []
    assert "pay" in caplog.text


def test_two_definitions_of_one_version_are_refused(drive):
    """Which one drives an execution must never be a matter of order."""
    with pytest.raises(DefinitionError, match="another version"):
        drive(Saga("order", made([], "a")), Saga("order", made([], "b")))


def test_starting_an_id_again_joins_it_whatever_version_it_runs(drive, left):
    """A client that asks again after a deploy gets the execution it asked for before."""
    journal = left()
    done: list[str] = []
    v1 = Saga("order", made(done, "reserve", "charge"), version=1)
    v2 = Saga("order", made([], "reserve", "check", "charge"), version=2)

    assert drive(v1, v2, journal=journal).run("order", saga_id="old").saga is v1


@pytest.mark.parametrize("version", ["ü", "\ud800"], ids=["letter", "half a character"])
def test_saga_of_any_version_runs_in_memory(version):
    """A version may be any short text, even half a character (a lone surrogate): its shape is kept all the same."""
    saga = Saga("order", made([], "reserve"), version=version)

    assert Mediator(saga).run("order").succeeded
    assert Shape.from_json(Shape.of(saga).to_json()) == Shape.of(saga)


class Shapeless:
    """A journal of somebody's own, which keeps no shapes of sagas."""

    def __init__(self, inner):
        self.inner = inner

    def __getattr__(self, name):
        if name == "shape":
            raise AttributeError(name)
        return getattr(self.inner, name)


def test_change_is_named_if_the_journal_keeps_no_shapes(drive, left):
    """What the execution was written by is not known: the message lists the steps of the registered saga."""
    newer = drive(Saga("order", made([], "reserve", "check", "charge"), version=2), journal=Shapeless(left()))

    with pytest.raises(DefinitionChangedError, match=r"version 2 has \w+: it has reserve, check, charge\. "):
        newer.outcome("old")
