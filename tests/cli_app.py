"""The app of the command line's tests. Its services keep their state in files, and fail if a file says so."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec

from fsm_mediator import Parallel, Retry, Saga, step

QUICK = Retry(attempts=2, wait_initial=0.0, wait_jitter=0.0)


def world() -> Path:
    """Where the participants keep their state."""
    return Path(os.environ["CLI_APP_FOLDER"])


def note(line: str) -> None:
    """Write down what was done."""
    with (world() / "done").open("a", encoding="utf-8") as file:
        file.write(line + "\n")


@step
def reserve(order: dict[str, Any]) -> str:
    """Reserve the goods."""
    note("reserve")
    return "shelf 3"


@reserve.compensation
def release(order: dict[str, Any]) -> None:
    """Give the goods back, unless the warehouse is closed."""
    if (world() / "warehouse_closed").exists():
        raise RuntimeError("the warehouse is closed")
    note("release")


release_patiently = reserve.with_(compensation_retry=QUICK)


@step(retry=QUICK)
def charge(order: dict[str, Any]) -> dict[str, int]:
    """Charge the card, unless it is refused."""
    if order["amount"] > 100:
        raise ValueError("the card is refused")
    note("charge")
    return {"receipt": order["amount"]}


@charge.compensation
def refund(order: dict[str, Any]) -> None:
    """Refund the card."""
    note("refund")


checkout = Saga("checkout", [release_patiently, charge])


class Order(msgspec.Struct):
    """A payload that has a type."""

    amount: int


@step
def weigh(order: Order) -> int:
    """Needs nothing but its payload."""
    return order.amount


typed = Saga("typed", [weigh], payload=Order)
refuse = Saga("refuse", [charge.named("pay").with_(pivot=False)])
sagas = [checkout, refuse]


def make() -> list[Saga]:
    """The sagas, as a function gives them."""
    return sagas


newer = [
    Saga("checkout", [release_patiently, charge.named("check"), charge], version=2),
    refuse,
]
both = [checkout, *newer]

group = Saga("group", [Parallel("both", [release_patiently, charge])])

nothing = 42
