"""The cookbook: each saga succeeds, fails and is compensated, survives every fault, and is drawn."""

from __future__ import annotations

import datetime as dt
import importlib
import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import attrs
import pytest

from examples.cookbook import (
    approval_chain,
    bulk_refunds,
    choose_by_amount,
    customer_migration,
    file_pipeline,
    infrastructure,
    nightly_report,
    payment,
    transactional_outbox,
    trip_booking,
    undo_by_a_person,
    user_provisioning,
)
from fsm_mediator import Mediator, MemoryJournal, Outcome, Saga, verify
from fsm_mediator.testing import VirtualClock, check_promises, check_saga
from tests.drivers import eventually
from tests.test_safe_examples import COOKBOOK, by_step, returning, sagas_in

pytestmark = pytest.mark.once

DOCS = Path(__file__).parent.parent / "docs"
NIGHT = dt.datetime(2030, 1, 1, 2, tzinfo=dt.UTC)


@attrs.frozen(kw_only=True)
class Recipe:
    """A saga of the cookbook, with a payload that succeeds and one that fails.

    Attributes:
        saga: The saga.
        good: A payload with which it succeeds.
        bad: A payload with which it fails, after at least one effect where it has one.
        observe: Returns the effects of its steps.
        reset: Removes the effects.
        signals: The value of each signal that it waits for.
        refusal: The values of the signals of the run that fails, if they differ.
        looking: Its steps without an effect, which a failed run lists among its leftovers if they were executed.
        flat: Its steps as sagas without waits and branches, for `check_promises`, with a payload each.
        names: The names of the sagas that it is made of.
    """

    saga: Saga
    good: Any
    bad: Any
    observe: Callable[[], Any]
    reset: Callable[[], None]
    signals: Mapping[str, Any] = attrs.field(factory=dict)
    refusal: Mapping[str, Any] | None = None
    looking: Sequence[str] = ()
    flat: Sequence[tuple[Saga, Any]] = ()
    names: Sequence[str] = ()


def in_memory(*services: dict[str, Any]) -> dict[str, Any]:
    """How to look at services that keep effects by idempotency key, and how to clear them."""

    def observe() -> dict[str, Any]:
        return {step: effect for effects in services for step, effect in by_step(effects).items()}

    def reset() -> None:
        for effects in services:
            effects.clear()

    return {"observe": observe, "reset": reset}


def recipe_of_payment(_: Path) -> Recipe:
    """A pivot with a probe."""
    return Recipe(
        saga=payment.payment,
        good=payment.Order("lamp", 4200, "valid"),
        bad=payment.Order("lamp", 4200, "expired"),
        **in_memory(payment.reserved, payment.charged, payment.shipped),
    )


def recipe_of_user_provisioning(_: Path) -> Recipe:
    """A mail cannot be unsent: it is excused by the name of its step."""
    module = user_provisioning
    services = in_memory(module.mailboxes, module.memberships, module.mails)

    def reset() -> None:
        services["reset"]()
        module.accounts.clear()

    return Recipe(
        saga=module.provisioning,
        good=module.NewUser("ada", ["staff"]),
        bad=module.NewUser("ada", ["admins"]),
        observe=lambda: {**services["observe"](), "accounts": dict(module.accounts)},
        reset=reset,
    )


def recipe_of_file_pipeline(folder: Path) -> Recipe:
    """Files in a folder of the test."""

    def files() -> list[Path]:
        return sorted(path for path in folder.rglob("*") if path.is_file())

    def reset() -> None:
        for path in files():
            path.unlink()

    return Recipe(
        saga=file_pipeline.pipeline,
        good=file_pipeline.Upload("a.txt", "two words"),
        bad=file_pipeline.Upload("b.txt", "  "),
        observe=lambda: {str(path.relative_to(folder)): path.read_text() for path in files()},
        reset=reset,
    )


def recipe_of_approval_chain(_: Path) -> Recipe:
    """Two people who answer."""
    module = approval_chain
    request = module.Request("ada", 5)
    steps: list[Any] = [module.block_days]
    steps += [returning("team_lead", True), module.check_team_lead]
    steps += [returning("personnel", True), module.check_personnel, module.book]
    return Recipe(
        saga=module.holiday,
        good=request,
        bad=request,
        signals={"team_lead": True, "personnel": True},
        refusal={"team_lead": True, "personnel": False},
        looking=["check_team_lead"],
        flat=[(Saga("holiday", steps, payload=module.Request), request)],
        **in_memory(module.calendar, module.booked),
    )


