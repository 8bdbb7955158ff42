"""The command group, and the commands that show executions or drive them. Only commands that drive need an app."""

from __future__ import annotations

import sys
import time
from collections import Counter
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any, Final

import click
from rich.progress import SpinnerColumn

from fsm_mediator.cli import (
    acknowledging,
    again,
    bulk,
    checks,
    cluster,
    copying,
    exporting,
    holding,
    listing,
    monitor,
    options,
    rendering,
    serving,
    starting,
    statistics,
    tables,
    trees,
)
from fsm_mediator.cli.console import DID_NOT_SUCCEED, CommandGroup, err, next_command, out, printable, progress_bar, say
from fsm_mediator.cli.driving import drive, drive_app, report, signal_and_drive
from fsm_mediator.cli.loading import (
    archived,
    execution_in,
    journal_for,
    load_app,
    load_journal,
    redaction,
    with_branches,
)
from fsm_mediator.cli.verbs import say_verb
from fsm_mediator.definition.shape import Shape
from fsm_mediator.errors import DefinitionChangedError, PayloadError
from fsm_mediator.journal.abandoning import abandon as give_up
from fsm_mediator.journal.archive import Archive
from fsm_mediator.journal.lines import Lines
from fsm_mediator.journal.operators import Drivability
from fsm_mediator.journal.optional import prune_ended
from fsm_mediator.journal.retention import Retention
from fsm_mediator.records import RESOLVE, RETRY, UNDO, Record
from fsm_mediator.states import ENDED, is_settled, phase_of

LEFT: Final = 10_000
"""The maximum number of executions without a driver that `recover` reads at its end.

It reports the sagas of these executions that have no definition.
"""


@click.group(cls=CommandGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="fsm-mediator")
@click.option(
    "--cipher",
    envvar=options.CIPHER_VARIABLE,
    help="The cipher that opens sealed texts: module:object, or env:NAME for a variable with keys as ID:BASE64.",
)
@click.option("--redact", multiple=True, help="Hide this field, or matches of this /regular expression/.")
def cli(**_: Any) -> None:
    """Show executions of sagas, and make the decisions that need a person.

    Exit codes:

    \b
    0 done.
    1 the saga did not end as requested, or a check found something.
    2 wrong usage.
    3 the execution does not exist.
    4 the verb is refused in the current state.
    5 the journal cannot be used.
    6 the app cannot be loaded, or does not have the saga of the execution.
    7 an optional dependency is missing.
    """  # noqa: D301 - click's mark of lines that are not to be joined


for _command in (
    again.again,
    bulk.bulk,
    rendering.render,
    cluster.cluster,
    monitor.ui,
    *acknowledging.COMMANDS,
    *checks.COMMANDS,
    *copying.COMMANDS,
    *exporting.COMMANDS,
    *holding.COMMANDS,
    *listing.COMMANDS,
    serving.serve,
    *starting.COMMANDS,
    *statistics.COMMANDS,
):
    cli.add_command(_command)


# Commands that show or delete executions.

_reason = click.option("--reason", "-r", help="The reason. It is journaled.")


@cli.command()
@options.journal
@options.app
@click.option("--sql", "as_sql", is_flag=True, help="Only print the SQL statements.")
def migrate(journal: str | None, app: str | None, as_sql: bool) -> None:
    """Create or update the tables of a PostgreSQL journal.

    A journal in a file is updated when it is opened.
    """
    found: Any = load_journal(app, journal, migrates=None)[1]
    with closing(found):
        if not hasattr(found, "migration"):
            raise click.UsageError("only a journal on PostgreSQL is migrated: use --journal postgresql://app@db/shop")
        script = found.migration()
        if as_sql:
            click.echo(script, nl=False)
            return
        if script:
            found.migrate()
        out.print("the tables are now up to date" if script else "the tables were already up to date")


