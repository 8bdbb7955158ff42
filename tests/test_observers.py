"""Observers: what is logged, at which level and with which fields; what is remembered; what is no observer."""

from __future__ import annotations

import importlib
import logging
import pkgutil

import pytest

from fsm_mediator import (
    DefinitionError,
    LoggingObserver,
    MemoryJournal,
    RecordingObserver,
    Saga,
    StepRejectedError,
    step,
)
from fsm_mediator import mediator as mediator_package
from fsm_mediator.records import Failure, Record
from tests.drivers import ONCE, QUICK

LOGGER = "fsm_mediator.saga"


def shop(*errors: Exception, undoes: bool = True) -> Saga:
    """Reserves, then charges; a charge raises *errors* one after the other, then is given up."""
    trouble = iter(errors)

    @step(retry=QUICK, compensation_retry=ONCE)
    def reserve(payload):
        return "r-1"

    @reserve.compensation
    def release(payload):
        if not undoes:
            raise RuntimeError("the shelf is locked")

    @step(retry=QUICK)
    def charge(payload):
        for error in trouble:
            raise error

    return Saga("shop", [reserve, charge])


def logged(drive, saga: Saga, caplog, observer: LoggingObserver | None = None) -> list[logging.LogRecord]:
    """What the observer logs while the saga runs."""
    observer = observer or LoggingObserver()
    with caplog.at_level(logging.DEBUG):
        drive(saga, journal=MemoryJournal(), observers=[observer]).run("shop", saga_id="o-1", check=False)
    return [line for line in caplog.records if line.name == observer.logger.name]


# Logging


def test_one_line_is_logged_for_each_transition(drive, caplog):
    """My log tells the saga's whole story, a line for each transition, readable as it stands."""
    lines = logged(drive, shop(ConnectionError("no route"), StepRejectedError("card refused")), caplog)

    assert [line.getMessage() for line in lines] == [
        "shop o-1 start: pending -> executing.reserve",
        "shop o-1 executed attempt 1: executing.reserve -> executing.charge",
        "shop o-1 errored attempt 1: executing.charge -> retrying.charge (in doubt): ConnectionError: no route",
        "shop o-1 retry_due attempt 1: retrying.charge -> executing.charge (in doubt)",
        (
            "shop o-1 rejected attempt 2: executing.charge -> compensating.reserve (in doubt): "
            "fsm_mediator.errors.StepRejectedError: card refused"
        ),
        "shop o-1 compensated attempt 1: compensating.reserve -> failed",
    ]


def test_fields_can_be_searched_for(drive, caplog):
    """Whoever ships logs as JSON finds each field by name; an error is there as text."""
    lines = logged(drive, shop(ValueError("no such card")), caplog)

    fields = {name: value for name, value in vars(lines[2]).items() if name.startswith("saga")}
    assert fields == {
        "saga": "shop",
        "saga_id": "o-1",
        "saga_seq": 3,
        "saga_event": "errored",
        "saga_source": "executing.charge",
        "saga_target": "retrying.charge",
        "saga_step": "charge",
        "saga_attempt": 1,
        "saga_error": "ValueError: no such card",
    }
    assert [vars(line)["saga_error"] for line in lines if line is not lines[2]] == [None] * (len(lines) - 1)
    assert [vars(line)["saga_seq"] for line in lines] == list(range(1, len(lines) + 1))


@pytest.mark.parametrize(
    ("undoes", "levels"),
    [
        (True, ["INFO", "INFO", "WARNING", "INFO"]),
        (False, ["INFO", "INFO", "WARNING", "ERROR"]),
    ],
)
def test_trouble_is_louder_and_what_needs_me_is_loudest(drive, caplog, undoes, levels):
    """What goes as it should is INFO, what fails WARNING, what waits for a person ERROR."""
    lines = logged(drive, shop(StepRejectedError("card refused"), undoes=undoes), caplog)

    assert [line.levelname for line in lines] == levels


def test_logger_and_levels_are_mine_to_choose(drive, caplog):
    """I can log to a logger of my own, at levels of my own, and what it does not want costs nothing."""
    mine = logging.getLogger("acme.sagas")
    observer = LoggingObserver(mine, level=logging.DEBUG, trouble_level=logging.INFO, stuck_level=logging.CRITICAL)
    lines = logged(drive, shop(StepRejectedError("card refused"), undoes=False), caplog, observer)

    assert [line.levelname for line in lines] == ["DEBUG", "DEBUG", "INFO", "CRITICAL"]
    assert LoggingObserver("acme.sagas").logger is mine


