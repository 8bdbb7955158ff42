"""Move a customer from one database to another, with a step after which nothing is undone."""

from __future__ import annotations

from dataclasses import dataclass

from fsm_mediator import Context, Happened, NotHappened, Saga, StepRejectedError, step


@dataclass
class Move:
    """A customer who moves."""

    customer: str


old: dict[str, list[str]] = {}
"""Invoices in the old database, by customer."""

new: dict[str, list[str]] = {}
"""Invoices in the new database, by customer."""

frozen: set[str] = set()
"""Customers whose writes are refused meanwhile."""

routes: dict[str, str] = {}
"""Which database the app uses, by customer; without a route it is the old one."""


@step
def freeze(move: Move) -> None:
    """Refuse writes of the customer during the move."""
    frozen.add(move.customer)


@freeze.compensation
def unfreeze(move: Move) -> None:
    """Allow writes again."""
    frozen.discard(move.customer)


@step(timeout=3600.0)
def copy(move: Move) -> int:
    """Copy all rows. A repeated copy has the same rows."""
    new[move.customer] = list(old[move.customer])
    return len(new[move.customer])


@copy.compensation
def delete_copy(move: Move) -> None:
    """Delete the copy, even if it is incomplete."""
    new.pop(move.customer, None)


@step
def compare(move: Move, context: Context) -> None:
    """Refuse a copy that has too few rows, or a damaged row."""
    if len(new[move.customer]) != context.results["copy"] or "" in new[move.customer]:
        raise StepRejectedError("the copy is damaged")


@step(pivot=True)
def switch(move: Move) -> None:
    """Let the app use the new database. From here on the customer writes there."""
    routes[move.customer] = "new"


@switch.probing
def find_route(move: Move) -> Happened | NotHappened:
    """Look up which database the app uses."""
    return Happened() if routes.get(move.customer) == "new" else NotHappened()


@step(name="allow_writes")
def allow_writes(move: Move) -> None:
    """Allow writes, now in the new database."""
    frozen.discard(move.customer)


@step
def delete_old(move: Move) -> None:
    """Delete the rows of the old database."""
    old.pop(move.customer, None)


migration = Saga("migration", [freeze, copy, compare, switch, allow_writes, delete_old], payload=Move)
