"""How the demo looks: a progress bar, tables, one saga's timeline. It reads results and decides nothing."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from examples.profile_sync.demo import attempts_of, gave_up_at

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console

    from examples.profile_sync.changes import Line, Malformed
    from examples.profile_sync.demo import Result
    from fsm_mediator import Outcome, Record


@contextmanager
def progress(console: Console) -> Iterator[tuple[Callable[[int], None], Callable[[Line, Outcome], None]]]:
    """A bar that moves with each saga that ends; where the output is no terminal there is none."""
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
    """Everything, in the order in which one wants to know it."""
    outcomes = [outcome for _, outcome in result.outcomes]
    console.print(outcome_table(outcomes))
    if result.malformed:
        console.print(malformed_table(result.malformed))
    told = telling(outcomes)
    if told is not None:
        console.print(timeline(told))
    for line in late(result):
        console.print(line, soft_wrap=True, highlight=False)
    for line in verdict(result):
        console.print(line, soft_wrap=True, highlight=False)


def outcome_table(outcomes: list[Outcome]) -> Table:
    """Sagas and attempts, by the state they ended in and the step at which they gave up."""
    groups: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        where = f"failed at {gave_up_at(outcome)}, compensated" if outcome.state == "failed" else outcome.state
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
    """The lines that were left out, and why."""
    table = Table(title="Malformed lines, left out", title_justify="left")
    table.add_column("line", justify="right")
    table.add_column("reason")
    table.add_column("text", no_wrap=True, overflow="ellipsis", max_width=40)
    for line in malformed:
        table.add_row(str(line.number), escape(line.reason), escape(line.text))
    return table


def telling(outcomes: list[Outcome]) -> Outcome | None:
    """The failed saga with the most to tell."""
    failed = [outcome for outcome in outcomes if outcome.state == "failed"]
    return max(failed, key=lambda outcome: len(outcome.history), default=None)


def timeline(outcome: Outcome) -> Table:
    """One saga's history, a row for each transition."""
    begun = outcome.history[0].at
    table = Table(title=f"How {outcome.saga_id} failed and was compensated", title_justify="left")
    table.add_column("ms", justify="right")
    for heading in ("event", "leads to", "because"):
        table.add_column(heading, overflow="fold")
    for record in outcome.history:
        style = {"failed": "bold yellow", "executed": "green", "compensated": "cyan"}.get(record.event)
        table.add_row(f"{(record.at - begun) * 1000:.1f}", _event(record), record.target, _because(record), style=style)
    return table


def late(result: Result) -> list[str]:
    """What became of the requests that arrived after everything had ended."""
    repeated, refused = result.late.get("answered", 0), result.late.get("refused", 0)
    return [
        f"Late: {repeated + refused} requests that had seemed lost arrived only after all sagas had ended.",
        f"  {repeated} were repetitions and changed nothing, {refused} were of undone changes and were refused.",
    ]


def verdict(result: Result) -> list[str]:
    """What the participants' own tables say."""
    if result.mismatches:
        head = f"[bold red]Check: {len(result.mismatches)} mismatches between outcomes and the participants' tables[/]"
        return [head, *(f"  {escape(str(mismatch))}" for mismatch in result.mismatches)]
    succeeded = sum(outcome.succeeded for _, outcome in result.outcomes)
    return [
        "[bold green]Check: the participants' own tables agree with every outcome[/]",
        f"  {succeeded} users changed everywhere, {len(result.outcomes) - succeeded} users changed nowhere.",
    ]


def _counts(group: list[Outcome]) -> tuple[str, str, str]:
    return str(len(group)), str(attempts_of(group, "executing")), str(attempts_of(group, "compensating"))


def _event(record: Record) -> str:
    # A wait that is over is no attempt, though its record tells which attempt it followed.
    attempt = f" (attempt {record.attempt})" if record.attempt and not record.event.endswith("_due") else ""
    return f"{record.step or ''} {record.event}{attempt}".strip()


def _because(record: Record) -> str:
    if record.error is None:
        return record.reason or ""
    doubt = ", in doubt" if record.in_doubt else ""
    return escape(f"{record.error.type.rpartition('.')[2]}: {record.error.message}{doubt}")
