"""The definition: what a person gets wrong is said when it is defined: what, where, and how to mend it."""

from __future__ import annotations

import functools
import inspect
import math
import subprocess
import sys
import threading
import typing
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock, Mock

import attrs
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsm_mediator import (
    Choose,
    Context,
    DefinitionError,
    DefinitionWarning,
    FunctionStep,
    LoggingObserver,
    Mediator,
    MemoryJournal,
    Parallel,
    Retry,
    RetryAfterError,
    Saga,
    Step,
    compare,
    conforms,
    explore,
    step,
    timeline,
    verify,
)
from fsm_mediator.definition.checks import check_name, plain_signature, snake_case
from fsm_mediator.exports import to_scxml, to_table, to_tla
from fsm_mediator.machine.machine import compile_machine
from fsm_mediator.machine.parts import Part


class Reserve(Step):
    """A participant that can be undone."""

    def execute(self, order):
        """Take it from the shelf."""

    def compensate(self, order):
        """Put it back."""


class Charge(Step):
    """A participant that cannot."""

    def execute(self, order, context):
        """Charge the card."""


class Go(Step):
    """A pivot."""

    pivot = True

    def execute(self, order):
        """Cross the line."""


def plain(order):
    """Not a step yet."""


SHOP = Saga("shop", [Reserve(), Charge()])


def returning(value: Any) -> Callable[[Any], Any]:
    """A step's function that returns *value*."""
    return lambda order: value


def step_with(**methods: Any) -> Step:
    """An instance of a step class ``Odd`` with these attributes."""
    made: Step = step_class("Odd", **{"execute": lambda self, order: None, **methods})()
    return made


def step_class(class_name: str, **attributes: Any) -> Any:
    """A step class of this name with these attributes."""
    return type(class_name, (Step,), {"__module__": __name__, **attributes})


def generator(self, order):
    """Yields, where it should return."""
    yield order


async def async_generator(self, order):
    """Yields, where it should return."""
    yield order


