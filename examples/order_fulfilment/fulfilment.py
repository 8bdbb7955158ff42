"""The saga: reserve, approve, charge; then pack, label and invoice in parallel, wait for the carrier, and notify."""

from __future__ import annotations

from examples.order_fulfilment.orders import APPROVAL_ABOVE, Decision, Line, MailMessage, Order
from examples.order_fulfilment.services import Services
from examples.order_fulfilment.steps import (
    ChargeStep,
    InvoiceStep,
    PackStep,
    PrintLabelStep,
    ReserveStep,
    SendMailStep,
    auto_approve,
    check_decision,
    weigh,
)
from fsm_mediator import Choose, Parallel, Saga, Signal, Sleep

SIGNAL = "approval.by_hand.decision"
"""The name of the signal that approves an order: the choice, the branch, the signal."""

WEEK = 7 * 86_400.0


def order_fulfilment(services: Services, carrier_delay: float = 2.0) -> Saga:
    """The saga.

    Args:
        services: The services that take part.
        carrier_delay: Seconds from packing until the carrier has picked the parcels up.
    """
    by_hand = Saga("by_hand", [Signal("decision", timeout=WEEK, payload=Decision), check_decision])
    label = Saga("label", [weigh, PrintLabelStep(services.warehouse)])
    return Saga(
        "order_fulfilment",
        [
            ReserveStep(services.stock),
            Choose("approval", {"automatic": auto_approve, "by_hand": by_hand}, by=_approver),
            ChargeStep(services.payments),
            Parallel(
                "fulfil",
                [
                    Parallel.each("pack", PackStep(services.warehouse), over=_lines, payload=Line, at_most=2),
                    label,
                    InvoiceStep(services.accounts),
                ],
            ),
            Sleep("carrier", carrier_delay),
            Parallel.each("notify", SendMailStep(services.mail), over=_messages, payload=MailMessage),
        ],
        payload=Order,
    )


def _approver(order: Order) -> str:
    return "by_hand" if order.cents > APPROVAL_ABOVE else "automatic"


def _lines(order: Order) -> list[Line]:
    return order.lines


def _messages(order: Order) -> list[MailMessage]:
    return [MailMessage(order.number, recipient) for recipient in order.recipients]
