"""The commands. Those that only look need no app; those that drive find the sagas by ``--app``.

Exit codes: 0 done; 1 the saga did not end as asked, or a check found something; 2 wrong usage; 3 no such execution;
4 refused where it stands; 5 the journal cannot be used; 6 the app cannot be loaded or does not fit; 7 an optional
dependency is missing.
"""

from __future__ import annotations

import asyncio
import errno
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, NoReturn

import click
import msgspec
from rich.progress import Progress, SpinnerColumn

from fsm_mediator.cli import checks, exporting, files, tables, telling, trees, upgrade
from fsm_mediator.cli import hints as next_line
from fsm_mediator.cli import params as given
from fsm_mediator.cli.drawing import render
from fsm_mediator.cli.exit_codes import (
    APP,
    DID_NOT_SUCCEED,
    JOURNAL,
    MISSING,
    NOT_FOUND,
    REFUSED,
    USAGE,
    err,
    out,
    printable,
)
from fsm_mediator.cli.loading import App, execution_in, journal_for, load_app
from fsm_mediator.errors import (
    DefinitionChangedError,
    DefinitionError,
    JournalError,
    MediatorError,
    MissingExtraError,
    PayloadError,
    RefusedError,
    UnknownExecutionError,
    UnknownSagaError,
)
from fsm_mediator.execution.outcome import Outcome
from fsm_mediator.journal.protocol import Journal
from fsm_mediator.mediator.sync import Mediator
from fsm_mediator.observe.observers import Observer
from fsm_mediator.records import Record
from fsm_mediator.states import ENDED, WAITING, is_settled, phase_of
from fsm_mediator.upgrades.shape import Shape

LEFT: Final = 10_000
"""So many executions that nobody takes up are looked at, to tell what they are of."""


def _exit_code(error: MediatorError) -> int:
    for kinds, code in (
        (UnknownExecutionError, NOT_FOUND),
        (RefusedError, REFUSED),
        (MissingExtraError, MISSING),
        ((DefinitionError, DefinitionChangedError, UnknownSagaError), APP),
        (PayloadError, USAGE),
        (JournalError, JOURNAL),
    ):
        if isinstance(error, kinds):
            return code
    return DID_NOT_SUCCEED


def _fail(told: str, code: int) -> NoReturn:
    err.print(f"fsm-mediator: {printable(told)}", style="red", markup=False, highlight=False, soft_wrap=True)
    sys.exit(code)


