"""The commands that copy a journal to another place, and that seal it under another key."""

from __future__ import annotations

import sys
from contextlib import closing
from typing import Final

import click

from fsm_mediator.cli import options
from fsm_mediator.cli.console import DID_NOT_SUCCEED, out, printable, progress_bar, say
from fsm_mediator.cli.loading import journal_for, load_journal
from fsm_mediator.journal.copying import copy
from fsm_mediator.journal.resealing import for_resealing


@click.command("copy")
@click.argument("old")
@click.argument("new")
def copy_(old: str, new: str) -> None:
    """Copy the journal OLD into NEW, which must be empty or not exist yet.

    OLD and NEW are each a file, a URL or env:NAME. Executions keep their ids, histories, inboxes and definitions;
    deleted ids stay deleted. The journal is copied completely or not at all, and not while a driver of OLD is alive.
    Drive only NEW afterwards.
    """
    with closing(journal_for(old, None)) as source, closing(journal_for(new, None, creates=True)) as target:
        written = copy(source, target)
    counts = f"{written['executions']} executions with {written['records'] - written['executions']} records"
    say(f"copied {counts}; from now on name the new journal, and keep the old one as a backup")


@click.command()
@options.app
@options.journal
def reseal(app: str | None, journal: str | None) -> None:
    """Seal every text of a journal under the first key of --cipher, so that the other keys can be removed.

    Plain texts are sealed too. Drivers may run at the same time if all of them have the first key. The exit code is 1
    if some texts could not be opened.
    """
    with closing(load_journal(app, journal)[1]) as opened:
        resealing = for_resealing(opened)
        with progress_bar("sealing", "{task.completed} rows") as advance:
            done = resealing.reseal(advance)
    out.print(f"{done.changed} rows sealed anew", highlight=False)
    for key_id, count in sorted(done.unopened.items()):
        why = f"the key {key_id!r} is missing or another one" if key_id else "they are damaged"
        say(printable(f"{count} texts could not be opened: {why}"), "red")
    if done.unopened:
        sys.exit(DID_NOT_SUCCEED)
    say("no other key than the first one is needed by this journal any more; archives and backups may need them", "dim")


COMMANDS: Final = (copy_, reseal)
