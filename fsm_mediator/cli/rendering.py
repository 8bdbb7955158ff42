"""Rendering from the command line: a saga or a run into a file, all sagas into a folder; and whether they are fresh.

What a picture shows is not decided here, only what is drawn where.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

import attrs

from fsm_mediator.cli.files import refuse_journal
from fsm_mediator.cli.loading import App, execution_in
from fsm_mediator.definition.saga import Saga
from fsm_mediator.diagram import Diagram
from fsm_mediator.diagram.history import Run
from fsm_mediator.diagram.staleness import COMPARED, difference, text_difference
from fsm_mediator.errors import DefinitionError, UnknownSagaError
from fsm_mediator.journal.protocol import Journal
from fsm_mediator.mediator.diagrams import run_of

SHOWN: Final = ("svg", "mmd")
"""The formats that an index can show; the best first."""

MARK: Final = "<!-- Written by fsm-mediator render: what you change here is written over. -->"
"""The first line of every index of ours; a file without it is somebody's own, and never touched."""

_NAMED: Final = re.compile(r"\]\(([\w.-]+)\)")


@attrs.frozen
class Page:
    """A file that is not drawn but written: the index of a folder, or a Markdown page."""

    text: str


def one_saga(app: App, name: str | None, version: str | None = None) -> Saga:
    """The saga of that name (and version), or the only one there is.

    Raises:
        UnknownSagaError: There is none.
        DefinitionError: There are several, and none is named.
    """
    known = ", ".join(sorted({saga.name for saga in app.sagas}))
    if name is None:
        if len(app.sagas) > 1:
            raise DefinitionError(
                f"which of the sagas {known}? Name it with --saga, or draw all of them with -o into a folder"
            )
        return app.sagas[0]
    found = [saga for saga in app.sagas if saga.name == name]
    if not found:
        raise UnknownSagaError(f"the app has no saga {name!r}; it has {known}")
    return next((saga for saga in found if saga.version == version), found[-1])


def saga_of_run(app: App, journal: Journal, saga_id: str) -> tuple[Saga, Run]:
    """An execution as the journal knows it, and its definition.

    Raises:
        UnknownExecutionError: The journal knows no execution with this id.
        UnknownSagaError: The app does not have its saga.
    """
    entry = execution_in(journal, saga_id)
    accepted = entry.acceptance
    saga = next((each for each in _branches(app.sagas) if each.name == accepted.saga), None)
    saga = saga or one_saga(app, accepted.saga, accepted.version)
    return saga, run_of(journal, entry)


def _branches(sagas: Iterable[Saga]) -> Iterator[Saga]:
    """The sagas that the groups and choices of *sagas* run: their executions have ids of their own."""
    for saga in sagas:
        for branches in saga.branches.values():
            yield from branches.values()
            yield from _branches(branches.values())


def gallery(
    sagas: Sequence[Saga], folder: Path, *, views: Sequence[str], theme: str, formats: Sequence[str], index: str
) -> Iterator[tuple[Path, Diagram | Page]]:
    """What a folder with all of *sagas* is to hold: a file for each saga, view and format, and the index."""
    lines = [MARK, "", "# Sagas"]
    for name, saga in _named(sagas):
        diagrams = {view: Diagram(saga, view=view, theme=theme) for view in views}
        files = {view: {kind: _file(name, view, views, kind) for kind in formats} for view in views}
        for view, diagram in diagrams.items():
            yield from ((folder / file, diagram) for file in files[view].values())
        lines += ["", f"## {name}", "", diagrams[views[0]].alt]
        for view, diagram in diagrams.items():
            lines += ["", *_shown(diagram, files[view])]
    yield folder / index, Page("\n".join([*lines, ""]))


def _named(sagas: Iterable[Saga]) -> Iterator[tuple[str, Saga]]:
    """Each saga by its name; of several versions of one name, by name and version."""
    sagas = list(sagas)
    for saga in sorted(sagas, key=lambda saga: (saga.name, saga.version)):
        several = sum(each.name == saga.name for each in sagas) > 1
        yield (f"{saga.name}-{re.sub(r'[^A-Za-z0-9.]+', '_', saga.version)}" if several else saga.name), saga


def _file(name: str, view: str, views: Sequence[str], kind: str) -> str:
    return f"{name}{'' if view == views[0] else f'-{view}'}.{kind}"


def _shown(diagram: Diagram, files: dict[str, str]) -> list[str]:
    """A picture in an index, and links to its other formats."""
    kind = next((each for each in SHOWN if each in files), None)
    lines = []
    if kind == "svg":
        lines.append(f"[![{diagram.alt}]({files[kind]})]({files[kind]})")
    elif kind == "mmd":
        lines += ["```mermaid", diagram.to_mermaid().rstrip("\n"), "```"]
    others = " · ".join(f"[{each}]({file})" for each, file in files.items() if each != "svg")
    return [*lines, "", others] if lines and others else [*lines, others] if others else lines


def no_longer_named(index: Path, files: Iterable[Path]) -> list[Path]:
    """What the index of a folder named when it was written, and is not drawn any more.

    Raises:
        DefinitionError: There is a file of that name which is no index of ours.
    """
    if not index.exists():
        return []
    text = index.read_text(encoding="utf-8")
    if not text.startswith(MARK):
        raise DefinitionError(
            f"{str(index)!r} was not written by this command and is left as it is; "
            f"draw into another folder, or give the index another name with --index"
        )
    drawn = set(files)
    named = sorted({index.parent / name for name in _NAMED.findall(text)})
    return [path for path in named if path not in drawn and path.exists()]


def write(path: Path, what: Diagram | Page, *, animate: bool = False) -> None:
    """Write one file, and the folders it is in.

    Raises:
        DefinitionError: Its format is unknown, or it cannot be written there.
    """
    refuse_journal(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(what, Page):
            path.write_text(what.text, encoding="utf-8")
        else:
            what.render(path, animate=animate)
    except OSError as error:
        raise DefinitionError(f"{str(path)!r} cannot be written: {error.strerror or error}") from error


def stale(path: Path, what: Diagram | Page, *, animate: bool = False) -> list[str]:
    """What differs between a file and what it should be, as the lines of a diff; empty where it is fresh.

    Raises:
        DefinitionError: Its format cannot be compared, or it cannot be read.
    """
    try:
        if isinstance(what, Page):
            return text_difference(path, path.read_text(encoding="utf-8") if path.exists() else "", what.text)
        return difference(path, what, animate=animate)
    except (OSError, UnicodeDecodeError) as error:
        raise DefinitionError(f"{str(path)!r} cannot be read: {error}") from error


def check_formats(formats: Iterable[str], *, known: Sequence[str], checked: bool) -> None:
    """Hold the formats of a folder against what there is.

    Raises:
        DefinitionError: One is unknown, or cannot be compared though it is to be.
    """
    for kind in formats:
        if kind not in known:
            raise DefinitionError(f"there is no format {kind!r}; there are {', '.join(known)}")
        if checked and kind not in COMPARED:
            raise DefinitionError(f"a .{kind} cannot be checked; only {', '.join(COMPARED)} can")
