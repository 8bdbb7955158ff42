"""The command ``render``: its options, and what is told of what was drawn; `rendering` decides what is drawn where."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click

from fsm_mediator.cli import rendering
from fsm_mediator.cli.exit_codes import DID_NOT_SUCCEED
from fsm_mediator.cli.loading import App, journal_for, load_app, settings
from fsm_mediator.diagram import Diagram
from fsm_mediator.diagram.diagram import FORMATS, LIGHT
from fsm_mediator.diagram.layout.step_sizes import DIRECTIONS
from fsm_mediator.diagram.picture import DETAIL, OVERVIEW, VIEWS
from fsm_mediator.diagram.staleness import COMPARED
from fsm_mediator.diagram.themes import THEMES
from fsm_mediator.errors import DefinitionError

Drawn = list[tuple[Path, Diagram | rendering.Page]]


@click.command()
@click.argument("target", required=False)
@click.option("--output", "-o", "outputs", multiple=True, type=click.Path(), help="A file, or a folder for all sagas.")
@click.option(
    "--view", type=click.Choice(VIEWS), help="Every state (detail), the phases (overview) or a box a step (steps)."
)
@click.option("--direction", type=click.Choice(DIRECTIONS), help="Of the steps: rows (right) or one column (down).")
@click.option("--theme", type=click.Choice(list(THEMES)), help="For light or dark pages.")
@click.option("--saga", help="Which of the app's sagas.")
@click.option("--id", "saga_id", help="Draw the way that this execution took.")
@click.option("--journal", "-j", envvar="FSM_MEDIATOR_JOURNAL", help="Where the execution is journaled: file or URL.")
@click.option("--animate", is_flag=True, help="Of an execution: an SVG that moves.")
@click.option("--format", "-f", "formats", multiple=True, type=click.Choice(FORMATS), help="Into a folder: what.")
@click.option("--index", help="Into a folder: the name of its index (README.md).")
@click.option("--check", is_flag=True, help="Draw nothing; exit with 1 and a diff if a file is stale.")
@click.option("--app", "-a", envvar="FSM_MEDIATOR_APP", help="Where the sagas are, if no TARGET says so.")
def render(outputs: tuple[str, ...], check: bool, **options: Any) -> None:
    """Draw a saga or an execution into a file, or all sagas into a folder with an index.

    TARGET is module:object, as --app takes it. A file's suffix is its format: svg, png, pdf, dot, mmd or md.

    \b
    fsm-mediator render shop.sagas:checkout -o checkout.svg
    fsm-mediator render shop.sagas:mediator -o docs/sagas/ --check
    fsm-mediator render --journal sagas.db --id o-1 -o o-1.svg

    A file that is fresh is left as it is. Without -o it is the folder of [tool.fsm-mediator.diagrams] in
    pyproject.toml, where view, theme, formats and index can be set, too.
    """  # noqa: D301 - click's mark of lines that are not to be joined
    found = settings()
    kept = found.get("diagrams", {})
    if not isinstance(kept, dict):
        raise DefinitionError(f"[tool.fsm-mediator.diagrams] in pyproject.toml must be a table, not {kept!r}")
    if not outputs and "folder" in kept:
        # As seen from here, so that a diff names the same file for everybody.
        outputs = (os.path.relpath(Path(found["folder"]) / str(kept["folder"])) + "/",)
    if not outputs:
        raise DefinitionError(
            "draw into what? Name a file or a folder with -o, "
            'or in pyproject.toml: [tool.fsm-mediator.diagrams] folder = "docs/sagas"'
        )
    _refuse_what_does_nothing(outputs, options)
    wanted = _Wanted(
        **{name: options[name] or kept.get(name) for name in ("view", "theme", "formats", "index", "direction")}
    )
    loaded = load_app(options["target"] or options["app"])
    drawn: Drawn = []
    gone: list[Path] = []
    for output in outputs:
        path = Path(output)
        if _is_folder(output):
            drawn += _folder(loaded, path, wanted, options, check=check)
            gone += rendering.no_longer_named(path / wanted.index, [each for each, _ in drawn])
        else:
            drawn.append((path, _one(loaded, wanted, options)))
    tell = _check if check else _write
    tell(drawn, gone, animate=options["animate"])


def _is_folder(output: str) -> bool:
    return output.endswith(("/", os.sep)) or Path(output).is_dir() or not Path(output).suffix


def _refuse_what_does_nothing(outputs: tuple[str, ...], options: dict[str, Any]) -> None:
    """An option that would be ignored was given for something else than what is about to be done."""
    if "-" in outputs:
        raise click.UsageError("a picture is drawn into a file, whose suffix is its format: -o saga.svg")
    if options["animate"] and not options["saga_id"]:
        raise click.UsageError("--animate shows the way of an execution; say which with --id")
    for output in outputs:
        if _is_folder(output):
            continue
        suffix = Path(output).suffix[1:]
        if suffix not in FORMATS:
            raise click.UsageError(f"-o {output}: there is no format {suffix!r}; there are {', '.join(FORMATS)}")
        if options["formats"]:
            raise click.UsageError(f"--format is for folders; the format of a file is its suffix: -o {output}")


class _Wanted:
    """What is to be drawn, every default resolved."""

    def __init__(self, view: Any, theme: Any, formats: Any, index: Any, direction: Any = None) -> None:
        self.direction = str(direction) if direction else None
        self.views = (str(view),) if view else (DETAIL, OVERVIEW)
        self.view = str(view or DETAIL)
        self.theme = str(theme or LIGHT)
        self.formats = tuple(formats or ("svg",))
        self.index = str(index or "README.md")


def _folder(app: App, folder: Path, wanted: _Wanted, options: dict[str, Any], *, check: bool) -> Drawn:
    if options["saga_id"]:
        raise DefinitionError("an execution is drawn into a file, not into a folder: -o run.svg")
    rendering.check_formats(wanted.formats, known=FORMATS, checked=check)
    sagas = app.sagas if options["saga"] is None else (rendering.one_saga(app, options["saga"]),)
    made = rendering.gallery(
        sagas, folder, views=wanted.views, theme=wanted.theme, formats=wanted.formats, index=wanted.index
    )
    return list(made)


def _one(app: App, wanted: _Wanted, options: dict[str, Any]) -> Diagram:
    if options["saga_id"] is None:
        return Diagram(
            rendering.one_saga(app, options["saga"]), view=wanted.view, theme=wanted.theme, direction=wanted.direction
        )
    journal = journal_for(options["journal"], app, read_only=True)
    try:
        saga, run = rendering.saga_of_run(app, journal, options["saga_id"])
    finally:
        journal.close()
    return Diagram(saga, run, view=wanted.view, theme=wanted.theme, direction=wanted.direction)


def _write(drawn: Drawn, gone: list[Path], *, animate: bool) -> None:
    for path, what in drawn:
        if path.exists() and path.suffix[1:] in COMPARED and not rendering.stale(path, what, animate=animate):
            click.echo(f"{path} is fresh")
            continue
        rendering.write(path, what, animate=animate and path.suffix == ".svg")
        click.echo(f"{path} drawn")
    for path in gone:
        path.unlink()
        click.echo(f"{path} removed: nothing draws it any more")


def _check(drawn: Drawn, gone: list[Path], *, animate: bool) -> None:
    told: list[str] = []
    for path, what in drawn:
        told += rendering.stale(path, what, animate=animate)
    told += [f"{path}: nothing draws it any more" for path in gone]
    if told:
        click.echo("\n".join(told))
        click.echo("stale; draw anew with the same command without --check", err=True)
        sys.exit(DID_NOT_SUCCEED)
