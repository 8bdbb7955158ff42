"""The command ``stats``: the statistics of a saga's executions as JSON, which ``render --stats`` and Sphinx draw."""

from __future__ import annotations

import time
from contextlib import closing

import click

from fsm_mediator.cli import options
from fsm_mediator.cli.console import err, next_command, progress_bar
from fsm_mediator.cli.exporting import open_output
from fsm_mediator.cli.loading import journal_for, load_app, load_journal, one_saga
from fsm_mediator.errors import JournalError
from fsm_mediator.statistics import Statistics
from fsm_mediator.statistics.side_store import side_store_of


@click.command()
@options.app_argument
@options.saga_name
@options.journal
@click.option("--since", type=options.Duration(unit=True), help="Only the records of the last 12h, 7d, 4w.")
@click.option("--until", type=options.Duration(unit=True), help="Only the records older than 12h, 7d, 4w.")
@options.output
@click.option("--refresh", is_flag=True, help="Add new records to the side store. Create it if it does not exist.")
@click.option("--rebuild", is_flag=True, help="Delete the content of the side store, and fill it again.")
def stats(
    app: str | None,
    name: str | None,
    journal: str | None,
    since: float | None,
    until: float | None,
    output: str,
    *,
    refresh: bool,
    rebuild: bool,
) -> None:
    """Count a saga's executions step by step.

    Counts durations, failures, retries, and the executions that are in each step now.

    APP is module:object. The JSON contains numbers and names of steps, and no payload, result or error. So you can
    commit it, and draw it without a journal:

    \b
    fsm-mediator stats shop.sagas:checkout --journal sagas.db --since 7d -o week.json
    fsm-mediator render shop.sagas:checkout --stats week.json --show p95 -o week.svg

    The JSON also has the ids of executions that cannot be read, and the number of executions that no living driver can
    drive.

    --refresh and --rebuild need no APP and print no JSON. They fill the side store: a file beside a SQLite journal, or
    a schema beside a PostgreSQL one. `count`, searches for a text and the operator's page use the side store. If it
    exists, `serve` fills it too.
    """  # noqa: D301 - click's mark of lines that are not to be joined
    if refresh or rebuild:
        fill_store(app, journal, rebuild=rebuild)
        return
    loaded, now = load_app(app), time.time()
    ends = {"since": since, "until": until}
    with closing(journal_for(journal, loaded, read_only=True)) as opened, progress_bar("reading") as advance:
        found = Statistics.read(
            one_saga(loaded, name),
            opened,
            progress=advance,
            **{end: None if ago is None else now - ago for end, ago in ends.items()},
        )
    with open_output(output) as file:
        file.write(found.to_json().encode())
    lost = found.unreadable
    err.print(f"{found.machines[found.saga.name].executions} executions", style="dim", highlight=False)
    if found.undrivable:
        listed = f"{next_command('list')} --state undrivable"
        err.print(
            f"{found.undrivable} undrivable: no living driver can drive them; see {listed}", style="dim", markup=False
        )
    for saga_id, why in lost.named.items():
        err.print(f"left out: {saga_id}: {why}", style="yellow", markup=False, highlight=False)
    if lost.count > len(lost.named):
        err.print(f"left out: {lost.count - len(lost.named)} more", style="yellow", highlight=False)


def fill_store(app: str | None, journal: str | None, *, rebuild: bool) -> None:
    """Fill the side store of a journal. Print how many changes were read, and how many executions the store has."""
    with closing(load_journal(app, journal)[1]) as opened, progress_bar("counting") as advance:
        store = side_store_of(opened)
        if store is None:
            raise JournalError(
                "only a SQLite journal in a file or a journal on PostgreSQL can have a side store; the counts of "
                "others are computed"
            )
        counted = store.rebuild(advance) if rebuild else store.refresh(advance)
        kept = sum(states.total() for states in store.states().values())
    err.print(
        f"{store.home.name}: {counted} changes read, {kept} executions", style="dim", markup=False, highlight=False
    )


COMMANDS = (stats,)
"""The commands of this module, which the command group adds."""
