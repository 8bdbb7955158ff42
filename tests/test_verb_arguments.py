"""The arguments of every verb of both mediators: a wrong one is refused before anything is written."""

from __future__ import annotations

import itertools
import math
from typing import Any, Protocol, TypedDict

import pytest

from fsm_mediator import (
    DefinitionError,
    InvalidSagaIdError,
    MediatorError,
    MemoryJournal,
    PayloadError,
    RefusedError,
    Saga,
    Signal,
    UnknownExecutionError,
)
from fsm_mediator.mediator.validation import check_saga_id, is_instance
from fsm_mediator.mediator.waiting import longer
from tests.drivers import World

VERBS: dict[str, dict[str, Any]] = {
    "cancel": {},
    "retry": {},
    "undo": {},
    "resolve": {"reason": "seen"},
    "signal": {"name": "go"},
    "again": {},
    "hold": {},
    "unhold": {},
    "abandon": {"reason": "seen"},
    "acknowledge": {},
    "set_attributes": {"attributes": {"tenant": "acme"}},
}
"""The verbs, with the arguments that they need."""

QUESTIONS = ("wait", "outcome", "diagram", "notes", "preview")
"""What can be asked about an execution."""


@pytest.fixture
def shop(drive):
    """A mediator with an execution that waits for a signal, and its journal."""
    world, journal = World(), MemoryJournal()
    mediator = drive(Saga("shop", [world.step("pay"), Signal("go", timeout=1e6)]), journal=journal)
    mediator.run("shop", saga_id="o-1", check=False)
    return mediator, journal


def untouched(journal: Any) -> bool:
    """Whether the execution is as it was: no item in its inbox, no note, no record."""
    entry = journal.find("o-1")
    return (
        entry.state == "waiting.go"
        and not list(journal.inbox("o-1"))
        and not journal.notes()
        and len(list(journal.entries())) == 1
    )


def test_every_verb_takes_the_id_of_an_execution(shop):
    """A number, a list or bytes in place of an id are refused in words."""
    mediator, journal = shop
    for verb, given in itertools.product((*VERBS, *QUESTIONS), (5, None, ["o-1"], b"o-1")):
        if given is None and verb in ("hold", "unhold"):  # they can also name a saga
            continue
        with pytest.raises(UnknownExecutionError, match="the id of an execution must be a text, not"):
            getattr(mediator, verb)(given, **VERBS.get(verb, {}))

    assert untouched(journal)


def test_every_verb_names_an_execution_that_is_there(shop):
    """An id that the journal does not know is said, and nothing is made of it."""
    mediator, journal = shop
    for verb in (*VERBS, *QUESTIONS):
        if verb == "unhold":
            continue
        with pytest.raises(UnknownExecutionError, match="knows no execution 'o-2'"):
            getattr(mediator, verb)("o-2", **VERBS.get(verb, {}))

    assert untouched(journal)


def test_every_verb_takes_the_name_of_its_actor(shop):
    """The name is written into the journal, so that it can be read later. It is a text."""
    mediator, journal = shop
    for (verb, words), given in itertools.product(VERBS.items(), (5, ["ann"], b"ann", {})):
        with pytest.raises(RefusedError, match=r"actor= must be a name, a text; .* is no text"):
            getattr(mediator, verb)("o-1", **words, actor=given)

    assert untouched(journal)


def test_every_verb_takes_a_reason_in_words(shop):
    """The reason is written into the journal, so that it can be read later. It is a text."""
    mediator, journal = shop
    for (verb, words), given in itertools.product(VERBS.items(), (5, ["because"], b"because")):
        if verb != "signal":
            with pytest.raises(RefusedError, match=r"a reason must be a text; .* is no text|resolve needs a reason"):
                getattr(mediator, verb)("o-1", **{**words, "reason": given})

    assert untouched(journal)


def test_decision_of_a_person_needs_a_reason(shop):
    """A person settles or gives up an execution: the journal says why."""
    mediator, journal = shop
    for verb, reason in itertools.product(("resolve", "abandon"), ("", "  ", None)):
        with pytest.raises(RefusedError, match=f"{verb} needs a reason: say "):
            getattr(mediator, verb)("o-1", reason=reason)

    assert untouched(journal)


