"""The steps: the only place where a service and fsm_mediator meet. What they make together is in `fulfilment`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from examples.order_fulfilment.orders import Decision, Letter, Line, Order
from examples.order_fulfilment.services import Accounts, Mail, Payments, Stock, Warehouse
from examples.profile_sync.faults import RefusedError
from fsm_mediator import Context, Happened, NotHappened, Retry, Step, StepRejectedError, step

QUICK = Retry(attempts=6, wait_initial=0.01, wait_max=0.1, wait_jitter=0.01)
FOR_EVER = Retry(attempts=None, wait_initial=0.01, wait_max=0.5, wait_jitter=0.01)
"""After the point of no return: the waits are tiny, for a demo."""


@contextmanager
def refusals() -> Iterator[None]:
    """Tells the mediator what a service means by "no": without effect, and not to be tried again."""
    try:
        yield
    except RefusedError as error:
        raise StepRejectedError(str(error)) from error


class ReserveStep(Step):
    """Everything that is ordered is set aside, or nothing."""

    retry = QUICK
    compensation_retry = QUICK

    def __init__(self, stock: Stock) -> None:
        self.stock = stock

    def execute(self, order: Order, context: Context) -> None:
        """Sets it aside."""
        with refusals():
            self.stock.reserve(order.number, order.items, key=context.idempotency_key)

    def compensate(self, order: Order, context: Context) -> None:
        """Puts it back on the shelf."""
        self.stock.release(order.number, key=context.execute_key)


@step
def waive(order: Order) -> Decision:
    """Small orders need nobody."""
    return Decision(approved=True, by="nobody")


@step
def heed(order: Order, context: Context) -> None:
    """A refusal ends the order; what is reserved goes back."""
    decision: Decision = context.results["decision"]
    if not decision.approved:
        raise StepRejectedError(f"refused by {decision.by}")


class ChargeStep(Step):
    """The point of no return: who has paid gets what they ordered. A lost answer is looked up, not guessed."""

    pivot = True
    retry = QUICK

    def __init__(self, payments: Payments) -> None:
        self.payments = payments

    def execute(self, order: Order, context: Context) -> str:
        """Charges; returns the receipt."""
        with refusals():
            return self.payments.charge(order.number, order.cents, key=context.idempotency_key)

    def probe(self, order: Order, context: Context) -> Happened | NotHappened:
        """Looks the charge up in the book."""
        receipt = self.payments.receipt(order.number, key=context.idempotency_key)
        return NotHappened() if receipt is None else Happened(receipt)


class PackStep(Step):
    """One thing in one parcel."""

    retry = FOR_EVER

    def __init__(self, warehouse: Warehouse) -> None:
        self.warehouse = warehouse

    def execute(self, line: Line, context: Context) -> None:
        """Packs it."""
        self.warehouse.pack(line.order, line.number, line.item, key=context.idempotency_key)


@step
def weigh(order: Order) -> int:
    """Guesses the weight, in grams."""
    return 1_000 + 2_500 * len(order.items)


class StickStep(Step):
    """The label, with the weight on it."""

    retry = FOR_EVER

    def __init__(self, warehouse: Warehouse) -> None:
        self.warehouse = warehouse

    def execute(self, order: Order, context: Context) -> None:
        """Prints it."""
        self.warehouse.label(order.number, context.results["weigh"], key=context.idempotency_key)


class InvoiceStep(Step):
    """The invoice, with the receipt's number on it."""

    retry = FOR_EVER

    def __init__(self, accounts: Accounts) -> None:
        self.accounts = accounts

    def execute(self, order: Order, context: Context) -> None:
        """Writes it."""
        self.accounts.invoice(order.number, order.cents, context.results["charge"], key=context.idempotency_key)


class TellStep(Step):
    """Somebody learns that it is on its way."""

    retry = FOR_EVER

    def __init__(self, mail: Mail) -> None:
        self.mail = mail

    def execute(self, letter: Letter, context: Context) -> None:
        """Sends it."""
        self.mail.send(letter.order, letter.recipient, key=context.idempotency_key)
