"""The commands ``export-machine`` and ``export-shape``, and the output files of all exports.

An output file is written completely or not at all.
"""

from __future__ import annotations

import json
import os
import secrets
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final

import click

from fsm_mediator.cli import options
from fsm_mediator.cli.console import say
from fsm_mediator.cli.loading import load_app
from fsm_mediator.definition.saga import Saga, all_definitions
from fsm_mediator.errors import DefinitionError
from fsm_mediator.exports import to_asl, to_bpmn, to_scxml, to_table, to_tla
from fsm_mediator.journal.protocol import Journal
from fsm_mediator.journal.sqlite.path import owner_if_other
from fsm_mediator.upgrades.shape_files import dump_shapes

_SQLITE: Final = b"SQLite format 3\0"
"""The first bytes of every SQLite file."""


def refuse_journal(path: Path) -> None:
    """Refuse to overwrite a SQLite file, or a file that SQLite keeps beside it, because it may be a journal.

    Raises:
        click.UsageError: *path* is such a file.
    """
    for ending in ("", "-wal", "-shm", "-journal"):
        if path.name.endswith(ending) and _is_sqlite(path.with_name(path.name.removesuffix(ending) or path.name)):
            raise click.UsageError(
                f"{str(path)!r} is a journal, or another SQLite file, and is not overwritten; name another file with -o"
            )


def _is_sqlite(path: Path) -> bool:
    if not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            return file.read(len(_SQLITE)) == _SQLITE
    except OSError:  # the command reports the error when it opens the file for writing
        return False


def mode_of(journal: Journal) -> int:
    """The permissions for a file with contents of *journal*: the permissions of the journal's own file.

    If the journal has no file, only the owner of the new file may read and write it.
    """
    path = Path(getattr(journal, "path", ""))
    return stat.S_IMODE(path.stat().st_mode) & 0o666 if path.is_file() else 0o600


@contextmanager
def open_output(output: str, mode: int | None = None) -> Iterator[BinaryIO]:
    """Open the file named *output* for writing. ``-`` is standard output.

    An existing file is replaced only when the new file is complete.

    *mode* has the permissions of the new file, if the file gets contents of a journal. Then an existing file of another
    user is refused. If *mode* is None, the new file has the permissions of the existing file, or the usual permissions.

    Raises:
        click.UsageError: The file cannot be written, is a journal, or belongs to another user.
    """
    if output == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    path = Path(os.path.realpath(output))  # a link stays: the file to which it leads is replaced
    if path.is_dir():
        raise click.UsageError(f"{output!r} is a folder; name a file with -o")
    refuse_journal(path)
    if mode is not None and not path.is_char_device() and owner_if_other(str(path)) is not None:
        raise click.UsageError(f"{output!r} belongs to another user, who could read it; name another file with -o")
    in_place = path.exists() and not path.is_file()  # a device or a pipe cannot be replaced, so it is written directly
    unfinished = path if in_place else path.with_name(f".{secrets.token_hex(4)}.{path.name}")
    try:
        if mode is not None and not in_place:
            unfinished.touch(0o600, exist_ok=False)
        file = unfinished.open("wb")
    except OSError as error:
        raise click.UsageError(f"{output!r} cannot be written: {error.strerror or error}") from error
    try:
        with file:
            if not in_place and (mode is not None or path.is_file()):
                unfinished.chmod(path.stat().st_mode if mode is None else mode)
            yield file
        if not in_place:
            unfinished.replace(path)
    except BaseException:
        if not in_place:
            with suppress(OSError):
                unfinished.unlink()
        raise


@click.command("export-machine")
@options.app_argument
@click.option(
    "--format",
    "-f",
    "kind",
    type=click.Choice(("scxml", "tla", "json", "bpmn", "asl")),
    required=True,
    help="The format.",
)
@options.saga_name
@click.option(
    *("--output", "-o", "folder"),
    type=click.Path(file_okay=False, path_type=Path),
    help="A folder for one file per saga. Without it, one saga is printed to standard output.",
)
def export_machine(app: str | None, kind: str, name: str | None, folder: Path | None) -> None:
    """Write the machines of APP's sagas for other tools.

    The formats of the machine are SCXML, a table in JSON, and TLA+ (with the laws of `verify` as invariants, and a
    configuration for TLC). The steps can be written as a BPMN process, or as a state machine of AWS Step Functions.
    """
    sagas = load_app(app).sagas_named(name)
    if folder is None or str(folder) == "-":
        if len(sagas) > 1:
            raise DefinitionError(
                f"the app has {len(sagas)} sagas ({', '.join(saga.name for saga in sagas)}); name one saga with "
                f"--saga, or a folder for all sagas with -o"
            )
        with open_output("-") as standard:
            standard.write(next(text for _, text in _machine_files(sagas[0], kind)).encode())
        return
    folder.mkdir(parents=True, exist_ok=True)
    latest = {saga.name: saga for saga in sagas}  # the last version of each saga, as for new executions
    for saga in (member for each in latest.values() for member in all_definitions(each)):
        for file, text in _machine_files(saga, kind):
            (folder / file).write_text(text, encoding="utf-8")
            say(f"written: {folder / file}")


def _machine_files(saga: Saga, kind: str) -> Iterator[tuple[str, str]]:
    """Yield the name and the text of each file that shows *saga* in the format *kind*."""
    stem = saga.name.replace("/", ".").replace("*", "each")  # a name can contain both
    if kind == "tla":
        module = to_tla(saga)
        yield f"{module.name}.tla", module.text
        yield f"{module.name}.cfg", module.config
    elif kind == "scxml":
        yield f"{stem}.scxml", to_scxml(saga)
    elif kind == "bpmn":
        yield f"{stem}.bpmn", to_bpmn(saga)
    elif kind == "asl":
        yield f"{stem}.asl.json", json.dumps(to_asl(saga), indent=2) + "\n"
    else:
        yield f"{stem}.json", json.dumps(to_table(saga), indent=2) + "\n"


@click.command("export-shape")
@options.app_argument
@options.output
def export_shape(app: str | None, output: str) -> None:
    """Write the shapes of APP's sagas for `compare`.

    The file contains the data from which the machines are made, and no code. Keep the file of the deployed version,
    because CI cannot import the old code.
    """
    text = dump_shapes(load_app(app).sagas) + "\n"
    with open_output(output) as file:
        file.write(text.encode())


COMMANDS = (export_machine, export_shape)
"""The commands of this module, which the command group adds."""
