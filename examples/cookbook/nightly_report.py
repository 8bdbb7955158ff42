"""Wait for the night, collect figures of two sources at the same time, publish a report."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from fsm_mediator import Context, Parallel, Saga, Sleep, StepRejectedError, step


@dataclass
class Report:
    """A report for a day, not to be computed before a point in time."""

    day: str
    not_before: dt.datetime


sales: dict[str, int] = {"2026-11-28": 5200}
"""Sales, by day."""

visits: dict[str, int] = {"2026-11-28": 910}
"""Visits, by day."""

published: dict[str, str] = {}
"""Reports that readers see, by day."""


def night(report: Report) -> dt.datetime:
    """When the report begins. The time is journaled: after a restart the saga waits only for the remaining time."""
    return report.not_before


@step
def sum_sales(report: Report) -> int:
    """Sum the sales."""
    if report.day not in sales:
        raise StepRejectedError(f"no sales on {report.day}")
    return sales[report.day]


@step
def count_visits(report: Report) -> int:
    """Count the visits."""
    return visits.get(report.day, 0)


@step
def publish(report: Report, context: Context) -> str:
    """Publish the report under its day. A repeated attempt replaces the report by the same text."""
    figures = context.results["figures"]
    published[report.day] = f"{figures['sum_sales']} in {figures['count_visits']} visits"
    return published[report.day]


@publish.compensation
def withdraw(report: Report) -> None:
    """Withdraw the report."""
    published.pop(report.day, None)


nightly = Saga(
    "nightly",
    [Sleep("night", until=night), Parallel("figures", [sum_sales, count_visits]), publish],
    payload=Report,
)
