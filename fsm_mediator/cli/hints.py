"""What a person can type next: a command that can be pasted as it stands."""

from __future__ import annotations

import shlex

import click
from click.core import ParameterSource


def command(verb: str, *words: str) -> str:
    """The command *verb* with *words*, quoted, and with the options by which this command found app and journal."""
    options: list[str] = []
    context = click.get_current_context(silent=True)
    if context is not None:
        for flag, name in (("-a", "app"), ("-j", "journal")):
            given = context.params.get(name)
            if given and context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
                options += [flag, given]
    if any(word.startswith("-") for word in words):
        options.append("--")  # from here on nothing is an option, whatever it begins with
    return shlex.join(["fsm-mediator", verb, *options, *words])
