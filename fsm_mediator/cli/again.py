"""The command that runs a failed execution once more, under a new id."""

from __future__ import annotations

from typing import Any

import click

from fsm_mediator.cli import options
from fsm_mediator.cli.console import next_command, printable, say
from fsm_mediator.cli.driving import drive, report
from fsm_mediator.cli.loading import execution_in, journal_for, load_app
from fsm_mediator.mediator.again import id_of_next


@click.command()
@options.saga_id
@click.option("--new-id", callback=options.checked_id, help="The id of the new execution. Default: ID~2.")
@click.option("--despite-leftovers", is_flag=True, help="Run it even if effects are left that no compensation undid.")
@click.option("--even-if-succeeded", is_flag=True, help="Run it even if it has succeeded.")
@click.option("--reason", "-r", help="The reason. It is journaled.")
@options.actor
@options.app
@options.journal
def again(saga_id: str, app: str | None, journal: str | None, **words: Any) -> None:
    """Run a failed execution again, under a new id.

    The new execution has the same payload. This process drives it to its end.
    """
    loaded = load_app(app)
    opened = journal_for(journal, loaded)
    entry = execution_in(opened, saga_id)
    new_id = words["new_id"] or id_of_next(saga_id)

    async def run(mediator: Any) -> Any:
        made = mediator.again(saga_id, **words)
        made = await made if hasattr(made, "__await__") else made
        if made.is_other_definition:
            say(
                printable(f"it runs under version {made.version}; {saga_id!r} ran under {made.earlier_version}"),
                "yellow",
            )
        outcome = mediator.wait(made.saga_id, check=False)
        return await outcome if hasattr(outcome, "__await__") else outcome

    say(printable(f"execution {saga_id!r} ({entry.state}) is run again as {new_id!r}"), "dim")
    outcome = drive(loaded, opened, run)
    say(f"see: {next_command('show', saga_id)}", "dim")
    report(outcome, good=outcome.succeeded)
