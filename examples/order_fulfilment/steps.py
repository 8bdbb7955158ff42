"""The steps: the only module that uses both the services and fsm_mediator. The saga is in `fulfilment`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from examples.order_fulfilment.orders import Decision, Line, MailMessage, Order
from examples.order_fulfilment.services import Accounts, Mail, Payments, Stock, Warehouse
from examples.profile_sync.faults import RefusedError
from fsm_mediator import Context, Happened, NotHappened, Retry, Step, StepRejectedError, step

QUICK_RETRIES = Retry(attempts=6, wait_initial=0.01, wait_max=0.1, wait_jitter=0.01)
UNLIMITED_RETRIES = Retry(attempts=None, wait_initial=0.01, wait_max=0.5, wait_jitter=0.01)
"""For the steps after the pivot. The waits are short, for a demo."""


@contextmanager
def service_rejections() -> Iterator[None]:
    """Translates a refusal of a service: it had no effect, and must not be retried."""
    try:
        yield
    except RefusedError as error:
        raise StepRejectedError(str(error)) from error


class ReserveStep(Step):
    """Reserves all items, or none."""

    retry = QUICK_RETRIES
    compensation_retry = QUICK_RETRIES

    def __init__(self, stock: Stock) -> None:
        self.stock = stock

    def execute(self, order: Order, context: Context) -> None:
        """Reserves the items."""
        with service_rejections():
            self.stock.reserve(order.number, order.items, key=context.idempotency_key)

    def compensate(self, order: Order, context: Context) -> None:
        """Cancels the reservation."""
        self.stock.release(order.number, key=context.execute_key)


@step
def auto_approve(order: Order) -> Decision:
    """Small orders need no approval."""
    return Decision(approved=True, by="nobody")


@step
def check_decision(order: Order, context: Context) -> None:
    """Fails if the order was refused, so that the reservation is cancelled."""
    decision: Decision = context.results["decision"]
    if not decision.approved:
        raise StepRejectedError(f"refused by {decision.by}")


class ChargeStep(Step):
    """The pivot: an order that is paid is fulfilled. After a lost answer, the probe looks the charge up."""

    pivot = True
    retry = QUICK_RETRIES

    def __init__(self, payments: Payments) -> None:
        self.payments = payments

    def execute(self, order: Order, context: Context) -> str:
        """Charges the card. Returns the receipt."""
        with service_rejections():
            return self.payments.charge(order.number, order.cents, key=context.idempotency_key)

    def probe(self, order: Order, context: Context) -> Happened | NotHappened:
        """Looks the charge up."""
        receipt = self.payments.receipt(order.number, key=context.idempotency_key)
        return NotHappened() if receipt is None else Happened(receipt)


class PackStep(Step):
    """Packs one item."""

    retry = UNLIMITED_RETRIES

    def __init__(self, warehouse: Warehouse) -> None:
        self.warehouse = warehouse

    def execute(self, line: Line, context: Context) -> None:
        """Packs the item."""
        self.warehouse.pack(line.order, line.number, line.item, key=context.idempotency_key)


@step
def weigh(order: Order) -> int:
    """Estimates the weight, in grams."""
    return 1_000 + 2_500 * len(order.items)


class PrintLabelStep(Step):
    """Prints the label, with the weight on it."""

    retry = UNLIMITED_RETRIES

    def __init__(self, warehouse: Warehouse) -> None:
        self.warehouse = warehouse

    def execute(self, order: Order, context: Context) -> None:
        """Prints the label."""
        self.warehouse.label(order.number, context.results["weigh"], key=context.idempotency_key)


class InvoiceStep(Step):
    """Writes the invoice, with the number of the receipt on it."""

    retry = UNLIMITED_RETRIES

    def __init__(self, accounts: Accounts) -> None:
        self.accounts = accounts

    def execute(self, order: Order, context: Context) -> None:
        """Writes the invoice."""
        self.accounts.invoice(order.number, order.cents, context.results["charge"], key=context.idempotency_key)


class SendMailStep(Step):
    """Notifies one recipient that the order is shipped."""

    retry = UNLIMITED_RETRIES

    def __init__(self, mail: Mail) -> None:
        self.mail = mail

    def execute(self, message: MailMessage, context: Context) -> None:
        """Sends the message."""
        self.mail.send(message.order, message.recipient, key=context.idempotency_key)
