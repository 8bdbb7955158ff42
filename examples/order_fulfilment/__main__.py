"""``python -m examples.order_fulfilment``: runs and approves the orders of the demo, and checks the tables.

Exits with 0 if every table is correct, with 1 on a mismatch, with 2 on wrong usage or a refused decision.
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
    """Starts every order, resumes the orders of an earlier process, and waits until each has ended or waits."""
    stock = Stock(folder())
    stock.fill()
    stock.close()
    for order in ORDERS:
        mediator.start("order_fulfilment", order, saga_id=order.saga_id)  # does nothing if it is already started
    mediator.recover()
    for order in ORDERS:
        mediator.wait(order.saga_id, check=False)
    return status(mediator)


def approve(mediator: Mediator, saga_id: str, decision: Decision) -> int:
    """Approves or refuses one order, and waits for its saga."""
    mediator.signal(saga_id, SIGNAL, decision)
    outcome = mediator.wait(saga_id, check=False)
    console.print(outcome.summary())
    return 0


def status(mediator: Mediator) -> int:
    """Shows the state of each order, and compares the tables of the services with it."""
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
    mismatches = check(folder(), ORDERS, states)
    for line in mismatches:
        console.print(f"[bold red]MISMATCH[/] {line}")
    if not mismatches:
        console.print("the tables of all services are correct")
    return 1 if mismatches else 0


def main(argv: list[str] | None = None) -> int:
    """Parses the command line and runs the command. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m examples.order_fulfilment", description=__doc__.splitlines()[0])
    parser.add_argument("--dir", type=Path, help=f"folder of the state ({DEFAULT_FOLDER})")
    parser.add_argument("--seed", type=int, help="seed of the faults (20)")
    parser.add_argument("--carrier", type=float, help="seconds until the carrier comes (2)")
    parser.add_argument("--latency", type=float, help="seconds that a request takes (0.01)")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("run", help="start all orders, or resume them")
    deciding = commands.add_parser("approve", help="approve or refuse an order")
    deciding.add_argument("saga_id")
    deciding.add_argument("--refuse", action="store_true", help="refuse it")
    deciding.add_argument("--by", default="you", help="name of the approver (%(default)s)")
    commands.add_parser("status", help="show the state of each order, and check the tables of the services")
    options = parser.parse_args(argv)
    for name in ("dir", "seed", "latency", "carrier"):
        if (value := getattr(options, name)) is not None:
            os.environ[f"ORDERS_{name.upper()}"] = str(value)  # `app` reads them, here and under fsm-mediator

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