class _Group(click.Group):
    """Tells an error of ours in one line, with the exit code that belongs to it."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except MediatorError as error:
            hint = "; see those it knows: fsm-mediator list" if isinstance(error, UnknownExecutionError) else ""
            _fail(f"{error}{hint}", _exit_code(error))
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise  # whoever reads has seen enough: click ends quietly
            where = f"{error.filename}: " if error.filename else "it cannot be written: "
            _fail(f"{where}{error.strerror or error}", DID_NOT_SUCCEED)


_journal = click.option("--journal", "-j", envvar="FSM_MEDIATOR_JOURNAL", help="The journal's file or URL.")
_app = click.option("--app", "-a", envvar="FSM_MEDIATOR_APP", help="Where the sagas are: module:object.")
_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON lines.")


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="fsm-mediator")
def cli() -> None:
    """Look at sagas, and decide what only a person can decide.

    Exit codes: 0 done; 1 the saga did not end as asked, or a check found something; 2 wrong usage; 3 no such
    execution; 4 refused where it stands; 5 the journal cannot be used; 6 the app cannot be loaded or does not fit;
    7 an optional dependency is missing.
    """


# Looking

cli.add_command(render)


_signals_of = click.option(
    "--app",
    "-a",
    envvar="FSM_MEDIATOR_APP",
    help="module:object; with it, signals with a time-out are told from sleeps.",
)


def _signals(app: App | None) -> trees.Signals | None:
    return None if app is None else trees.signals_of(app.sagas)


@contextmanager
def _looking(journal: str | None, app: App | None = None) -> Iterator[Journal]:
    opened = journal_for(journal, app, read_only=True)
    try:
        yield opened
    finally:
        opened.close()


@cli.command("list")
@_journal
@click.option("--state", "-s", type=given.State(), help="Only these: succeeded, stuck, retrying, stuck.charge ...")
@click.option("--saga", help="Only executions of the saga of this name.")
@click.option("--older-than", type=given.Duration(), help="Only those unchanged for so long: 15m, 2h, 7d.")
@click.option("--parent", help="Only the branches of the execution with this id.")
@click.option("--limit", "-n", type=click.IntRange(1), default=100, show_default=True, help="At most so many.")
@_signals_of
@_as_json
def list_(
    journal: str | None,
    app: str | None,
    state: str | None,
    saga: str | None,
    older_than: float | None,
    parent: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """List executions, newest first; below each that waits for branches: those.

    With --state, --saga, --parent or --json every execution that fits stands for itself, branches too.
    """
    loaded = load_app(app) if app else None
    with _looking(journal, loaded) as opened:
        before = None if older_than is None else time.time() - older_than
        if parent is not None:
            execution_in(opened, parent)
        flat = as_json or any(each is not None for each in (state, saga, parent))
        listed = opened.entries(phase=state, saga=saga, parent=parent, before=before, limit=limit + 1 if flat else None)
        entries = list(listed) if flat else trees.roots(listed, limit + 1)
        if as_json:
            for entry in entries[:limit]:
                click.echo(msgspec.json.encode(tables.entry_as_json(entry)))
            return
        lines = [line for entry in entries[:limit] for line in trees.tree(opened, entry)]
        if flat:
            lines = [line for line in lines if not line.depth]
        tables.list_(out, lines, _signals(loaded))
        if not entries:
            out.print("no executions", style="dim")
            _warn_of_unknown(opened, saga)
        elif len(entries) > limit:
            out.print(f"... and more; see them with --limit {limit * 10}", style="dim")


def _warn_of_unknown(journal: Journal, saga: str | None) -> None:
    """Tell whoever has mistyped the name of a saga, for whom it may look as if all were well."""
    if saga is not None and not any(True for _ in journal.entries(saga=saga, limit=1)):
        err.print(f"the journal has no execution of a saga {saga!r}", style="yellow", markup=False, highlight=False)


@cli.command()
@click.argument("saga_id")
@_journal
@_signals_of
@_as_json
def show(saga_id: str, journal: str | None, app: str | None, as_json: bool) -> None:
    """Show one execution: its timeline with attempts, waits and errors."""
    loaded = load_app(app) if app else None
    with _looking(journal, loaded) as opened:
        entry = execution_in(opened, saga_id)
        if as_json:
            for line in tables.exported(opened, [entry]):
                click.echo(line)
        else:
            lines = list(trees.tree(opened, entry))
            others = sum(1 for _ in opened.entries(parent=saga_id)) - lines[0].branches.total()
            tables.show(out, lines, opened.records(saga_id), opened.inbox(saga_id), _signals(loaded), others)


@cli.command()
@_journal
@click.option("--saga", help="Only executions of the saga of this name.")
@click.option("--state", "-s", type=given.State(), help="Only those in this state.")
@click.option("--output", "-o", default="-", help="A file; - is standard output.")
def export(journal: str | None, saga: str | None, state: str | None, output: str) -> None:
    """Write executions with all their records as JSON lines."""
    count = 0
    with (
        _looking(journal) as opened,
        Progress(console=err, transient=True, disable=not err.is_terminal) as progress,
        files.written(output) as file,
    ):
        task = progress.add_task("exporting", total=None)
        for line in tables.exported(opened, opened.entries(phase=state, saga=saga)):
            file.write(line + b"\n")
            count += 1
            progress.advance(task)
    if output != "-" or not count:
        err.print(f"exported {count} executions", style="dim", highlight=False)
        if not count:
            _warn_of_unknown(opened, saga)


@cli.command()
@_journal
@click.option("--older-than", type=given.Duration(unit=True), required=True, help="How long ago they ended: 30d, 12h.")
@click.option("--saga", help="Only executions of the saga of this name.")
@click.option("--dry-run", is_flag=True, help="Only say how many there are.")
def prune(journal: str | None, older_than: float, saga: str | None, dry_run: bool) -> None:
    """Delete executions that ended some time ago, with their records and branches."""
    before, deleted = time.time() - older_than, 0
    if dry_run:
        with _looking(journal) as looked_at:
            ended = (entry for phase in ENDED for entry in looked_at.entries(phase=phase, saga=saga, before=before))
            count = sum(entry.acceptance.parent is None for entry in ended)
            out.print(f"would delete {count} executions that had ended, with their branches")
        return
    opened = journal_for(journal, None)
    with Progress(console=err, transient=True, disable=not err.is_terminal) as progress:
        task = progress.add_task("pruning", total=None)
        while count := opened.prune(before, saga=saga):
            deleted += count
            progress.advance(task, count)
    opened.close()
    out.print(f"deleted {deleted} executions that had ended")


# Driving


def _drive(app: App, journal: Journal, act: Callable[[Any], Any], observers: Sequence[Observer] = ()) -> Any:
    """Do *act* with a mediator of the app's sagas; it may give back an awaitable, or a `telling.Talk`."""
    settings = {**app.settings, "observers": (*app.settings.get("observers", ()), *observers)}
    with _telling_of_interrupts():
        if app.has_coroutines:
            return asyncio.run(_awaited(app, journal, act, settings))
        with Mediator(*app.sagas, journal=journal, **settings) as mediator:
            came = act(mediator)
            return telling.answered(came) if isinstance(came, Generator) else came


