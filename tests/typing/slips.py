"""Slips: each marked line is an error for mypy and for pyright, with these codes; no other line is one."""

from __future__ import annotations

import fsm_mediator
from fsm_mediator import (
    AsyncMediator,
    Context,
    Diagram,
    Mediator,
    Outcome,
    Parallel,
    Retry,
    Saga,
    Signal,
    Statistics,
    Step,
    explore,
    step,
)
from fsm_mediator.transactions import Transactions
from tests.typing.uses import Order, Receipt, charge, checkout, notify

mediator = Mediator(checkout)
fsm_mediator.Sagas  # error: attr-defined, reportAttributeAccessIssue reportUnknownMemberType


# A view, a theme or a format that there is not

checkout.diagram("step")  # error: arg-type, reportArgumentType
checkout.diagram(theme="drak")  # error: arg-type, reportArgumentType
checkout.diagram(them="dark")  # error: call-arg, reportCallIssue
checkout.diagram("steps", direction="left")  # error: arg-type, reportArgumentType
checkout.diagram(hide="retries")  # error: arg-type, reportArgumentType
mediator.run(checkout, Order("tea", 1)).diagram("states")  # error: arg-type, reportArgumentType
mediator.diagram("o-1", "states")  # error: arg-type, reportArgumentType
Diagram(checkout, view="step")  # error: arg-type, reportArgumentType
Diagram(checkout, theme="red").with_(theme="blue")  # error: arg-type, reportArgumentType
Diagram(checkout, hide=["retries"])  # error: list-item, reportArgumentType
Statistics.read(checkout, "sagas.db").diagram("p95", view="step")  # error: arg-type, reportArgumentType
explore(checkout, theme="night")  # error: arg-type, reportArgumentType


# A setting that there is not, or of another type

Saga("checkout", [], dead_line=3.0)  # error: call-overload, reportCallIssue
Saga("checkout", [], deadline="3 s")  # error: call-overload, reportArgumentType
Mediator(checkout, journals="sagas.db")  # error: call-arg, reportCallIssue


class Refund(Step):
    """A step whose setting has another type."""

    timeout = "3 s"  # error: assignment, reportAssignmentType


Retry(attemps=3)  # error: call-arg, reportCallIssue
Retry(wait_max="3 s")  # error: arg-type, reportArgumentType
Signal("approved", time_out=3.0)  # error: call-arg, reportCallIssue
Parallel("fan", [charge], on_failure="stop")  # error: arg-type, reportArgumentType
charge.with_(timout=3.0)  # error: call-arg, reportCallIssue
charge.with_(retry=3)  # error: arg-type, reportArgumentType
step(timout=3.0)  # error: call-overload, reportCallIssue
Transactions.sqlite3("shop.db", tabel="done")  # error: call-arg, reportCallIssue
Transactions.django(patience="3 s")  # error: arg-type, reportArgumentType
step(pivot="yes")  # error: call-overload, reportArgumentType


# A step that is called with, or is said to return, another type

charge("tea", Context("o-1", "charge", 1, "execute", {}))  # error: arg-type, reportArgumentType
charge(Order("tea", 1))  # error: call-arg, reportCallIssue


class Ship(Step[int]):
    """A step whose execute returns another type."""

    def execute(self, order: Order) -> str:  # error: override, reportIncompatibleMethodOverride
        return order.sku


def results(outcome: Outcome, context: Context) -> tuple[int, Receipt]:
    number: int = outcome.result_of(charge)  # error: assignment, reportAssignmentType
    receipt: Receipt = context.result_of(notify)  # error: assignment, reportAssignmentType
    outcome.result_of("charge")  # error: call-overload, reportArgumentType reportCallIssue
    return number, receipt


def work(order: Order) -> Receipt:
    return Receipt(order.sku)


Saga("checkout", [work], payload=Order)  # error: list-item, reportArgumentType reportCallIssue


# A payload of another type

mediator.run(checkout, "tea")  # error: misc, reportArgumentType
mediator.start(checkout, {"sku": "tea", "amount": 1})  # error: misc, reportArgumentType
mediator.enqueue(checkout, [Order("tea", 1)])  # error: misc, reportArgumentType


async def run_in_a_loop(mediator: AsyncMediator) -> None:
    await mediator.run(checkout, "tea")  # error: misc, reportArgumentType


def pay(context: Context[Receipt]) -> str:
    return context.idempotency_key


@step
def pay_twice(order: Order, context: Context[Order]) -> str:
    return pay(context)  # error: arg-type, reportArgumentType


other: Saga[Receipt] = checkout  # error: assignment, reportAssignmentType
