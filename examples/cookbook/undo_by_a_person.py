"""Undo automatically while the books are open, and by a person when they are closed."""

from __future__ import annotations

from dataclasses import dataclass

from fsm_mediator import Context, Retry, Saga, StepRejectedError, step


@dataclass
class Lease:
    """A flat for a tenant."""

    tenant: str
    flat: str


deposits: dict[str, str] = {}
"""Deposits in the books, by idempotency key."""

contracts: dict[str, str] = {}
"""Contracts, by idempotency key."""

books: dict[str, bool] = {"open": True}
"""Whether the books of the month are open."""


class BooksClosedError(Exception):
    """Only a person can change closed books."""


@step(compensation_retry=Retry(attempts=2, wait_initial=0.01))
def book_deposit(lease: Lease, context: Context) -> None:
    """Book the deposit."""
    deposits[context.idempotency_key] = lease.tenant


@book_deposit.compensation
def cancel_deposit(lease: Lease, context: Context) -> None:
    """Cancel the booking. If the books are closed, the saga gets stuck, and a person reverses it by hand."""
    if context.execute_key in deposits and not books["open"]:
        raise BooksClosedError(f"reverse the deposit of {lease.tenant} by hand")
    deposits.pop(context.execute_key, None)


@step
def sign(lease: Lease, context: Context) -> None:
    """Sign the contract."""
    if lease.flat == "rented":
        raise StepRejectedError("the flat is rented already")
    contracts[context.idempotency_key] = f"{lease.tenant}, {lease.flat}"


@sign.compensation
def revoke(lease: Lease, context: Context) -> None:
    """Revoke the contract."""
    contracts.pop(context.execute_key, None)


lease = Saga("lease", [book_deposit, sign], payload=Lease)
