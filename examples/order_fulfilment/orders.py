"""The payloads of the saga, and the orders of the demo."""

from __future__ import annotations

import attrs

APPROVAL_ABOVE = 50_000
"""Orders above this price, in cents, need an approval."""

PRICES = {"lamp": 4_900, "chair": 12_900, "table": 39_900, "crown": 99_900}
STOCK = {"lamp": 20, "chair": 12, "table": 6, "crown": 1}


@attrs.frozen
class Line:
    """One item to pack.

    Attributes:
        order: The number of the order.
        item: The name of the item.
        number: The line of the order, so that the same item can be ordered twice.
    """

    order: int
    item: str
    number: int


@attrs.frozen
class MailMessage:
    """One message to one recipient."""

    order: int
    recipient: str


@attrs.frozen
class Decision:
    """The value of the signal that approves or refuses an order."""

    approved: bool
    by: str


@attrs.frozen
class Order:
    """An order: the payload of the saga.

    Attributes:
        number: The number of the order; the id of its saga is ``order-NUMBER``.
        items: The items, one parcel each.
        recipients: The addresses that are notified when the order is shipped.
    """

    number: int
    items: tuple[str, ...]
    recipients: tuple[str, ...]

    @property
    def saga_id(self) -> str:
        """The id of the saga. The same id never runs twice, so an order is never fulfilled twice."""
        return f"order-{self.number}"

    @property
    def cents(self) -> int:
        """The price, in cents."""
        return sum(PRICES[item] for item in self.items)

    @property
    def lines(self) -> list[Line]:
        """The items to pack."""
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
"""Orders 3, 5, 7 and 10 need approval. Two orders want the only crown."""