# Every mistake a person can make: how it is made, and what the message must say: what, where, and how to mend it.
MISTAKES: dict[str, tuple[Callable[[], object], list[str]]] = {
    # Sagas.
    "no parts": (lambda: Saga("shop", []), ["'shop'", "no parts", "at least one step"]),
    "nested saga without parts": (lambda: Saga("shop", [Saga("inner", [])]), ["'inner'", "no parts"]),
    "a step for the list": (lambda: Saga("shop", Reserve()), ["'shop'", "list of its parts"]),  # type: ignore[call-overload]
    "Step itself for the list": (lambda: Saga("shop", Step()), ["list of its parts"]),  # type: ignore[call-overload]
    "a saga for the list": (lambda: Saga("shop", Saga("in", [Reserve()])), ["list of its parts"]),  # type: ignore[call-overload]
    "a text for the list": (lambda: Saga("shop", "reserve"), ["list of its parts"]),  # type: ignore[arg-type]
    "None for the list": (lambda: Saga("shop", None), ["list of its parts"]),  # type: ignore[call-overload]
    "a class": (lambda: Saga("shop", [Charge(), Reserve]), ["'shop'", "part 2", "Reserve", "Reserve(...)"]),  # type: ignore[list-item]
    "a function": (lambda: Saga("shop", [plain]), ["part 1", "plain", "@step def plain(payload, context)"]),  # type: ignore[list-item]
    "a number": (lambda: Saga("shop", [7]), ["part 1", "7", "not a step or a saga"]),  # type: ignore[list-item]
    "None for a part": (lambda: Saga("shop", [Reserve(), None]), ["part 2", "None"]),  # type: ignore[list-item]
    "two of a name": (
        lambda: Saga("shop", [Reserve(), Charge(), Reserve()]),
        ["'shop'", "two parts named 'reserve'", ".named('another')"],
    ),
    "a step and a saga of one name": (
        lambda: Saga("shop", [Reserve(), Saga("reserve", [Charge()])]),
        ["two parts named 'reserve'"],
    ),
    "two of a name, nested": (
        lambda: Saga("shop", [Saga("inner", [Charge(), Charge()])]),
        ["'inner'", "two parts named 'charge'"],
    ),
    "two pivots": (
        lambda: Saga("shop", [Go(), Go().named("again")]),
        ["'shop'", "more than one pivot", "'go', 'again'"],
    ),
    "two pivots, one nested": (
        lambda: Saga("shop", [Saga("inner", [Go()]), Go()]),
        ["more than one pivot", "'inner.go', 'go'"],
    ),
    "a pivot that compensates": (
        lambda: Saga("shop", [Reserve().with_(pivot=True)]),
        ["'shop'", "pivot 'reserve'", "could never run", "Remove the compensate, or pivot=True"],
    ),
    "nested deadline": (
        lambda: Saga("shop", [Saga("inner", [Charge()], deadline=3)]),
        ["'shop'", "'inner'", "deadline", "only the outermost"],
    ),
    "nested deadline, deep": (
        lambda: Saga("shop", [Saga("mid", [Saga("inner", [Charge()], deadline=3)])]),
        ["'inner'", "deadline"],
    ),
    "deadline of zero": (lambda: Saga("shop", [Charge()], deadline=0), ["'shop'", "deadline", "greater than 0"]),
    "deadline of True": (lambda: Saga("shop", [Charge()], deadline=True), ["deadline", "not True"]),
    "deadline that is no number": (lambda: Saga("shop", [Charge()], deadline=math.nan), ["deadline", "not nan"]),
    "saga's retry is a number": (
        lambda: Saga("shop", [Charge()], retry=3),  # type: ignore[call-overload]
        ["'shop'", "retry must be a Retry", "not 3"],
    ),
    "saga's compensation_retry is a number": (
        lambda: Saga("shop", [Charge()], compensation_retry=3),  # type: ignore[call-overload]
        ["'shop'", "compensation_retry must be a Retry"],
    ),
    "empty version": (lambda: Saga("shop", [Charge()], version=" "), ["'shop'", "version", "' '"]),
    "version that is a fraction": (lambda: Saga("shop", [Charge()], version=1.5), ["version", "1.5"]),  # type: ignore[call-overload]
    "endless version": (lambda: Saga("shop", [Charge()], version="1" * 256), ["version must be a short text"]),
    "version True": (lambda: Saga("shop", [Charge()], version=True), ["version", "True"]),
    "payload that is no type": (lambda: Saga("shop", [Charge()], payload={}), ["'shop'", "payload must be a type"]),
    # Names.
    "saga's name with a space": (lambda: Saga("my shop", [Charge()]), ["'my shop'", "a saga", "begins with a letter"]),
    "saga's name is None": (lambda: Saga(None, [Charge()]), ["None cannot be the name of a saga"]),  # type: ignore[call-overload]
    "name with a dot": (lambda: Reserve().named("a.b"), ["'a.b'", "a step", ".named(...)"]),
    "name with a slash": (lambda: step(name="a/b")(plain), ["'a/b'", "name="]),
    "name with a line break": (lambda: Reserve().named("a\n"), ["cannot be the name"]),
    "name that begins with a digit": (lambda: Reserve().named("1st"), ["'1st'", "begins with a letter"]),
    "empty name": (lambda: Reserve().named(""), ["''", "cannot be the name"]),
    "endless name": (lambda: Reserve().named("a" * 256), ["at most 255"]),
    "name that is a number": (lambda: step(name=3)(plain), ["3 cannot be the name"]),  # type: ignore[call-overload]
    "name of a class": (lambda: Saga("shop", [step_with(name="a b")]), ["'a b'", "part 1 of saga 'shop'"]),
    "name of a lambda": (lambda: step(lambda order: None), ["'<lambda>'", "name="]),
    "name of a partial": (lambda: step(functools.partial(plain)), ["''", "name="]),
    "Step itself": (lambda: Saga("shop", [Step()]), ["part 1 of saga 'shop'"]),
    # Functions.
    "no execute": (
        lambda: Saga("shop", [step_class("Idle")()]),
        ["'shop'", "'idle'", "no execute", "define execute(self, payload, context)"],
    ),
    "execute is no function": (lambda: Saga("shop", [step_with(execute=3)]), ["'odd'", "execute", "3"]),
    "no parameter": (
        lambda: step(lambda: None),
        ["cannot be the name"],
    ),
    "a function without a parameter": (
        lambda: step(name="none")(lambda: None),
        ["'none'", "execute", "must take (payload) or (payload, context)"],
    ),
    "a method without self": (
        lambda: Saga("shop", [step_with(execute=lambda: None)]),
        ["'odd'", "execute(self, payload)"],
    ),
    "a method without payload": (
        lambda: Saga("shop", [step_with(execute=lambda self: None)]),
        ["'odd'", "must take (payload) or (payload, context)"],
    ),
    "three required": (
        lambda: Saga("shop", [step_with(execute=lambda self, order, context, more: None)]),
        ["'odd'", "execute", "(order, context, more)", "nothing else that is required"],
    ),
    "a required keyword": (
        lambda: step(name="key")(lambda order, *, context: None),
        ["'key'", "(order, *, context)", "nothing else that is required"],
    ),
    "compensate with three": (
        lambda: Saga("shop", [step_with(compensate=lambda self, a, b, c: None)]),
        ["'odd'", "compensate", "(a, b, c)"],
    ),
    "probe with none": (lambda: Saga("shop", [step_with(probe=lambda self: None)]), ["'odd'", "probe"]),
    "a generator": (
        lambda: Saga("shop", [step_with(execute=generator)]),
        ["'odd'", "generator", "must return its result, not yield"],
    ),
    "an async generator": (lambda: Saga("shop", [step_with(compensate=async_generator)]), ["generator", "not yield"]),
    "a generator function": (lambda: step(functools.partial(generator, None)), ["cannot be the name"]),
    "a named partial of a generator": (
        lambda: step(name="g")(functools.partial(generator, None)),
        ["'g'", "generator"],
    ),
    "@step on a class": (lambda: step(Reserve), ["Reserve", "for a class, subclass Step"]),
    "@step on a step": (lambda: step(step(plain)), ["@step takes a function"]),
    "@step on a number": (lambda: step(3), ["@step takes a function, not 3"]),  # type: ignore[call-overload]
    "a second compensation": (
        lambda: [made := step(plain), made.compensation(plain), made.compensation(plain)],
        ["'plain'", "has a compensate already"],
    ),
    "a second probe": (
        lambda: [made := step(plain), made.probing(plain), made.probing(plain)],
        ["'plain'", "has a probe already"],
    ),
    "a compensation of wrong arity": (
        lambda: step(plain).compensation(lambda: None),
        ["'plain'", "compensate", "must take (payload)"],
    ),
    # Settings.
    "with_ of an unknown setting": (
        lambda: Reserve().with_(atempts=3),  # type: ignore[call-arg]
        ["reserve.with_", "unknown setting 'atempts'", "retry, compensation_retry, timeout"],
    ),
    "with_ of a name": (
        lambda: Reserve().with_(name="x"),  # type: ignore[call-arg]
        ["unknown setting 'name'"],
    ),
    "@step of an unknown setting": (
        lambda: step(timout=1)(plain),  # type: ignore[call-overload]
        ["@step", "unknown setting 'timout'", "there are name, retry"],
    ),
    "retry is a number": (
        lambda: Reserve().with_(retry=3),  # type: ignore[arg-type]
        ["reserve", "retry must be a Retry, not 3"],
    ),
    "compensation_retry is a class": (
        lambda: Reserve().with_(compensation_retry=Retry),  # type: ignore[arg-type]
        ["reserve", "compensation_retry must be a Retry"],
    ),
    "timeout of zero": (lambda: Reserve().with_(timeout=0), ["reserve", "timeout (seconds)", "greater than 0"]),
    "negative timeout": (lambda: Reserve().with_(timeout=-1.0), ["timeout", "-1.0"]),
    "timeout True": (lambda: Reserve().with_(timeout=True), ["timeout", "not True"]),
    "timeout NaN": (lambda: Reserve().with_(timeout=math.nan), ["timeout", "not nan"]),
    "timeout infinite": (lambda: Reserve().with_(timeout=math.inf), ["timeout", "finite"]),
    "timeout beyond all floats": (lambda: Reserve().with_(timeout=10**400), ["timeout", "finite"]),
    "timeout as text": (
        lambda: Reserve().with_(timeout="2"),  # type: ignore[arg-type]
        ["timeout", "'2'"],
    ),
    "grace without timeout": (
        lambda: Reserve().with_(grace=1.0),
        ["reserve", "grace has no effect without a timeout", "set timeout too"],
    ),
    "negative grace": (lambda: Reserve().with_(timeout=1.0, grace=-0.1), ["grace", "of at least 0"]),
    "overtake is a number": (
        lambda: Reserve().with_(overtake=1),  # type: ignore[arg-type]
        ["overtake must be True or False, not 1"],
    ),
    "pivot is None": (
        lambda: Reserve().with_(pivot=None),  # type: ignore[arg-type]
        ["pivot must be True or False, not None"],
    ),
    "repeatable is a text": (
        lambda: Reserve().with_(repeatable="no"),  # type: ignore[arg-type]
        ["repeatable must be True or False"],
    ),
    "a timeout that no system can wait": (
        lambda: Reserve().with_(timeout=1e10),
        ["reserve: timeout=1e+10 is more than this system can wait", "for no limit, leave it out"],
    ),
    "a grace that no system can wait": (lambda: Reserve().with_(timeout=1, grace=1e300), ["grace=1e+300 is more than"]),
    "in_doubt_on is a list": (
        lambda: Reserve().with_(in_doubt_on=[ValueError]),  # type: ignore[arg-type]
        ["reserve", "in_doubt_on must be an exception type or a tuple of them"],
    ),
    "in_doubt_on holds a text": (
        lambda: Reserve().with_(in_doubt_on=(OSError, "x")),  # type: ignore[arg-type]
        ["in_doubt_on"],
    ),
    "a class with a wrong setting": (
        lambda: step_class("Slow", timeout="soon"),
        ["Slow", "timeout (seconds)", "'soon'"],
    ),
    "an instance with a wrong setting": (
        lambda: Saga("shop", [with_attribute(Charge(), "retry", 5)]),
        ["'shop'", "'charge'", "retry must be a Retry, not 5"],
    ),
    # Misspelt methods would silently never run.
    "compensation for compensate": (
        lambda: step_class("Odd", execute=plain, compensation=plain),
        ["Odd", "'compensation'", "is called 'compensate'"],
    ),
    "rollback for compensate": (lambda: step_with(rollback=plain), ["'rollback'", "'compensate'"]),
    "undo for compensate": (lambda: step_with(undo=plain), ["'undo'", "'compensate'"]),
    "run for execute": (
        lambda: step_class("Odd", run=plain),
        ["'run'", "is called 'execute'"],
    ),
    "a slip in compensate": (
        lambda: step_class("Odd", execute=plain, compensat=plain),
        ["Odd has 'compensat'", "did you mean 'compensate'?"],
    ),
    "a slip in a compensate that is inherited": (
        lambda: type("Odd", (Reserve,), {"__module__": __name__, "compensaet": plain}),
        ["'compensaet'", "did you mean 'compensate'?"],
    ),
    "a slip in execute": (lambda: step_class("Odd", exectue=plain), ["'exectue'", "did you mean 'execute'?"]),
    "a slip in timeout": (
        lambda: step_class("Odd", execute=plain, timout=5),
        ["Odd has 'timout'", "does not use", "did you mean 'timeout'?", "a name that is less like"],
    ),
    "a letter too few": (lambda: step_class("Odd", rety=Retry()), ["'rety'", "did you mean 'retry'?"]),
    "a slip in a property": (lambda: step_class("Odd", time_out=property(plain)), ["did you mean 'timeout'?"]),
    "a slip in in_doubt_on": (lambda: step_class("Odd", in_dubt_on=OSError), ["did you mean 'in_doubt_on'?"]),
    "retries for retry": (lambda: step_class("Odd", retries=5), ["Odd defines 'retries'", "is called 'retry'"]),
    # Retry.
    "attempts of zero": (lambda: Retry(attempts=0), ["Retry: attempts", "at least 1, or None for no limit", "not 0"]),
    "attempts of a fraction": (lambda: Retry(attempts=2.0), ["attempts", "not 2.0"]),  # type: ignore[arg-type]
    "attempts True": (lambda: Retry(attempts=True), ["attempts", "not True"]),
    "negative wait_initial": (lambda: Retry(wait_initial=-1), ["Retry: wait_initial", "of at least 0", "not -1"]),
    "wait_max NaN": (lambda: Retry(wait_max=math.nan), ["Retry: wait_max", "not nan"]),
    "wait_max beyond all floats": (lambda: Retry(wait_max=10**400), ["Retry: wait_max", "finite"]),
    "wait_initial above wait_max": (
        lambda: Retry(wait_initial=60),
        ["Retry: wait_initial=60 is more than wait_max=30", "raise wait_max"],
    ),
    "wait_jitter as text": (lambda: Retry(wait_jitter="1"), ["Retry: wait_jitter", "'1'"]),  # type: ignore[arg-type]
    "wait_exp_base below 1": (lambda: Retry(wait_exp_base=0.5), ["Retry: wait_exp_base", "of at least 1", "not 0.5"]),
    "on is a text": (lambda: Retry(on="ValueError"), ["Retry: on", "a tuple of them, or a predicate"]),  # type: ignore[arg-type]
    "on is a coroutine function": (lambda: Retry(on=coroutine), ["Retry: on", "coroutine"]),  # type: ignore[arg-type]
    "on is a list": (lambda: Retry(on=[ValueError]), ["Retry: on"]),  # type: ignore[arg-type]
    "on is empty": (lambda: Retry(on=()), ["Retry: on=() would never retry", "Retry(attempts=1)"]),
    "on is another type": (lambda: Retry(on=int), ["Retry: on", "exception type"]),  # type: ignore[arg-type]
    "on holds another type": (lambda: Retry(on=(ValueError, int)), ["Retry: on"]),  # type: ignore[arg-type]
    # Groups and choices.
    "a function in a group": (
        lambda: Parallel("g", [plain]),  # type: ignore[list-item]
        ["group 'g'", "plain", "is not a part", "made with @step"],
    ),
    "a number for each": (lambda: Parallel.each("g", 5, over=plain), ["group 'g': 5 is not a part"]),  # type: ignore[arg-type]
    "a payload of each that is no type": (
        lambda: Parallel.each("g", Charge(), over=plain, payload=5),
        ["group 'g'", "payload must be a type, not 5"],
    ),
    "a number to choose": (
        lambda: Choose("c", {"yes": 5}, by=plain),  # type: ignore[dict-item]
        ["choice 'c': 5 is not a part", "give steps"],
    ),
    # What is given a saga, or records.
    "a chart of a name": (lambda: to_scxml("shop"), ["to_scxml() takes a saga, not 'shop'"]),  # type: ignore[arg-type]
    "a module of a name": (lambda: to_tla("shop"), ["to_tla() takes a saga, not 'shop'"]),  # type: ignore[arg-type]
    "a table of a name": (lambda: to_table("shop"), ["to_table() takes a saga, not 'shop'"]),  # type: ignore[arg-type]
    "a label to explore": (lambda: explore(SHOP, "the saga begins"), ["path is a list of labels"]),
    "a number to explore": (lambda: explore(SHOP, 5), ["path is a list of labels", "not 5"]),  # type: ignore[arg-type]
    "verify of a name": (lambda: verify("shop"), ["verify() takes a saga, not 'shop'"]),  # type: ignore[arg-type]
    "verify of no nodes": (lambda: verify(SHOP, most_nodes=0), ["most_nodes must be a whole number"]),
    "compare with a number": (lambda: compare(SHOP, 5), ["compare() takes sagas", "not 5"]),  # type: ignore[arg-type]
    "compare with a list of renamed": (
        lambda: compare(SHOP, SHOP, renamed=["charge"]),  # type: ignore[arg-type]
        ["renamed must be a dict", "not ['charge']"],
    ),
    "conforms with a number": (lambda: conforms([], 5), ["conforms() takes records and a saga", "not 5"]),  # type: ignore[arg-type]
    "a timeline of a saga": (lambda: timeline(SHOP), ["timeline() takes records", "outcome.history"]),  # type: ignore[arg-type]
    "a timeline of texts": (lambda: timeline("ab"), ["timeline() takes records", "'a' is not a record"]),  # type: ignore[arg-type]
    "render to a number": (lambda: SHOP.diagram().render(5), ["path of a file, not 5"]),  # type: ignore[arg-type]
    "a wait that is a text": (lambda: RetryAfterError("5"), ["RetryAfterError: seconds", "not '5'"]),  # type: ignore[arg-type]
    "a number for a logger": (lambda: LoggingObserver(5), ["a logging.Logger or its name, not 5"]),  # type: ignore[arg-type]
    "a text for a level": (lambda: LoggingObserver(level="INFO"), ["level is a number, such as logging.INFO"]),  # type: ignore[arg-type]
    "a text for a size": (lambda: MemoryJournal(max_value_bytes="1"), ["max_value_bytes must be a finite number"]),  # type: ignore[arg-type]
    # Mediators.
    "a coroutine step for Mediator": (
        lambda: Mediator(Saga("shop", [step(name="slow")(AsyncMock())])),
        ["'shop'", "'slow'", "coroutine function", "use AsyncMediator, or make it a plain function"],
    ),
    "two sagas of one name and version": (
        lambda: Mediator(Saga("shop", [Charge()]), Saga("shop", [Reserve()])),
        ["'shop'", "version '1'", "another version"],
    ),
    "a step for a saga": (lambda: Mediator(Charge()), ["a mediator takes sagas"]),  # type: ignore[arg-type]
}


