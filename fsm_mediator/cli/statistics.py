"""The command ``stats``: the numbers of a saga's executions as JSON, which ``render --stats`` and Sphinx draw."""

from __future__ import annotations

import time
from contextlib import closing

import click

from fsm_mediator.cli import options
from fsm_mediator.cli.console import err, progress_bar
from fsm_mediator.cli.exporting import open_output
from fsm_mediator.cli.loading import journal_for, load_app, one_saga
from fsm_mediator.statistics import Statistics


@click.command()
@options.app_argument
@options.saga_name
@options.journal
@click.option("--since", type=options.Duration(unit=True), help="Only the records of the last 12h, 7d, 4w.")
@click.option("--until", type=options.Duration(unit=True), help="Only the records older than 12h, 7d, 4w.")
@options.output
def stats(
    app: str | None, name: str | None, journal: str | None, since: float | None, until: float | None, output: str
) -> None:
    """Count a saga's executions step by step: durations, failures, retries, where they are now.

    APP is module:object. The JSON holds numbers and names of steps, no payload, result or error, so that it can be
    committed and drawn where there is no journal:

    \b
    fsm-mediator stats shop.sagas:checkout --journal sagas.db --since 7d -o week.json
    fsm-mediator render shop.sagas:checkout --stats week.json --show p95 -o week.svg

    An execution that cannot be read is counted and named.
    """  # noqa: D301 - click's mark of lines that are not to be joined
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
    for saga_id, why in lost.named.items():
        err.print(f"left out: {saga_id}: {why}", style="yellow", markup=False, highlight=False)
    if lost.count > len(lost.named):
        err.print(f"left out: {lost.count - len(lost.named)} more", style="yellow", highlight=False)


COMMANDS = (stats,)
"""The commands for the command line."""
