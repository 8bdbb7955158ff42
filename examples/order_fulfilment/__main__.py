"""``python -m examples.order_fulfilment``: runs the demo's orders, approves them, and checks the participants' tables.

Exits with 0 if all is as promised, with 1 on a mismatch, with 2 on wrong usage or a decision that is refused.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.table import Table

from examples.order_fulfilment import DEFAULT_FOLDER, app, folder
from examples.order_fulfilment.check import check
from examples.order_fulfilment.fulfilment import SIGNAL
from examples.order_fulfilment.orders import ORDERS, Decision
from examples.order_fulfilment.services import Stock
from fsm_mediator import Mediator, MediatorError

console = Console(highlight=False, soft_wrap=True)


def run(mediator: Mediator) -> int:
    """Accepts every order, drives on what an earlier process left, and waits until all are at rest."""
    stock = Stock(folder())
    stock.fill()
    stock.close()
    for order in ORDERS:
        mediator.start("order_fulfilment", order, saga_id=order.saga_id)  # harmless where it is known
    mediator.recover()
    for order in ORDERS:
        mediator.wait(order.saga_id, check=False)
    return status(mediator)


def approve(mediator: Mediator, saga_id: str, decision: Decision) -> int:
    """Decides about one order, and drives it on."""
    mediator.signal(saga_id, SIGNAL, decision)
    outcome = mediator.wait(saga_id, check=False)
    console.print(outcome.summary())
    return 0


def status(mediator: Mediator) -> int:
    """Shows where each order stands, and compares the participants' tables with that."""
    states = {entry.saga_id: entry.state for entry in mediator.executions()}
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("order", "items", "costs", "state"):
        table.add_column(column, justify="right" if column == "costs" else "left")
    for order in ORDERS:
        state = states.get(order.saga_id, "")
        items = ", ".join(item if n == 1 else f"{n} {item}s" for item, n in Counter(order.items).items())
        style = {"succeeded": "green", "failed": "red"}.get(state, "yellow")
        table.add_row(order.saga_id, items, f"{order.cents / 100:.2f}", f"[{style}]{state}[/]")
    console.print(table)
    for order in ORDERS:
        if states.get(order.saga_id) == "waiting.approval":
            console.print(
                f"{order.saga_id} needs approval: python -m examples.order_fulfilment approve {order.saga_id}"
            )
    wrong = check(folder(), ORDERS, states)
    for line in wrong:
        console.print(f"[bold red]MISMATCH[/] {line}")
    if not wrong:
        console.print("every participant's table is as promised")
    return 1 if wrong else 0


def main(argv: list[str] | None = None) -> int:
    """Parses the command line and does what it says; the exit status is returned."""
    parser = argparse.ArgumentParser(prog="python -m examples.order_fulfilment", description=__doc__.splitlines()[0])
    parser.add_argument("--dir", type=Path, help=f"where the state is kept ({DEFAULT_FOLDER})")
    parser.add_argument("--seed", type=int, help="what goes wrong (20)")
    parser.add_argument("--carrier", type=float, help="seconds until the carrier comes (2)")
    parser.add_argument("--latency", type=float, help="seconds that a request takes (0.01)")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("run", help="accept all orders, drive on what was left, until all are at rest")
    deciding = commands.add_parser("approve", help="decide about an order that needs approval")
    deciding.add_argument("saga_id")
    deciding.add_argument("--refuse", action="store_true", help="refuse it")
    deciding.add_argument("--by", default="you", help="who decides (%(default)s)")
    commands.add_parser("status", help="show where each order stands, and check the participants' tables")
    options = parser.parse_args(argv)
    for name in ("dir", "seed", "latency", "carrier"):
        if (value := getattr(options, name)) is not None:
            os.environ[f"ORDERS_{name.upper()}"] = str(value)  # where `app` finds them, here and under fsm-mediator

    try:
        with app() as mediator:
            if options.command == "approve":
                return approve(mediator, options.saga_id, Decision(approved=not options.refuse, by=options.by))
            return run(mediator) if options.command == "run" else status(mediator)
    except MediatorError as error:
        console.print(f"[bold red]{error}[/]", markup=True)
        return 2


if __name__ == "__main__":
    sys.exit(main())