def with_attribute(step: Step, name: str, value: Any) -> Step:
    """The step with an attribute set behind everybody's back."""
    setattr(step, name, value)
    return step


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistake_is_said_when_defined(mistake: str) -> None:
    """Whatever I get wrong in a definition, I am told at once what it is, where it is and how to mend it."""
    make, said = MISTAKES[mistake]

    with pytest.raises(DefinitionError) as caught:
        make()

    assert isinstance(caught.value, ValueError)
    message = str(caught.value)
    assert [part for part in said if part not in message] == [], message


def test_step_may_have_attributes_and_methods_of_its_own() -> None:
    """A step's helpers are mine: only what is a known name but for a slip is taken for one, and refused."""

    class Charge(Step):
        retry = Retry()
        timeouts = 0
        retries: object = 0
        executed: object = False
        timed_out = recharge = False
        compensable = False
        executor = None
        trace = grade = entry = names = "mine"
        TIMEOUTS = RETRYS = 5

        class Timeot:
            """The card's terminal does not answer."""

        def __init__(self) -> None:
            self.client = self.executed = self.timer = self.retries = object()

        def execute(self, order):
            return self.re_execute(order)

        def re_execute(self, order):
            """Do it."""

        def executes(self, order):
            """Whether it does."""

        def timeot(self, order):
            """A method is no time-out."""

        def _compensat(self, order):
            """Hidden."""

    assert [part.path for part in Saga("shop", [Charge()]).parts] == ["charge"]


