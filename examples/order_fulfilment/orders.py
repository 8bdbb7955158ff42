"""The payload: what a customer orders, and the orders of the demo."""

from __future__ import annotations

import attrs

APPROVAL_ABOVE = 50_000
"""Cents above which somebody must approve an order."""

PRICES = {"lamp": 4_900, "chair": 12_900, "table": 39_900, "crown": 99_900}
STOCK = {"lamp": 20, "chair": 12, "table": 6, "crown": 1}


@attrs.frozen
class Line:
    """One thing to be packed for one order.

    Attributes:
        order: The order's number.
        item: What it is.
        number: Which line of the order, so that the same thing can be ordered twice.
    """

    order: int
    item: str
    number: int


@attrs.frozen
class Letter:
    """One message to one recipient."""

    order: int
    recipient: str


@attrs.frozen
class Decision:
    """What somebody says of an order that needs approval."""

    approved: bool
    by: str


@attrs.frozen
class Order:
    """What is ordered, by whom, and who is told when it is on its way.

    Attributes:
        number: Names it; the saga is ``order-NUMBER``.
        items: What is ordered, each in a parcel of its own.
        recipients: Who is told.
    """

    number: int
    items: tuple[str, ...]
    recipients: tuple[str, ...]

    @property
    def saga_id(self) -> str:
        """The saga's id: the same order is never fulfilled twice."""
        return f"order-{self.number}"

    @property
    def cents(self) -> int:
        """What it costs."""
        return sum(PRICES[item] for item in self.items)

    @property
    def lines(self) -> list[Line]:
        """What is to be packed."""
        return [Line(self.number, item, number) for number, item in enumerate(self.items)]


ORDERS = (
    Order(1, ("lamp",), ("ada@example.org",)),
    Order(2, ("chair", "chair", "lamp"), ("bob@example.org",)),
    Order(3, ("table", "chair"), ("cleo@example.org", "accounts@example.org")),
    Order(4, ("lamp", "lamp"), ("dan@example.org",)),
    Order(5, ("crown",), ("eve@example.org", "vault@example.org")),
    Order(6, ("chair",), ()),
    Order(7, ("crown", "lamp"), ("fay@example.org",)),
    Order(8, ("table",), ("gus@example.org",)),
    Order(9, ("lamp", "chair"), ("hal@example.org",)),
    Order(10, ("table", "table"), ("ivy@example.org",)),
)
"""Orders 3, 5, 7 and 10 need approval; there is one crown, and two want it."""
