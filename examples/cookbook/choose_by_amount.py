"""Pay small amounts at once, and large ones after a check of the customer."""

from __future__ import annotations

from dataclasses import dataclass

from fsm_mediator import Choose, Context, Retry, RetryAfterError, Saga, Sleep, StepRejectedError, step


@dataclass
class Payout:
    """Money for a customer."""

    customer: str
    cents: int


checks: dict[str, str] = {}
"""Checks that were ordered, by idempotency key."""

under_way: set[str] = set()
"""Customers whose check has no result yet."""

transfers: dict[str, int] = {}
"""Transfers, by idempotency key."""


@step
def order_check(payout: Payout, context: Context) -> None:
    """Order a check of the customer; it costs money, and can be cancelled."""
    checks[context.idempotency_key] = payout.customer


@order_check.compensation
def cancel_check(payout: Payout, context: Context) -> None:
    """Cancel the check."""
    checks.pop(context.execute_key, None)


@step(retry=Retry(attempts=30))
def read_check(payout: Payout) -> str:
    """Read the result of the check. If there is no result yet, ask again in an hour."""
    if payout.customer in under_way:
        raise RetryAfterError(3600.0, "the check is under way")
    if payout.customer == "Mallory":
        raise StepRejectedError("the customer did not pass the check")
    return "passed"


@step
def transfer(payout: Payout, context: Context) -> int:
    """Transfer the money."""
    transfers[context.idempotency_key] = payout.cents
    return payout.cents


@transfer.compensation
def call_back(payout: Payout, context: Context) -> None:
    """Call the transfer back."""
    transfers.pop(context.execute_key, None)


def size(payout: Payout) -> str:
    """Return the size of the payout. The result is journaled, so a repeated attempt cannot choose differently."""
    return "large" if payout.cents > 100_000 else "small"


checked = Saga("checked", [order_check, read_check])
payout = Saga(
    "payout",
    [Choose("check", {"small": Sleep("no_check", 0), "large": checked}, by=size), transfer],
    payload=Payout,
)