def test_keyword_only_retry_refuses_positions() -> None:
    """`Retry(3)` would not say what the 3 is."""
    with pytest.raises(TypeError):
        Retry(3)  # type: ignore[call-arg]


# Warnings


def test_compensate_after_the_pivot_is_warned_about_at_my_line() -> None:
    """A compensate that is never called is shown to me, at the line of my Saga(...), not inside the library."""
    with pytest.warns(DefinitionWarning) as caught:
        Saga("shop", [Go(), Reserve()])
    line = sys._getframe().f_lineno - 1

    (warning,) = caught
    assert (warning.filename, warning.lineno) == (__file__, line)
    assert str(warning.message) == "saga 'shop': 'reserve' comes after the pivot 'go'; its compensate is never called"


def test_compensate_after_the_pivot_is_warned_about_at_my_line_when_renamed() -> None:
    """Renaming a saga warns at my line as well."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DefinitionWarning)
        saga = Saga("shop", [Go(), Reserve()])
    with pytest.warns(DefinitionWarning) as caught:
        saga.named("other")
    line = sys._getframe().f_lineno - 1

    assert [(each.filename, each.lineno) for each in caught] == [(__file__, line)]


def test_compensate_before_the_pivot_is_not_warned_about() -> None:
    """The usual order, compensatable steps, pivot, forward steps, is quiet, where warnings are errors."""
    saga = Saga("shop", [Reserve(), Go(), Charge()])

    assert [(part.path, part.pivot, part.forward_only) for part in saga.parts] == [
        ("reserve", False, False),
        ("go", True, False),
        ("charge", False, True),
    ]


def test_a_compensate_after_the_pivot_is_never_part_of_the_machine() -> None:
    """What was warned about is true: after the pivot there is no state that compensates."""
    with pytest.warns(DefinitionWarning):
        saga = Saga("shop", [Go(), Reserve()])

    assert [state for state in saga.machine.states if "compensat" in state] == []


# What a definition is


def test_saga_is_immutable() -> None:
    """A saga that is running somewhere cannot be changed under its executions."""
    saga = Saga("shop", [Reserve(), Charge()], deadline=5)

    for attribute in ("name", "parts", "machine", "deadline", "anything"):
        with pytest.raises(AttributeError, match=r"saga 'shop' is immutable"):
            setattr(saga, attribute, None)
    with pytest.raises(AttributeError, match=r"saga 'shop' is immutable"):
        del saga.name
    assert (saga.name, saga.deadline) == ("shop", 5)


def test_saga_does_not_see_what_happens_to_the_list_it_was_made_of() -> None:
    """Appending to my list of steps afterwards changes no saga."""
    steps: list[Step | Saga] = [Reserve()]
    saga = Saga("shop", steps)
    steps.append(Charge())

    assert [part.path for part in saga.parts] == ["reserve"]
    assert isinstance(saga.parts, tuple)
    with pytest.raises(AttributeError):
        saga.parts[0].timeout = 3.0  # type: ignore[misc]


def test_settings_are_read_when_the_saga_is_defined() -> None:
    """Changing an attribute of a step later changes no saga that it is part of."""
    charge = Charge()
    saga = Saga("shop", [charge])
    charge.timeout = 9.0

    assert saga.parts[0].timeout is None


def test_one_definition_serves_many_threads() -> None:
    """Sixteen threads run the same saga at once, and each gets its own results."""
    saga = Saga("shop", [step(name="a")(lambda order: order * 2), step(name="b")(lambda order: order * 3)])
    together = threading.Barrier(4)

    def run(number: int) -> Any:
        if number < 4:
            together.wait(10)
        return dict(mediator.run(saga, number).results)

    with Mediator() as mediator, ThreadPoolExecutor(4) as pool:
        found = list(pool.map(run, range(16)))

    assert found == [{"a": 2 * number, "b": 3 * number} for number in range(16)]


def test_part_is_found_by_its_path() -> None:
    """`saga.part("inner.charge")` finds a nested step; a wrong path names those there are."""
    saga = Saga("shop", [Reserve(), Saga("inner", [Charge()])])

    assert saga.part("inner.charge").subject is saga.parts[1].subject
    with pytest.raises(LookupError, match=r"saga 'shop' has no part 'charge'; it has reserve, inner\.charge"):
        saga.part("charge")


def test_repr_shows_the_parts_in_order() -> None:
    """In a notebook I see what a saga is made of."""
    saga = Saga("shop", [Reserve(), Saga("inner", [Charge()])], version=2)

    assert repr(saga) == "<Saga 'shop' version 2: reserve → inner.charge>"
    assert repr(Reserve()) == "<Reserve 'reserve'>"
    assert repr(Step()) == "<Step None>"


# Names


@pytest.mark.parametrize(
    ("class_name", "name"),
    [
        ("ChargeStep", "charge"),
        ("ChargeCard", "charge_card"),
        ("HTTPCallStep", "http_call"),
        ("Charge2Step", "charge2"),
        ("Step_", "step"),
        ("OneStepAhead", "one_step_ahead"),
        ("charge", "charge"),
    ],
)
def test_step_is_named_after_its_class(class_name: str, name: str) -> None:
    """A step's name is its class name in snake_case, without a trailing Step."""
    assert step_class(class_name).name == name


