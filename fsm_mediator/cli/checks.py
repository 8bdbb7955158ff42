"""The commands that only check: ``verify``, ``conform``, ``check`` and ``compare``."""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, closing
from itertools import chain
from pathlib import Path
from typing import Any, Final, TypeGuard

import click
import msgspec
from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeElapsedColumn

from fsm_mediator.cli import options
from fsm_mediator.cli.console import APP, DID_NOT_SUCCEED, err, next_command, out, printable, progress_bar, say
from fsm_mediator.cli.loading import execution_in, journal_for, load_app, load_journal, with_branches
from fsm_mediator.conformance.checking import conforms
from fsm_mediator.definition.saga import Saga, all_definitions
from fsm_mediator.definition.shape import Shape
from fsm_mediator.errors import DefinitionError, IllegalRecordError, MissingExtraError, PayloadError, UnknownSagaError
from fsm_mediator.ids import is_inside
from fsm_mediator.journal.operators import Fault
from fsm_mediator.journal.optional import damage_in
from fsm_mediator.journal.protocol import Entry, Journal
from fsm_mediator.journal.repair import RepairableJournal, damage_of
from fsm_mediator.mediator.registry import SagaRegistry
from fsm_mediator.states import ENDED
from fsm_mediator.upgrades import comparing
from fsm_mediator.upgrades.report import Comparison
from fsm_mediator.upgrades.shape_files import read_shapes
from fsm_mediator.verifier import verify as check_laws
from fsm_mediator.verifier.report import Report
from fsm_mediator.verifier.violation import Violation


def _progress_bar(what: str, total: int | None = None) -> AbstractContextManager[Callable[..., object]]:
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return progress_bar(what, *columns, TimeElapsedColumn(), total=total)


# The command that checks machines against the laws.


@click.command()
@options.app_argument
@options.saga_name
@click.option("--strict", is_flag=True, help="Also let steps raise after an effect without reporting doubt.")
@click.option(
    *("--counterexample", "folder"),
    type=click.Path(file_okay=False, path_type=Path),
    help="Write the shortest path to each broken law here, as a timeline, a picture and a test.",
)
@click.option(
    *("--most", "most_nodes"),
    type=click.IntRange(min=1),
    default=1_000_000,
    show_default=True,
    help="Stop a search after this number of situations, and list the states that it did not reach.",
)
@options.as_json
def verify(
    app: str | None, name: str | None, strict: bool, folder: Path | None, most_nodes: int, as_json: bool
) -> None:
    """Check every failure path of APP's sagas.

    Laws are rules that every path must keep, such as the order of compensation. No step is called. APP is
    module:object, as for --app. If a path breaks a law, the shortest such path is shown, and the exit code is 1.
    """
    sagas = load_app(app).sagas_named(name)
    broken = False
    with _progress_bar("verifying: situations") as advance:
        for number, saga in enumerate(sagas):
            report = check_laws(saga, strict=strict, most_nodes=most_nodes, progress=advance)
            broken = broken or not report.ok
            files = [] if folder is None else [file for each in _violations(report) for file in _save(each, folder)]
            if as_json:
                click.echo(json.dumps({**report.to_dict(), "files": [str(file) for file in files]}))
            else:
                if number:
                    out.print()
                say(str(report), None if report.ok else "red")
                for file in files:
                    say(f"written: {file}", "dim")
    if broken:
        sys.exit(DID_NOT_SUCCEED)


def _violations(report: Report) -> Iterator[Violation]:
    """Yield every broken law of a saga and of its branches."""
    yield from report.violations
    for branch in report.branches:
        yield from _violations(branch)


def _save(violation: Violation, folder: Path) -> Iterator[Path]:
    """Write the counterexample of a broken law into *folder*: a timeline, a picture and a test.

    Yields the path of each file.

    If Graphviz is not installed, the picture is written as DOT text.
    """
    folder.mkdir(parents=True, exist_ok=True)
    saga = re.sub(r"[^\w.-]", ".", violation.saga.name)  # the name of a branch has a slash
    stem = f"{saga}-law-{violation.law}"
    diagram = violation.diagram()
    try:
        picture = (f"{stem}.svg", diagram.to_svg())
    except MissingExtraError:
        picture = (f"{stem}.dot", diagram.to_dot())
    test = re.sub(r"\W", "_", f"test_{saga}_law_{violation.law}") + ".py"
    for name, text in ((f"{stem}.txt", f"{violation}\n"), picture, (test, violation.to_pytest())):
        path = folder / name
        path.write_text(text, encoding="utf-8")
        yield path


