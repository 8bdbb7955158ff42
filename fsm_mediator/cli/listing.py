"""The commands that list executions, count them, and change their attributes."""

from __future__ import annotations

import time
from contextlib import closing
from typing import Final

import click
import msgspec

from fsm_mediator.cli import options, tables, trees
from fsm_mediator.cli.console import err, out, printable, say
from fsm_mediator.cli.loading import execution_in, load_journal, redaction
from fsm_mediator.cli.where import parse_where, where
from fsm_mediator.journal.finding import KEYS, Filter, attributes_of, finds
from fsm_mediator.journal.lines import Lines
from fsm_mediator.journal.notes import ATTRIBUTES, Note
from fsm_mediator.journal.operators import Drivability
from fsm_mediator.journal.protocol import Journal, new_token
from fsm_mediator.mediator.finding import change_attributes, count_in, find
from fsm_mediator.narration import span
from fsm_mediator.states import UNDRIVABLE

COUNTED: Final = 10_000
"""The maximum number of executions after the shown page that `list` counts."""


@click.command("list")
@options.journal
@click.option(
    *("--state", "-s"),
    type=options.State(),
    help="Only executions in this state: succeeded, stuck, stuck.charge, undrivable ...",
)
@options.executions_of
@click.option(
    "--older-than", type=options.Duration(), help="Only executions that did not change for this time: 15m, 2h, 7d."
)
@click.option("--parent", help="Only the branches of the execution with this id.")
@where
@click.option("--after", help="The cursor at the end of the previous page.")
@click.option(
    "--limit", "-n", type=click.IntRange(1), default=100, show_default=True, help="The maximum number of executions."
)
@options.app_for_signals
@options.json_lines
def list_(
    journal: str | None,
    app: str | None,
    older_than: float | None,
    words: tuple[str, ...],
    after: str | None,
    limit: int,
    as_json: bool,
    **filters: str | None,
) -> None:
    """List executions, newest first.

    If an execution waits for branches, the branches are listed below it. With --where, --state, --saga, --parent or
    --json, the list has every matching execution, and branches are listed like other executions.
    """
    loaded, found = load_journal(app, journal, read_only=True, wants_app=True)
    chosen = parse_where(words, until=None if older_than is None else time.time() - older_than, **filters)
    with closing(found) as opened:
        if chosen.parent is not None:
            execution_in(opened, chosen.parent)
        flat = as_json or bool(words) or any(each is not None for each in filters.values())
        if not flat:
            chosen = msgspec.structs.replace(chosen, roots=True)
        look = Drivability(opened)
        entries = find(opened, chosen, after, limit + 1)
        page = entries[:limit]
        if as_json:
            shown = Lines(redaction=redaction())
            for entry in page:
                click.echo(msgspec.json.encode({**shown.entry(entry), "undrivable": look.why_not(entry)}))
            return
        lines = [line for entry in page for line in trees.tree(opened, entry) if not (flat and line.depth)]
        tables.list_(lines, look, trees.signals_of(loaded))
        if not entries:
            out.print("no executions", style="dim")
            warn_of_unknown(opened, chosen.saga)
        elif len(entries) > limit:
            cursor = page[-1].cursor
            more = _how_many(opened, chosen, cursor)
            how = f"--limit {limit * 10}" if cursor is None else f"--after '{cursor}'"
            out.print(f"... and {more} more; the next page: the same with {how}", style="dim", highlight=False)


def _how_many(journal: Journal, chosen: Filter, cursor: str | None) -> str:
    """The number of executions after this page as text: ``some`` if it cannot be counted, or ``more than 10,000``."""
    if not finds(journal) or UNDRIVABLE in chosen.states:
        return "some"
    counted = journal.count_after(chosen, cursor, COUNTED + 1)
    return f"{counted:,}" if counted <= COUNTED else f"more than {COUNTED:,}"


def warn_of_unknown(journal: Journal, saga: str | None) -> None:
    """Print a warning if the journal has no execution of the saga named *saga*.

    The name may be mistyped. Without the warning, an empty list would look as if nothing were wrong.
    """
    if saga is not None and not any(True for _ in journal.entries(saga=saga, limit=1)):
        err.print(f"the journal has no execution of a saga {saga!r}", style="yellow", markup=False, highlight=False)


@click.command()
@options.journal
@click.option("--by", type=click.Choice(KEYS), help="Count by this key, and print the largest number first.")
@where
@options.app
@options.json_lines
def count(journal: str | None, by: str | None, words: tuple[str, ...], app: str | None, as_json: bool) -> None:
    """Count executions: all, or by state, saga, error or step.

    --where selects executions. `stats --refresh` makes large counts faster.
    """
    chosen = parse_where(words)
    with closing(load_journal(app, journal, read_only=True)[1]) as opened:
        found, age = count_in(opened, chosen, by)
    rows = sorted(found.items(), key=lambda each: (-each[1], each[0]))
    if age is not None:
        err.print(f"from the side store; newer changes: {span(age) if age else 'none'}", style="dim", highlight=False)
    if as_json:
        click.echo(msgspec.json.encode(dict(rows) if by else sum(found.values())))
    elif by is None:
        out.print(sum(found.values()), highlight=False)
    else:
        width = max((len(str(number)) for _, number in rows), default=0)
        for key, number in rows:
            say(f"{number:>{width}}  {printable(key) or '(none)'}", "")


@click.command("attributes")
@options.saga_id
@click.argument("changes", nargs=-1, metavar="[NAME=VALUE]...")
@click.option("--reason", "-r", help="The reason. It is journaled.")
@options.actor
@options.app
@options.journal
def attributes(
    saga_id: str,
    changes: tuple[str, ...],
    reason: str | None,
    actor: str | None,
    app: str | None,
    journal: str | None,
) -> None:
    """Show or change the attributes of an execution.

    NAME=VALUE sets an attribute, and NAME= removes it. VALUE is a JSON scalar; any other VALUE is stored as a text.
    """
    pairs = [change.partition("=") for change in changes]
    if any(not is_pair for _, is_pair, _ in pairs):
        raise click.UsageError("give NAME=VALUE to set an attribute, and NAME= to remove it")
    set_to = parse_where([f"'@{name}={value}'" for name, _, value in pairs if value]).attributes
    removed = {name: None for name, _, value in pairs if not value}
    with closing(load_journal(app, journal, read_only=not changes)[1]) as opened:
        execution_in(opened, saga_id)
        if changes:
            value = {**dict(set_to), **removed}
            note = Note(ATTRIBUTES, saga_id, value=value, actor=actor, reason=reason, at=time.time())
            change_attributes(opened, note, new_token())
        for name, kept in attributes_of(opened, saga_id).items():
            say(printable(f"{name}={msgspec.json.encode(kept).decode()}"), "")


COMMANDS: Final = (list_, count, attributes)
