"""The command with which a person acknowledges alerts."""

from __future__ import annotations

import time
from contextlib import closing
from typing import Final

import click

from fsm_mediator.cli import options
from fsm_mediator.cli.console import printable, say
from fsm_mediator.cli.loading import execution_in, load_journal
from fsm_mediator.journal.acknowledging import acknowledge as keep
from fsm_mediator.journal.protocol import new_token


@click.command()
@options.saga_id
@click.option("--reason", "-r", help="The reason. It is journaled.")
@options.actor
@options.app
@options.journal
def acknowledge(saga_id: str, reason: str | None, actor: str | None, app: str | None, journal: str | None) -> None:
    """Stop the alerts of an execution until it changes its state.

    Another failed attempt of the same step does not count as a change. This command does not change the execution.
    """
    with closing(load_journal(app, journal)[1]) as opened:
        entry = execution_in(opened, saga_id)
        keep(opened, entry, reason, actor, time.time(), token=new_token())
    say(printable(f"the alerts of {saga_id!r}, which is in {entry.state!r}, are silent until it moves"), "green")


COMMANDS: Final = (acknowledge,)