def test_step_of_a_function_is_named_after_it() -> None:
    """A step made of a function bears the function's name, or the one I give."""
    assert step(plain).name == "plain"
    assert step(name="other")(plain).name == "other"
    assert step(plain)(3) is None
    assert step(plain).__doc__ == plain.__doc__


def test_subclass_of_a_step_has_a_name_of_its_own() -> None:
    """A subclass of my ChargeStep does not silently take its name over."""

    class Express(Charge):
        pass

    class Named(Step):
        name = "given"

    class Below(Named):
        pass

    assert (Charge.name, Express.name) == ("charge", "express")
    assert (Named.name, Below.name) == ("given", "below")


@given(st.text(min_size=1, max_size=20))
def test_every_name_is_either_refused_or_safe_in_a_state(name: str) -> None:
    """A name that is taken can be told apart in every state, path and key: no dot, slash, colon, space or control."""
    try:
        check_name("a step", name)
    except DefinitionError:
        return
    assert not set(name) & set("./: \t\n\r\"'`\\")
    assert name.isprintable()


@given(st.from_regex(r"[A-Z][A-Za-z0-9]{0,20}", fullmatch=True))
def test_every_class_name_makes_a_lawful_step_name(class_name: str) -> None:
    """Whatever I call my class, its step can be placed in a saga."""
    assert check_name("a step", step_class(class_name).name)
    assert snake_case(class_name) == snake_case(class_name).lower()