def recipe_of_infrastructure(_: Path) -> Recipe:
    """A provider with a quota, which a run for `bad` finds used up."""
    services = in_memory(infrastructure.resources)
    return Recipe(
        saga=infrastructure.environment,
        good=infrastructure.Environment("main"),
        bad=infrastructure.Environment("topic"),
        **services,
    )


def recipe_of_customer_migration(_: Path) -> Recipe:
    """Two databases; the copy of `bad` is damaged."""
    module = customer_migration
    worlds: tuple[Any, ...] = (module.old, module.new, module.frozen, module.routes)

    def reset() -> None:
        for world in worlds:
            world.clear()
        module.old.update({"ada": ["invoice 1", "invoice 2"], "bob": ["invoice 3", ""]})

    reset()
    names = ("old", "new", "frozen", "routes")
    return Recipe(
        saga=module.migration,
        good=module.Move("ada"),
        bad=module.Move("bob"),
        observe=lambda: {name: world.copy() for name, world in zip(names, worlds, strict=True)},
        reset=reset,
    )


def recipe_of_bulk_refunds(_: Path) -> Recipe:
    """Three customers, of whom one has closed the account."""
    module = bulk_refunds
    module.closed.add("cy")
    refunds = [module.Refund("ada", 500), module.Refund("bob", 700), module.Refund("cy", 900)]
    good = module.Recall("kettle", 5000, refunds)
    return Recipe(
        saga=module.recall,
        good=good,
        bad=module.Recall("kettle", 5000, [*refunds, module.Refund("", 1)]),
        flat=[
            (Saga("recall", [module.set_aside], payload=module.Recall), good),
            (Saga("credit", [module.credit], payload=module.Refund), refunds[0]),
        ],
        **in_memory(module.budgets, module.notes),
    )


def recipe_of_nightly_report(_: Path) -> Recipe:
    """Figures of one day; the day of `bad` has none."""
    module = nightly_report
    good = module.Report("2026-11-28", NIGHT)
    figures = returning("figures", {"sum_sales": 5200, "count_visits": 910})
    return Recipe(
        saga=module.nightly,
        good=good,
        bad=module.Report("2026-11-29", NIGHT),
        observe=lambda: dict(module.published),
        reset=module.published.clear,
        looking=["figures.count_visits.count_visits"],
        flat=[(Saga("nightly", [figures, module.publish], payload=module.Report), good)],
    )


def recipe_of_choose_by_amount(_: Path) -> Recipe:
    """A large amount."""
    module = choose_by_amount
    good = module.Payout("Ada", 200_000)
    return Recipe(
        saga=module.payout,
        good=good,
        bad=module.Payout("Mallory", 200_000),
        flat=[
            (Saga("payout", [module.order_check, module.read_check, module.transfer], payload=module.Payout), good),
        ],
        names=["checked"],
        **in_memory(module.checks, module.transfers),
    )


def recipe_of_transactional_outbox(folder: Path) -> Recipe:
    """A shop in a SQLite file of the test."""
    module = transactional_outbox
    module.create_tables()
    file = folder / "shop.sqlite"

    def reset() -> None:
        with closing(sqlite3.connect(file)) as db, db:
            for table in ("sales", "fsm_mediator_done", "fsm_mediator_outbox"):
                db.execute(f"DELETE FROM {table}")  # noqa: S608 - our own tables
            db.execute("UPDATE stock SET pieces = 10")

    return Recipe(
        saga=module.sale,
        good=module.Sale("lamp", 3),
        bad=module.Sale("", 3),
        observe=module.tx.observe("stock", "sales"),
        reset=reset,
    )


def recipe_of_trip_booking(_: Path) -> Recipe:
    """Two flights and a room."""
    module = trip_booking
    return Recipe(
        saga=module.trip_booking,
        good=module.Trip("Oslo", 3),
        bad=module.Trip("Oslo", 300),
        names=["outbound"],
        **in_memory(module.bookings),
    )


