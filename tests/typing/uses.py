"""Typical uses: mypy and pyright, both strict, accept every line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_type

import attrs

from fsm_mediator import AsyncMediator, Context, Mediator, Outcome, Retry, Saga, Step, step


@attrs.frozen
class Order:
    """A payload."""

    sku: str
    amount: int


@attrs.frozen
class Receipt:
    """A result."""

    number: str


@step(retry=Retry(attempts=5, wait_initial=0.2), timeout=2.0, label="Charge the card")
def charge(order: Order, context: Context) -> Receipt:
    return Receipt(f"{order.sku} {context.attempt}")


@charge.compensation
def refund(order: Order, context: Context) -> None:
    assert context.in_doubt or order.amount


@step
async def notify(order: Order) -> str:
    return order.sku


class Reserve(Step):
    """A step with a service of its own."""

    retry = Retry(attempts=3)

    def __init__(self, places: Sequence[str]) -> None:
        self.places = places

    def execute(self, order: Order) -> str:
        return self.places[order.amount]

    def compensate(self, order: Order) -> None:
        assert order.sku


checkout = Saga(
    "checkout", [Reserve(["A"]), charge, charge.with_(timeout=3.0).named("again")], payload=Order, deadline=60.0
)
asynchronous = Saga("notices", [notify], payload=Order)


def run() -> str:
    with Mediator(checkout, journal="sagas.db") as mediator:
        outcome = mediator.run(checkout, Order("tea", 1), saga_id="o-1")
        assert_type(outcome, Outcome)
        assert_type(mediator.start("checkout", Order("tea", 1)), str)
    return f"{outcome.diagram('steps', theme='dark'):mermaid}{checkout.diagram(theme='auto', hide='stuck').to_svg()}"


async def run_in_a_loop() -> Outcome:
    async with AsyncMediator(asynchronous) as mediator:
        return await mediator.run(asynchronous, Order("tea", 1))
