"""Forms of the monitor: their fields have the types of the signals and of the steps' results."""

from __future__ import annotations

import enum
from typing import Any, Literal

import pytest

from fsm_mediator import Mediator, OutcomeUnknownError, Parallel, Saga, Signal, Sleep, StepRejectedError, step
from fsm_mediator.errors import PayloadError
from fsm_mediator.journal.operators import Drivability
from fsm_mediator.ui.offers import Field, Offer, arguments, offer_for_many, offers, value_field
from fsm_mediator.ui.reading import Reader
from tests.drivers import ONCE, World, eventually


class Color(enum.Enum):
    """A type with few values."""

    RED = "r"
    BLUE = "b"


TRUTHS = [("true", "true"), ("false", "false")]
LETTERS = [('"a"', "a"), ('"b"', "b")]
COLORS = [('"r"', "RED"), ('"b"', "BLUE")]
NONE = ("", "none")


@pytest.mark.parametrize(
    ("type", "choices"),
    [
        *((bool, TRUTHS), (bool | None, [NONE, *TRUTHS])),
        *((Literal["a", "b"], LETTERS), (Literal["a", "b"] | None, [NONE, *LETTERS])),
        (Literal["a|b"], [('"a|b"', "a|b")]),
        *((Color, COLORS), (Color | None, [NONE, *COLORS])),
    ],
)
def test_value_with_few_values_is_chosen(type, choices):
    """No value that the type lacks can be written, and none is chosen only where the type has it."""
    field = value_field("value", "Value", type)

    assert list(field.choices) == choices
    offer = Offer("signal", "", "", (field,))
    for text, _ in choices:
        assert arguments(offer, {"value": text})["value"] in (True, False, "a", "b", "r", "a|b", None)
    with pytest.raises(PayloadError, match="is not a choice of 'Value'"):
        arguments(offer, {"value": '"c"'})


@pytest.mark.parametrize(
    ("type", "text", "value", "hint"),
    [
        (str, "[1]", "[1]", "Text, as it is."),
        (str | None, "[1]", "[1]", "Text, as it is."),
        (str | None, "", None, "Text, as it is."),
        (int, "7", 7, "JSON, a int; empty: null."),
        (int | None, "7", 7, "JSON, a int; empty: null."),
        (int | str, '"7"', "7", "JSON, a int | str; empty: null."),
        (dict[str, int], '{"a": 1}', {"a": 1}, "JSON, a dict; empty: null."),
        (list[int | None], "[null]", [None], "JSON, a list; empty: null."),
        (Any, "", None, "JSON; empty: null."),
    ],
)
def test_other_values_are_text_or_json(type, text, value, hint):
    """The words below the field name the type."""
    field = value_field("value", "Value", type)

    assert (field.choices, field.hint) == ((), hint)
    assert arguments(Offer("signal", "", "", (field,)), {"value": text}) == {"value": value}


def form(mediator: Any, saga_id: str, verb: str) -> dict[str, Field]:
    """The fields of a verb on the page of an execution; empty if it is not offered."""
    reader = Reader(mediator.journal, mediator.sagas, str)
    entry = reader.entry(saga_id)
    found = offers(reader.saga_of(entry), entry, Drivability(mediator.journal).why_not(entry), reader.hold_of(entry))
    return {field.name: field for offer in found if offer.verb == verb for field in offer.fields}


def test_signal_is_typed_by_its_payload():
    """A boolean is chosen; a sleep, which waits too, takes no signal."""
    with Mediator(Saga("s", [Signal("approve", payload=bool)]), park_after=0.0) as mediator:
        mediator.run("s", saga_id="o-1", check=False)
        assert form(mediator, "o-1", "signal")["value"].choices == tuple(TRUTHS)
        part = Reader(mediator.journal, mediator.sagas, str).part_of("s", None, "approve")
        fields = {field.name: field for field in offer_for_many("signal", part).fields}
        assert (fields["value"].choices, fields["signal"].value) == (tuple(TRUTHS), "approve")


