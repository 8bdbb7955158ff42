"""The output of the demo: a progress bar, tables, the timeline of one saga."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from examples.profile_sync.demo import count_attempts, failed_step

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console

    from examples.profile_sync.changes import Line, Malformed
    from examples.profile_sync.demo import Result
    from fsm_mediator import Outcome, Record


@contextmanager
def progress(console: Console) -> Iterator[tuple[Callable[[int], None], Callable[[Line, Outcome], None]]]:
    """A progress bar that counts ended sagas; none if the output is not a terminal."""
    columns = (
        TextColumn("synchronising"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("[red]{task.fields[failed]} failed[/]"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=None, failed=0)
        failed = 0

        def begin(total: int) -> None:
            bar.update(task, total=total)

        def end(line: Line, outcome: Outcome) -> None:
            nonlocal failed
            failed += not outcome.succeeded
            bar.update(task, advance=1, failed=failed)

        yield begin, end


def show(console: Console, result: Result) -> None:
    """Prints the whole result."""
    outcomes = [outcome for _, outcome in result.outcomes]
    console.print(outcome_table(outcomes))
    if result.malformed:
        console.print(malformed_table(result.malformed))
    failure = longest_failure(outcomes)
    if failure is not None:
        console.print(timeline(failure))
    for line in late(result):
        console.print(line, soft_wrap=True, highlight=False)
    for line in check_result(result):
        console.print(line, soft_wrap=True, highlight=False)


def outcome_table(outcomes: list[Outcome]) -> Table:
    """Sagas and attempts, by final state and failed step."""
    groups: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        where = f"failed at {failed_step(outcome)}, compensated" if outcome.state == "failed" else outcome.state
        groups.setdefault(where, []).append(outcome)
    table = Table(title="Outcomes", title_justify="left")
    table.add_column("outcome")
    for heading in ("sagas", "attempts to execute", "attempts to compensate"):
        table.add_column(heading, justify="right")
    for where, group in sorted(groups.items(), key=lambda each: -len(each[1])):
        style = "green" if where == "succeeded" else "yellow" if group[0].state == "failed" else "bold red"
        table.add_row(where, *_counts(group), style=style)
    table.add_section()
    table.add_row("all", *_counts(outcomes), style="bold")
    return table


def malformed_table(malformed: list[Malformed]) -> Table:
    """The malformed lines, and the reasons."""
    table = Table(title="Malformed lines, left out", title_justify="left")
    table.add_column("line", justify="right")
    table.add_column("reason")
    table.add_column("text", no_wrap=True, overflow="ellipsis", max_width=40)
    for line in malformed:
        table.add_row(str(line.number), escape(line.reason), escape(line.text))
    return table


def longest_failure(outcomes: list[Outcome]) -> Outcome | None:
    """The failed saga with the longest history."""
    failed = [outcome for outcome in outcomes if outcome.state == "failed"]
    return max(failed, key=lambda outcome: len(outcome.history), default=None)


def timeline(outcome: Outcome) -> Table:
    """The history of one saga, a row per transition."""
    started = outcome.history[0].at
    table = Table(title=f"How {outcome.saga_id} failed and was compensated", title_justify="left")
    table.add_column("ms", justify="right")
    for heading in ("event", "leads to", "because"):
        table.add_column(heading, overflow="fold")
    for record in outcome.history:
        style = {"failed": "bold yellow", "executed": "green", "compensated": "cyan"}.get(record.event)
        table.add_row(
            f"{(record.at - started) * 1000:.1f}", _event(record), record.target, _because(record), style=style
        )
    return table


def late(result: Result) -> list[str]:
    """The results of the requests that arrived after all sagas had ended."""
    repeated, refused = result.late.get("answered", 0), result.late.get("refused", 0)
    return [
        f"Late: {repeated + refused} requests that seemed lost arrived after all sagas had ended.",
        f"  {repeated} were repetitions without an effect, {refused} were of undone changes and were refused.",
    ]


def check_result(result: Result) -> list[str]:
    """The result of the check."""
    if result.mismatches:
        head = f"[bold red]Check: {len(result.mismatches)} mismatches between outcomes and tables[/]"
        return [head, *(f"  {escape(str(mismatch))}" for mismatch in result.mismatches)]
    succeeded = sum(outcome.succeeded for _, outcome in result.outcomes)
    return [
        "[bold green]Check: the tables of the services match every outcome[/]",
        f"  {succeeded} users changed in every service, {len(result.outcomes) - succeeded} users in none.",
    ]


def _counts(group: list[Outcome]) -> tuple[str, str, str]:
    return str(len(group)), str(count_attempts(group, "executing")), str(count_attempts(group, "compensating"))


def _event(record: Record) -> str:
    # The record of an elapsed wait has the number of the attempt before it, and is not an attempt itself.
    attempt = f" (attempt {record.attempt})" if record.attempt and not record.event.endswith("_due") else ""
    return f"{record.step or ''} {record.event}{attempt}".strip()


def _because(record: Record) -> str:
    if record.error is None:
        return record.reason or ""
    doubt = ", in doubt" if record.in_doubt else ""
    return escape(f"{record.error.type.rpartition('.')[2]}: {record.error.message}{doubt}")