def test_verb_waits_for_seconds(shop):
    """The seconds to wait for another driver are a finite number that this system can wait."""
    mediator, journal = shop
    for verb, timeout in itertools.product(("retry", "undo", "resolve"), ("x", math.nan, math.inf, None, 1e300)):
        with pytest.raises(DefinitionError, match=r"timeout \(seconds\)( must be a finite number|.* can wait)"):
            getattr(mediator, verb)("o-1", **VERBS[verb], timeout=timeout)

    assert untouched(journal)


def test_hold_has_one_subject(shop):
    """An execution, or a saga, a step or both. Anything else would hold more or less than was meant."""
    mediator, journal = shop
    wrong: list[dict[str, Any]] = [
        {},
        {"saga_id": "o-1", "saga": "shop"},
        {"saga_id": "o-1", "step": "pay"},
        {"saga": ""},
        {"saga": 5},
        {"step": ["pay"]},
        {"saga": "shop", "step": ""},
    ]
    for verb, subject in itertools.product(("hold", "unhold"), wrong):
        with pytest.raises(DefinitionError, match=r"hold what\? Give the id of an execution, or saga=, step= or both"):
            getattr(mediator, verb)(**subject)

    assert untouched(journal)


@pytest.mark.parametrize(
    ("saga_id", "done"),
    [
        ("x", True),
        ("x" * 255, True),
        ("x" * 256, False),
        ("", False),
        (" x", False),
        ("x ", False),
        ("a b", True),
        ("a/b", False),
        ("a:b", False),
        ("a\nb", False),
        ("\x7f", False),
        (5, False),
        (b"x", False),
    ],
)
def test_id_is_a_short_text_without_marks(saga_id, done):
    """One to 255 printable characters. The marks of branches and keys, and space around an id, are refused."""
    if done:
        check_saga_id(saga_id)
        return
    with pytest.raises(InvalidSagaIdError, match="cannot be a saga_id: it must be a text of 1 to 255 printable"):
        check_saga_id(saga_id)


class Named(Protocol):
    """A protocol that cannot be checked at run time."""

    name: str


class Order(TypedDict):
    """A dictionary that cannot be checked at run time."""

    item: str


@pytest.mark.parametrize(
    ("value", "type", "fits"),
    [
        (1, int, True),
        (1, float, True),
        (1.5, float, True),
        ("x", float, False),
        (1.5, int, False),
        ("x", int, False),
        (1, str, False),
        ({"item": 5}, Order, True),
        ("x", Named, True),
    ],
)
def test_value_fits_its_type_or_cannot_be_checked(value, type, fits):
    """A whole number fits float, as in annotations. A TypedDict or a protocol is taken as it is."""
    assert is_instance(value, type) == fits


def test_payload_and_signal_of_another_type_are_refused(drive):
    """A journal that keeps objects checks the declared types, too."""
    world = World()
    for type, value in ((int, "five"), (float, "five"), (str, 5)):
        mediator = drive(Saga("shop", [world.step("pay"), Signal("go", payload=type, timeout=1e6)], payload=type))
        with pytest.raises(PayloadError, match=f"saga 'shop' takes a {type.__name__}, not {value!r}"):
            mediator.start("shop", value, saga_id="o-1")
        assert mediator.executions() == []

        mediator.run("shop", type(7), saga_id="o-1", check=False)
        with pytest.raises(PayloadError, match=f"signal 'go' takes a {type.__name__}, not {value!r}"):
            mediator.signal("o-1", "go", value)
        mediator.signal("o-1", "go", type(8))
        assert mediator.wait("o-1").results["go"] == type(8)


def test_deadline_is_a_number_of_seconds_above_zero(drive):
    """A deadline that can never be met is refused, however the saga is begun."""
    world = World()
    mediator = drive(Saga("shop", [world.step("pay")]))
    for begin in (mediator.run, mediator.start, mediator.enqueue):
        for deadline in (0, -1.0, "x", math.nan):
            with pytest.raises(MediatorError, match="deadline"):
                begin("shop", saga_id="o-1", deadline=deadline)

    assert (mediator.executions(), world.calls) == ([], [])


def test_pauses_between_queries_grow_to_a_quarter_of_a_second():
    """Each pause is longer by half, so a quick answer is seen soon and a slow one costs little."""
    pauses = [0.002]
    while longer(pauses[-1]) != pauses[-1]:
        pauses.append(longer(pauses[-1]))

    assert pauses[:4] == pytest.approx([0.002, 0.003, 0.0045, 0.00675])
    assert (pauses[-1], len(pauses)) == (0.25, 13)
