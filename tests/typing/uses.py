"""Typical uses: mypy and pyright, both strict, accept every line."""

from __future__ import annotations

from collections.abc import Sequence
from sqlite3 import Connection
from typing import Any, TypedDict, assert_type

import attrs

from fsm_mediator import (
    AsyncMediator,
    Context,
    Diagram,
    Mediator,
    Outcome,
    Retry,
    Saga,
    Signal,
    Sleep,
    Step,
    load_saga,
    step,
)
from fsm_mediator.testing import check_saga
from fsm_mediator.transactions import Transactions


@attrs.frozen
class Order:
    """A payload."""

    sku: str
    amount: int


@attrs.frozen
class Receipt:
    """A result."""

    number: str


@attrs.frozen
class Gift(Order):
    """A payload of another class, which is an Order too."""

    greeting: str


class Plain(TypedDict):
    """A payload in JSON types."""

    sku: str


@step(retry=Retry(attempts=5, wait_initial=0.2), timeout=2.0, label="Charge the card")
def charge(order: Order, context: Context[Order]) -> Receipt:
    return Receipt(f"{order.sku} {context.attempt}")


@charge.compensation
def refund(order: Order, context: Context) -> None:
    assert context.in_doubt or order.amount


@step
async def notify(order: Order) -> str:
    return order.sku


@step(name="thank_you", label="Say thank you")
def thank(order: Order, context: Context) -> None:
    assert_type(context.result_of(charge), Receipt)
    assert_type(context.result_of(reserve), str)
    assert_type(context.result_of(notify), str)


class Reserve(Step):
    """A step with a service of its own."""

    retry = Retry(attempts=3)

    def __init__(self, places: Sequence[str]) -> None:
        self.places = places

    def execute(self, order: Order) -> str:
        return self.places[order.amount]

    def compensate(self, order: Order) -> None:
        assert order.sku


class Ship(Step[int]):
    """A step whose result is part of its type."""

    async def execute(self, order: Order, context: Context) -> int:
        return order.amount


reserve = Reserve(["A"])
ship = Ship()
again = charge.with_(timeout=3.0, retry=None).named("again")

checkout = Saga("checkout", [reserve, charge, again, thank], payload=Order, deadline=60.0)
asynchronous = Saga("notices", [notify, ship], payload=Order, version=2)
untyped = Saga(
    "untyped", [charge, Saga("nested", [reserve]), Signal("approved", payload=Order), Sleep("night", 3600.0)]
)
sagas: list[Saga] = [checkout, untyped]

assert_type(Retry(attempts=None, wait_max=3, on=(OSError, ValueError)), Retry)
assert_type(checkout, Saga[Order])
assert_type(checkout.named("other"), Saga[Order])
assert_type(untyped, Saga[Any])
assert_type(Saga("numbers", [reserve], payload=list[int]), Saga[list[int]])
assert_type(Saga("either", [reserve], payload=Order | None), Saga[Any])
assert_type(Saga("json", [reserve], payload=Plain), Saga[Plain])
assert_type(load_saga("order.toml", payload=Order), Saga[Order])

assert_type(charge(Order("tea", 1), Context("o-1", "charge", 1, "execute", {})), Receipt)


def results(outcome: Outcome, either: Step[Receipt], unknown: Step) -> None:
    assert_type(outcome.result_of(charge), Receipt)
    assert_type(outcome.result_of(again), Receipt)
    assert_type(outcome.result_of(notify), str)
    assert_type(outcome.result_of(reserve), str)
    assert_type(outcome.result_of(ship), int)
    assert_type(outcome.result_of(thank), None)
    assert_type(outcome.result_of(either), Receipt)
    assert_type(outcome.result_of(unknown), Any)


async def call() -> None:
    assert_type(await notify(Order("tea", 1)), str)
    assert_type(await ship.execute(Order("tea", 1), Context("o-1", "ship", 1, "execute", {})), int)


def in_the_users_database() -> None:
    tx = Transactions.sqlite3("shop.db", table="done", outbox="outbox", patience=3.0)

    @tx.step(isolation="SERIALIZABLE", timeout=2.0)
    def debit(session: Connection, order: Order) -> Receipt:
        return Receipt(f"{order.sku} {session.total_changes}")

    def use(connection: Connection, outcome: Outcome) -> None:
        assert_type(debit(connection, Order("tea", 1)), Receipt)
        assert_type(outcome.result_of(debit), Receipt)

    use(Connection(":memory:"), Mediator(Saga("debit", [debit])).run("debit", Order("tea", 1)))


def run() -> str:
    with Mediator(*sagas, journal="sagas.db") as mediator:
        outcome = mediator.run(checkout, Order("tea", 1), saga_id="o-1")
        assert_type(outcome, Outcome)
        assert_type(mediator.start("checkout", Order("tea", 1)), str)
        mediator.run(checkout, Gift("tea", 1, "Enjoy!"), timeout=3.0, attributes={"shop": "Rome"})
        mediator.run(untyped, "tea")
        mediator.run(untyped)
        mediator.enqueue(Saga("json", [reserve], payload=Plain), Plain(sku="tea"))
        check_saga(checkout, Order("tea", 1), kill=True)
    pictures: list[Diagram] = [outcome.diagram(), checkout.diagram(), Diagram(checkout, view="steps", theme="dark")]
    assert pictures[0].with_(hide={"stuck", "undo"}).view == "detail"
    return f"{outcome.diagram('steps', theme='dark'):mermaid}{checkout.diagram(theme='auto', hide='stuck').to_svg()}"


async def run_in_a_loop() -> Outcome:
    async with AsyncMediator(asynchronous) as mediator:
        return await mediator.run(asynchronous, Order("tea", 1))
