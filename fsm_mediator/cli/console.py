"""The terminal: the output and the exit codes of all commands, and the next command that an output suggests.

`docs/operating.md` explains the exit codes.
"""

from __future__ import annotations

import errno
import re
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, NoReturn

import click
from click.core import ParameterSource
from rich.console import Console, ConsoleDimensions
from rich.progress import Progress, ProgressColumn
from rich.text import Text

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
from fsm_mediator.journal.factory import without_password

DID_NOT_SUCCEED: Final = 1
USAGE: Final = 2
NOT_FOUND: Final = 3
REFUSED: Final = 4
JOURNAL: Final = 5
APP: Final = 6
MISSING: Final = 7

_EXIT_CODES: Final = {
    UnknownExecutionError: NOT_FOUND,
    RefusedError: REFUSED,
    MissingExtraError: MISSING,
    DefinitionError: APP,
    DefinitionChangedError: APP,
    UnknownSagaError: APP,
    PayloadError: USAGE,
    JournalError: JOURNAL,
}

_UNPRINTABLE: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
"""A pattern for characters that a terminal interprets and does not show, and for characters that have no encoding."""


class _Console(Console):
    """A console that wraps and cuts lines only on a terminal. In a pipe or a file, lines keep their full length."""

    @property  # type: ignore[misc]  # nothing sets it here
    def size(self) -> ConsoleDimensions:
        """The number of columns and lines. If the output is not a terminal, the number of columns has no limit."""
        size = super().size
        return size if self.is_terminal else ConsoleDimensions(sys.maxsize, size.height)


out: _Console = _Console()
err: _Console = _Console(stderr=True)


def printable(text: str) -> str:
    """*text* with an escape for each character that a terminal would interpret.

    The texts of steps, of people and of files can have such characters.
    """
    return _UNPRINTABLE.sub(lambda found: found.group().encode("unicode_escape").decode(), text)


def say(text: str, style: str | None = None, *, to: Console = out) -> None:
    """Print *text* as it is, without markup, highlighting or wrapped lines."""
    to.print(text, style=style, markup=False, highlight=False, soft_wrap=True)


def print_columns(rows: Sequence[Sequence[str]], spare: Sequence[int]) -> None:
    """Print *rows* in columns, one row per line. The cells are texts with markup.

    No cell is cut or wrapped. If the terminal is too narrow, some columns are left out. A row with only one cell is
    printed as a line that ignores the columns.

    Args:
        rows: The header, then the other rows.
        spare: The columns that may be left out. The first one is left out first.
    """
    texts = [[Text.from_markup(cell) for cell in row] for row in rows]
    columns = (row for row in texts if row[1:])
    widths = [max(cell.cell_len for cell in column) + 2 for column in zip(*columns, strict=True)]
    kept = list(range(len(widths)))
    for column in spare:
        if column in kept and sum(widths[each] for each in kept) - 2 > out.width:
            kept.remove(column)
    for row in texts:
        line = row[0] if not row[1:] else Text()
        for column in kept if row[1:] else ():
            line.append_text(row[column])
            line.pad_right(widths[column] - row[column].cell_len)
        line.rstrip()
        out.print(line, soft_wrap=True, highlight=False)


def fail(message: str, code: int) -> NoReturn:
    """Print *message* as an error, and end the process with the exit code *code*."""
    say(f"fsm-mediator: {printable(message)}", "red", to=err)
    sys.exit(code)


class CommandGroup(click.Group):
    """The group of all commands. If a command raises an error of this library, one line and an exit code report it."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command in *ctx*, and report its errors."""
        try:
            return super().invoke(ctx)
        except MediatorError as error:
            hint = "; see those it knows: fsm-mediator list" if isinstance(error, UnknownExecutionError) else ""
            codes = (code for kind, code in _EXIT_CODES.items() if isinstance(error, kind))
            fail(f"{error}{hint}", next(codes, DID_NOT_SUCCEED))
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise  # the program that reads the output has ended. Click then ends without a message
            where = f"{error.filename}: " if error.filename else "it cannot be written: "
            fail(f"{where}{error.strerror or error}", DID_NOT_SUCCEED)


@contextmanager
def progress_bar(
    what: str, *columns: str | ProgressColumn, total: int | None = None
) -> Iterator[Callable[..., object]]:
    """Show a progress bar on a terminal. Yields a function that moves the bar by 1, or by its argument."""
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as progress:
        task = progress.add_task(what, total=total)
        yield lambda count=1: progress.advance(task, count)


def next_command(verb: str, *words: str) -> str:
    """The text of a command line for the user to run next: *verb* and *words*, quoted for the shell.

    It repeats the options --app, --journal and --cipher of the current command.
    """
    options: list[str] = []
    context = click.get_current_context(silent=True)
    if context is not None:
        for flag, name in (("-a", "app"), ("-j", "journal")):
            value = context.params.get(name)
            if value and context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
                options += [flag, without_password(value)]
    if any(word.startswith("-") for word in words):
        options.append("--")  # words after "--" are never options
    cipher = context and context.find_root().params.get("cipher")
    is_typed = context is not None and context.find_root().get_parameter_source("cipher") is ParameterSource.COMMANDLINE
    return shlex.join(["fsm-mediator", *(("--cipher", str(cipher)) if is_typed else ()), verb, *options, *words])
