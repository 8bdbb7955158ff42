"""Ask two people, one after the other. Each has a week; no answer is a refusal."""

from __future__ import annotations

from dataclasses import dataclass

from fsm_mediator import Context, Saga, Signal, StepRejectedError, step

WEEK = 7 * 86_400.0


@dataclass
class Request:
    """A request for days off."""

    employee: str
    days: int


calendar: dict[str, int] = {}
"""Days blocked in the calendar, by idempotency key."""

booked: dict[str, int] = {}
"""Days off in the payroll, by idempotency key."""


@step
def block_days(request: Request, context: Context) -> None:
    """Block the days while the request is open."""
    calendar[context.idempotency_key] = request.days


@block_days.compensation
def free_days(request: Request, context: Context) -> None:
    """Free the days again."""
    calendar.pop(context.execute_key, None)


def check(name: str, context: Context) -> None:
    """Refuse the request if this person said no."""
    if not context.results[name]:
        raise StepRejectedError(f"refused by the {name}")


@step
def check_team_lead(request: Request, context: Context) -> None:
    """Look at the answer of the team lead."""
    check("team_lead", context)


@step
def check_personnel(request: Request, context: Context) -> None:
    """Look at the answer of the personnel department."""
    check("personnel", context)


@step
def book(request: Request, context: Context) -> None:
    """Book the days off."""
    booked[context.idempotency_key] = request.days


@book.compensation
def cancel(request: Request, context: Context) -> None:
    """Cancel the booking."""
    booked.pop(context.execute_key, None)


holiday = Saga(
    "holiday",
    [
        block_days,
        Signal("team_lead", timeout=WEEK, payload=bool),
        check_team_lead,
        Signal("personnel", timeout=WEEK, payload=bool),
        check_personnel,
        book,
    ],
    payload=Request,
)
