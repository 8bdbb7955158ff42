"""Errors: one root, a tree as it is drawn, and messages that say what happened, where, and the next move."""

from __future__ import annotations

import inspect
import math
import pickle
import re

import pytest

import fsm_mediator
from fsm_mediator import (
    AttemptTimedOutError,
    DefinitionError,
    Failure,
    MediatorError,
    MissingExtraError,
    RecordedError,
    RefusedError,
    RetryAfterError,
    StillRunningError,
    errors,
)

LINE = re.compile(r"^(?P<indent>[│ ]*)(?:[├└]── )?(?P<name>[A-Z]\w+(?:Error|Warning))(?: \((?P<also>\w+)\))?(?:\s|$)")


def drawn() -> dict[str, set[str]]:
    """The tree on top of errors.py: every name, and what it is drawn to inherit from."""
    bases: dict[str, set[str]] = {}
    above: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        found = LINE.match(line.removeprefix("    "))
        if found is None:
            continue
        depth = 0 if "── " not in line else len(found["indent"]) // 4 + 1
        above = above[:depth]
        bases[found["name"]] = {*above[-1:], *([found["also"]] if found["also"] else [])} or {"Exception"}
        above.append(found["name"])
    return bases


def test_tree_is_as_it_is_drawn() -> None:
    """The picture on top of errors.py shows every error there is, under what it inherits from."""
    real = {
        name: {base.__name__ for base in cls.__bases__}
        for name, cls in inspect.getmembers(errors, inspect.isclass)
        if cls.__module__ == errors.__name__
    }

    assert drawn() == real


def test_every_error_can_be_imported_from_the_package_and_is_documented() -> None:
    """`from fsm_mediator import AnyOfTheirErrors` works, and each says what it means."""
    for name in drawn():
        assert getattr(fsm_mediator, name) is getattr(errors, name)
        assert getattr(errors, name).__doc__.endswith(".") or "\n" in getattr(errors, name).__doc__


def test_one_except_clause_catches_all() -> None:
    """`except MediatorError` catches whatever this library raises."""
    roots = {
        name for name in drawn() if name.endswith("Error") and not issubclass(getattr(errors, name), MediatorError)
    }

    assert roots == set()


def test_mistakes_in_a_definition_are_value_errors() -> None:
    """Code that knows nothing of this library still sees a ValueError."""
    assert issubclass(DefinitionError, ValueError)


def test_missing_extra_names_the_command() -> None:
    """An optional dependency that is not there: I can copy the command that installs it."""
    error = MissingExtraError("saga.diagram().svg()", "diagrams")

    assert isinstance(error, ImportError)
    assert error.extra == "diagrams"
    assert str(error) == "saga.diagram().svg() needs the extra 'diagrams': pip install 'fsm-mediator[diagrams]'"


def test_still_running_says_what_to_ask_next() -> None:
    """When I stopped waiting, the error says where the saga was and how to ask for it."""
    error = StillRunningError("o-1", "executing.charge", 2.5)

    assert isinstance(error, TimeoutError)
    assert (error.saga_id, error.state) == ("o-1", "executing.charge")
    assert str(error) == (
        "saga 'o-1' is still in 'executing.charge' after 2.5 seconds; it continues in the background. "
        "Ask for it with mediator.outcome('o-1')"
    )


@pytest.mark.parametrize("seconds", [0, 0.5, 10])
def test_retry_after_keeps_the_seconds(seconds: float) -> None:
    """A step says how long to wait, with or without words."""
    assert RetryAfterError(seconds).seconds == seconds
    assert str(RetryAfterError(seconds)) == f"try again in {seconds:g} seconds"
    assert str(RetryAfterError(seconds, "rate limit")) == "rate limit"


@pytest.mark.parametrize("seconds", [-1, math.nan, math.inf, 1e11])
def test_retry_after_refuses_what_is_no_wait(seconds: float) -> None:
    """A wait that never ends, that no system can wait, or that is no number is refused where it is raised."""
    with pytest.raises(ValueError, match="seconds must be a number of at least 0 that this system can wait"):
        RetryAfterError(seconds)


def test_recorded_error_reads_as_the_first_did() -> None:
    """An exception of another process is shown by its type and text, and keeps its traceback."""
    recorded = Failure("shop.CardError", "declined", "Traceback ...").raised()

    assert isinstance(recorded, RecordedError)
    assert str(recorded) == "shop.CardError: declined"
    assert (recorded.type, recorded.message, recorded.traceback) == ("shop.CardError", "declined", "Traceback ...")
    assert str(RecordedError("KeyError", "")) == "KeyError"


def test_timed_out_attempt_is_a_timeout_error() -> None:
    """What waits for TimeoutError understands an attempt that gave no answer."""
    assert issubclass(AttemptTimedOutError, TimeoutError)


def test_refusals_of_operators_share_a_type() -> None:
    """A desk that shows refusals needs to catch one type."""
    for name in ("AlreadyDrivenError", "SagaIdTakenError", "MediatorClosedError"):
        assert issubclass(getattr(errors, name), RefusedError)


class OddError(Exception):
    """An error whose text cannot be had."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


def test_failure_of_an_error_that_cannot_be_shown() -> None:
    """An exception with a broken __str__ does not break the saga that it failed."""
    failure = Failure.of(OddError())

    assert failure.type == f"{__name__}.OddError"
    assert failure.message == "<its __str__ raised RuntimeError>"
    assert isinstance(failure.traceback, str)


def test_failure_keeps_the_exception_and_renders_its_traceback_when_asked() -> None:
    """While the process lives I get my own exception back; its traceback is text for everybody else."""
    try:
        raise KeyError("sku")
    except KeyError as error:
        raised = error
    failure = Failure.of(raised)

    assert failure.raised() is raised
    assert (failure.type, failure.message, str(failure)) == ("KeyError", "'sku'", "KeyError: 'sku'")
    assert "test_failure_keeps_the_exception" in failure.traceback


def test_failures_are_equal_by_what_a_person_reads() -> None:
    """Type and text make a failure; whether the exception is still alive does not."""
    assert Failure.of(ValueError("x")) == Failure("ValueError", "x", "some traceback")
    assert Failure("ValueError", "x") != Failure("ValueError", "y")
    assert hash(Failure("ValueError", "x")) == hash(Failure.of(ValueError("x")))
    assert Failure("ValueError", "x") != "ValueError: x"


def test_errors_that_steps_raise_survive_a_process_pool() -> None:
    """A step that runs its work in another process gets our errors back as they were raised."""
    for error in (
        errors.StepRejectedError("no"),
        errors.OutcomeUnknownError("?"),
        RetryAfterError(3, "later"),
        StillRunningError("o-1", "pending", 3.0),
        RecordedError("KeyError", "sku", "Traceback ..."),
        errors.IllegalRecordError("does not fit", 7),
        MissingExtraError("a picture", "diagrams"),
    ):
        again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
        assert type(again) is type(error)
        assert str(again) == str(error)
        assert vars(again) == vars(error)
