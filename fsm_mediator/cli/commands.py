"""The command group, and the commands that look at executions or drive them. Only driving needs an app."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import closing, nullcontext
from itertools import islice
from typing import Any, Final

import click
import msgspec
from rich.progress import SpinnerColumn

from fsm_mediator.cli import checks, exporting, options, rendering, statistics, tables, trees
from fsm_mediator.cli.console import DID_NOT_SUCCEED, CommandGroup, err, out, progress_bar, say
from fsm_mediator.cli.driving import drive, drive_app, report, run_daemon, signal_and_drive
from fsm_mediator.cli.loading import execution_in, journal_for, load_app, load_journal, with_branches
from fsm_mediator.cli.verbs import say_verb
from fsm_mediator.definition.shape import Shape
from fsm_mediator.errors import DefinitionChangedError, PayloadError
from fsm_mediator.journal.abandoning import abandon as give_up
from fsm_mediator.journal.operators import Drivability
from fsm_mediator.journal.protocol import Entry, Journal
from fsm_mediator.records import RESOLVE, RETRY, UNDO, Record
from fsm_mediator.states import ENDED, UNDRIVABLE, is_settled, phase_of

LEFT: Final = 10_000
"""How many unclaimed executions `recover` looks at, to report which sagas they belong to."""


@click.group(cls=CommandGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="fsm-mediator")
def cli() -> None:
    """Look at sagas, and decide what only a person can decide.

    Exit codes: 0 done; 1 the saga did not end as asked, or a check found something; 2 wrong usage; 3 no such
    execution; 4 refused where it stands; 5 the journal cannot be used; 6 the app cannot be loaded or does not fit;
    7 an optional dependency is missing.
    """


for command in (rendering.render, *checks.COMMANDS, *exporting.COMMANDS, *statistics.COMMANDS):
    cli.add_command(command)


# Looking

_app_for_signals = click.option(
    "--app",
    "-a",
    envvar=options.APP_VARIABLE,
    help="module:object; with it, signals with a time-out are told from sleeps.",
)
_reason = click.option("--reason", "-r", help="Why; journaled.")


@cli.command("list")
@options.journal
@click.option(
    *("--state", "-s", "phase"), type=options.State(), help="Only these: succeeded, stuck, stuck.charge, undrivable ..."
)
@options.executions_of
@click.option("--older-than", type=options.Duration(), help="Only those unchanged for so long: 15m, 2h, 7d.")
@click.option("--parent", help="Only the branches of the execution with this id.")
@click.option("--limit", "-n", type=click.IntRange(1), default=100, show_default=True, help="At most so many.")
@_app_for_signals
@options.json_lines
def list_(
    journal: str | None, app: str | None, older_than: float | None, limit: int, as_json: bool, **filters: str | None
) -> None:
    """List executions, newest first; below each that waits for branches: those.

    With --state, --saga, --parent or --json every execution that fits stands for itself, branches too.
    """
    loaded, found = load_journal(app, journal, read_only=True, wants_app=True)
    with closing(found) as opened:
        before = None if older_than is None else time.time() - older_than
        if filters["parent"] is not None:
            execution_in(opened, filters["parent"])
        flat = as_json or any(each is not None for each in filters.values())
        look = Drivability(opened)
        listed: Iterable[Entry]
        if filters["phase"] == UNDRIVABLE:
            every = opened.entries(saga=filters["saga"], parent=filters["parent"], before=before)
            listed = (entry for entry in every if look.why_not(entry) is not None)
        else:
            listed = opened.entries(**filters, before=before, limit=limit + 1 if flat else None)
        entries = list(islice((entry for entry in listed if flat or entry.acceptance.parent is None), limit + 1))
        if as_json:
            for entry in entries[:limit]:
                click.echo(msgspec.json.encode({**tables.entry_as_json(entry), "undrivable": look.why_not(entry)}))
            return
        lines = [line for entry in entries[:limit] for line in trees.tree(opened, entry) if not (flat and line.depth)]
        tables.list_(lines, look, trees.signals_of(loaded))
        if not entries:
            out.print("no executions", style="dim")
            _warn_of_unknown(opened, filters["saga"])
        elif len(entries) > limit:
            out.print(f"... and more; see them with --limit {limit * 10}", style="dim")


def _warn_of_unknown(journal: Journal, saga: str | None) -> None:
    """Warn if no execution has this saga: the name may be mistyped, and an empty list looks as if all were well."""
    if saga is not None and not any(True for _ in journal.entries(saga=saga, limit=1)):
        err.print(f"the journal has no execution of a saga {saga!r}", style="yellow", markup=False, highlight=False)


@cli.command()
@options.saga_id
@options.journal
@_app_for_signals
@options.json_lines
def show(saga_id: str, journal: str | None, app: str | None, as_json: bool) -> None:
    """Show one execution: its timeline with attempts, waits and errors."""
    loaded, found = load_journal(app, journal, read_only=True, wants_app=True)
    with closing(found) as opened:
        entry = execution_in(opened, saga_id)
        if as_json:
            for line in tables.exported(opened, [entry]):
                click.echo(line)
        else:
            tables.show(opened, entry, Drivability(opened), trees.signals_of(loaded))


@cli.command()
@options.journal
@options.executions_of
@click.option("--state", "-s", type=options.State(), help="Only those in this state.")
@click.option("--id", "saga_id", help="Only this execution, with its branches.")
@options.app
@options.output
def export(
    journal: str | None, app: str | None, saga: str | None, state: str | None, saga_id: str | None, output: str
) -> None:
    """Write executions with all their records as JSON lines."""
    if saga_id is not None and (saga is not None or state is not None):
        raise click.UsageError("--id names one execution, and --saga and --state choose among all: give one of them")
    count = 0
    with (
        closing(load_journal(app, journal, read_only=True)[1]) as opened,
        nullcontext(None if saga_id is None else execution_in(opened, saga_id)) as found,  # before the file is opened
        progress_bar("exporting") as advance,
        exporting.open_output(output, exporting.mode_of(opened)) as file,
    ):
        entries = opened.entries(phase=state, saga=saga) if found is None else with_branches(opened, found)
        for line in tables.exported(opened, entries):
            file.write(line + b"\n")
            count += 1
            advance()
    if output != "-" or not count:
        err.print(f"exported {count} executions", style="dim", highlight=False)
        if not count:
            _warn_of_unknown(opened, saga)


@cli.command()
@options.journal
@click.option(
    "--older-than", type=options.Duration(unit=True), required=True, help="How long ago they ended: 30d, 12h."
)
@options.executions_of
@click.option("--forget-ids", is_flag=True, help="Keep nothing of them: their ids can be run again.")
@click.option("--dry-run", is_flag=True, help="Only say how many there are.")
@options.app
def prune(
    journal: str | None, older_than: float, saga: str | None, forget_ids: bool, dry_run: bool, app: str | None
) -> None:
    """Delete executions that ended some time ago, with their records and branches.

    Their ids stay known, and a start of one is refused.
    """
    before, deleted = time.time() - older_than, 0
    if dry_run:
        with closing(load_journal(app, journal, read_only=True)[1]) as opened:
            ended = (entry for phase in ENDED for entry in opened.entries(phase=phase, saga=saga, before=before))
            count = sum(entry.acceptance.parent is None for entry in ended)
            out.print(f"would delete {count} executions that had ended, with their branches")
        return
    _, opened = load_journal(app, journal)
    with progress_bar("pruning") as advance:
        while count := opened.prune(before, saga=saga, forget_ids=forget_ids):
            deleted += count
            advance(count)
    opened.close()
    out.print(f"deleted {deleted} executions that had ended")


# Driving


@cli.command()
@click.argument("saga")
@click.option("--payload", "-p", default="null", help="The payload as JSON; @FILE reads it from a file, - from input.")
@click.option("--id", "saga_id", callback=options.checked_id, help="Names the execution; the same id again joins it.")
@options.app
@options.journal
def run(saga: str, payload: str, saga_id: str | None, app: str | None, journal: str | None) -> None:
    """Run the saga named SAGA to its end."""
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
@options.app
@options.journal
def signal_(saga_id: str, name: str, value: str, app: str | None, journal: str | None) -> None:
    """Tell an execution what it waits for: the signal NAME, with VALUE.

    VALUE is JSON (a text needs quotes: '"yes"'); @FILE reads it from a file, - from input. In a branch, NAME is
    GROUP.BRANCH.NAME, or SAGA_ID that of the branch. The execution is driven on until it ends or waits again, unless
    another process is at it.
    """
    parsed = options.parse_json(options.read_text(value), "the signal's value")
    outcome = drive_app(app, journal, lambda mediator: signal_and_drive(mediator, saga_id, name, parsed))
    report(outcome, good=not (outcome.failed or outcome.stuck))


@cli.command()
@options.saga_id
@click.option("--reason", "-r", help="What was mended; journaled.")
@options.by_whom
@options.app
@options.journal
def retry(saga_id: str, reason: str | None, app: str | None, journal: str | None, **by_whom: Any) -> None:
    """Have the step tried again that an execution is stuck in.

    The driver that owns the execution judges it, or one that claims it: a `serve`, say. With --drive it is driven here.
    """
    say_verb(RETRY, saga_id, reason, by_whom, journal, app)


@cli.command()
@options.saga_id
@click.option("--reason", "-r", required=True, callback=options.checked_reason, help="How you made sure; journaled.")
@click.option("--done/--undone", default=None, help="Whether the step has its effect. Asked where both are possible.")
@click.option("--result", help="With --done: what the step would have returned, as JSON.")
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
    """Settle by hand the step that an execution is stuck in; driven on as after `retry`."""
    value = None if result is None else options.parse_json(result, "--result")
    say_verb(RESOLVE, saga_id, reason, {**by_whom, "done": done, "result": value}, journal, app)


@cli.command()
@options.saga_id
@_reason
@options.app
@options.journal
def cancel(saga_id: str, reason: str | None, app: str | None, journal: str | None) -> None:
    """Have an execution end its attempts and compensate, wherever it is driven."""
    drive_app(app, journal, lambda mediator: mediator.cancel(saga_id, reason))
    out.print(f"execution {saga_id!r} will compensate as soon as its attempt under way has ended", markup=False)


@cli.command()
@options.saga_id
@click.option("--reason", "-r", required=True, callback=options.checked_reason, help="Why; journaled.")
@options.app
@options.journal
def abandon(saga_id: str, reason: str, app: str | None, journal: str | None) -> None:
    """Give up an execution that no living driver can drive: close it, with its branches, and undo nothing."""
    with closing(load_journal(app, journal)[1]) as opened:
        closed = give_up(opened, execution_in(opened, saga_id), reason, time.time())
    branches = f", with {len(closed) - 1} branches" if len(closed) > 1 else ""
    say(f"execution {saga_id!r} is given up{branches}; nothing was undone", "yellow")


@cli.command()
@options.saga_id
@_reason
@options.by_whom
@options.app
@options.journal
def undo(saga_id: str, reason: str | None, app: str | None, journal: str | None, **by_whom: Any) -> None:
    """Have an execution compensated that has succeeded; driven as after `retry`."""
    say_verb(UNDO, saga_id, reason, by_whom, journal, app)


@cli.command()
@options.app
@options.journal
def recover(app: str | None, journal: str | None) -> None:
    """Resume every unfinished execution without a living driver, then end.

    Ends with 6 if some were left, for the app has no definition that fits; with 1 if the history of some is damaged.
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
        raise DefinitionChangedError(f"left as they are, for the app has no definition that fits: {counts}")
    if damaged:
        sys.exit(DID_NOT_SUCCEED)


@cli.command()
@options.app
@options.journal
def serve(app: str | None, journal: str | None) -> None:
    """Be the saga daemon: recover and wake executions until told to stop (Ctrl-C, SIGTERM)."""
    loaded = load_app(app)
    run_daemon(loaded, journal_for(journal, loaded, creates=True))