def test_line_that_nobody_wants_is_not_made(caplog):
    """Where the logger is set to WARNING, a transition that goes as it should is not even put in words."""

    class Costly(Failure):
        def __str__(self) -> str:
            raise AssertionError("put in words")

    record = Record("o-1", "shop", 1, "errored", "executing.a", "retrying.a", 0.0, error=Costly("ValueError"))
    with caplog.at_level(logging.ERROR, LOGGER):
        LoggingObserver()(record)

    assert caplog.records == []


def test_percent_signs_are_only_text(caplog):
    """An error message or an id with a percent sign in it is logged as it is."""
    record = Record("50%s", "shop", 1, "errored", "executing.a", "retrying.a", 0.0, error=Failure("E", "100 %d"))
    with caplog.at_level(logging.INFO, LOGGER):
        LoggingObserver()(record)

    assert caplog.messages == ["shop 50%s errored: executing.a -> retrying.a: E: 100 %d"]


def test_nothing_else_is_logged_at_info(drive, caplog):
    """A run that succeeds is silent but for my observer: `transitions` and the library add no lines."""
    with caplog.at_level(logging.INFO):
        drive(shop(), journal=MemoryJournal(), observers=[LoggingObserver()]).run("shop")

    assert {line.name for line in caplog.records} == {LOGGER}


# Remembering


def test_recording_observer_remembers_all_in_order(drive):
    """In my tests, I can ask what happened: every record, or events and steps at a glance."""
    seen = RecordingObserver()
    outcome = drive(shop(), journal=MemoryJournal(), observers=[seen]).run("shop")

    assert seen.records == list(outcome.history)
    assert seen.events == [("start", None), ("executed", "reserve"), ("executed", "charge")]


def test_any_callable_is_an_observer(drive):
    """A lambda, or the `append` of a list, observes as well as a class does."""
    one: list[Record] = []
    two: list[str] = []
    observers = [one.append, lambda record: two.append(record.event)]
    outcome = drive(shop(), journal=MemoryJournal(), observers=observers).run("shop")

    assert one == list(outcome.history)
    assert two == [record.event for record in one]


def test_record_is_durable_before_it_is_told(drive):
    """What an observer is told of is in the journal already: it can be looked up, and is never taken back."""
    journal = MemoryJournal()
    kept: list[bool] = []
    drive(
        shop(ValueError("x")),
        journal=journal,
        observers=[lambda record: kept.append(record in journal.records(record.saga_id))],
    ).run("shop", saga_id="o-1")

    assert kept
    assert all(kept)


async def coroutine(record: Record) -> None:
    """What is no observer: nobody awaits it."""


@pytest.mark.parametrize(
    ("observer", "said"), [("a name", "a callable that takes a Record"), (coroutine, "not awaited")]
)
def test_what_is_no_observer_is_refused_when_the_mediator_is_made(drive, observer, said):
    """An observer that could never work is a mistake that I hear of at once, not in the middle of a saga."""
    with pytest.raises(DefinitionError, match=said):
        drive(shop(), observers=[observer])


def test_an_error_of_many_lines_is_one_line_of_log(drive, caplog):
    """Nobody forges a log line with the message of an error; the text as it was is in ``extra``."""
    caplog.set_level("INFO")

    @step(retry=ONCE)
    def a(order):
        raise ValueError("no\n2026-01-01 INFO forged")

    drive(Saga("logged", [a]), observers=[LoggingObserver()]).run("logged", check=False)

    told = [record for record in caplog.records if "forged" in record.getMessage()]
    assert [record.getMessage().count("\n") for record in told] == [0]
    assert "\n" in told[0].saga_error


def test_every_module_logs_where_users_look():
    """A user who sets the level or a handler of the logger `fsm_mediator` reaches the messages of all mediators."""
    names = [f"fsm_mediator.mediator.{each.name}" for each in pkgutil.iter_modules(mediator_package.__path__)]
    loggers = {name: getattr(importlib.import_module(name), "logger", None) for name in names}
    found = {name: each.name for name, each in loggers.items() if each is not None}

    assert len(found) > 10
    assert [name for name, of in found.items() if of.partition(".")[0] != "fsm_mediator"] == []
