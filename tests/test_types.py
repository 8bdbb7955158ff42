"""Types of payloads, results and signals: models of pydantic, types with hooks, and warnings of what is lost."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import json
import os
import re
import subprocess
import sys
import uuid
import warnings
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Protocol, TypedDict

import msgspec
import pydantic
import pytest
from click.testing import CliRunner

from fsm_mediator import (
    Choose,
    DefinitionError,
    DefinitionWarning,
    Mediator,
    MemoryJournal,
    Parallel,
    PayloadError,
    Saga,
    SagaIdTakenError,
    Signal,
    SQLiteJournal,
    step,
)
from fsm_mediator.cli.commands import cli
from fsm_mediator.journal.lines import plain
from fsm_mediator.journal.type_warnings import agree
from tests.drivers import ONCE

# Models of pydantic


class Line(pydantic.BaseModel):
    sku: str
    price: Decimal
    weight: float | None = None


class Order(pydantic.BaseModel):
    """With what a model can have: aliases of every kind, a computed field, strict and nested models, a private one."""

    model_config = pydantic.ConfigDict(extra="forbid")

    number: uuid.UUID
    at: dt.datetime
    lines: list[Line]
    user: str = pydantic.Field(alias="userName")
    card: str | None = pydantic.Field(None, validation_alias="cardToken")
    kind: str = pydantic.Field("web", serialization_alias="orderKind")
    photo: bytes = b"\x01"
    _hint: str = "none"

    @pydantic.computed_field  # type: ignore[prop-decorator]
    @property
    def total(self) -> Decimal:
        return sum((line.price for line in self.lines), Decimal(0))


class Receipt(pydantic.BaseModel, strict=True, frozen=True):
    at: dt.datetime
    paid: Decimal


class Tags(pydantic.RootModel[set[str]]):
    pass


WHEN = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)
LINES = [Line(sku="tea", price=Decimal("9.50"))]
ORDER = Order.model_validate(
    {"number": uuid.UUID(int=7), "at": WHEN, "lines": LINES, "userName": "a", "cardToken": "t"}
)
RECEIPT = Receipt(at=WHEN, paid=Decimal("9.50"))


def test_models_work_as_payload_result_and_signal_with_every_journal(drive, journal):
    """Every step sees models, whose fields are of their own types; in the next process too."""
    seen: list[Any] = []

    @step
    def charge(order: Order) -> Receipt:
        seen.append(order)
        return Receipt(at=order.at, paid=order.total)

    @step
    def tag(order: Order) -> dict[str, list[Tags | None]]:
        return {"x": [Tags({"new", "gift"}), None]}

    @step
    def book(order: Order, context: Any) -> None:
        seen.append(dict(context.results))

    signal = Signal("approved", payload=Receipt)
    each = Parallel.each("items", step(name="pack")(seen.append), over=lambda o: o.lines, payload=Line)
    saga = Saga("shop", [charge, tag, signal, each, book], payload=Order)
    mediator = drive(saga, journal=journal)

    mediator.run("shop", ORDER, saga_id="s", check=False)
    mediator.signal("s", "approved", RECEIPT)
    assert mediator.wait("s").succeeded
    assert mediator.run("shop", ORDER.model_copy(), saga_id="s").succeeded
    with pytest.raises(SagaIdTakenError):
        mediator.run("shop", ORDER.model_copy(update={"kind": "app"}), saga_id="s")

    assert seen[0] == ORDER
    assert seen[1] == ORDER.lines[0]
    assert seen[2]["charge"] == seen[2]["approved"] == RECEIPT
    assert seen[2]["tag"] == {"x": [Tags({"new", "gift"}), None]}
    assert drive(saga, journal=journal).outcome("s").results["charge"] == RECEIPT


def test_models_are_shown_as_their_fields():
    """In the JSON of an outcome and in lines for people; a value that only Python knows is shown as its repr."""
    saga = Saga("shop", [step(name="charge")(lambda order: [RECEIPT, print])])
    results = json.loads(Mediator(saga).run("shop", ORDER).to_json())["results"]

    assert results["charge"] == [{"at": "2026-01-02T00:00:00Z", "paid": "9.50"}, repr(print)]
    assert plain({"paid": RECEIPT, "by": print}) == {"paid": results["charge"][0], "by": repr(print)}


@pytest.mark.parametrize("kind", ["encoded", "sqlite"])
def test_values_that_a_model_refuses_are_refused(drive, tmp_path, kind):
    """A dict is taken for the model, by names or by aliases; what the model refuses starts nothing."""
    journal = MemoryJournal(encode=True) if kind == "encoded" else SQLiteJournal(tmp_path / "sagas.db")

    @step(retry=ONCE)
    def charge(order: Order) -> Receipt:
        return {"at": "soon", "paid": 1}  # type: ignore[return-value]

    mediator = drive(Saga("shop", [charge], payload=Order), journal=journal)
    plain: dict[str, Any] = {"number": str(uuid.UUID(int=7)), "at": "2026-01-02T00:00:00Z", "lines": []}

    with pytest.raises(PayloadError, match="userName"):
        mediator.run("shop", plain)
    outcome = mediator.run("shop", {**plain, "userName": "ann"}, check=False)
    assert "valid datetime" in str(outcome.error)
    assert outcome.leftovers == ("charge",)
    nan = ORDER.model_copy(update={"lines": [Line(sku="x", price=Decimal(1), weight=float("nan"))]})
    with pytest.raises(PayloadError, match="NaN"):
        mediator.run("shop", nan)


def test_pydantic_is_not_imported_unless_the_user_does():
    """The package knows models by their methods."""
    code = "import sys, fsm_mediator as f; f.SQLiteJournal; f.Mediator(f.Saga('s', [f.step(len)])).run('s', []); "
    code += "assert 'pydantic' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# Hooks


class Money:
    """An ordinary class."""

    def __init__(self, cents: int) -> None:
        self.cents = cents

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Money) and other.cents == self.cents

    __hash__ = None  # type: ignore[assignment]


def to_plain(value: Any) -> Any:
    """Money as its cents."""
    if isinstance(value, Money):
        return value.cents
    raise NotImplementedError


def from_plain(kind: type, plain: Any) -> Any:
    """Money of so many cents."""
    if kind is Money:
        return Money(plain)
    raise NotImplementedError


TYPED_JOURNALS: dict[str, Callable[[Any], Any]] = {
    "encoded": lambda _: MemoryJournal(encode=True, types=(to_plain, from_plain)),
    "sqlite": lambda path: SQLiteJournal(path / "sagas.db", types=(to_plain, from_plain)),
}


@pytest.mark.parametrize("kind", TYPED_JOURNALS)
def test_hooks_take_any_other_type(drive, tmp_path, kind):
    """In payloads, results, items and signals, alone or within others, beside models."""
    seen: list[Any] = []

    @dataclasses.dataclass
    class Bill:
        due: list[Money]
        receipt: Receipt

    @step
    def charge(bill: Bill) -> Money:
        seen.append(bill)
        return bill.due[0]

    charge.execute.__annotations__.update({"bill": Bill, "return": Money})
    each = Parallel.each("items", step(name="a")(seen.append), over=lambda bill: bill.due, payload=Money)
    saga = Saga("s", [Saga("in", [charge]), each, Signal("more", payload=Money)], payload=Bill)
    journal = TYPED_JOURNALS[kind](tmp_path)
    mediator = drive(saga, journal=journal)
    bill = Bill([Money(5)], RECEIPT)

    mediator.run("s", bill, saga_id="s", check=False)
    mediator.signal("s", "more", Money(7))
    mediator.wait("s")

    assert seen == [bill, Money(5)]
    results = drive(saga, journal=journal).outcome("s").results
    assert results["in"]["charge"] == Money(5)
    assert results["more"] == Money(7)


def test_types_that_the_hooks_do_not_know_are_refused(drive, tmp_path):
    """As without hooks, in words."""
    mediator = drive(Saga("s", [step(name="a")(lambda payload: None)]), journal=TYPED_JOURNALS["sqlite"](tmp_path))

    with pytest.raises(PayloadError, match="object is unsupported"):
        mediator.run("s", object())
    with pytest.raises(DefinitionError, match=r"types must be a pair of functions, \(to_plain, from_plain\)"):
        MemoryJournal(types=to_plain)  # type: ignore[arg-type]
    with pytest.raises(DefinitionError, match="types"):
        SQLiteJournal(tmp_path / "x.db", types=(to_plain, None))  # type: ignore[arg-type]


def test_command_line_knows_the_hooks_of_the_apps_journal(tmp_path, monkeypatch):
    """A saga of such a type is run on a journal that is named, too."""
    (tmp_path / "typed_app.py").write_text(
        "from tests.test_types import Money, to_plain, from_plain\n"
        "from fsm_mediator import Mediator, MemoryJournal, Saga, step\n"
        "saga = Saga('s', [step(name='a')(lambda money: money.cents)], payload=Money)\n"
        "mediator = Mediator(saga, journal=MemoryJournal(encode=True, types=(to_plain, from_plain)))\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)

    ran = CliRunner().invoke(cli, ["run", "s", "-p", "7", "--app", "typed_app:mediator", "-j", "sagas.db"])

    assert ran.exit_code == 0, ran.output
    shown = CliRunner().invoke(cli, ["list", "--json", "-j", "sagas.db"]).stdout
    assert '"payload":7' in shown


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


# The same in every process


@pytest.mark.parametrize("typed", [True, False])
def test_sets_in_a_payload_are_the_same_in_every_process(tmp_path, typed):
    """The same start from processes with other hashes joins the first one. The order of a dict stays."""
    (tmp_path / "app.py").write_text(
        "import sys, warnings\n"
        "warnings.simplefilter('ignore')\n"
        "from dataclasses import dataclass\n"
        "from fsm_mediator import Mediator, Saga, Signal, step\n"
        "@dataclass\n"
        "class Order:\n"
        "    tags: set[str]\n"
        "    more: list\n"
        "@step\n"
        "def a(order): return order if isinstance(order, dict) else None\n"
        "names = {'new', 'gift', 'urgent', 'blue', 'red', 'green'}\n"
        f"order = Order(names, names) if {typed} else {{'z': names, 'a': [frozenset(names)], 'b': 1}}\n"
        f"with Mediator(Saga('s', [a, Signal('go')], payload=Order if {typed} else None), journal='sagas.db') as m:\n"
        "    outcome = m.run('s', order, saga_id='x', check=False)\n"
        "    m.signal('x', 'go', names)\n"
        "    m.run('s', order, saga_id='x')\n"
        "    print(list(outcome.results['a'] or {}))\n"
    )
    for seed in "123":
        ran = subprocess.run(
            [sys.executable, "app.py"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr
        assert ran.stdout.strip() == ("[]" if typed else "['z', 'a', 'b']")