def test_stuck_step_is_settled_with_a_result_of_its_type():
    """Its effect is asked for and a reason is required; a result of its type is asked for, and may be left empty."""

    @step(retry=ONCE, pivot=True)
    def charge(order) -> Color:
        raise OutcomeUnknownError("the bank is away")

    with Mediator(Saga("s", [charge])) as mediator:
        mediator.run("s", saga_id="o-1", check=False)
        fields = form(mediator, "o-1", "resolve")
        assert fields["result"].choices == tuple(COLORS)
        assert (fields["result"].required, fields["done"].required, fields["reason"].required) == (False, True, True)
        assert [value for value, _ in fields["done"].choices] == ["yes", "no"]
        resolve = Offer("resolve", "", "", tuple(fields.values()))
        written = {"done": "no", "result": '"r"', "reason": "none arrived"}
        assert arguments(resolve, written) == {"done": False, "reason": "none arrived"}
        assert arguments(resolve, {**written, "done": "yes"})["result"] == "r"


def test_stuck_compensation_is_settled_without_a_result():
    """The machine takes only that nothing is left of it: the form offers no other answer."""
    world = World()
    first = world.step("a", undo=[OSError("no")], compensation_retry=ONCE)
    with Mediator(Saga("s", [first, world.step("b", OSError("no"), retry=ONCE)])) as mediator:
        assert mediator.run("s", saga_id="o-1", check=False).state == "stuck.a"
        fields = form(mediator, "o-1", "resolve")
        assert [value for value, _ in fields["done"].choices] == ["no"]
        assert set(fields) == {"done", "reason"}


def test_sleep_takes_no_signal_and_a_step_gives_no_type_to_signals():
    """Neither has a value from outside."""
    saga = Saga("s", [World().step("a"), Sleep("nap", 3600.0)])
    with Mediator(saga, park_after=0.0) as mediator:
        mediator.start("s", saga_id="o-1")
        eventually(lambda: mediator.outcome("o-1").state == "waiting.nap")
        assert form(mediator, "o-1", "signal") == {}
        assert set(form(mediator, "o-1", "hold")) == {"reason"}
        part = Reader(mediator.journal, mediator.sagas, str).part_of("s", None, "a")
        fields = {field.name: field for field in offer_for_many("signal", part).fields}
        assert (fields["value"].choices, fields["signal"].value) == ((), "")


def test_branches_are_neither_repeated_nor_undone_alone():
    """A branch ends with its parent: only the parent is run again or undone."""
    world = World()
    parts = Saga("fine", [world.step("a")]), Saga("bad", [world.step("b", StepRejectedError("no"))])
    with Mediator(Saga("s", [Parallel("both", list(parts))]), Saga("t", [world.step("c")])) as mediator:
        assert mediator.run("s", saga_id="o-1", check=False).failed
        mediator.run("t", saga_id="o-2")
        assert form(mediator, "o-1", "again")
        assert form(mediator, "o-2", "undo")
        assert mediator.outcome("o-1/both.bad").failed
        assert form(mediator, "o-1/both.bad", "again") == {}
        with Mediator(Saga("s", [Parallel("both", [parts[0]])]), journal=mediator.journal) as other:
            other.run("s", saga_id="o-3")
            assert other.outcome("o-3/both.fine").succeeded
            assert form(other, "o-3/both.fine", "undo") == {}


def test_hold_of_a_saga_is_not_lifted_for_one_execution():
    """Its page offers neither to hold it again nor to lift the hold of all."""
    with Mediator(Saga("s", [Signal("go")]), park_after=0.0) as mediator:
        mediator.run("s", saga_id="o-1", check=False)
        assert form(mediator, "o-1", "hold")
        mediator.hold(saga="s", reason="the bank is away")
        assert form(mediator, "o-1", "hold") == form(mediator, "o-1", "unhold") == {}
        mediator.unhold(saga="s", reason="it is back")
        mediator.hold("o-1", reason="mine alone")
        assert form(mediator, "o-1", "unhold")
