"""The saga: reserve, approve, pay; then pack, label and invoice at once, wait for the carrier, and tell everybody."""

from __future__ import annotations

from examples.order_fulfilment.orders import APPROVAL_ABOVE, Decision, Letter, Line, Order
from examples.order_fulfilment.services import Services
from examples.order_fulfilment.steps import (
    ChargeStep,
    InvoiceStep,
    PackStep,
    ReserveStep,
    StickStep,
    TellStep,
    heed,
    waive,
    weigh,
)
from fsm_mediator import Choose, Parallel, Saga, Signal, Sleep

SIGNAL = "approval.by_hand.decision"
"""What the decision about an order is called: the group, the branch, the signal."""

A_WEEK = 7 * 86_400.0


def order_fulfilment(services: Services, carrier_comes_after: float = 2.0) -> Saga:
    """The saga.

    Args:
        services: The participants.
        carrier_comes_after: Seconds from the packing until the carrier has taken it.
    """
    by_hand = Saga("by_hand", [Signal("decision", timeout=A_WEEK, payload=Decision), heed])
    label = Saga("label", [weigh, StickStep(services.warehouse)])
    return Saga(
        "order_fulfilment",
        [
            ReserveStep(services.stock),
            Choose("approval", {"automatic": waive, "by_hand": by_hand}, by=_who_approves),
            ChargeStep(services.payments),
            Parallel(
                "fulfil",
                [
                    Parallel.each("pack", PackStep(services.warehouse), over=_lines, payload=Line, at_most=2),
                    label,
                    InvoiceStep(services.accounts),
                ],
            ),
            Sleep("carrier", carrier_comes_after),
            Parallel.each("notify", TellStep(services.mail), over=_letters, payload=Letter),
        ],
        payload=Order,
    )


def _who_approves(order: Order) -> str:
    return "by_hand" if order.cents > APPROVAL_ABOVE else "automatic"


def _lines(order: Order) -> list[Line]:
    return order.lines


def _letters(order: Order) -> list[Letter]:
    return [Letter(order.number, recipient) for recipient in order.recipients]
