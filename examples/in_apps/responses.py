"""The body of a response about an order, the same under every framework."""

from __future__ import annotations

from dataclasses import dataclass

from fsm_mediator import Outcome


@dataclass
class OrderStatus:
    """The body of a response about an order.

    Attributes:
        order_id: The id of the order, and of its saga.
        state: The state of the saga, for example ``waiting.approval``.
        step: The step that the saga is at; None when it has ended.
    """

    order_id: str
    state: str
    step: str | None


def order_status(outcome: Outcome) -> OrderStatus:
    """The status of an order, from the outcome of its saga."""
    return OrderStatus(outcome.saga_id, outcome.state, outcome.step)