# The commands that check the records of a journal.


class _FilteredJournal:
    """A journal that lists only *entries*. All other calls go to *journal*."""

    def __init__(self, journal: Journal, entries: Iterable[Entry]) -> None:
        self._journal = journal
        self.entries = lambda: entries

    def __getattr__(self, name: str) -> Any:
        return getattr(self._journal, name)


@click.command()
@options.app_argument
@options.journal
@click.option(
    *("--from", "path"),
    type=click.Path(path_type=Path),
    help="Check this file in place of a journal: an export, an archive, or a log of LoggingObserver.",
)
@click.option("--id", "saga_id", help="Only this execution of the journal, with its branches.")
@click.option("--saga", "name", help="Only executions of the saga of this name.")
@options.as_json
def conform(
    app: str | None,
    journal: str | None,
    path: Path | None,
    saga_id: str | None,
    name: str | None,
    as_json: bool,
) -> None:
    """Check that APP's sagas allow every change of state in a journal.

    Runs `check` first. Then replays the records of every execution on the machine of its saga, and prints the first
    illegal change of each execution. APP is module:object, as for --app. Exits with 1 if a change is illegal or the
    journal is damaged. Exits with 6 if APP does not have the saga of an execution, or has it only with another shape.
    """
    if path is not None and (journal is not None or saga_id is not None):
        raise click.UsageError("--from reads a file, and --journal and --id read a journal: use one of them")
    loaded = load_app(app)
    sagas = loaded.sagas_named(name)
    with _progress_bar("replaying") as advance:
        if path is not None:
            report = conforms(path, sagas, progress=advance)
            if not (report.executions or report.unchecked):
                raise click.UsageError(f"{str(path)!r} contains no execution, so nothing was checked")
        else:
            with closing(journal_for(journal, loaded, read_only=True)) as opened:
                entries = opened.entries()
                if saga_id is not None:
                    entries = with_branches(opened, execution_in(opened, saga_id))
                elif name is not None:
                    names = dict.fromkeys(each.name for saga in sagas for each in all_definitions(saga))
                    entries = chain.from_iterable(opened.entries(saga=each) for each in names)
                report = conforms(_FilteredJournal(opened, entries), sagas, progress=advance)
    if as_json:
        click.echo(report.to_json())
    else:
        say(printable(str(report)), None if report.ok else "red")
    if not report.ok:
        sys.exit(DID_NOT_SUCCEED if report.violations or report.damage else APP)


@click.command()
@click.option(
    "--repair",
    is_flag=True,
    help="Compute damaged rows again from the records. Without --repair they are only counted.",
)
@options.journal
@options.app
def check(journal: str | None, app: str | None, repair: bool) -> None:
    """Check that a journal's file is not damaged.

    Reads the whole file, and exits with 1 if it is damaged. With --repair, if the row of an execution contradicts
    the execution's records, the row is computed again from the records. No record is lost or changed.
    """
    with closing(load_journal(app, journal, read_only=not repair)[1]) as opened:
        damage = damage_in(opened)
        for fault in damage:
            say(printable(fault), "red")
        repairable = opened.repairable() if damage and isinstance(opened, RepairableJournal) else []
        if repair and repairable and isinstance(opened, RepairableJournal):
            for saga_id in repairable:
                opened.repair(saga_id)
            damage = damage_in(opened)
            say(f"computed again from the records: {len(repairable)} rows; {len(damage)} faults are left")
            repairable = []
    if repairable:
        say(f"{len(damage)} faults; {len(repairable)} rows can be computed again from the records: {_repair()}", "red")
    if len(damage) > len(repairable):
        say("damaged: restore a backup, or read what is left with: sqlite3 FILE .recover", "red")
    if damage:
        sys.exit(DID_NOT_SUCCEED)
    say("no damage found")


