"""Types of payloads, results and signals: models of pydantic, types with hooks, and warnings of what is lost."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pydantic
import pytest
from click.testing import CliRunner

from fsm_mediator import (
    DefinitionError,
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
