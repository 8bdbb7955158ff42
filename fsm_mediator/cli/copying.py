"""The command that moves a journal to another place."""

from __future__ import annotations

from contextlib import closing
from typing import Final

import click

from fsm_mediator.cli.console import say
from fsm_mediator.cli.loading import journal_for
from fsm_mediator.journal.copying import copy


@click.command("copy")
@click.argument("old")
@click.argument("new")
def copy_(old: str, new: str) -> None:
    """Copy the journal OLD into NEW, an empty journal or a new one.

    Each is a file, a URL or env:NAME. Executions keep their ids, histories, inboxes and definitions; ids that were
    forgotten stay so. It is copied completely or not at all, and not while a driver of OLD is alive. Drive only NEW
    afterwards.
    """
    with closing(journal_for(old, None)) as source, closing(journal_for(new, None, creates=True)) as target:
        written = copy(source, target)
    counts = f"{written['executions']} executions with {written['records'] - written['executions']} records"
    say(f"copied {counts}; from now on name the new journal, and keep the old one as a backup")


COMMANDS: Final = (copy_,)
