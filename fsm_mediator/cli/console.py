"""The terminal: the output of commands, their exit codes, and the next command that they suggest.

Every command uses these exit codes. `docs/operating.md` explains them.
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
"""Characters that a terminal interprets instead of showing, and characters that cannot be encoded."""


class _Console(Console):
    """A console that wraps and cuts lines only on a terminal. In a pipe or a file a line stays whole."""

    @property  # type: ignore[misc]  # nothing sets it here
    def size(self) -> ConsoleDimensions:
        """The number of columns and lines. Without a terminal, lines are not limited in length."""
        size = super().size
        return size if self.is_terminal else ConsoleDimensions(sys.maxsize, size.height)


out: _Console = _Console()
err: _Console = _Console(stderr=True)


def printable(text: str) -> str:
    """*text* with the characters escaped that a terminal interprets.

    The text may come from a step, a person or a file.
    """
    return _UNPRINTABLE.sub(lambda found: found.group().encode("unicode_escape").decode(), text)


def say(text: str, style: str | None = None, *, to: Console = out) -> None:
    """Print *text* unchanged: no markup, no highlighting, no wrapped lines."""
    to.print(text, style=style, markup=False, highlight=False, soft_wrap=True)


def print_columns(rows: Sequence[Sequence[str]], spare: Sequence[int]) -> None:
    """Print *rows* of markup in columns, one row per line. A row with one cell is printed as it is, below the columns.

    No cell is cut or wrapped. On a terminal that is too narrow, some columns are left out.

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
    """Print *message* as an error, and end with exit code *code*."""
    say(f"fsm-mediator: {printable(message)}", "red", to=err)
    sys.exit(code)


class CommandGroup(click.Group):
    """Reports an error of this library in one line, and ends with the error's exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except MediatorError as error:
            hint = "; see those it knows: fsm-mediator list" if isinstance(error, UnknownExecutionError) else ""
            codes = (code for kind, code in _EXIT_CODES.items() if isinstance(error, kind))
            fail(f"{error}{hint}", next(codes, DID_NOT_SUCCEED))
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise  # the reader has closed the pipe, and click ends without a message
            where = f"{error.filename}: " if error.filename else "it cannot be written: "
            fail(f"{where}{error.strerror or error}", DID_NOT_SUCCEED)


@contextmanager
def progress_bar(
    what: str, *columns: str | ProgressColumn, total: int | None = None
) -> Iterator[Callable[..., object]]:
    """Show progress on a terminal. Yields a function to call after each piece of work, or with the number of pieces."""
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as progress:
        task = progress.add_task(what, total=total)
        yield lambda count=1: progress.advance(task, count)


def next_command(verb: str, *words: str) -> str:
    """A command line to run next: *verb* and *words*, quoted.

    The options --app, --journal and --cipher are repeated.
    """
    options: list[str] = []
    context = click.get_current_context(silent=True)
    if context is not None:
        for flag, name in (("-a", "app"), ("-j", "journal")):
            value = context.params.get(name)
            if value and context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
                options += [flag, without_password(value)]
    if any(word.startswith("-") for word in words):
        options.append("--")  # after it nothing is an option, whatever it begins with
    cipher = context and context.find_root().params.get("cipher")
    is_typed = context is not None and context.find_root().get_parameter_source("cipher") is ParameterSource.COMMANDLINE
    return shlex.join(["fsm-mediator", *(("--cipher", str(cipher)) if is_typed else ()), verb, *options, *words])
