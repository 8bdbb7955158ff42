"""The command ``export-machine``: sagas in the languages of other tools."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import click

from fsm_mediator.cli.checks import sagas_of
from fsm_mediator.cli.exit_codes import out
from fsm_mediator.cli.loading import load_app
from fsm_mediator.definition.saga import Saga, family
from fsm_mediator.errors import DefinitionError
from fsm_mediator.exports import to_scxml, to_table, to_tla

FORMATS = ("scxml", "tla", "json")


@click.command("export-machine")
@click.argument("app", required=False, envvar="FSM_MEDIATOR_APP")
@click.option("--format", "-f", "kind", type=click.Choice(FORMATS), required=True, help="The language.")
@click.option("--saga", "name", help="Only the saga of this name.")
@click.option(
    *("--output", "-o", "folder"),
    type=click.Path(file_okay=False, path_type=Path),
    help="A folder, for a file of each saga; without it the text of one saga goes to standard output.",
)
def export_machine(app: str | None, kind: str, name: str | None, folder: Path | None) -> None:
    """Write the machines of APP's sagas for other checkers.

    As SCXML, as a TLA+ module with the laws as invariants and the configuration that TLC checks it with, or as the bare
    table in JSON. All of them from the machine that runs.
    """
    sagas = sagas_of(load_app(app), name)
    if folder is None:
        if len(sagas) > 1:
            raise DefinitionError(
                f"the app has {len(sagas)} sagas ({', '.join(saga.name for saga in sagas)}); name one with --saga, or "
                f"a folder for all of them with -o"
            )
        click.echo(next(text for _, text in _files(sagas[0], kind)), nl=False)
        return
    folder.mkdir(parents=True, exist_ok=True)
    latest = {saga.name: saga for saga in sagas}  # of several versions, the one that new executions are started with
    for saga in (member for each in latest.values() for member in family(each)):
        for file, text in _files(saga, kind):
            (folder / file).write_text(text, encoding="utf-8")
            out.print(f"written: {folder / file}", markup=False, highlight=False, soft_wrap=True)


def _files(saga: Saga, kind: str) -> Iterator[tuple[str, str]]:
    if kind == "tla":
        module = to_tla(saga)
        yield f"{module.name}.tla", module.text
        yield f"{module.name}.cfg", module.config
    elif kind == "scxml":
        yield f"{_file_name(saga)}.scxml", to_scxml(saga)
    else:
        yield f"{_file_name(saga)}.json", json.dumps(to_table(saga), indent=2) + "\n"


def _file_name(saga: Saga) -> str:
    return saga.name.replace("/", ".").replace("*", "each")  # as the branches of a group are named


COMMANDS = (export_machine,)
"""What is added to the command line."""
