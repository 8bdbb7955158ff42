"""Files that commands write: each as a whole or not at all, and never over a journal."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final

import click

_SQLITE: Final = b"SQLite format 3\0"
"""What every SQLite file begins with."""

_BESIDE: Final = ("", "-wal", "-shm", "-journal")
"""The endings of the files that belong to a SQLite file."""


def refuse_journal(path: Path) -> None:
    """Refuse to write over a journal, which holds what nothing else knows.

    Raises:
        click.UsageError: *path* is a SQLite file, or one that belongs to it.
    """
    for ending in _BESIDE:
        if path.name.endswith(ending):
            of = path.with_name(path.name.removesuffix(ending)) if ending else path
            if _is_sqlite(of):
                raise click.UsageError(
                    f"{str(path)!r} is a journal, or another SQLite file, and is not written over; name another with -o"
                )


def _is_sqlite(path: Path) -> bool:
    if not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            return file.read(len(_SQLITE)) == _SQLITE
    except OSError:  # whoever may not read it may not write it either, and is told so then
        return False


@contextmanager
def written(output: str) -> Iterator[BinaryIO]:
    """The file named *output* to write to; ``-`` is standard output. What is there stays until the new one is whole.

    Raises:
        click.UsageError: There can be no file, or it is a journal.
    """
    path = Path(os.path.realpath(output))  # of a link, what it leads to is written
    if output == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    if path.exists() and not path.is_file() and not path.is_dir():  # a device, a pipe
        with _opened(path, output) as file:
            yield file
        return
    refuse_journal(path)
    if path.is_dir():
        raise click.UsageError(f"{output!r} is a folder; name a file with -o")
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with _opened(unfinished, output) as file:
            if path.exists():
                unfinished.chmod(path.stat().st_mode)
            yield file
        unfinished.replace(path)
    except BaseException:
        with suppress(OSError):
            unfinished.unlink()
        raise


def _opened(path: Path, output: str) -> BinaryIO:
    try:
        return path.open("wb")
    except OSError as error:
        raise click.UsageError(f"{output!r} cannot be written: {error.strerror or error}") from error