@cli.command()
@options.saga_id
@options.journal
@options.app_for_signals
@options.json_lines
@click.option(
    *("--from", "path"),
    type=click.Path(exists=True, path_type=Path),
    help="Read this archive or export in place of a journal.",
)
def show(saga_id: str, journal: str | None, app: str | None, as_json: bool, path: Path | None) -> None:
    """Show the attempts, waits and errors of an execution."""
    loaded, found = (
        load_journal(app, journal, read_only=True, wants_app=True) if path is None else archived(path, saga_id, app)
    )
    with closing(found) as opened:
        entry = execution_in(opened, saga_id)
        if as_json:
            for line in tables.exported(opened, [entry], Lines(redaction=redaction())):
                click.echo(line)
        else:
            tables.show(opened, entry, Drivability(opened), trees.signals_of(loaded), redaction())


@cli.command()
@options.journal
@options.executions_of
@click.option("--state", "-s", type=options.State(), help="Only executions in this state.")
@click.option("--id", "saga_id", help="Only this execution, with its branches.")
@options.app
@options.output
@click.option("--decrypt", is_flag=True, help="Write sealed texts in plain text, if the cipher can open them.")
def export(
    journal: str | None,
    app: str | None,
    saga: str | None,
    state: str | None,
    saga_id: str | None,
    output: str,
    decrypt: bool,
) -> None:
    """Write executions with all their records as JSON lines.

    Sealed texts stay sealed in the output. If a cipher is given, its first key seals all texts in the output.
    """
    if saga_id is not None and (saga is not None or state is not None):
        raise click.UsageError(
            "--id names one execution, and --saga and --state select from all: use --id, or the others"
        )
    count = 0
    with (
        closing(load_journal(app, journal, read_only=True)[1]) as opened,
        nullcontext(None if saga_id is None else execution_in(opened, saga_id)) as found,  # before the file is opened
        progress_bar("exporting") as advance,
        exporting.open_output(output, exporting.mode_of(opened)) as file,
    ):
        entries = opened.entries(phase=state, saga=saga) if found is None else with_branches(opened, found)
        lines = Lines(None if decrypt else opened.codec.cipher, redaction())
        for line in tables.exported(opened, entries, lines):
            file.write(line + b"\n")
            count += 1
            advance()
    if output != "-" or not count:
        err.print(f"exported {count} executions", style="dim", highlight=False)
        if not count:
            listing.warn_of_unknown(opened, saga)


@cli.command()
@options.journal
@click.option(
    "--older-than",
    type=options.Duration(unit=True),
    required=True,
    help="Only executions that ended at least this long ago: 30d, 12h.",
)
@options.executions_of
@click.option("--state", "-s", type=click.Choice(sorted(ENDED)), help="Only executions that ended in this state.")
@click.option(
    *("--archive", "folder"),
    type=click.Path(file_okay=False, path_type=Path),
    help="First write the executions into this folder, compressed.",
)
@click.option("--forget-ids", is_flag=True, help="Also delete their ids, so that the ids can be run again.")
@click.option("--dry-run", is_flag=True, help="Only print the number of executions.")
@options.app
def prune(
    journal: str | None,
    older_than: float,
    saga: str | None,
    state: str | None,
    folder: Path | None,
    forget_ids: bool,
    dry_run: bool,
    app: str | None,
) -> None:
    """Delete executions that ended some time ago.

    Their records and branches are deleted too. Their ids stay known: a start with such an id is refused.
    """
    before, deleted = time.time() - older_than, 0
    states = sorted(ENDED) if state is None else [state]
    if forget_ids and (folder is not None or state is not None):
        raise click.UsageError(
            "--forget-ids deletes executions in any end state, and archives nothing: use it without these options"
        )
    if dry_run:
        with closing(load_journal(app, journal, read_only=True)[1]) as opened:
            ended = (entry for phase in states for entry in opened.entries(phase=phase, saga=saga, before=before))
            count = sum(entry.acceptance.parent is None for entry in ended)
            out.print(f"would delete {count} executions that had ended, with their branches")
        return
    _, opened = load_journal(app, journal)
    with progress_bar("pruning") as advance:
        if state is not None or folder is not None:
            archive = None if folder is None else Archive(folder, redaction())
            retention = Retention(dict.fromkeys(states, older_than), archive=archive)
            deleted = retention.sweep(opened, saga=saga, advance=advance)
        else:
            while count := prune_ended(opened, before, saga=saga, forget_ids=forget_ids):
                deleted += count
                advance(count)
    opened.close()
    out.print(f"deleted {deleted} executions that had ended")


