"""The command ``render``: draws a saga or an execution into a file, or all sagas into a folder.

It can also check whether the files are up to date.

This module decides the files and formats; ``diagram`` decides the content of a picture.
"""

from __future__ import annotations

import functools
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final, TypeAlias

import attrs
import click

from fsm_mediator.cli import options as shared
from fsm_mediator.cli.console import DID_NOT_SUCCEED
from fsm_mediator.cli.exporting import mode_of, open_output, refuse_journal
from fsm_mediator.cli.loading import App, execution_in, journal_for, load_app, one_saga, redaction, settings
from fsm_mediator.definition.saga import Saga, all_definitions
from fsm_mediator.diagram import Diagram, Look
from fsm_mediator.diagram.diagram import FORMATS, LIGHT
from fsm_mediator.diagram.folding import MOST_BRANCHES, branches_of
from fsm_mediator.diagram.history import Run
from fsm_mediator.diagram.layout.step_sizes import DIRECTIONS
from fsm_mediator.diagram.picture import HIDDEN, STEPS, VIEWS, View, check_view
from fsm_mediator.diagram.staleness import COMPARED, difference, text_difference
from fsm_mediator.diagram.themes import THEMES
from fsm_mediator.errors import DefinitionError
from fsm_mediator.journal.lines import hide_texts
from fsm_mediator.mediator.diagrams import run_of
from fsm_mediator.statistics import Statistics
from fsm_mediator.statistics.showing import SHOWN, Show

Content: TypeAlias = "Diagram | str"
"""The content of an output file: a diagram, or the text of a folder's index."""

MARK: Final = "<!-- Written by fsm-mediator render: what you change here is written over. -->"
"""The first line of every index that this command writes. A file without this line is never overwritten."""

_LINKED: Final = re.compile(r"\]\(([\w.-]+)\)")


@attrs.frozen(kw_only=True)
class _RenderOptions:
    """The settings of a drawing: from the command line, else from ``pyproject.toml``, else the default values."""

    views: tuple[View, ...]
    look: Look
    formats: tuple[str, ...]
    index: str
    saga: str | None
    saga_id: str | None
    journal: str | None
    animate: bool
    stats: tuple[Path, ...]
    show: Show | None


def _look(pick: Callable[..., Any]) -> Look:
    """The keyword arguments of `Diagram`. *pick* takes the name of an option, and returns its value."""
    return Look(
        theme=pick("theme", LIGHT),
        direction=pick("direction"),
        width=pick("width"),
        hide=tuple(pick("hide", ())),
        branches=branches_of(pick("branches", MOST_BRANCHES)),
        title=pick("title"),
        legend=pick("legend"),
    )


