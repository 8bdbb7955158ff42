"""The commands that hold executions, sagas and steps, lift holds, and list them."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from typing import Any, Final

import click

from fsm_mediator.cli import options
from fsm_mediator.cli.console import next_command, out, printable, say
from fsm_mediator.cli.loading import execution_in, load_journal
from fsm_mediator.errors import DefinitionError
from fsm_mediator.journal.notes import HOLD, UNHOLD
from fsm_mediator.journal.protocol import new_token
from fsm_mediator.mediator.holding import Held, add_hold, current_holds, held_of, hold_note
from fsm_mediator.narration import who_and_why


def _subject(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the arguments that select attempts (SAGA_ID, --saga and --step), and the options that all verbs have."""
    for option in (
        *(options.journal, options.app, options.actor),
        click.option("--reason", "-r", help="The reason. It is journaled."),
        click.option("--step", help="The name or the path of the step."),
        click.option("--saga", help="The name of the saga, in all versions."),
        click.argument("saga_id", required=False),
    ):
        command = option(command)
    return command


@click.command()
@_subject
@click.option("--compensations", is_flag=True, help="Hold compensations too.")
def hold(compensations: bool, **words: Any) -> None:
    """Hold the attempts of an execution, a saga or a step.

    No new attempt begins. Give the SAGA_ID of an execution, or --saga, --step or both. Running attempts end normally,
    and cancels and deadlines work as usual.
    """
    held = _add(HOLD, {"compensations": True} if compensations else None, **words)
    say(printable(f"{held} is held; within a heartbeat and a second, all drivers stop new attempts"), "yellow")
    say(f"next: {next_command('holds')}", "dim")


@click.command()
@_subject
def unhold(**words: Any) -> None:
    """Remove a hold, so that the held attempts begin.

    Give the same SAGA_ID, --saga and --step as for `hold`.
    """
    say(printable(f"{_add(UNHOLD, None, **words)} goes on"), "green")


def _add(
    kind: str,
    value: Any,
    saga_id: str | None,
    saga: str | None,
    step: str | None,
    reason: str | None,
    actor: str | None,
    app: str | None,
    journal: str | None,
) -> Held:
    try:
        held = held_of(saga_id, saga, step)
    except DefinitionError:
        raise click.UsageError("name an execution by its id, or give --saga, --step or both") from None
    with closing(load_journal(app, journal)[1]) as opened:
        if saga_id is not None:
            execution_in(opened, saga_id)
        add_hold(opened, hold_note(kind, held, value, reason, actor, time.time()), new_token())
    return held


@click.command()
@options.app
@options.journal
def holds(app: str | None, journal: str | None) -> None:
    """List all holds, oldest first.

    Each line has the actor and the reason.
    """
    with closing(load_journal(app, journal, read_only=True)[1]) as opened:
        found = current_holds(opened)
    for held, note in found.items():
        more = " and its compensations" if note.value else ""
        since = time.strftime("%Y-%m-%d %H:%M", time.localtime(note.at))
        say(printable(f"{held}{more}  since {since}  {who_and_why(note.actor, note.reason)}".rstrip()), "")
    if not found:
        out.print("there are no holds", style="dim")


COMMANDS: Final = (hold, unhold, holds)