def recipe_of_undo_by_a_person(_: Path) -> Recipe:
    """The books are open."""
    module = undo_by_a_person
    module.books["open"] = True
    return Recipe(
        saga=module.lease,
        good=module.Lease("Ada", "attic"),
        bad=module.Lease("Ada", "rented"),
        **in_memory(module.deposits, module.contracts),
    )


RECIPES = {
    "payment": recipe_of_payment,
    "user_provisioning": recipe_of_user_provisioning,
    "file_pipeline": recipe_of_file_pipeline,
    "approval_chain": recipe_of_approval_chain,
    "infrastructure": recipe_of_infrastructure,
    "customer_migration": recipe_of_customer_migration,
    "bulk_refunds": recipe_of_bulk_refunds,
    "nightly_report": recipe_of_nightly_report,
    "choose_by_amount": recipe_of_choose_by_amount,
    "transactional_outbox": recipe_of_transactional_outbox,
    "trip_booking": recipe_of_trip_booking,
    "undo_by_a_person": recipe_of_undo_by_a_person,
}
"""The sagas of the cookbook, by file."""


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The files of the recipes are in a folder of the test."""
    monkeypatch.setattr(file_pipeline, "FOLDER", tmp_path)
    with monkeypatch.context() as patch:
        patch.setenv("SHOP_FOLDER", str(tmp_path))
        importlib.reload(transactional_outbox)
    yield
    importlib.reload(transactional_outbox)


@pytest.fixture(params=RECIPES)
def recipe(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Recipe]:
    """Each saga of the cookbook, with services that hold nothing yet."""
    made = RECIPES[request.param](tmp_path)
    made.reset()
    yield made
    made.reset()


def finish(recipe: Recipe, payload: Any, signals: Mapping[str, Any]) -> tuple[Outcome, Mediator]:
    """Run the saga to its end on a virtual clock, and give it its signals when it waits for them."""
    clock = VirtualClock()
    mediator = Mediator(recipe.saga, journal=MemoryJournal(encode=True), **clock.settings)
    for name, value in signals.items():
        mediator.start(recipe.saga.name, payload, saga_id="it")
        mediator.signal("it", name, value)
    return mediator.run(recipe.saga.name, payload, saga_id="it", check=False), mediator


def test_saga_succeeds(recipe):
    """The recipe does what its name says, and leaves its effects."""
    before = recipe.observe()

    outcome, _ = finish(recipe, recipe.good, recipe.signals)

    assert outcome.succeeded, outcome
    assert recipe.observe() != before


def test_saga_that_fails_leaves_nothing(recipe):
    """The run that is refused ends compensated: the services are as before."""
    if recipe.saga is infrastructure.environment:
        infrastructure.resources.update({f"{n}:create_server:execute": "server" for n in range(infrastructure.QUOTA)})
    before = recipe.observe()

    outcome, _ = finish(recipe, recipe.bad, recipe.signals if recipe.refusal is None else recipe.refusal)

    assert outcome.state == "failed", outcome
    assert set(outcome.leftovers) <= set(recipe.looking)
    assert recipe.observe() == before


def test_machine_is_verified(recipe):
    """Every failure path of the machine ends compensated, or stops visibly."""
    assert verify(recipe.saga).ok


def test_steps_survive_every_fault(recipe):
    """I can copy the steps: no lost answer, timeout or crash leaves an effect behind."""
    check_saga(recipe.saga, recipe.good, observe=recipe.observe, reset=recipe.reset, signals=recipe.signals or None)


def test_steps_keep_what_steps_promise(recipe):
    """Each step can be repeated, and each compensation can be called twice or for nothing."""
    for saga, payload in recipe.flat or [(recipe.saga, recipe.good)]:
        recipe.reset()
        check_promises(saga, payload, observe=recipe.observe, reset=recipe.reset)


def test_saga_is_drawn(recipe):
    """Both views can be drawn, and the picture names the saga's parts."""
    for view in ("steps", "detail"):
        drawn = format(recipe.saga.diagram(view), "svg")
        assert "<svg" in drawn
        for part in recipe.saga.parts:
            assert part.path.rpartition(".")[2].replace("_", " ") in drawn.lower().replace("_", " "), part.path


