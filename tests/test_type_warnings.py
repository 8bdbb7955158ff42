"""Warnings of types: payloads that are not declared, steps that disagree, and values that come back changed."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import re
import uuid
import warnings
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, NewType, Protocol, TypedDict

import msgspec
import pytest

from fsm_mediator import (
    Choose,
    DefinitionWarning,
    MemoryJournal,
    Parallel,
    Saga,
    Signal,
    SQLiteJournal,
    step,
)
from fsm_mediator.journal.type_warnings import agree
from tests.test_types import ORDER, WHEN, Money, Order

# Payloads that are not declared


class Struct(msgspec.Struct):
    amount: int


@dataclasses.dataclass
class Data:
    amount: int


class Plain(TypedDict):
    amount: int


class Priced(TypedDict):
    price: Decimal


class HasAmount(Protocol):
    amount: int


class Colour(enum.Enum):
    RED = "red"


def saga_of(*types: Any, payload: Any = None) -> Saga:
    """A saga whose steps annotate these types."""
    steps = []
    for number, kind in enumerate(types):

        def work(order):
            return None

        work.__annotations__["order"] = kind
        steps.append(step(name=f"step_{number}")(work))
    return Saga("shop", steps, payload=payload)


def said(caught: Any) -> list[str]:
    """The warnings."""
    return [str(each.message) for each in caught if issubclass(each.category, DefinitionWarning)]


@pytest.mark.parametrize("kind", [Order, Struct, Data, Decimal, dt.datetime, uuid.UUID, Colour, Priced, bytes])
def test_payload_that_steps_annotate_and_nobody_declares(drive, tmp_path, kind):
    """At the first registration with a journal that encodes, the warning gives the line to write; later not."""
    saga = saga_of(Any, kind)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drive(saga)
        drive(saga_of(kind, payload=kind), journal=MemoryJournal(encode=True))

    with pytest.warns(DefinitionWarning, match=rf"step_1.*'shop', \.\.\., payload={kind.__name__}\)") as caught:
        drive(saga, journal=SQLiteJournal(tmp_path / "sagas.db"))
    drive(saga, journal=MemoryJournal(encode=True))

    assert len(said(caught)) == 1
    assert caught[0].filename == __file__ or "drivers.py" in caught[0].filename


@pytest.mark.parametrize(
    "kind",
    [Any, dict, dict[str, int], list[dict[str, Any]], Mapping[str, Any], Plain, int | None, str, HasAmount, Money],
    ids=str,
)
def test_payload_that_comes_back_as_it_is_needs_no_declaration(drive, kind):
    """JSON types, and types that no journal takes: these are refused when one comes."""
    drive(saga_of(kind), journal=MemoryJournal(encode=True))


def test_generic_tuples_sets_and_keys_are_no_json(drive):
    """They would come back as lists, and keys as texts."""
    for kind in (tuple[int, int], set[str], dict[int, str], list[Decimal]):
        with pytest.warns(DefinitionWarning, match="payload="):
            drive(saga_of(kind), journal=MemoryJournal(encode=True))


def test_branches_take_the_payload_too_and_items_are_declared_at_their_group(drive):
    """A step in a branch counts as any step. Over items, the type belongs to `Parallel.each`."""

    @step
    def pack(order: Data) -> None: ...

    @step
    def ship(line: Struct) -> None: ...

    def route(order: Data) -> str:
        return "x"

    journal = MemoryJournal(encode=True)
    with pytest.warns(DefinitionWarning, match=r"Saga\('a', \.\.\., payload=Data\)"):
        drive(Saga("a", [Parallel("fan", [Saga("in", [pack])])]), journal=journal)
    with pytest.warns(DefinitionWarning, match=r"Parallel\.each\('each', \.\.\., payload=Struct\)"):
        drive(Saga("b", [Parallel.each("each", ship, over=lambda order: [])]), journal=journal)
    with pytest.warns(DefinitionWarning, match=r"choice 'way'.*Saga\('c', \.\.\., payload=Data\)"):
        drive(Saga("c", [Choose("way", {"x": step(name="y")(lambda order: None)}, by=route)]), journal=journal)
    drive(Saga("d", [Parallel.each("each", ship, over=lambda order: [], payload=Struct)]), journal=journal)


def test_steps_that_disagree_are_always_warned_of(drive, journal):
    """Whatever the journal, declared or not: one payload cannot be both."""
    with pytest.warns(DefinitionWarning, match=r"'step_1'.*takes a Struct.*'step_0'.*takes a Data"):
        drive(saga_of(Data, Struct), journal=journal)
    with pytest.warns(DefinitionWarning, match=r"'step_0'.*takes a Struct.*its declaration takes a Data"):
        drive(saga_of(Struct, payload=Data), journal=journal)


class Base:
    pass


class Derived(Base):
    pass


class Unasked(type):
    """The class of classes that cannot be asked for their subclasses."""

    def __subclasscheck__(cls, subclass: type) -> bool:
        raise TypeError


class Odd(metaclass=Unasked):
    pass


Identity = NewType("Identity", int)


@pytest.mark.parametrize(
    ("one", "other", "can_be"),
    [
        (Base, Derived, True),
        (Data, Struct, False),
        (Data, Data | None, True),
        (Data, Struct | None, False),
        (Plain, dict, True),
        (Plain, Mapping[str, int], True),
        (Plain, Data, False),
        (int, float, True),
        (int, str, False),
        (HasAmount, Data, True),
        (list[int], list[str], True),
        (object, Data, True),
        ("quoted", Data, True),
        (Odd, Data, True),
        (Identity, int, True),
        (Identity, str, False),
    ],
)
def test_types_agree_where_one_value_can_be_both(one, other, can_be):
    """Interfaces, base classes and unions agree with what has them."""
    assert agree(one, other) is can_be
    assert agree(other, one) is can_be


# Values without a declared type


@pytest.mark.parametrize("kind", ["encoded", "sqlite"])
@pytest.mark.parametrize(
    ("value", "change"),
    [
        ({"paid": Decimal(1)}, r"it\['paid'\] is a Decimal, and comes back as a str"),
        ([1, (2, 3)], r"it\[1\] is a tuple, and comes back as a list"),
        ({1: "x"}, "it has the key 1, which comes back as '1'"),
        (WHEN, "it is a datetime, and comes back as a str"),
        ({"c": [Colour.RED]}, r"it\['c'\]\[0\] is a Colour"),
        (ORDER, "it is a Order, and comes back as a dict"),
        ({"a"}, "it is a set, and comes back as a list"),
    ],
)
def test_untyped_values_that_come_back_changed_are_warned_of_once(drive, tmp_path, kind, value, change):
    """A payload, a result and a signal's value, each at the first run."""
    journal = MemoryJournal(encode=True) if kind == "encoded" else SQLiteJournal(tmp_path / "sagas.db")
    saga = Saga("s", [step(name="a")(lambda payload: value), Signal("go")])
    mediator = drive(saga, journal=journal)

    def run(saga_id: str) -> None:
        mediator.run("s", value, saga_id=saga_id, check=False)
        mediator.signal(saga_id, "go", value)

    with pytest.warns(DefinitionWarning) as caught:
        run("one")
    run("two")

    places = ["the payload of saga 's'", "the result of step 'a'", "the value of signal 'go'"]
    assert [message.partition(" comes back")[0] for message in said(caught)] == places
    for each in caught:
        assert re.search(change, str(each.message))


def test_values_that_come_back_as_they_are_are_not_warned_of(drive):
    """JSON types, None, and what is declared."""

    @step
    def typed(payload: Any) -> tuple[int, Decimal]:
        return (1, decimal.Decimal("2.0"))

    plain: dict[str, Any] = {"a": [1, 2.5, None, True, "x", {"b": []}]}
    saga = Saga("s", [typed, step(name="a")(lambda payload: plain), step(name="n")(lambda payload: None)])
    assert drive(saga, journal=MemoryJournal(encode=True)).run("s", plain).succeeded


def test_a_warning_that_is_an_error_is_a_refused_result(drive):
    """Under `-W error` the step's result is refused, and nothing is left where it stands."""
    saga = Saga("s", [step(name="a")(lambda payload: (1, 2))])
    outcome = drive(saga, journal=MemoryJournal(encode=True)).run("s", check=False)

    assert outcome.failed
    assert "comes back from the journal changed" in str(outcome.error)