# Commands that drive executions, or that let a driver act.


@cli.command()
@click.argument("saga")
@click.option("--payload", "-p", default="null", help="The payload as JSON. @FILE reads a file, - standard input.")
@click.option(
    "--id", "saga_id", callback=options.checked_id, help="The id of the execution. A known id joins its execution."
)
@options.app
@options.journal
def run(saga: str, payload: str, saga_id: str | None, app: str | None, journal: str | None) -> None:
    """Run an execution of SAGA to its end."""
    loaded = load_app(app)
    text = options.read_text(payload)
    kind = loaded.sagas_named(saga)[0].payload
    value = options.parse_json(text, "the payload")
    opened = journal_for(journal, loaded, creates=True)
    if kind is not None:
        try:
            value = opened.codec.decode(text.encode(), kind, "the payload")
        except PayloadError as error:
            wanted = getattr(kind, "__name__", kind)
            raise PayloadError(f"the payload is not what saga {saga!r} takes, {wanted}: {error.__cause__}") from error
    outcome = drive(loaded, opened, lambda mediator: mediator.run(saga, value, saga_id=saga_id, check=False))
    report(outcome, good=outcome.succeeded)


@cli.command("signal")
@options.saga_id
@click.argument("name")
@click.argument("value", default="null")
@options.actor
@options.app
@options.journal
def signal_(saga_id: str, name: str, value: str, actor: str | None, app: str | None, journal: str | None) -> None:
    """Send the signal NAME, with VALUE, to an execution.

    VALUE is JSON (a text needs quotes: '"yes"'). @FILE reads it from a file, - from standard input. For a branch, NAME
    is GROUP.BRANCH.NAME, or SAGA_ID is the id of the branch. The execution is driven until it ends or waits again,
    unless another process drives it.
    """
    parsed = options.parse_json(options.read_text(value), "the signal's value")
    outcome = drive_app(app, journal, lambda mediator: signal_and_drive(mediator, saga_id, name, parsed, actor))
    report(outcome, good=not (outcome.failed or outcome.stuck))


@cli.command()
@options.saga_id
@click.option("--reason", "-r", help="The fix that you made. It is journaled.")
@options.by_whom
@options.app
@options.journal
def retry(saga_id: str, reason: str | None, app: str | None, journal: str | None, **by_whom: Any) -> None:
    """Retry the step in which an execution is stuck.

    The command is executed by the driver that owns the execution or claims it next, for example a `serve`. With --drive
    this process drives the execution.
    """
    say_verb(RETRY, saga_id, reason, by_whom, journal, app)


@cli.command()
@options.saga_id
@click.option(
    "--reason", "-r", required=True, callback=options.checked_reason, help="How you made sure. It is journaled."
)
@click.option("--done/--undone", default=None, help="Whether the step has its effect. Needed if both are possible.")
@click.option("--result", help="With --done: the result of the step, as JSON.")
@options.by_whom
@options.app
@options.journal
def resolve(
    saga_id: str,
    reason: str,
    done: bool | None,
    result: str | None,
    app: str | None,
    journal: str | None,
    **by_whom: Any,
) -> None:
    """Continue a stuck execution whose step you have settled by hand.

    The step is not called again: you say whether it has its effect. As for `retry`, a driver executes the command. With
    --drive this process drives the execution.
    """
    value = None if result is None else options.parse_json(result, "--result")
    say_verb(RESOLVE, saga_id, reason, {**by_whom, "done": done, "result": value}, journal, app)


