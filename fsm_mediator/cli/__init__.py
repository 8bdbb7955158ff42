"""The command line for operators. ``fsm-mediator --help`` lists the commands."""

from __future__ import annotations

import io
import sys

from fsm_mediator.errors import MissingExtraError


def main() -> None:
    """The entry point of the command ``fsm-mediator``."""
    try:
        import click  # noqa: F401
        import rich  # noqa: F401
    except ImportError as error:
        raise SystemExit(f"fsm-mediator: {MissingExtraError('the command line', 'cli')}") from error
    from fsm_mediator.cli.commands import cli

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a character that the encoding cannot write becomes an escape
            stream.reconfigure(errors="backslashreplace")
    cli(prog_name="fsm-mediator")