# Copies with other settings


@attrs.frozen
class Frozen(Step):
    """A participant as a frozen attrs class."""

    service: str = "billing"

    def execute(self, order):
        """Say who did it."""
        return self.service


@attrs.define
class Slotted(Step):
    """A participant as an attrs class with slots and a setting of its own."""

    service: str
    timeout: float | None = 2.0

    def execute(self, order):
        """Say who did it."""
        return self.service


@pytest.mark.parametrize("original", [Reserve(), Frozen(), Slotted("x"), step(plain)])
def test_with_and_named_make_another_step_and_leave_the_first(original: Step) -> None:
    """`step.with_(...)` and `.named(...)` give a copy; the step I had is as it was, frozen classes included."""
    before = (original.name, original.timeout, original.retry)

    other = original.with_(timeout=5, retry=Retry(attempts=7)).named("other")

    assert (original.name, original.timeout, original.retry) == before
    assert (other.name, other.timeout, other.retry) == ("other", 5, Retry(attempts=7))
    assert type(other) is type(original)
    part = Saga("shop", [other, original]).parts[0]
    assert (part.path, part.timeout, part.retry.attempts) == ("other", 5.0, 7)


def test_setting_may_be_a_property_or_a_field() -> None:
    """A step may compute its time-out, or take it as a field of an attrs class; it is checked when it is placed."""

    class Computed(Charge):
        def __init__(self, seconds: float) -> None:
            self.seconds = seconds

        @property
        def timeout(self) -> float:  # type: ignore[override]
            return 2 * self.seconds

    @attrs.define
    class Field(Charge):
        timeout: float | None = attrs.field(default=3.0)

    saga = Saga("shop", [Computed(2), Slotted("x"), Field()])

    assert [part.timeout for part in saga.parts] == [4.0, 2.0, 3.0]
    with pytest.raises(DefinitionError, match=r"saga 'shop', step 'computed': timeout \(seconds\) .* not -2"):
        Saga("shop", [Computed(-1)])


def test_failed_with_changes_nothing() -> None:
    """A with_ that is refused leaves no half-changed step behind."""
    reserve = Reserve()
    with pytest.raises(DefinitionError):
        reserve.with_(timeout=3, grace=-1)

    assert (reserve.timeout, reserve.grace) == (None, None)


def test_copy_of_a_function_step_can_be_given_a_compensation_of_its_own() -> None:
    """A copy's compensation is the copy's alone."""
    first = step(plain)
    second = first.named("second")
    second.compensation(plain)

    one, two = Saga("shop", [first, second]).parts
    assert one.compensate is None
    assert two.compensate is not None


# Settings, resolved


def test_step_without_retry_has_the_default_up_to_the_pivot_and_no_limit_after_it() -> None:
    """Unset means three attempts where there is a way back, and as many as it takes where there is none."""
    saga = Saga("shop", [Charge(), Go(), Charge().named("ship"), Charge().named("tell").with_(retry=Retry(attempts=2))])

    assert [part.retry.attempts for part in saga.parts] == [3, 3, None, 2]
    assert [part.compensation_retry.attempts for part in saga.parts] == [10] * 4


def test_retry_is_taken_from_the_step_then_the_nearest_saga() -> None:
    """A nested saga's retry goes for its steps, the outer saga's for the rest, a step's own before both."""
    inner = Saga(
        "inner",
        [Charge(), Charge().named("own").with_(retry=Retry(attempts=9))],
        retry=Retry(attempts=5),
    )
    saga = Saga(
        "shop",
        [Charge(), inner, Saga("plain", [Reserve()])],
        retry=Retry(attempts=4),
        compensation_retry=Retry(attempts=6),
    )

    assert {part.path: part.retry.attempts for part in saga.parts} == {
        "charge": 4,
        "inner.charge": 5,
        "inner.own": 9,
        "plain.reserve": 4,
    }
    assert {part.compensation_retry.attempts for part in saga.parts} == {6}


def test_grace_is_the_timeout_again_unless_set() -> None:
    """A grace of zero is a grace of zero; none is the time-out once more."""
    parts = Saga(
        "shop",
        [Charge().with_(timeout=2), Charge().named("b").with_(timeout=2, grace=0), Charge().named("c")],
    ).parts

    assert [(part.timeout, part.grace) for part in parts] == [(2.0, 2.0), (2.0, 0.0), (None, None)]


def test_in_doubt_on_may_be_one_type_or_none() -> None:
    """One exception type needs no tuple; an empty tuple switches the rule off."""
    one, none, usual = Saga(
        "shop",
        [
            Charge().with_(in_doubt_on=OSError),
            Charge().named("none").with_(in_doubt_on=()),
            Charge().named("usual"),
        ],
    ).parts

    assert (one.in_doubt_on, none.in_doubt_on) == ((OSError,), ())
    assert usual.in_doubt_on == (TimeoutError, ConnectionError)


class Typed(typing.TypedDict):
    """A payload."""

    amount: int


class Struct(msgspec.Struct):
    """A payload."""

    amount: int


@pytest.mark.parametrize("payload", [None, dict, int | None, list[int], Typed, Struct, Any, Frozen])
def test_payload_may_be_any_type(payload: Any) -> None:
    """Classes, unions, generics and TypedDicts are all types of a payload."""
    assert Saga("shop", [Charge()], payload=payload).payload is payload


# Signatures


class CallableObject:
    """Something callable with an annotation."""

    def __call__(self, order: Any, context: Context) -> int:
        """Return a number."""
        return 3


