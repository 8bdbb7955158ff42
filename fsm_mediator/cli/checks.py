"""The commands that check: the machine against its laws, and the past against the machine. They drive nothing.

Exit codes: 0 it holds; 1 it does not; 5 the journal cannot be used; 6 the app cannot be loaded or has no definition
that fits.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from fsm_mediator.cli.exit_codes import APP, DID_NOT_SUCCEED, err, out, printable
from fsm_mediator.cli.loading import App, execution_in, journal_for, load_app
from fsm_mediator.conformance.checking import conforms
from fsm_mediator.conformance.report import Conformance
from fsm_mediator.definition.saga import Saga, family
from fsm_mediator.errors import MissingExtraError, UnknownSagaError
from fsm_mediator.journal.protocol import Entry, Journal
from fsm_mediator.verifier.report import Report
from fsm_mediator.verifier.violation import Violation

_app = click.argument("app", required=False, envvar="FSM_MEDIATOR_APP")
_app_option = click.option("--app", "-a", "app_option", help="The same as APP.")
_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def sagas_of(app: App, name: str | None) -> list[Saga]:
    """The sagas of *app*, or those of this name.

    Raises:
        UnknownSagaError: It has none of this name.
    """
    found = [saga for saga in app.sagas if name is None or saga.name == name]
    if not found:
        known = ", ".join(sorted({saga.name for saga in app.sagas}))
        raise UnknownSagaError(f"no saga is named {name!r}; the app has {known}")
    return found


@contextmanager
def working(what: str, total: int | None = None) -> Iterator[Any]:
    """Shows on a terminal that something is under way; gives what to call after each piece of it."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as progress:
        task = progress.add_task(what, total=total)
        yield lambda: progress.advance(task)


@click.command()
@_app
@_app_option
@click.option("--saga", "name", help="Only the saga of this name.")
@click.option("--strict", is_flag=True, help="Take steps also to raise after an effect without saying so.")
@click.option(
    *("--counterexample", "folder"),
    type=click.Path(file_okay=False, path_type=Path),
    help="Write each broken law's shortest way there: a timeline, a picture and a test.",
)
@_as_json
def verify(
    app: str | None, app_option: str | None, name: str | None, strict: bool, folder: Path | None, as_json: bool
) -> None:
    """Check every failure path of the sagas of APP against the laws.

    APP is module:object, as for --app. No step is called. Ends with 1 if a law is broken, and shows the shortest way
    to it.
    """
    from fsm_mediator.verifier import verify as verified

    sagas = sagas_of(load_app(app_option or app), name)
    broken = False
    with working("verifying", len(sagas)) as advance:
        for number, saga in enumerate(sagas):
            report = verified(saga, strict=strict)
            advance()
            broken = broken or not report.ok
            files = [file for violation in violations(report) for file in counterexample(violation, folder)]
            if as_json:
                click.echo(json.dumps({**report.to_dict(), "files": [str(file) for file in files]}))
            else:
                if number:
                    out.print()
                style = None if report.ok else "red"
                out.print(str(report), style=style, markup=False, highlight=False, soft_wrap=True)
                for file in files:
                    out.print(f"written: {file}", style="dim", markup=False, highlight=False, soft_wrap=True)
    if broken:
        sys.exit(DID_NOT_SUCCEED)


def violations(report: Report) -> Iterator[Violation]:
    """Every broken law, those within branches included."""
    yield from report.violations
    for branch in report.branches:
        yield from violations(branch)


def counterexample(violation: Violation, folder: Path | None) -> Iterator[Path]:
    """Write the way to a broken law into *folder*, in three shapes; the files, each once it is there.

    Without the extra that draws, the picture is the text that Graphviz draws from.
    """
    if folder is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    saga = re.sub(r"[^\w.-]", ".", violation.saga.name)  # that of a branch has a slash
    named = f"{saga}-law-{violation.law}"
    diagram = violation.diagram()
    try:
        picture = (f"{named}.svg", diagram.to_svg())
    except MissingExtraError:
        picture = (f"{named}.dot", diagram.to_dot())
    test = re.sub(r"\W", "_", f"test_{saga}_law_{violation.law}") + ".py"
    for name, text in ((f"{named}.txt", f"{violation}\n"), picture, (test, violation.to_pytest())):
        path = folder / name
        path.write_text(text, encoding="utf-8")
        yield path


class _Chosen:
    """A journal of which only some executions are to be read."""

    def __init__(self, journal: Journal, saga_id: str | None, names: Iterable[str] | None) -> None:
        self._journal = journal
        self._saga_id = saga_id
        self._names = names

    def entries(self) -> Iterator[Entry]:
        """Those chosen."""
        if self._saga_id is not None:
            yield from self._with_branches(execution_in(self._journal, self._saga_id))
        elif self._names is not None:
            for name in self._names:
                yield from self._journal.entries(saga=name)
        else:
            yield from self._journal.entries()

    def _with_branches(self, entry: Entry) -> Iterator[Entry]:
        yield entry
        for branch in self._journal.entries(parent=entry.saga_id):
            yield from self._with_branches(branch)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._journal, name)


@click.command()
@_app
@_app_option
@click.option("--journal", "-j", envvar="FSM_MEDIATOR_JOURNAL", help="The journal's file or URL.")
@click.option(
    *("--from", "path"),
    type=click.Path(dir_okay=False, path_type=Path),
    help="Check this file instead: what `export` wrote, or a log with the lines of LoggingObserver.",
)
@click.option("--id", "saga_id", help="Only this execution of the journal, with its branches.")
@click.option("--saga", "name", help="Only executions of the saga of this name.")
@_as_json
def conform(
    app: str | None,
    app_option: str | None,
    journal: str | None,
    path: Path | None,
    saga_id: str | None,
    name: str | None,
    as_json: bool,
) -> None:
    """Check that the machines of APP can have made every move of a journal.

    Replays every execution through the machine that runs, and names the first move of each that is illegal. APP is
    module:object, as for --app. Ends with 1 if a move is illegal, with 6 if APP has no definition of some executions.
    """
    if path is not None and (journal is not None or saga_id is not None):
        raise click.UsageError("--from reads a file, and --journal and --id a journal: give one of them")
    loaded = load_app(app_option or app)
    sagas = sagas_of(loaded, name)
    with working("replaying") as advance:
        if path is not None:
            report = conforms(path, sagas, progress=advance)
            if not (report.executions or report.unchecked):
                raise click.UsageError(f"{str(path)!r} tells of no execution, so that nothing was checked")
        else:
            opened = journal_for(journal, loaded, read_only=True)
            try:
                names = None if name is None else dict.fromkeys(each.name for saga in sagas for each in family(saga))
                report = conforms(_Chosen(opened, saga_id, names), sagas, progress=advance)
            finally:
                opened.close()
    _tell(report, as_json=as_json)


def _tell(report: Conformance, *, as_json: bool) -> None:
    if as_json:
        click.echo(report.to_json())
    else:
        style = None if report.ok else "red"
        out.print(printable(str(report)), style=style, markup=False, highlight=False, soft_wrap=True)
    if report.violations:
        sys.exit(DID_NOT_SUCCEED)
    if report.unchecked:
        sys.exit(APP)


COMMANDS = (verify, conform)
"""What is added to the command line."""
