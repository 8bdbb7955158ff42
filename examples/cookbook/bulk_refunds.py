"""Refund many customers, a few at a time. A refund that is refused does not stop the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from fsm_mediator import Context, Parallel, Retry, Saga, StepRejectedError, step


@dataclass
class Refund:
    """A refund for one customer."""

    account: str
    cents: int


@dataclass
class Recall:
    """A product that is recalled, and the refunds for its customers."""

    product: str
    budget: int
    refunds: list[Refund] = field(default_factory=list)


budgets: dict[str, int] = {}
"""Money set aside, by idempotency key."""

notes: dict[str, int] = {}
"""Credit notes, by idempotency key."""

closed: set[str] = set()
"""Accounts that are closed."""


@step
def set_aside(recall: Recall, context: Context) -> None:
    """Set the money aside, if there is enough."""
    if sum(refund.cents for refund in recall.refunds) > recall.budget:
        raise StepRejectedError("the budget is too small")
    budgets[context.idempotency_key] = recall.budget


@set_aside.compensation
def give_back(recall: Recall, context: Context) -> None:
    """Give the money back."""
    budgets.pop(context.execute_key, None)


@step(timeout=10.0, retry=Retry(attempts=8))
def credit(refund: Refund, context: Context) -> str:
    """Write a credit note. A closed account is a result, not an error: an error would undo all refunds."""
    if refund.account in closed:
        return f"{refund.account}: the account is closed"
    if refund.account == "":
        raise StepRejectedError("a refund without an account")
    notes[context.idempotency_key] = refund.cents
    return f"{refund.account}: {refund.cents}"


@credit.compensation
def void(refund: Refund, context: Context) -> None:
    """Void the credit note, if there is one."""
    notes.pop(context.execute_key, None)


def refunds_of(recall: Recall) -> Sequence[Refund]:
    """The refunds, with one branch for each refund."""
    return recall.refunds


recall = Saga(
    "recall",
    [set_aside, Parallel.each("refunds", credit, over=refunds_of, payload=Refund, at_most=10)],
    payload=Recall,
)
