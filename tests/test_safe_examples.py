"""Every saga in the README, the docs, the examples and the notebooks survives `check_saga` and `check_promises`.

Readers copy these steps. A saga that cannot be checked is named in `UNCHECKED`, with the reason.
"""

from __future__ import annotations

import ast
import contextlib
import io
import json
import os
import re
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from types import ModuleType
from typing import Any

import attrs
import pytest

from examples import order_fulfilment
from examples.in_apps import shop
from examples.order_fulfilment import steps
from examples.order_fulfilment.check import FILES, TABLES
from examples.order_fulfilment.fulfilment import SIGNAL
from examples.order_fulfilment.fulfilment import order_fulfilment as order_fulfilment_saga
from examples.order_fulfilment.orders import Decision, Line, MailMessage, Order
from examples.order_fulfilment.services import Services as OrderServices
from examples.profile_sync import classic
from examples.profile_sync.changes import ProfileChange, original
from examples.profile_sync.check import QUERIES
from examples.profile_sync.lifecycle import user_lifecycle
from examples.profile_sync.services import Services as ProfileServices
from examples.profile_sync.steps import profile_steps
from fsm_mediator import Saga, Step, step
from fsm_mediator.testing import SagaBrokenError, check_promises, check_saga
from notebooks.run import NOTEBOOKS

pytestmark = pytest.mark.once

ROOT = Path(__file__).parent.parent

UNCHECKED = {
    ("docs/exactly_once.md", "payment"): "is run by tests/test_outbox.py, and checked by the tests of transactions",
    ("examples/shop/__init__.py", "order"): "its steps only take their time; its workers are killed in tests/cluster",
    (
        "examples/bank/__init__.py",
        "southward",
    ): "is checked by tests/test_transactions_checked.py, on its two databases",
    ("examples/bank/__init__.py", "northward"): "the other direction of the one above",
    ("docs/telemetry.md", "checkout"): "shows what surrounds a step, which has no effect",
    ("docs/telemetry.md", "picking"): "the same",
    ("docs/reference.md", "checkout"): "its step has no code: it shows what type checkers know of it",
    ("docs/embedding.md", "order"): "quotes the files of examples/in_apps, which are checked below",
    ("docs/fastapi.md", "checkout"): "is checked by tests/test_pages.py, with the app that it is a part of",
    ("docs/flask.md", "checkout"): "the same",
    ("docs/tutorial.md", "trip"): "quotes docs/trip.py, which is checked below",
    ("docs/notebooks.md", "weekend"): "its steps have no code yet: `explore` calls none",
    ("docs/operation.py", "order"): "its steps have no effects: they let virtual time pass, for pictures and numbers",
    ("docs/operation.py", "by_hand"): "a branch of the one above",
    ("notebooks/6_operations.ipynb", "shop"): "its steps have no effects: they let virtual time pass, for numbers",
    ("notebooks/6_operations.ipynb", "by_hand"): "a branch of the one above",
}
"""Sagas without a check, by file and name, and the reason.

The steps with a bug in docs/testing.md and in notebook 5 are replaced by fixed ones further down on the same page; the
fixed ones are checked.
"""

BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@attrs.frozen
class Example:
    """A saga of a page, ready to be checked.

    Attributes:
        saga: The saga; or a function that makes ``(saga, observe)`` anew.
        payload: A payload with which it succeeds.
        observe: Returns the effects of its steps, as plain data.
        reset: Removes all effects.
        signals: The value of each signal that it waits for.
        flat: Its steps without branches and signals, for `check_promises`: sagas of steps only, with a payload each.
        nested: The names of its nested sagas.
    """

    saga: Saga | Callable[[], Any]
    payload: Any
    observe: Callable[[], Any] | None = None
    reset: Callable[[], Any] | None = None
    signals: Mapping[str, Any] | None = None
    flat: Sequence[tuple[Saga | Callable[[], Any], Any]] = ()
    nested: Sequence[str] = ()

    @property
    def names(self) -> set[str]:
        """The names of the sagas that are checked."""
        saga = self.saga if isinstance(self.saga, Saga) else self.saga()[0]
        return {saga.name, *self.nested}

    def check(self) -> None:
        """Run both checks."""
        clear = self.reset or (lambda: None)
        clear()
        check_saga(self.saga, self.payload, observe=self.observe, reset=self.reset, signals=self.signals)
        for saga, payload in self.flat or ((self.saga, self.payload),):
            clear()
            check_promises(saga, payload, observe=self.observe, reset=self.reset)


