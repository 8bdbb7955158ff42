"""The terminal: where commands print, the exit codes they end with, and the next command that they suggest.

Every command keeps to these exit codes; `docs/operating.md` explains them.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, NoReturn

import click
from click.core import ParameterSource
from rich.console import Console
from rich.progress import Progress, ProgressColumn

DID_NOT_SUCCEED: Final = 1
USAGE: Final = 2
NOT_FOUND: Final = 3
REFUSED: Final = 4
JOURNAL: Final = 5
APP: Final = 6
MISSING: Final = 7

_UNPRINTABLE: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
"""Characters that a terminal obeys instead of showing them, or that cannot be written at all."""

out = Console()
err = Console(stderr=True)


def printable(text: str) -> str:
    """*text*, from a step, a person or a file, with the characters escaped that a terminal obeys."""
    return _UNPRINTABLE.sub(lambda found: found.group().encode("unicode_escape").decode(), text)


def say(text: str, style: str | None = None, *, to: Console = out) -> None:
    """Print *text* unchanged: no markup, no highlighting, no line broken."""
    to.print(text, style=style, markup=False, highlight=False, soft_wrap=True)


def fail(message: str, code: int) -> NoReturn:
    """Print *message* as an error, and end with exit code *code*."""
    say(f"fsm-mediator: {printable(message)}", "red", to=err)
    sys.exit(code)


@contextmanager
def progress_bar(
    what: str, *columns: str | ProgressColumn, total: int | None = None
) -> Iterator[Callable[..., object]]:
    """Show progress on a terminal; yields a function to call after each piece of the work, or with their number."""
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as progress:
        task = progress.add_task(what, total=total)
        yield lambda count=1: progress.advance(task, count)


def next_command(verb: str, *words: str) -> str:
    """The command *verb* with *words*, quoted, with the options --app and --journal that this command was given."""
    options: list[str] = []
    context = click.get_current_context(silent=True)
    if context is not None:
        for flag, name in (("-a", "app"), ("-j", "journal")):
            value = context.params.get(name)
            if value and context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
                options += [flag, value]
    if any(word.startswith("-") for word in words):
        options.append("--")  # after it nothing is an option, whatever it begins with
    return shlex.join(["fsm-mediator", verb, *options, *words])