def _repair() -> str:
    return f"{next_command('check')} --repair"


def report_damage(journal: Journal, waiting: Iterable[str]) -> bool:
    """Print the damage in every execution that can be repaired, and in the executions with the ids *waiting*.

    *waiting*: the executions that a driver can claim. Returns whether there is any damage.
    """
    rows = journal.repairable() if isinstance(journal, RepairableJournal) else []
    damage = [fault for saga_id in dict.fromkeys((*rows, *waiting)) for fault in damage_of(journal, saga_id)]
    for fault in damage:
        say(printable(f"damaged: {fault}"), "red")
    if rows:
        say(f"{len(rows)} rows can be computed again from the records: {_repair()}", "red")
    return bool(damage)


# The command that checks a deploy.


def _is_file(spec: str | None) -> TypeGuard[str]:
    return spec is not None and (spec.endswith(".json") or Path(spec).is_file())


def _shapes_of(spec: str | None) -> tuple[Shape, ...]:
    """The shapes of the sagas that *spec* names: a file of `export-shape`, or ``module:object``.

    If *spec* is None, the shapes of the app of ``pyproject.toml``.
    """
    return read_shapes(spec) if _is_file(spec) else tuple(map(Shape.of, load_app(spec).sagas))


def _sagas_of(spec: str | None) -> tuple[Saga, ...]:
    """The sagas that *spec*, ``module:object``, names.

    Empty if *spec* is a file of `export-shape`, because such a file has no sagas and no types.
    """
    return () if _is_file(spec) else load_app(spec).sagas


@click.command()
@click.argument("old")
@click.argument("new", required=False, envvar=options.APP_VARIABLE)
@click.option("--rename", "renames", multiple=True, metavar="OLD=NEW", help="A part that was renamed.")
@options.saga_name
@click.option("--every", is_flag=True, help="Include the states that the old settings rule out.")
@click.option("--journal", "-j", help="Exit with 1 only if an execution of this journal would be stranded.")
@options.as_json
def compare(
    old: str, new: str | None, renames: Sequence[str], name: str | None, every: bool, journal: str | None, as_json: bool
) -> None:
    """Check whether executions of OLD can continue under NEW.

    OLD and NEW are module:object, or a file that `export-shape` wrote. Without NEW, the app of pyproject.toml is used.
    Exits with 1 if an execution that OLD has started could not continue, because NEW has no saga of the same shape.
    With --journal, also exits with 1 if NEW cannot decode a value of an execution that has not ended.
    """
    renamed = dict(map(_split_rename, renames))
    old_shapes, new_shapes = _shapes_of(old), _shapes_of(new)
    if name is not None and not any(shape.saga == name for shape in old_shapes):
        raise UnknownSagaError(f"no saga is named {name!r}; OLD has {', '.join(shape.saga for shape in old_shapes)}")
    old_shapes = tuple(shape for shape in old_shapes if name in (None, shape.saga))
    for part in renamed:
        if not any(shape.paths_under(part) for shape in old_shapes):
            raise DefinitionError(f"--rename: no saga of OLD has a part {part!r}")
    comparisons = []
    for shape in old_shapes:
        own = {before: after for before, after in renamed.items() if shape.paths_under(before)}
        comparisons.append(comparing.compare(shape, new_shapes, own, every=every))
    in_flight, undecoded = None, []
    if journal is not None:
        with closing(journal_for(journal, None, read_only=True)) as opened:
            in_flight = find_stranded(opened.entries(), new_shapes, name)
            undecoded = list(find_undecoded(opened, _sagas_of(new), name))
    _report(comparisons, in_flight, undecoded, as_json=as_json)


def _split_rename(rename: str) -> tuple[str, str]:
    before, equals, after = rename.partition("=")
    if not (before and equals and after):
        raise click.BadParameter(f"{rename!r}: write it as OLD=NEW, such as charge=pay", param_hint="--rename")
    return before, after


def _definitions(shapes: Iterable[Shape]) -> Iterator[tuple[str, str]]:
    """Yield the name and the fingerprint of each shape, and of the shape of each branch."""
    for shape in shapes:
        yield shape.saga, shape.fingerprint
        for part in shape.parts:
            yield from _definitions(branch for _, branch in part.branches)


