"""The command ``copy``, which copies a journal to another place, and ``reseal``, which changes the key of its texts."""

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
    """Copy the journal OLD into NEW, an empty or new journal.

    OLD and NEW are a file, a URL or env:NAME. Executions keep their ids, histories, inboxes and definitions. Forgotten
    ids stay forgotten. The journal is copied completely or not at all. The copy is refused while a driver of OLD is
    alive. Afterwards use only NEW.
    """
    with closing(journal_for(old, None)) as source, closing(journal_for(new, None, creates=True)) as target:
        written = copy(source, target)
    counts = f"{written['executions']} executions with {written['records'] - written['executions']} records"
    say(f"copied {counts}; from now on use the new journal, and keep the old journal as a backup")


@click.command()
@options.app
@options.journal
def reseal(app: str | None, journal: str | None) -> None:
    """Seal all texts of a journal with the cipher's first key.

    The option --cipher names the cipher. Plain texts are sealed too. Afterwards the journal does not need the cipher's
    other keys. Drivers may run at the same time if all of them have the first key. Exits with 1 if some texts could not
    be opened.
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
    say("this journal needs only the first key now; archives and backups may need the other keys", "dim")


COMMANDS: Final = (copy_, reseal)
