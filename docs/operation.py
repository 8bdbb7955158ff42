"""A whole operation for pictures: a choice, an approval, a parallel group and a pivot; and some weeks of its runs.

``python docs/operation.py`` writes the statistics of two weeks, from which the documentation draws its numbers.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from fsm_mediator import Choose, MemoryJournal, Parallel, Retry, Saga, Signal, step
from fsm_mediator.mediator.sync import Mediator
from fsm_mediator.statistics import Statistics
from fsm_mediator.testing import VirtualClock

PICTURES = Path(__file__).parent / "pictures"
START = 1_790_000_000.0
WEEK = 7 * 86_400.0


class World:
    """The time and the luck of the services; a call takes as long as it says, in virtual time."""

    def __init__(self, seed: int = 20) -> None:
        self.clock = VirtualClock(START)
        self.chance = random.Random(seed)  # noqa: S311 - luck of services that do not exist
        self.slow = 1.0

    def call(self, seconds: float, breaks: float = 0.0) -> None:
        """Call a service that takes about *seconds*, and is down with the probability *breaks*."""
        self.clock.advance(seconds * self.chance.lognormvariate(0.0, 0.6))
        if self.chance.random() < breaks:
            raise ConnectionError("the service is down")


world = World()
quick = Retry(attempts=3, wait_initial=2.0, wait_jitter=0)


@step(label="Reserve stock")
def reserve(order: dict[str, Any]) -> None:
    """Set the goods aside."""
    world.call(0.2)


@reserve.compensation
def release(order: dict[str, Any]) -> None:
    """Give the goods back."""
    world.call(0.1)


@step
def automatic(order: dict[str, Any]) -> None:
    """Approve a small order."""
    world.call(0.01)


@step(label="Charge card", retry=quick, no_effect_on=ConnectionError)
def charge(order: dict[str, Any]) -> None:
    """Charge the card, at a bank that is down now and then."""
    world.call(0.9 * world.slow, breaks=0.12 * world.slow)


@charge.compensation
def refund(order: dict[str, Any]) -> None:
    """Pay the money back."""
    world.call(1.1)


@step
def pack(order: dict[str, Any]) -> None:
    """Pack the parcel."""
    world.call(40.0)


@step
def label(order: dict[str, Any]) -> None:
    """Print the label."""
    world.call(1.5)


@step(retry=quick, no_effect_on=ConnectionError)
def invoice(order: dict[str, Any]) -> None:
    """Write the invoice."""
    world.call(0.4, breaks=0.03)


@step(pivot=True)
def ship(order: dict[str, Any]) -> None:
    """Hand the parcel over."""
    world.call(5.0)


@step
def notify(order: dict[str, Any]) -> None:
    """Write to the customer."""
    world.call(0.3)


by_hand = Saga("by_hand", [Signal("decision", timeout=3 * 86_400.0)])


def _approver(order: dict[str, Any]) -> str:
    return "by_hand" if order["cents"] > 50_000 else "automatic"


order = Saga(
    "order",
    [
        reserve,
        Choose("approval", {"automatic": automatic, "by_hand": by_hand}, by=_approver),
        charge,
        Parallel("fulfil", [pack, label, invoice]),
        ship,
        notify,
    ],
)


def trade(orders: int) -> MemoryJournal:
    """Two weeks with so many orders each; in the second the bank is slow, and the last approvals are not given yet."""
    journal = MemoryJournal()
    with Mediator(order, journal=journal, max_workers=1, **world.clock.settings) as mediator:
        for number in range(2 * orders):
            world.slow = 1.0 if number < orders else 2.5
            world.clock.now = START + number * WEEK / orders
            saga_id, cents = f"o-{number}", world.chance.randint(1_000, 60_000)
            outcome = mediator.run("order", {"cents": cents}, saga_id=saga_id, check=False)
            if not outcome.ended and number < 2 * orders - 240:
                world.clock.advance(3_600 * world.chance.lognormvariate(0.0, 1.0))
                mediator.signal(saga_id, "approval.by_hand.decision", "yes")
                mediator.wait(saga_id, check=False)
    return journal


def main() -> None:
    """Write the statistics of both weeks beside the pictures."""
    journal = trade(600)
    for number, name in enumerate(("first", "second")):
        since = START + number * WEEK
        stats = Statistics.read(order, journal, since=since, until=since + WEEK)
        (PICTURES / f"order-{name}-week.json").write_text(stats.to_json(), encoding="utf-8")


if __name__ == "__main__":
    main()
