"""Wrong arguments of both mediators are refused at once, with an error of this library."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime

import pytest

from fsm_mediator import (
    AsyncMediator,
    DefinitionError,
    Limits,
    Mediator,
    MediatorError,
    RecordingObserver,
    RefusedError,
    Saga,
    Signal,
    StillRunningError,
    UnknownExecutionError,
    step,
)
from tests.drivers import World


@step
def charge(order):
    """Charge the card."""


SHOP = Saga("shop", [charge])


@pytest.mark.parametrize("kind", [Mediator, AsyncMediator])
@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"observers": 5}, "observers is a list of callables that take a Record, not 5"),
        ({"observers": print}, "observers is a list of callables"),
        ({"observers": [RecordingObserver]}, "is a class; give an instance: RecordingObserver(...)"),
        ({"observers": [5]}, "an observer is a callable that takes a Record, not 5"),
        ({"clock": 5}, "clock must be a function, not 5"),
        ({"sleep": 5}, "sleep must be a function, not 5"),
        ({"chance": 0.5}, "chance must be a function, not 0.5"),
        ({"max_workers": 1.5}, "max_workers must be a whole number of at least 1, not 1.5"),
        ({"max_workers": 0}, "max_workers must be a whole number of at least 1"),
        ({"close_grace": "x"}, "close_grace (seconds) must be a finite number"),
        ({"limits": {charge: 1}}, "must be the name or the path of a step"),
    ],
)
def test_settings_that_cannot_be_are_refused_when_it_is_made(kind, settings, said):
    """A mediator tells of a wrong setting when it is made, and not when the first saga comes to it."""
    with pytest.raises(DefinitionError) as caught:
        kind(SHOP, **settings)

    assert said in str(caught.value)


def test_a_sleep_that_must_be_awaited_is_refused_by_who_cannot():
    """`Mediator(sleep=asyncio.sleep)` would never wait, for nobody awaits it."""
    with pytest.raises(DefinitionError, match="coroutine function, which Mediator cannot await"):
        Mediator(SHOP, sleep=asyncio.sleep)  # type: ignore[arg-type]
    AsyncMediator(SHOP, sleep=asyncio.sleep)


@pytest.mark.parametrize("verb", ["wait", "outcome", "diagram", "cancel", "retry", "undo", "signal", "resolve"])
def test_an_execution_is_asked_for_by_its_id(drive, journal, verb):
    """Whoever gives the outcome, a number or a list in place of an id is told so, whatever the journal."""
    mediator = drive(SHOP, journal=journal)
    outcome = mediator.run("shop", saga_id="o-1")
    more = {"signal": {"name": "go"}, "resolve": {"reason": "seen"}}.get(verb, {})

    for given in (outcome, 5, None, ["o-1"], b"o-1"):
        with pytest.raises(UnknownExecutionError, match="the id of an execution must be a text, not"):
            getattr(mediator, verb)(given, **more)

    assert mediator.outcome("o-1").succeeded


@pytest.mark.parametrize("verb", ["cancel", "retry", "undo"])
def test_a_reason_is_said_in_words(drive, journal, verb):
    """What goes into the journal as a reason can be read."""
    mediator = drive(SHOP, journal=journal)
    mediator.run("shop", saga_id="o-1")

    with pytest.raises(RefusedError, match="a reason must be a text; 5 is no text"):
        getattr(mediator, verb)("o-1", reason=5)


def test_a_signal_is_meant_by_its_name(drive, journal):
    """A `Signal` in place of its name is refused in words."""
    approval = Signal("approval")
    mediator = drive(Saga("held", [approval]), journal=journal)
    mediator.run("held", saga_id="o-1", check=False)

    with pytest.raises(RefusedError, match="the name of a signal must be a text, not <Signal 'approval'>"):
        mediator.signal("o-1", approval)


@pytest.mark.parametrize("timeout", ["x", float("nan"), True])
def test_seconds_that_are_none_are_refused(drive, journal, timeout):
    """`run`, `wait` and `close` take seconds, and nothing is started or closed when they are given something else."""
    mediator = drive(SHOP, journal=journal)
    mediator.run("shop", saga_id="o-1")

    for asked in (
        lambda: mediator.wait("o-1", timeout=timeout),
        lambda: mediator.run("shop", saga_id="o-2", timeout=timeout),
        lambda: mediator.close(grace=timeout),
    ):
        with pytest.raises(DefinitionError, match=r"\(seconds\) must be a finite number, not"):
            asked()

    assert [entry.saga_id for entry in mediator.executions()] == ["o-1"]


def test_a_time_that_has_passed_is_no_time_to_wait(drive, journal):
    """Whoever works out what is left of his own deadline may come to less than nothing."""
    mediator = drive(SHOP, journal=journal)
    mediator.run("shop", saga_id="o-1")
    assert mediator.wait("o-1", timeout=-0.5).succeeded
    with contextlib.suppress(StillRunningError):
        mediator.run("shop", saga_id="o-2", timeout=-0.5)
    assert mediator.wait("o-2").succeeded
    mediator.close(grace=-0.5)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"state": "banana"}, "state='banana' is no state. A state is, or begins with, one of pending, executing"),
        ({"state": "banana.charge"}, "is no state"),
        ({"state": 5}, "is no state"),
        ({"saga": SHOP}, "must be the name of a saga, a text: saga='shop'"),
        ({"saga": 5}, "must be the name of a saga"),
        ({"limit": "x"}, "limit='x' must be a whole number of at least 0, or None for no limit"),
        ({"limit": -1}, "limit=-1 must be a whole number"),
        ({"limit": 1.5}, "limit=1.5 must be a whole number"),
    ],
)
def test_a_list_that_nothing_can_be_on_is_refused(drive, journal, asked, said):
    """An empty list says that all is well, and so is never the answer to a slip."""
    mediator = drive(SHOP, journal=journal)

    with pytest.raises(DefinitionError) as caught:
        mediator.executions(**asked)

    assert said in str(caught.value)


def test_a_list_may_ask_for_what_is_not_registered(drive, journal):
    """A journal may hold sagas and steps that this mediator does not know: to ask for those is no slip."""
    mediator = drive(Saga("shop", [World().step("charge", ValueError("no money"))]), journal=journal)
    mediator.run("shop", saga_id="o-1", check=False)

    assert mediator.executions(state="stuck.reserve", saga="elsewhere", limit=0) == []
    assert [entry.saga_id for entry in mediator.executions(state="failed")] == ["o-1"]


@pytest.mark.parametrize("given", [5, None, [charge], charge])
def test_what_is_run_is_a_saga_or_its_name(drive, journal, given):
    """Anything else is refused in words, and starts nothing."""
    mediator = drive(SHOP, journal=journal)

    for start in (mediator.run, mediator.start):
        with pytest.raises(MediatorError, match="a mediator takes sagas, not"):
            start(given)

    assert mediator.executions() == []


def test_limits_are_by_the_names_of_steps():
    """A step in place of its name would limit nothing."""
    with pytest.raises(DefinitionError, match="must be the name or the path of a step, a text"):
        Limits({charge: 1})  # type: ignore[dict-item]


@pytest.mark.parametrize("before", ["2026-01-01", datetime.now(UTC), float("nan"), True])
def test_what_is_no_time_prunes_nothing(journal, drive, before):
    """A date in place of seconds deletes nothing: SQLite would take it for later than all there is."""
    drive(SHOP, journal=journal).run("shop", saga_id="o-1")

    with pytest.raises(DefinitionError, match=r"is not a time: give seconds since the epoch.*\.timestamp\(\)"):
        journal.prune(before)
    with pytest.raises(DefinitionError, match="is not a time"):
        list(journal.entries(before=before))
    with pytest.raises(DefinitionError, match="limit='5' must be a whole number"):
        journal.prune(0.0, limit="5")

    assert journal.find("o-1") is not None
    assert journal.prune(float("inf")) == 1