async def _awaited(app: App, journal: Journal, act: Callable[[Any], Any], settings: dict[str, Any]) -> Any:
    from fsm_mediator.mediator.aio import AsyncMediator

    async with AsyncMediator(*app.sagas, journal=journal, **settings) as mediator:
        came = act(mediator)
        return await (telling.awaited(came) if isinstance(came, Generator) else came)


@contextmanager
def _telling_of_interrupts() -> Iterator[None]:
    """Say what becomes of what was under way when a step, or a person, ends the process."""
    later = f"what was under way is in doubt, and goes on with: {next_line.command('recover')}"
    try:
        yield
    except (SystemExit, GeneratorExit) as error:
        _fail(
            f"a step ended the process ({type(error).__name__}: {error}), which is no failure; {later}", DID_NOT_SUCCEED
        )
    except KeyboardInterrupt:
        err.print(f"interrupted; {later}", style="yellow", markup=False, highlight=False, soft_wrap=True)
        raise


def _say(app: str | None, journal: str | None, act: Callable[[Any], Any], observers: Sequence[Observer] = ()) -> Any:
    loaded = load_app(app)
    return _drive(loaded, journal_for(journal, loaded), act, observers)


def _report(outcome: Outcome, *, good: bool) -> None:
    style = "green" if good else "red"
    told = []
    if outcome.awaits_signal:
        told.append(f"next: {next_line.command('signal', outcome.saga_id, outcome.step or '', 'VALUE')}")
    elif outcome.state.startswith(f"{WAITING}."):  # for branches, which `show` tells apart
        told.append(f"next: {next_line.command('show', outcome.saga_id)}")
    elif outcome.stuck:
        told.append(f"next: {next_line.command('retry', outcome.saga_id)}  (once the cause is mended)")
        told.append(f"  or: {next_line.command('resolve', outcome.saga_id)} --reason ...  (settles it by hand)")
    out.print(printable(outcome.summary(next_move=False)), style=style, markup=False, highlight=False, soft_wrap=True)
    for line in told:
        out.print(line, style="dim", markup=False, highlight=False, soft_wrap=True)
    if not good:
        sys.exit(DID_NOT_SUCCEED)


@cli.command()
@click.argument("saga")
@click.option("--payload", "-p", default="null", help="The payload as JSON; @FILE reads it from a file, - from input.")
@click.option("--id", "saga_id", callback=given.an_id, help="Names the execution; the same id again joins it.")
@_app
@_journal
def run(saga: str, payload: str, saga_id: str | None, app: str | None, journal: str | None) -> None:
    """Run the saga named SAGA to its end."""
    from fsm_mediator.journal import codec

    loaded = load_app(app)
    text = given.text_of(payload)
    wanted = next((each for each in loaded.sagas if each.name == saga), None)
    if wanted is None:
        known = ", ".join(each.name for each in loaded.sagas)
        raise UnknownSagaError(f"no saga is named {saga!r}; the app has {known}")
    value = given.json_of(text, "the payload")
    if wanted.payload is not None:
        try:
            value = codec.decode(text.encode(), wanted.payload, "the payload")
        except PayloadError as error:
            kind = getattr(wanted.payload, "__name__", wanted.payload)
            raise PayloadError(f"the payload is not what saga {saga!r} takes, {kind}: {error.__cause__}") from error
    act = lambda mediator: mediator.run(saga, value, saga_id=saga_id, check=False)  # noqa: E731
    outcome = _drive(loaded, journal_for(journal, loaded, creates=True), act)
    _report(outcome, good=outcome.succeeded)


@cli.command("signal")
@click.argument("saga_id")
@click.argument("name")
@click.argument("value", default="null")
@_app
@_journal
def signal_(saga_id: str, name: str, value: str, app: str | None, journal: str | None) -> None:
    """Tell an execution what it waits for: the signal NAME, with VALUE.

    VALUE is JSON (a text needs quotes: '"yes"'); @FILE reads it from a file, - from input. In a branch, NAME is
    GROUP.BRANCH.NAME, or SAGA_ID that of the branch. The execution is driven on until it ends or waits again, unless
    another process is at it.
    """
    said = given.json_of(given.text_of(value), "the signal's value")
    outcome = _say(app, journal, lambda mediator: telling.signalled(mediator, saga_id, name, said))
    _report(outcome, good=not (outcome.failed or outcome.stuck))


