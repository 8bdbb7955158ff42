"""The commands about upgrades: write down the shape of what is deployed, and compare it with what is to be."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import click

from fsm_mediator.cli import files
from fsm_mediator.cli.exit_codes import DID_NOT_SUCCEED, err, out
from fsm_mediator.cli.loading import journal_for, load_app
from fsm_mediator.errors import DefinitionError, UnknownSagaError
from fsm_mediator.journal.protocol import Entry
from fsm_mediator.states import ENDED
from fsm_mediator.upgrades.comparing import compare as compared
from fsm_mediator.upgrades.report import Comparison
from fsm_mediator.upgrades.shape import Shape, read_shapes, written


def shapes_of(spec: str) -> tuple[Shape, ...]:
    """The shapes meant by *spec*: a file that `export-shape` wrote, or ``module:object``.

    Raises:
        DefinitionError: There are none.
    """
    if spec.endswith(".json") or Path(spec).is_file():
        return read_shapes(spec)
    return tuple(map(Shape.of, load_app(spec).sagas))


@click.command("export-shape")
@click.argument("app", required=False, envvar="FSM_MEDIATOR_APP")
@click.option("--output", "-o", default="-", help="A file; - is standard output.")
def export_shape(app: str | None, output: str) -> None:
    """Write down the shapes of APP's sagas, for `compare`.

    The file holds what the machines' tables are made of, and no code. Keep the one of what is deployed: in CI the old
    code is not there to be imported.
    """
    text = written(load_app(app).sagas) + "\n"
    with files.written(output) as file:
        file.write(text.encode())


@click.command()
@click.argument("old")
@click.argument("new")
@click.option("--rename", "renames", multiple=True, metavar="OLD=NEW", help="A part that has another name now.")
@click.option("--saga", "name", help="Only the saga of this name.")
@click.option("--every", is_flag=True, help="Take in the states that the old settings rule out.")
@click.option("--journal", "-j", help="Count what is in flight in this journal: refuse only what it strands.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def compare(
    old: str, new: str, renames: Sequence[str], name: str | None, every: bool, journal: str | None, as_json: bool
) -> None:
    """Tell what becomes of executions in flight when NEW is deployed in place of OLD.

    Each is module:object, or a file that `export-shape` wrote. Ends with 1 if the deploy would strand executions: if
    NEW has no definition of the shape that they were started with.
    """
    renamed = dict(_pairs(renames))
    was, will_be = shapes_of(old), shapes_of(new)
    if name is not None and not any(shape.saga == name for shape in was):
        raise UnknownSagaError(f"no saga is named {name!r}; OLD has {', '.join(shape.saga for shape in was)}")
    was = tuple(shape for shape in was if name in (None, shape.saga))
    unknown = [part for part in renamed if not any(_has(shape, part) for shape in was)]
    if unknown:
        raise DefinitionError(f"--rename: no saga of OLD has a part {unknown[0]!r}")
    comparisons = []
    for shape in was:
        mine = {before: after for before, after in renamed.items() if _has(shape, before)}
        comparisons.append(compared(shape, will_be, mine, every=every))
    flights = None
    if journal is not None:
        opened = journal_for(journal, None, read_only=True)
        try:
            flights = stranded(opened.entries(), will_be, name)
        finally:
            opened.close()
    _tell(comparisons, flights, as_json=as_json)


def _pairs(renames: Iterable[str]) -> Iterable[tuple[str, str]]:
    for rename in renames:
        before, equals, after = rename.partition("=")
        if not (before and equals and after):
            raise click.BadParameter(f"{rename!r}: write it as OLD=NEW, such as charge=pay", param_hint="--rename")
        yield before, after


def _has(shape: Shape, part: str) -> bool:
    return any(each.path == part or each.path.startswith(f"{part}.") for each in shape.parts)


def _fingerprints(shapes: Iterable[Shape]) -> Iterable[tuple[str, str]]:
    """Name and fingerprint of every definition that is there, those of branches included."""
    for shape in shapes:
        yield shape.saga, shape.fingerprint
        for part in shape.parts:
            yield from _fingerprints(branch for _, branch in part.branches)


def stranded(entries: Iterable[Entry], new: Iterable[Shape], name: str | None = None) -> dict[str, dict[str, int]]:
    """How many executions in flight nobody would drive, by saga and version, and by where they stand."""
    known = set(_fingerprints(new))
    found: dict[str, dict[str, int]] = {}
    for entry in entries:
        acceptance = entry.acceptance
        mine = name is None or acceptance.saga == name or acceptance.saga.startswith(f"{name}/")
        if mine and entry.state not in ENDED and (acceptance.saga, acceptance.fingerprint) not in known:
            states = found.setdefault(f"saga {acceptance.saga!r} version {acceptance.version}", {})
            states[entry.state] = states.get(entry.state, 0) + 1
    return found


def _tell(comparisons: Sequence[Comparison], flights: dict[str, dict[str, int]] | None, *, as_json: bool) -> None:
    refused = any(not each.ok for each in comparisons) if flights is None else bool(flights)
    if as_json:
        told: dict[str, object] = {"ok": not refused, "sagas": [each.as_dict() for each in comparisons]}
        click.echo(json.dumps(told if flights is None else {**told, "in_flight": flights}, indent=2))
    else:
        for number, comparison in enumerate(comparisons):
            style = None if comparison.ok or flights is not None else "red"
            out.print(
                f"{chr(10) if number else ''}{comparison}", style=style, markup=False, highlight=False, soft_wrap=True
            )
        if flights is not None:
            out.print()
            _tell_flights(flights)
    if refused:
        if not as_json:
            err.print("the deploy would strand executions", style="bold red")
        sys.exit(DID_NOT_SUCCEED)


def _tell_flights(flights: dict[str, dict[str, int]]) -> None:
    if not flights:
        out.print("in the journal: nothing in flight would be stranded", style="green")
    for saga, states in flights.items():
        where = ", ".join(f"{count} in {state}" for state, count in states.items())
        out.print(
            f"in the journal: {sum(states.values())} of {saga} would be stranded: {where}", style="red", markup=False
        )


COMMANDS = (export_shape, compare)
"""What is added to the command line."""