def _checked_branches(_context: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    """Return the value of ``--branches`` if it is a number of branches or ``all``."""
    try:
        if value is not None:
            branches_of(value)
    except DefinitionError as error:
        raise click.BadParameter(str(error)) from None
    return value


@click.command()
@shared.app_argument
@click.option(
    "--output", "-o", "outputs", multiple=True, type=click.Path(), help="A file, a folder for all sagas, or -."
)
@click.option("--view", type=click.Choice(VIEWS), help="steps: one box for each step. detail: every state.")
@click.option("--direction", type=click.Choice(DIRECTIONS), help="Steps view: rows (right) or one column (down).")
@click.option("--width", type=int, help="Steps view: the maximum width of rows, in pixels (736).")
@click.option("--hide", multiple=True, type=click.Choice(sorted(HIDDEN)), help="Parts to leave out.")
@click.option(
    "--branches",
    metavar="NUMBER|all",
    callback=_checked_branches,
    help="The maximum number of branches drawn for each group (12).",
)
@click.option("--title", help="The title, in place of the saga's name.")
@click.option("--legend/--no-legend", default=None, help="Explain every sign, or no sign.")
@click.option("--theme", type=click.Choice(list(THEMES)), help="The colours. auto: light or dark, like the page.")
@click.option("--saga", help="The saga to draw, if the app has several.")
@click.option("--id", "saga_id", help="Draw the path of this execution.")
@click.option("--journal", "-j", envvar=shared.JOURNAL_VARIABLE, help="The journal of the execution: file or URL.")
@click.option(
    *("--stats", "stats"),
    multiple=True,
    type=click.Path(path_type=Path),
    help="Draw the numbers in this file of `stats`. Give it twice to compare two files.",
)
@click.option("--show", type=click.Choice(list(SHOWN)), help="With --stats: the numbers to draw (p95).")
@click.option("--animate", is_flag=True, help="With --id: draw an animated SVG.")
@click.option(
    "--format", "-f", "formats", multiple=True, type=click.Choice(FORMATS), help="For a folder or -: the format."
)
@click.option("--index", help="For a folder: the name of its index (README.md).")
@click.option("--check", is_flag=True, help="Draw nothing. Print a diff and exit with 1 if a file is stale.")
def render(app: str | None, outputs: tuple[str, ...], check: bool, **picked: Any) -> None:
    """Draw a saga, an execution, or all sagas of an app.

    APP is module:object. The suffix of a file is its format: svg, png, pdf, dot, mmd or md. For `-o -`, standard
    output, --format sets the format (svg). All sagas are drawn into a folder with an index.

    \b
    fsm-mediator render shop.sagas:checkout -o checkout.svg
    fsm-mediator render shop.sagas:mediator -o docs/sagas/ --check
    fsm-mediator render --journal sagas.db --id o-1 -o o-1.svg

    An up-to-date file is not changed. Without -o, the folder of [tool.fsm-mediator.diagrams] in pyproject.toml is used.
    You can also set view, theme, formats and index there.
    """  # noqa: D301 - click's mark of lines that are not to be joined
    found = settings()
    configured = found.get("diagrams", {})
    if not outputs and "folder" in configured:
        # The path is relative to the working directory, so that a diff has the same path for every user.
        outputs = (os.path.relpath(Path(found["folder"]) / str(configured["folder"])) + "/",)
    if not outputs:
        raise DefinitionError(
            "no output: name a file or a folder with -o, "
            'or in pyproject.toml: [tool.fsm-mediator.diagrams] folder = "docs/sagas"'
        )
    _refuse_ignored(outputs, picked, check=check)
    kind = (picked["formats"] or ("svg",))[0]

    def pick(name: str, default: Any = None) -> Any:
        value = picked.pop(name)
        return configured.get(name, default) if value in (None, ()) else value

    view = pick("view")
    options = _RenderOptions(
        views=(check_view(view),) if view else VIEWS,
        look=_look(pick),
        formats=tuple(pick("formats", ("svg",))),
        index=str(pick("index", "README.md")),
        **picked,
    )
    loaded = load_app(app)
    if outputs == ("-",):
        drawn = _diagram(loaded, options)[0].encoded(kind, animate=options.animate)
        with open_output("-") as file:
            file.write(drawn)
        return
    contents: dict[Path, Content] = {}
    unused: list[Path] = []
    mode: int | None = None
    for output in outputs:
        path = Path(output)
        if _is_folder(output):
            contents |= _gallery(loaded, path, options, check=check)
            unused += _orphaned_files(path / options.index, contents)
        else:
            contents[path], mode = _diagram(loaded, options)
    if check:
        _check(contents, unused, animate=options.animate)
    else:
        _write(contents, unused, mode, animate=options.animate)


def _is_folder(output: str) -> bool:
    return output.endswith(("/", os.sep)) or Path(output).is_dir() or not Path(output).suffix


def _refuse_ignored(outputs: tuple[str, ...], picked: dict[str, Any], *, check: bool) -> None:
    """Refuse options that would have no effect with these outputs.

    *picked* has the values of all other options, by name.
    """
    if "-" in outputs and (len(outputs) > 1 or check or len(picked["formats"]) > 1):
        raise click.UsageError("-o - writes one picture, in one --format, to standard output: use it alone")
    if picked["animate"] and not picked["saga_id"]:
        raise click.UsageError("--animate shows the path of an execution; name the execution with --id")
    if picked["stats"] and (picked["saga_id"] or len(picked["stats"]) > 2):
        raise click.UsageError("--stats draws the steps of a saga, from one or two files; use it without --id")
    if picked["show"] and not picked["stats"]:
        raise click.UsageError("--show selects numbers of a file; name the file with --stats")
    for output in outputs:
        if picked["stats"] and _is_folder(output):
            raise click.UsageError("--stats draws one saga into a file: -o numbers.svg")
        if _is_folder(output) or output == "-":
            continue
        suffix = Path(output).suffix[1:]
        if suffix not in FORMATS:
            raise click.UsageError(f"-o {output}: there is no format {suffix!r}; there are {', '.join(FORMATS)}")
        if picked["formats"]:
            raise click.UsageError(f"--format is for folders; the format of a file is its suffix: -o {output}")


def _diagram(app: App, options: _RenderOptions) -> tuple[Diagram, int | None]:
    """The diagram to draw, and the permissions of its file.

    The diagram shows an execution if the options have an id, else a saga. For a saga, the permissions are None: the
    file gets the usual permissions.
    """
    run: Run | None = None
    mode: int | None = None
    if options.saga_id is None:
        saga = one_saga(app, options.saga)
    else:
        with closing(journal_for(options.journal, app, read_only=True)) as journal:
            entry = execution_in(journal, options.saga_id)
            name, version = entry.acceptance.saga, entry.acceptance.version
            found = [each for saga in app.sagas for each in all_definitions(saga) if each.name == name]
            same = [each for each in found if each.version == version]
            saga = (same or found[-1:] or [one_saga(app, name)])[0]
            run = run_of(journal, entry, functools.partial(hide_texts, redaction()))
            mode = mode_of(journal)
    if options.stats:
        first, *second = (Statistics.from_json(saga, path) for path in options.stats)
        beside = second[0] if second else None
        return first.diagram(options.show or "p95", view=options.views[0], beside=beside, **options.look), mode
    return Diagram(saga, run, view=options.views[0], **options.look), mode


def _gallery(app: App, folder: Path, options: _RenderOptions, *, check: bool) -> dict[Path, Content]:
    """The content of each file in *folder*, by path: one file for each saga, view and format, and the index."""
    if options.saga_id:
        raise DefinitionError("an execution is drawn into a file, not into a folder: -o run.svg")
    for kind in options.formats:
        if kind not in FORMATS:
            raise DefinitionError(f"there is no format {kind!r}; there are {', '.join(FORMATS)}")
        if check and kind not in COMPARED:
            raise DefinitionError(f"a .{kind} cannot be checked; only {', '.join(COMPARED)} can")
    contents: dict[Path, Content] = {}
    lines = [MARK, "", "# Sagas"]
    for name, saga in _titles(app.sagas if options.saga is None else [one_saga(app, options.saga)]):
        diagrams = {view: Diagram(saga, view=STEPS, **options.look).with_(view=view) for view in options.views}
        lines += ["", f"## {name}", "", diagrams[options.views[0]].alt]
        for view, diagram in diagrams.items():
            stem = name if view == options.views[0] else f"{name}-{view}"
            contents |= {folder / f"{stem}.{kind}": diagram for kind in options.formats}
            lines += ["", *_index_lines(diagram, {kind: f"{stem}.{kind}" for kind in options.formats})]
    return {**contents, folder / options.index: "\n".join([*lines, ""])}


def _titles(sagas: Iterable[Saga]) -> Iterator[tuple[str, Saga]]:
    """Yield the name of each saga's files, and the saga. The name has the version if there are several versions."""
    sagas = sorted(sagas, key=lambda saga: (saga.name, saga.version))
    names = [saga.name for saga in sagas]
    for name, saga in zip(names, sagas, strict=True):
        yield (f"{name}-{re.sub(r'[^A-Za-z0-9.]+', '_', saga.version)}" if names.count(name) > 1 else name), saga


def _index_lines(diagram: Diagram, files: dict[str, str]) -> list[str]:
    """The lines of an index for one diagram: its picture, and links to its files in other formats.

    *files* has the name of the file in each format.
    """
    lines = []
    if "svg" in files:
        lines = [f"[![{diagram.alt}]({files['svg']})]({files['svg']})", ""]
    elif "mmd" in files:
        lines = ["```mermaid", diagram.to_mermaid().rstrip("\n"), "```", ""]
    others = " · ".join(f"[{kind}]({file})" for kind, file in files.items() if kind != "svg")
    return [*lines, others] if others else lines[:-1]


def _orphaned_files(index: Path, drawn: Iterable[Path]) -> list[Path]:
    """The existing files to which the index links, except the files in *drawn*. No current saga has such a file."""
    if not index.exists():
        return []
    text = index.read_text(encoding="utf-8")
    if not text.startswith(MARK):
        raise DefinitionError(
            f"{str(index)!r} was not written by this command and is left as it is; "
            f"draw into another folder, or give the index another name with --index"
        )
    linked = {index.parent / name for name in _LINKED.findall(text)} - set(drawn)
    return [path for path in sorted(linked) if path.exists()]


def _write(contents: dict[Path, Content], unused: list[Path], mode: int | None, *, animate: bool) -> None:
    for path, content in contents.items():
        compared = mode is None and path.exists() and path.suffix[1:] in COMPARED
        if compared and not _differences(path, content, animate=animate):
            click.echo(f"{path} is up to date")
            continue
        refuse_journal(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, str):
                path.write_text(content, encoding="utf-8")
            elif mode is None:
                content.render(path, animate=animate and path.suffix == ".svg")
            else:
                with open_output(str(path), mode) as file:
                    content.render(file.name, animate=animate and path.suffix == ".svg")
        except OSError as error:
            raise DefinitionError(f"{str(path)!r} cannot be written: {error.strerror or error}") from error
        click.echo(f"{path} drawn")
    for path in unused:
        path.unlink()
        click.echo(f"{path} removed: no saga draws it now")


def _differences(path: Path, content: Content, *, animate: bool) -> list[str]:
    """The lines of a diff between the file *path* and *content*. Empty if the file is up to date."""
    try:
        if isinstance(content, str):
            return text_difference(path, path.read_text(encoding="utf-8") if path.exists() else "", content)
        return difference(path, content, animate=animate)
    except (OSError, UnicodeDecodeError) as error:
        raise DefinitionError(f"{str(path)!r} cannot be read: {error}") from error


def _check(contents: dict[Path, Content], unused: list[Path], *, animate: bool) -> None:
    lines = [line for path, content in contents.items() for line in _differences(path, content, animate=animate)]
    lines += [f"{path}: no saga draws it now" for path in unused]
    if lines:
        click.echo("\n".join(lines))
        click.echo("stale; to draw again, run the same command without --check", err=True)
        sys.exit(DID_NOT_SUCCEED)