class AsyncObject:
    """Something callable whose call is a coroutine."""

    async def __call__(self, order: Any) -> str:
        """Return a text."""
        return ""


async def coroutine(order: Any) -> list[int]:
    """Return a list."""
    return [order]


def nothing(order: Any) -> None:
    """Return nothing."""


def no_annotation_that_exists(order: Missing) -> Missing:  # type: ignore[name-defined] # noqa: F821 - that is the test
    """Annotated with a name that is only imported for type checkers."""


SIGNATURES: dict[str, tuple[Any, bool, bool, Any]] = {
    # function, takes context, is a coroutine, returns
    "payload": (lambda order: None, False, False, Any),
    "payload and context": (lambda order, context: None, True, False, Any),
    "a second that is required, whatever its name": (lambda order, ctx: None, True, False, Any),
    "a second that is optional and named context": (lambda order, context=None: None, True, False, Any),
    "a second that is optional and named otherwise": (lambda order, retries=3: None, False, False, Any),
    "a third that is optional": (lambda order, context, verbose=False: None, True, False, Any),
    "an optional keyword": (lambda order, *, verbose=False: None, False, False, Any),
    "payload by position only": (lambda order, /: None, False, False, Any),
    "anything": (lambda *args, **kwargs: None, False, False, Any),
    "a mock": (Mock(), False, False, Any),
    "an async mock": (AsyncMock(), False, True, Any),
    "a callable object": (CallableObject(), True, False, int),
    "a callable object that is a coroutine": (AsyncObject(), False, True, str),
    "a coroutine": (coroutine, False, True, list[int]),
    "a partial": (functools.partial(lambda prefix, order: None, 1), False, False, Any),
    "a partial of a coroutine": (functools.partial(coroutine), False, True, list[int]),
    "a builtin without a signature": ({}.get, False, False, Any),
    "annotations that do not exist": (no_annotation_that_exists, False, False, Any),
    "annotated with None": (nothing, False, False, Any),
}


@pytest.mark.parametrize("name", SIGNATURES)
def test_signature_is_understood(name: str) -> None:
    """I may take the payload, or the payload and the context; anything callable will do."""
    function, takes_context, is_coroutine, returns = SIGNATURES[name]

    callback = Saga("shop", [step(name="it")(function)]).parts[0].execute

    assert callback is not None
    assert callback.function is function
    assert (callback.takes_context, callback.is_coroutine, callback.returns) == (takes_context, is_coroutine, returns)


def test_methods_are_looked_up_once() -> None:
    """What is called is what was there when the saga was defined; replacing a method later changes nothing."""
    charge = Reserve()
    saga = Saga("shop", [charge])
    charge.execute = None  # type: ignore[assignment, method-assign]

    callback = saga.parts[0].execute
    assert callback is not None
    assert callback.function == Reserve.execute.__get__(charge)
    assert callback.label == "Reserve.execute"


def test_static_and_class_methods_are_steps_too() -> None:
    """A participant need not look at itself."""

    class Static(Step):
        @staticmethod
        def execute(order):
            return order

        @classmethod
        def compensate(cls, order, context):
            return cls

    part = Saga("shop", [Static()]).parts[0]
    assert part.execute is not None
    assert part.compensate is not None
    assert (part.execute.takes_context, part.compensate.takes_context) == (False, True)


def test_subclass_can_take_a_compensation_away():
    """`compensate = None` in a subclass means that it has none."""

    class Final(Reserve):
        compensate = None  # type: ignore[assignment]

    assert [part.compensatable for part in Saga("shop", [Reserve(), Final()]).parts] == [True, False]


def test_function_step_shows_its_function() -> None:
    """A decorated function is still callable in my unit tests."""

    @step(retry=Retry(attempts=2))
    def double(order: int) -> int:
        """Twice as many."""
        return 2 * order

    @double.compensation
    def halve(order: int) -> None:
        """Half as many."""

    assert isinstance(double, FunctionStep)
    assert double(4) == 8
    assert halve(4) is None
    assert double.retry == Retry(attempts=2)


# Fingerprints


def shop(*steps: Step, **settings: Any) -> str:
    """The fingerprint of a saga of these steps."""
    return Saga("shop", steps, **settings).fingerprint


def test_fingerprint_does_not_change_with_what_may_change() -> None:
    """I may deploy other retries, time-outs, functions and payload types while sagas are under way."""
    assert (
        shop(Reserve(), Charge())
        == shop(Reserve().with_(retry=Retry(attempts=9), timeout=3.0, in_doubt_on=()), Charge())
        == shop(Reserve(), Charge(), payload=dict, deadline=3, retry=Retry(attempts=1), version="2")
        == shop(Reserve(), step(name="charge")(plain))
        == Saga("another", [Reserve(), Charge()]).fingerprint
    )


def test_fingerprint_is_as_in_the_journals_that_there_are() -> None:
    """Executions in users' journals go on only under the fingerprint with which they began."""
    assert shop(step(name="a")(lambda payload: None)) == "06f20bb432c3132c"


def test_fingerprint_changes_with_the_shape() -> None:
    """Another order, name, compensate, probe, pivot or repeatability is another machine, and is told apart."""
    probed = Charge()
    probed.probe = plain  # type: ignore[attr-defined]
    shapes = [
        shop(Charge(), Reserve()),
        shop(Reserve(), Charge()),
        shop(Reserve()),
        shop(Reserve(), Charge().named("pay")),
        shop(Reserve(), Reserve().named("charge")),
        shop(Reserve(), probed),
        shop(Reserve(), Charge().with_(pivot=True)),
        shop(Reserve(), Charge().with_(repeatable=False)),
        Saga("shop", [Reserve(), Saga("inner", [Charge()])]).fingerprint,
    ]

    assert len(set(shapes)) == len(shapes)