@cli.command()
@click.argument("saga_id")
@click.option("--reason", "-r", help="What was mended; journaled.")
@_app
@_journal
def retry(saga_id: str, reason: str | None, app: str | None, journal: str | None) -> None:
    """Try again the step that an execution is stuck in, and drive it on."""
    outcome = _say(app, journal, lambda mediator: mediator.retry(saga_id, reason))
    _report(outcome, good=outcome.ended)


@cli.command()
@click.argument("saga_id")
@click.option("--reason", "-r", required=True, callback=given.a_reason, help="How you made sure; journaled.")
@click.option("--done/--undone", default=None, help="Whether the step has its effect. Asked where both are possible.")
@click.option("--result", help="With --done: what the step would have returned, as JSON.")
@_app
@_journal
def resolve(
    saga_id: str, reason: str, done: bool | None, result: str | None, app: str | None, journal: str | None
) -> None:
    """Settle by hand the step that an execution is stuck in, and drive it on."""
    value = None if result is None else given.json_of(result, "--result")
    act = lambda mediator: mediator.resolve(saga_id, reason=reason, done=done, result=value)  # noqa: E731
    outcome = _say(app, journal, act)
    _report(outcome, good=outcome.ended)


@cli.command()
@click.argument("saga_id")
@click.option("--reason", "-r", help="Why; journaled.")
@_app
@_journal
def cancel(saga_id: str, reason: str | None, app: str | None, journal: str | None) -> None:
    """Have an execution end its attempts and compensate, wherever it is driven."""
    _say(app, journal, lambda mediator: mediator.cancel(saga_id, reason))
    out.print(f"execution {saga_id!r} will compensate as soon as its attempt under way has ended", markup=False)


@cli.command()
@click.argument("saga_id")
@click.option("--reason", "-r", help="Why; journaled.")
@_app
@_journal
def undo(saga_id: str, reason: str | None, app: str | None, journal: str | None) -> None:
    """Compensate an execution that has succeeded."""
    outcome = _say(app, journal, lambda mediator: mediator.undo(saga_id, reason))
    _report(outcome, good=outcome.failed)


@cli.command()
@_app
@_journal
def recover(app: str | None, journal: str | None) -> None:
    """Drive on every unfinished execution whose driver is gone, then end.

    Ends with 6 if some were left, for the app has no definition that fits.
    """
    loaded = load_app(app)
    opened = journal_for(journal, loaded)
    with Progress(
        "recovering: {task.completed} at rest",
        SpinnerColumn(),
        console=err,
        transient=True,
        disable=not err.is_terminal,
    ) as progress:
        task = progress.add_task("recovering", total=None)

        def count(record: Record) -> None:
            if is_settled(record.target):
                progress.advance(task)

        outcomes = _drive(loaded, opened, lambda mediator: mediator.recover(), [count])
    counted: dict[str, int] = {}
    for outcome in outcomes:
        phase = phase_of(outcome.state)
        counted[phase] = counted.get(phase, 0) + 1
    out.print(
        f"recovered {len(outcomes)} executions", *(f"{count} {phase}" for phase, count in counted.items()), sep=", "
    )
    waiting = (opened.find(saga_id) for saga_id in opened.claimable(time.time(), LEFT))
    left = upgrade.stranded((entry for entry in waiting if entry is not None), map(Shape.of, loaded.sagas))
    if left:
        told = "; ".join(f"{sum(states.values())} of {saga}" for saga, states in left.items())
        raise DefinitionChangedError(f"left as they are, for the app has no definition that fits: {told}")


@cli.command()
@_app
@_journal
def serve(app: str | None, journal: str | None) -> None:
    """Be the saga daemon: recover and wake executions until told to stop (Ctrl-C, SIGTERM)."""
    loaded = load_app(app)
    opened = journal_for(journal, loaded, creates=True)
    told = f"serving {', '.join(saga.name for saga in loaded.sagas)}; stop with Ctrl-C"
    if loaded.has_coroutines:
        from fsm_mediator.mediator.aio import AsyncMediator

        async def main() -> None:
            stop = asyncio.Event()
            for number in (signal.SIGINT, signal.SIGTERM):
                asyncio.get_running_loop().add_signal_handler(number, stop.set)
            err.print(told, style="dim")  # from here on a SIGTERM ends it in order
            async with AsyncMediator(*loaded.sagas, journal=opened, **loaded.settings) as mediator, mediator.daemon():
                await stop.wait()

        asyncio.run(main())
        return
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    err.print(told, style="dim")
    with Mediator(*loaded.sagas, journal=opened, **loaded.settings) as mediator, mediator.daemon():
        stopped.wait()


# Checking

for command in (*checks.COMMANDS, *upgrade.COMMANDS, *exporting.COMMANDS):
    cli.add_command(command)