def find_stranded(entries: Iterable[Entry], new: Iterable[Shape], name: str | None = None) -> dict[str, Counter[str]]:
    """For each saga and state: the number of unfinished executions for which *new* has no definition.

    The keys of the result are texts that name a saga and its version. Each value has the numbers by state. If *name*
    is given, only the executions of this saga and of its branches are counted.
    """
    known = set(_definitions(new))
    found: dict[str, Counter[str]] = {}
    for entry in entries:
        saga, fingerprint = entry.acceptance.saga, entry.acceptance.fingerprint
        selected = name is None or saga == name or is_inside(saga, name)
        if selected and entry.state not in ENDED and (saga, fingerprint) not in known:
            found.setdefault(f"saga {saga!r} version {entry.acceptance.version}", Counter())[entry.state] += 1
    return found


def find_undecoded(journal: Journal, sagas: Iterable[Saga], name: str | None = None) -> Iterator[tuple[str, Fault]]:
    """Yield the unfinished executions that have a definition in *sagas* and have a value that cannot be decoded.

    For each execution, yields its id and the error for its first such value. If *name* is given, only the executions of
    this saga and of its branches are read.
    """
    registry = SagaRegistry(sagas, codec=None, coroutines=True)
    for entry in journal.entries():
        saga = entry.acceptance.saga
        if entry.state in ENDED or not (name is None or saga == name or is_inside(saga, name)):
            continue
        if registry.can_drive(entry.acceptance):
            try:
                _decode(journal, registry.saga_of(entry.acceptance), entry)
            except (PayloadError, IllegalRecordError) as error:
                yield entry.saga_id, Fault.of(error)


def _decode(journal: Journal, saga: Saga, entry: Entry) -> None:
    """Decode all values of the execution *entry*, as a driver does.

    Raises:
        PayloadError, IllegalRecordError: A value cannot be decoded.
    """
    codec = journal.codec
    codec.decode_acceptance(saga, entry.acceptance)
    for _ in codec.decode_records(saga, journal.records(entry.saga_id)):
        pass
    codec.decode_items(saga, journal.inbox(entry.saga_id))


def _report(
    comparisons: Sequence[Comparison],
    in_flight: dict[str, Counter[str]] | None,
    undecoded: Sequence[tuple[str, Fault]],
    *,
    as_json: bool,
) -> None:
    refused = any(not each.ok for each in comparisons) if in_flight is None else bool(in_flight or undecoded)
    if as_json:
        result: dict[str, object] = {"ok": not refused, "sagas": [each.as_dict() for each in comparisons]}
        faults = [{"saga_id": saga_id, **msgspec.structs.asdict(fault)} for saga_id, fault in undecoded]
        more = {} if in_flight is None else {"in_flight": in_flight, "undecoded": faults}
        click.echo(json.dumps({**result, **more}, indent=2))
    else:
        for number, comparison in enumerate(comparisons):
            style = None if comparison.ok or in_flight is not None else "red"
            say(f"{chr(10) if number else ''}{comparison}", style)
        if in_flight is not None:
            out.print()
            _print_in_flight(in_flight, undecoded)
    if refused:
        if not as_json:
            err.print("the deploy would strand executions", style="bold red")
        sys.exit(DID_NOT_SUCCEED)


def _print_in_flight(in_flight: dict[str, Counter[str]], undecoded: Sequence[tuple[str, Fault]]) -> None:
    for saga_id, fault in undecoded:
        where = f" (type {fault.type}, field {fault.field})" if fault.type else ""
        say(printable(f"in the journal: execution {saga_id!r} cannot be decoded{where}: {fault.message}"), "red")
    if not in_flight and not undecoded:
        out.print("in the journal: no execution in flight would be stranded", style="green")
    for saga, states in in_flight.items():
        where = ", ".join(f"{count} in {state}" for state, count in states.items())
        out.print(f"in the journal: {states.total()} of {saga} would be stranded: {where}", style="red", markup=False)


COMMANDS: Final = (verify, conform, check, compare)
"""The commands of this module, which the command group adds."""