@cli.command()
@options.saga_id
@options.app
@options.journal
def preview(saga_id: str, app: str | None, journal: str | None) -> None:
    """Show the steps that `cancel` or `undo` would compensate.

    Also shows the leftovers: the steps whose effects would stay. `undo` is for an execution that has succeeded.
    """
    seen = drive_app(app, journal, lambda mediator: mediator.preview(saga_id))
    if seen.under_way is not None:
        say(printable(f"running now, so its effect is not known yet: {seen.under_way}"), "yellow")
    for number, path in enumerate(seen.compensates, 1):
        say(printable(f"{number:>3}  compensate {path}"), "")
    for path in seen.leftovers:
        say(printable(f"     left over  {path}"), "red")
    say(f"next: {next_command(seen.verb, saga_id)}", "dim")


@cli.command()
@options.saga_id
@_reason
@options.actor
@options.app
@options.journal
def cancel(saga_id: str, reason: str | None, actor: str | None, app: str | None, journal: str | None) -> None:
    """Cancel an execution: its driver compensates.

    The driver may be in any process.
    """
    drive_app(app, journal, lambda mediator: mediator.cancel(saga_id, reason, actor=actor))
    out.print(f"execution {saga_id!r} will compensate as soon as its attempt under way has ended", markup=False)


@cli.command()
@options.saga_id
@click.option("--reason", "-r", required=True, callback=options.checked_reason, help="The reason. It is journaled.")
@options.actor
@options.app
@options.journal
def abandon(saga_id: str, reason: str, actor: str | None, app: str | None, journal: str | None) -> None:
    """Close an execution that no living driver can drive.

    Its branches are closed too. No effect is undone.
    """
    with closing(load_journal(app, journal)[1]) as opened:
        closed = give_up(opened, execution_in(opened, saga_id), reason, time.time(), actor)
    branches = f", with {len(closed) - 1} branches" if len(closed) > 1 else ""
    say(f"execution {saga_id!r} is given up{branches}; nothing was undone", "yellow")


@cli.command()
@options.saga_id
@_reason
@options.by_whom
@options.app
@options.journal
def undo(saga_id: str, reason: str | None, app: str | None, journal: str | None, **by_whom: Any) -> None:
    """Compensate an execution that has succeeded.

    As for `retry`, a driver executes the command. With --drive this process drives the execution.
    """
    say_verb(UNDO, saga_id, reason, by_whom, journal, app)


@cli.command()
@options.app
@options.journal
def recover(app: str | None, journal: str | None) -> None:
    """Resume unfinished executions that have no living driver.

    Then the command ends. Exits with 6 if executions are left because no saga of the app has their shape, and
    with 1 if the history of an execution is damaged.
    """
    loaded = load_app(app)
    opened = journal_for(journal, loaded)
    with progress_bar("recovering", "recovering: {task.completed} at rest", SpinnerColumn()) as advance:

        def count(record: Record) -> None:
            if is_settled(record.target):
                advance()

        outcomes = drive(loaded, opened, lambda mediator: mediator.recover(), [count])
    phases = Counter(phase_of(outcome.state) for outcome in outcomes)
    out.print(
        f"recovered {len(outcomes)} executions", *(f"{count} {phase}" for phase, count in phases.items()), sep=", "
    )
    claimable = opened.claimable(time.time(), LEFT)
    damaged = checks.report_damage(opened, claimable)
    waiting = map(opened.find, claimable)
    left = checks.find_stranded((entry for entry in waiting if entry is not None), map(Shape.of, loaded.sagas))
    if left:
        counts = "; ".join(f"{states.total()} of {saga}" for saga, states in left.items())
        raise DefinitionChangedError(f"the app has no definition of the shape of these executions: {counts}")
    if damaged:
        sys.exit(DID_NOT_SUCCEED)