def returning(name: str, value: object) -> Step:
    """A step that takes the place of a signal."""

    @step(name=name)
    def answer(payload: Any) -> object:
        return value

    return answer


def by_step(effects: Mapping[str, Any]) -> dict[str, Any]:
    """Effects by the path of their step, from effects by idempotency key: a leftover is excused by that path."""
    return {".".join(re.split("[/:]", key)[1:-1]): effect for key, effect in effects.items()}


# The code of a page


def code_of(path: str) -> str:
    """The Python code of a page, a module or a notebook."""
    text = (ROOT / path).read_text(encoding="utf-8")
    if path.endswith(".md"):
        return "\n".join(BLOCK.findall(text))
    if path.endswith(".ipynb"):
        cells = ["".join(cell["source"]) for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
        return "\n".join(re.sub(r"^[%!].*", "", cell, flags=re.MULTILINE) for cell in cells)
    return text


def sagas_in(path: str) -> set[str]:
    """The names of the sagas that a file defines: the first argument of each call of `Saga`."""
    found = set()
    for node in ast.walk(ast.parse(code_of(path))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Saga":
            name = node.args[0]
            found.add(str(name.value) if isinstance(name, ast.Constant) else ast.unparse(name))
    return found


def definitions(path: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a page defines: its imports, functions, classes, values and sagas. No saga is run."""
    own = {"Saga", "Path", "set"}
    kept: list[ast.stmt] = []
    for statement in ast.parse(code_of(path)).body:
        match statement:
            case ast.FunctionDef() | ast.ClassDef():
                own.add(statement.name)
                keep = not statement.name.startswith("test")
            case ast.ImportFrom():
                keep = statement.module != "shop"  # a file that notebook 3 writes
            case ast.Assign() | ast.AnnAssign():
                calls = {ast.unparse(node.func) for node in ast.walk(statement) if isinstance(node, ast.Call)}
                keep = calls <= own or (isinstance(statement.value, ast.Call) and "Saga" in calls)
            case _:
                keep = isinstance(statement, ast.Import)
        kept += [statement] if keep else []
    module = ModuleType("page")
    monkeypatch.setitem(sys.modules, module.__name__, module)  # annotations are resolved through sys.modules
    exec(compile(ast.Module(kept, []), path, "exec", dont_inherit=True), module.__dict__)  # noqa: S102 - our own page
    return module.__dict__


# The sagas of the pages


def in_readme(names: dict[str, Any], _: Path) -> Iterator[Example]:
    """Three services; and a saga that waits, chooses and runs branches."""
    effects, parcels = names["effects"], names["parcels"]
    yield Example(names["lifecycle"], names["ada"], names["effects_by_step"], effects.clear)
    signals = {"approval.manager.approved": True}
    order = {"item": "crown", "price": 5000}
    flat = Saga("order", [returning("approved", True), names["check_approval"], names["pack"], names["weigh"]])
    yield Example(
        names["order"], order, lambda: by_step(parcels), parcels.clear, signals, [(flat, order)], ["by_manager"]
    )


def in_composition(names: dict[str, Any], _: Path) -> Iterator[Example]:
    """Every kind of part."""
    effects = names["effects"]
    reserve, pack, invoice, notify = (names[name] for name in ("reserve", "pack", "invoice", "notify"))
    order = {"item": "lamp", "amount": 5}
    flat = {
        "fulfil": (Saga("fulfil", [reserve, pack, invoice]), order),
        "notify_all": (Saga("notify_all", [notify]), "ada"),
        "deliver": (Saga("deliver", [names["by_air"], names["by_sea"]]), {}),
    }
    payloads: dict[str, Any] = {
        **dict.fromkeys(("shipping", "twice", "fulfil", "approved"), order),
        "notify_all": {"to": ["ada", "bob", "ada"]},
        "deliver": {"urgent": False},
        "delayed": {"seconds": 0.01},
        "pay": {},
    }
    for name, payload in payloads.items():
        signals = {"approval": True} if name == "approved" else None
        steps = [flat[name]] if name in flat else []
        yield Example(names[name], payload, lambda: by_step(effects), effects.clear, signals, steps)


def in_testing(names: dict[str, Any], _: Path) -> Iterator[Example]:
    """The saga that the page fixes."""
    yield Example(names["shop"], {"sku": "tea", "amount": 7})


def in_timeouts(names: dict[str, Any], _: Path) -> Iterator[Example]:
    """A bank that charges once for each key, with a compensation or with a probe."""
    charges = names["charges"]
    order = {"cents": 4200}
    yield Example(Saga("pay", [names["charge"]]), order, lambda: by_step(charges), charges.clear)
    yield Example(Saga("transfer", [names["send_money"]]), order, lambda: by_step(charges), charges.clear)


def in_coming_from(names: dict[str, Any], _: Path) -> Iterator[Example]:
    """The saga that is written in five notations."""
    services = (names["stock"], names["charges"])

    def reset() -> None:
        for effects in services:
            effects.clear()

    observe = lambda: {step: effect for effects in services for step, effect in by_step(effects).items()}  # noqa: E731
    yield Example(names["checkout"], {"cents": 4200}, observe, reset)


def in_tutorial(names: dict[str, Any], folder: Path) -> Iterator[Example]:
    """The trip, whose bookings are in a file."""
    names["BOOKINGS"] = file = folder / "bookings.json"
    yield Example(names["trip"], {"money": 500}, names["bookings"], lambda: file.unlink(missing_ok=True))


def in_first_notebook(names: dict[str, Any], _: Path) -> Iterator[Example]:
    """The weekend, on which there is a table."""
    names["full_tonight"] = False
    yield Example(names["weekend"], {"guests": 2}, lambda: names["booked"], names["booked"].clear)


def in_second_notebook(names: dict[str, Any], _: Path) -> Iterator[Example]:
    """A bank, parcels and letters."""
    services = (names["bank"].book, names["parcels"], names["letters"])

    def observe() -> dict[str, Any]:
        return {step: effect for effects in services for step, effect in by_step(effects).items()}

    def reset() -> None:
        for effects in services:
            effects.clear()

    order = {"amount": 30, "to": "Ada", "email": "ada@example.org"}
    yield Example(names["shop"], order, observe, reset)
    yield Example(names["polite"], order, observe, reset)


def in_third_notebook(names: dict[str, Any], folder: Path) -> Iterator[Example]:
    """A log of requests, to services that act once for each key."""
    names["SLOW"], log = [], folder / "requests.txt"
    names["REQUESTS"] = log
    undoes = {"release": "reserve", "refund": "charge"}

    def observe() -> dict[str, str]:
        effects: dict[str, str] = {}
        for request, key in map(str.split, log.read_text().splitlines() if log.exists() else ()):
            if request in undoes:
                effects.pop(key, None)
            else:
                effects[key] = request
        return by_step(effects)

    yield Example(names["shop"], {"to": "Ada"}, observe, lambda: log.unlink(missing_ok=True))


def in_fourth_notebook(names: dict[str, Any], _: Path) -> Iterator[Example]:
    """The studio, whose calls take no time here."""
    names["PACE"], done = 0, names["done"]
    yield Example(names["studio"], {}, lambda: set(done), done.clear)


def in_fifth_notebook(names: dict[str, Any], _: Path) -> Iterator[Example]:
    """The shop, after its bug is fixed."""
    yield Example(lambda: names["shop"](charge=names["FixedCharge"]), {"amount": 30})
    fixed = (names["StrictReserve"], names["StrictCharge"], names["StrictShip"])
    yield Example(lambda: names["shop"](*fixed), {"amount": 30})


PAGES = {
    "README.md": in_readme,
    "docs/coming_from.md": in_coming_from,
    "docs/composition.md": in_composition,
    "docs/testing.md": in_testing,
    "docs/timeouts.md": in_timeouts,
    "docs/trip.py": in_tutorial,
    "notebooks/1_first_saga.ipynb": in_first_notebook,
    "notebooks/2_failure_retry_compensation.ipynb": in_second_notebook,
    "notebooks/3_crash_and_recovery.ipynb": in_third_notebook,
    "notebooks/4_live_diagrams.ipynb": in_fourth_notebook,
    "notebooks/5_verify.ipynb": in_fifth_notebook,
}
"""The sagas of each page."""


# The sagas of the example packages


def clear_tables(folder: Path) -> None:
    """Delete every row of every database in a folder."""
    for path in folder.glob("*.db"):
        with closing(sqlite3.connect(path)) as db, db:
            db.execute("PRAGMA synchronous = OFF")
            for (table,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
                db.execute(f"DELETE FROM {table}")  # noqa: S608 - our own tables


def rows(path: Path, select: str) -> list[Any]:
    """The rows of a query; none if there is no database yet."""
    if not path.exists():
        return []
    with closing(sqlite3.connect(path)) as db:
        return sorted(db.execute(select).fetchall())


def in_web_apps(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Example]:
    """The shop of the web apps."""
    monkeypatch.setattr(shop, "FOLDER", folder)

    def observe() -> dict[str, Any]:
        return by_step(dict(rows(folder / "services.db", "SELECT key, request FROM requests")))

    order = shop.Order("lamp", 4200)
    flat = Saga("order", [shop.reserve, returning("approval", True), shop.charge, shop.ship], payload=shop.Order)
    yield Example(shop.order, order, observe, lambda: clear_tables(folder), {"approval": True}, [(flat, order)])


def in_order_fulfilment(folder: Path, _: pytest.MonkeyPatch) -> Iterator[Example]:
    """Orders that wait for approval, and are packed in parallel."""
    services = OrderServices.at(folder)

    def observe() -> dict[str, Any]:
        return {table: rows(folder / f"{FILES.get(table, table)}.db", select) for table, select in TABLES.items()}

    def reset() -> None:
        clear_tables(folder)
        services.stock.fill()

    signals = {SIGNAL: Decision(approved=True, by="Ada")}
    order = order_fulfilment.sample
    decided = [returning("decision", signals[SIGNAL]), steps.check_decision]
    paid = [steps.ReserveStep(services.stock), *decided, steps.ChargeStep(services.payments)]
    sent = [steps.weigh, steps.PrintLabelStep(services.warehouse), steps.InvoiceStep(services.accounts)]
    flat: list[tuple[Saga, Any]] = [
        (Saga("order", [*paid, *sent], payload=Order), order),
        (Saga("pack", [steps.PackStep(services.warehouse)], payload=Line), order.lines[0]),
        (
            Saga("notify", [steps.SendMailStep(services.mail)], payload=MailMessage),
            MailMessage(order.number, order.recipients[0]),
        ),
    ]
    saga = order_fulfilment_saga(services)
    yield Example(saga, order, observe, reset, signals, flat, ["by_hand", "label"])
    services.close()


def in_profile_sync(folder: Path, _: pytest.MonkeyPatch) -> Iterator[Example]:
    """A change of a profile, in four services."""
    services = ProfileServices.at(folder)
    change = ProfileChange(user_id=1, email="ada@new.example", plan="pro", seats=1, display_name="Ada")

    def observe() -> dict[str, Any]:
        return {table: rows(folder / f"{table}.db", select) for table, select in QUERIES.items()}

    def reset() -> None:
        clear_tables(folder)
        services.enroll([original(1)])

    yield Example(user_lifecycle(profile_steps(services), payload=ProfileChange), change, observe, reset)
    services.close()


class Sessions:
    """Users who are logged in."""

    def __init__(self) -> None:
        self.users: set[int] = set()

    def login(self, user_id: int) -> None:
        """Open a session."""
        self.users.add(user_id)

    def logout(self, user_id: int) -> None:
        """End the session."""
        self.users.discard(user_id)


class Requests:
    """A service that acts once for each key: a bank, or a mail server."""

    def __init__(self) -> None:
        self.effects: dict[str, object] = {}

    def charge(self, user_id: int, amount: int, *, key: str) -> None:
        """Take the money."""
        self.effects[key] = amount

    def refund(self, user_id: int, amount: int, *, key: str) -> None:
        """Give it back."""
        self.effects.pop(key, None)

    def send(self, user_id: int, message: str, *, key: str) -> None:
        """Send the message."""
        self.effects[key] = message


def in_classic(_: Path, __: pytest.MonkeyPatch) -> Iterator[Example]:
    """Log in, charge, notify."""

    def make() -> tuple[Saga, Callable[[], Any]]:
        auth, billing, mail = Sessions(), Requests(), Requests()
        participants = [classic.AuthStep(auth), classic.BillingStep(billing), classic.NotificationStep(mail)]
        return user_lifecycle(participants, payload=classic.MediatorPayload), lambda: {
            "auth": auth.users,
            "billing": billing.effects,
            "notification": mail.effects,
        }

    yield Example(make, classic.MediatorPayload(user_id=1, amount=100, message="Welcome!"))


PACKAGES = {
    "examples/in_apps/shop.py": in_web_apps,
    "examples/order_fulfilment/fulfilment.py": in_order_fulfilment,
    "examples/profile_sync/lifecycle.py": in_profile_sync,
    "examples/profile_sync/classic.py": in_classic,
}
"""The sagas of each example package; that of Django has a test of its own."""

DJANGO = "examples/in_apps/in_django.py"

COOKBOOK = {str(path.relative_to(ROOT)) for path in (ROOT / "examples/cookbook").glob("*.py")}
"""The sagas of the cookbook, which `tests/test_cookbook.py` checks."""


@pytest.fixture
def folder() -> Iterator[Path]:
    """An empty folder; in memory where the system has one, because thousands of commits are flushed."""
    memory = Path("/dev/shm")  # noqa: S108 - a folder of its own is made in it
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as path:
        yield Path(path)


@pytest.mark.parametrize("path", PAGES)
def test_sagas_of_a_page_are_safe(path, folder, monkeypatch):
    """If I copy the steps of a page, no lost answer, timeout or crash leaves an effect behind."""
    examples = list(PAGES[path](definitions(path, monkeypatch), folder))

    with contextlib.redirect_stdout(io.StringIO()):
        for example in examples:
            example.check()

    checked = {name for example in examples for name in example.names}
    assert {name for name in sagas_in(path) if (path, name) not in UNCHECKED} <= checked


@pytest.mark.parametrize("path", PACKAGES)
def test_sagas_of_an_example_are_safe(path, folder, monkeypatch):
    """If I copy the steps of an example, no lost answer, timeout or crash leaves an effect behind."""
    checked = set()
    for example in PACKAGES[path](folder, monkeypatch):
        example.check()
        checked |= example.names

    assert sagas_in(path) - {"SAGA"} <= checked


def test_saga_in_django_is_safe(folder):
    """The steps that use Django's database are safe, too; its settings are global, so they need their own process."""
    code = """
        from django.db import connection
        from examples.in_apps import in_django, shop
        from fsm_mediator import Saga
        from tests.test_safe_examples import Example, by_step, clear_tables, returning, rows

        with connection.schema_editor() as editor:
            editor.create_model(in_django.Purchase)
        services = shop.FOLDER / "services.db"

        def observe():
            effects = by_step(dict(rows(services, "SELECT key, request FROM requests")))
            return {**effects, "mark_paid": list(in_django.Purchase.objects.values_list("order_id", "paid"))}

        def reset():
            clear_tables(shop.FOLDER)
            in_django.Purchase.objects.create(order_id="checked", item="lamp", cents=5)

        paid = [shop.reserve, returning("approval", True), shop.charge, shop.ship, in_django.mark_paid]
        flat = [(Saga("order", paid, payload=shop.Order), shop.Order("lamp", 5))]
        Example(in_django.order, shop.Order("lamp", 5), observe, reset, {"approval": True}, flat).check()
    """
    environment = {**os.environ, "SHOP_FOLDER": str(folder)}
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], cwd=ROOT, env=environment, check=True, timeout=60)


def test_every_saga_is_checked_or_excused():
    """A new saga in the README, the docs, the examples or the notebooks is checked, or named with a reason."""
    texts = ["README.md", *(f"docs/{path.name}" for path in (ROOT / "docs").iterdir() if path.suffix in (".md", ".py"))]
    modules = [str(path.relative_to(ROOT)) for path in (ROOT / "examples").rglob("*") if path.suffix in (".md", ".py")]
    notebooks = [str(path.relative_to(ROOT)) for path in NOTEBOOKS]
    found = {(path, name) for path in (*texts, *modules, *notebooks) for name in sagas_in(path)}

    assert {each for each in found if each[0] not in {*PAGES, *PACKAGES, *COOKBOOK, DJANGO}} == set(UNCHECKED)


def test_step_with_a_bug_is_found():
    """A step that books twice under one key does not pass."""
    booked: list[str] = []

    @step
    def book(trip):
        booked.append("flight")

    with pytest.raises(SagaBrokenError):
        Example(Saga("trip", [book]), {}, lambda: booked, booked.clear).check()


@pytest.mark.parametrize("path", ["README.md", "docs/tutorial.md", "docs/composition.md", "notebooks/5_verify.ipynb"])
def test_pages_say_what_each_check_proves(path):
    """Before I trust `verify`, I read that it proves the machine, and `check_saga` the steps."""
    text = " ".join((ROOT / path).read_text(encoding="utf-8").replace("\\n", " ").split())

    assert re.search(r"`verify` proves the machine.{0,200}`check_saga`\S* .{0,20}the steps", text)


def test_tutorial_ends_with_check_saga():
    """The last code of the tutorial checks my steps."""
    assert "check_saga(" in BLOCK.findall((ROOT / "docs/tutorial.md").read_text(encoding="utf-8"))[-1]