def test_fingerprint_is_the_same_in_every_process() -> None:
    """What one process journaled, another one recognises: nothing in it depends on hashing, order or addresses."""
    code = (
        "from fsm_mediator import Saga, step\n"
        "print(Saga('s', [step(name='a')(lambda p: 1), step(name='b', pivot=True)(lambda p: 1)]).fingerprint)"
    )
    root = str(Path(__file__).parent.parent)
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONPATH": root, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }

    assert found == {Saga("s", [step(name="a")(plain), step(name="b", pivot=True)(plain)]).fingerprint}


def test_part_alone_has_the_defaults_of_a_step() -> None:
    """What compiles machines without sagas (the verifier, tests) needs to name only what matters to it."""
    part = Part(path="a")

    assert (part.compensatable, part.can_outlive_its_timeout, part.compensation_can_outlive_its_timeout) == (
        False,
        False,
        False,
    )


class Methods:
    """Functions as methods."""

    def one(self, payload): ...

    def two(self, payload, context): ...

    async def later(self, payload): ...

    def none(self): ...

    @classmethod
    def of_class(cls, payload): ...

    @staticmethod
    def static(payload, context): ...


def _wrapped(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return function(*args, **kwargs)

    return wrapper


def _signed(payload): ...


_signed.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
    [inspect.Parameter(name, inspect.Parameter.POSITIONAL_ONLY) for name in ("payload", "context")]
)


async def _agen(payload):
    yield payload


def _gen(payload):
    yield payload


async def _two_later(payload, context): ...


FUNCTIONS: list[Any] = [
    lambda payload: None,
    lambda payload, context: None,
    lambda payload, whatever: None,
    lambda payload, context=None: None,
    lambda payload, whatever=None: None,
    lambda: None,
    lambda a, b, c: None,
    lambda *args: None,
    lambda payload, *, context=None: None,
    lambda payload, /, context: None,
    lambda payload, **rest: None,
    _two_later,
    _gen,
    _agen,
    _signed,
    _wrapped(_two_later),
    _wrapped(lambda payload: None),
    functools.partial(_two_later, 1),
    Methods().one,
    Methods().two,
    Methods().later,
    Methods().none,
    Methods.of_class,
    Methods.static,
    dict.get,
    len,
]


@pytest.mark.parametrize("function", FUNCTIONS, ids=map(str, range(len(FUNCTIONS))))
def test_what_is_read_off_the_code_is_what_inspect_says(function):
    """The usual functions need no long look; whatever is out of the usual gets one."""
    plain = plain_signature(function)
    if plain is not None:
        taken = [
            each
            for each in inspect.signature(function).parameters.values()
            if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD) and each.default is each.empty
        ]
        assert len(taken) == len(inspect.signature(function).parameters) in (1, 2)
        assert plain == (len(taken) == 2, inspect.iscoroutinefunction(function))


def test_most_functions_are_read_off_their_code():
    """Else the way is there for nobody."""
    assert plain_signature(lambda payload: None) == (False, False)
    assert plain_signature(_two_later) == (True, True)
    assert plain_signature(Methods().two) == (True, False)
    assert plain_signature(_wrapped(_two_later)) is plain_signature(_gen) is plain_signature(_agen) is None


# Size


def tower(groups: int) -> Saga:
    """A saga with so many groups, each in a branch of the one around it, each in a saga of its own."""
    innermost = step(name="x")(lambda order: None)
    inner: Any = innermost
    for number in range(groups):
        beside = step(name="y")(lambda order: None)
        inner = Saga(f"s{number}", [Parallel(f"g{number}", [beside, inner])])
    return inner  # type: ignore[no-any-return]


def test_nested_groups_are_compiled_once_each(monkeypatch):
    """A saga that is placed in a branch keeps its machine: a tower of groups takes no square of its height."""
    compiled = []

    def counted(parts: tuple[Part, ...]) -> Any:
        compiled.append(parts)
        return compile_machine(parts)

    monkeypatch.setattr("fsm_mediator.definition.saga.compile_machine", counted)

    saga = tower(20)

    assert len(compiled) <= 3 * 20
    inside = saga.branches["g19"]["s18"]
    assert (inside.name, inside.payload, inside.version) == ("s19/g19.s18", None, "1")
    assert inside.branches["g18"]["s17"].name == "s19/g19.s18/g18.s17"
    assert inside.branches["g18"]["y"].single == "y"


def test_saga_in_a_branch_takes_payload_and_version_of_the_whole():
    """A branch is driven as the whole says: its payload is of the whole's type, at every depth."""
    inner = Saga("inner", [Parallel("deep", [step(name="x")(lambda order: None)])], payload=int, version=7)

    whole = Saga("whole", [Parallel("fan", [inner], on_failure="settle")], payload=dict, version=2)
    branch = whole.branches["fan"]["inner"]

    assert (branch.payload, branch.version, branch.cancels_siblings) == (dict, "2", False)
    assert (branch.branches["deep"]["x"].payload, branch.branches["deep"]["x"].cancels_siblings) == (dict, True)
    assert inner.branches["deep"]["x"].payload is int


def test_saga_in_a_branch_inherits_the_policies_of_the_whole():
    """A saga that sets no policy takes that of the saga around its group, though it has been defined by itself."""
    inner = Saga("inner", [step(name="x")(lambda order: None)])

    whole = Saga("whole", [Parallel("fan", [inner])], retry=Retry(attempts=9))

    assert whole.branches["fan"]["inner"].parts[0].retry.attempts == 9
    assert inner.parts[0].retry.attempts == 3


@pytest.mark.parametrize("make", [tower, lambda groups: Saga("n", [nested(groups)])], ids=["sagas", "groups"])
def test_groups_nested_too_deep_are_refused_in_words(make):
    """Three hundred groups, each in a branch of another, are refused where they are defined, with the next move."""
    assert make(100).parts

    with pytest.raises(DefinitionError, match=r"nested more than 100 deep.*as a saga of its own"):
        make(300)


def nested(groups: int) -> Any:
    """So many groups, each the only branch of the one around it."""
    inner: Any = step(name="x")(lambda order: None)
    for number in range(groups):
        inner = Parallel(f"g{number}", [inner])
    return inner
