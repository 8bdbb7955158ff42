"""The command line, for operators; ``fsm-mediator --help`` lists its commands."""

from __future__ import annotations

from fsm_mediator.errors import MissingExtraError


def main() -> None:
    """The entry point of the command ``fsm-mediator``."""
    try:
        import click  # noqa: F401
        import rich  # noqa: F401
    except ImportError as error:
        raise SystemExit(f"fsm-mediator: {MissingExtraError('the command line', 'cli')}") from error
    from fsm_mediator.cli.commands import cli

    cli(prog_name="fsm-mediator")