def test_refund_that_is_refused_is_a_result():
    """A closed account stops no other refund."""
    module = bulk_refunds
    module.closed.add("cy")
    refunds = [module.Refund("ada", 500), module.Refund("cy", 900)]

    outcome = Mediator(module.recall).run("recall", module.Recall("kettle", 5000, refunds), saga_id="r-1")

    assert outcome.results["refunds"] == ["ada: 500", "cy: the account is closed"]
    assert module.notes == {"r-1/refunds.0:credit:execute": 500}
    module.notes.clear()
    module.budgets.clear()


def test_request_without_an_answer_is_refused():
    """Nobody answers for a week: the days are free again."""
    clock = VirtualClock()
    mediator = Mediator(approval_chain.holiday, **clock.settings)
    request = approval_chain.Request("ada", 5)
    mediator.run("holiday", request, saga_id="h-1", check=False)
    clock.advance(approval_chain.WEEK)

    outcome = mediator.run("holiday", request, saga_id="h-1", check=False)

    assert outcome.state == "failed"
    assert approval_chain.calendar == {}


def test_check_that_is_under_way_is_asked_about_again():
    """A payout waits an hour at a time for the check of its customer."""
    module = choose_by_amount
    clock = VirtualClock()
    module.under_way.add("Ada")

    def sleep(seconds: float) -> None:
        clock.sleep(seconds)
        module.under_way.discard("Ada")

    settings = {**clock.settings, "sleep": sleep}
    outcome = Mediator(module.payout, **settings).run("payout", module.Payout("Ada", 200_000))

    assert outcome.succeeded
    assert sum(clock.slept) >= 3600
    module.checks.clear()
    module.transfers.clear()


def test_message_is_published_if_the_sale_is(tmp_path):
    """Subscribers hear of the sale that was committed, and of no other."""
    module = transactional_outbox
    module.create_tables()
    with Mediator(module.sale, relays=[module.tx]) as mediator:
        mediator.run("sale", module.Sale("lamp", 3), saga_id="s-1")
        mediator.run("sale", module.Sale("lamp", 300), saga_id="s-2", check=False)
        with mediator.daemon():
            eventually(lambda: module.messages)

    assert module.messages == [("sold", {"item": "lamp", "pieces": 3})]


def test_person_settles_what_no_code_can_undo():
    """Closed books: the saga is stuck, names the step, and ends when a person has reversed the booking."""
    module = undo_by_a_person
    clock = VirtualClock()
    mediator = Mediator(module.lease, **clock.settings)
    module.books["open"] = False
    stuck = mediator.run("lease", module.Lease("Ada", "rented"), saga_id="l-1", check=False)
    module.books["open"] = True

    assert (stuck.state, stuck.step) == ("stuck.book_deposit", "book_deposit")
    assert "reverse the deposit of Ada by hand" in str(stuck.error)
    module.deposits.clear()  # by hand
    settled = mediator.resolve("l-1", done=False, reason="reversed in December")
    assert settled.state == "failed"


def test_every_saga_of_the_cookbook_has_a_recipe():
    """A new file in the cookbook is run, checked, drawn and shown on the page."""
    page = (DOCS / "cookbook.md").read_text(encoding="utf-8")
    files = {Path(path).stem for path in COOKBOOK} - {"__init__"}

    assert files == set(RECIPES)
    assert re.findall(r"^```\{literalinclude\} \.\./examples/cookbook/(\w+)\.py$", page, re.MULTILINE) == list(RECIPES)
    for name, saga in re.findall(r"^```\{saga-diagram\} examples\.cookbook\.(\w+):(\w+)$", page, re.MULTILINE):
        assert isinstance(getattr(importlib.import_module(f"examples.cookbook.{name}"), saga), Saga)
        files.discard(name)
    assert files == set()


def test_every_saga_of_a_file_is_checked(recipe, request):
    """No saga of the cookbook escapes the checks above."""
    path = f"examples/cookbook/{request.node.callspec.params['recipe']}.py"

    assert sagas_in(path) == {recipe.saga.name, *recipe.names}
