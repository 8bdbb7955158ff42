"""``manage.py sagas list``, ``manage.py sagas serve``: the command ``fsm-mediator``, with the site's mediator."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.management.base import CommandError

from fsm_mediator.contrib.django.helpers import SETTING
from fsm_mediator.errors import MissingExtraError

if TYPE_CHECKING:  # Django has no types
    BaseCommand = object
else:
    from django.core.management.base import BaseCommand

HELP = "Runs a command of fsm-mediator with the mediator of FSM_MEDIATOR_APP: manage.py sagas list. See sagas --help."


class Command(BaseCommand):
    """Passes its arguments to ``fsm-mediator``, with the same options and exit codes."""

    help = HELP

    def add_arguments(self, parser: Any) -> None:
        """Declare the arguments that ``call_command`` takes."""
        parser.add_argument("words", nargs="*")

    def run_from_argv(self, argv: list[str]) -> None:
        """Run from the shell. Django does not parse the arguments, because the options belong to ``fsm-mediator``."""
        self.handle(words=argv[2:])

    def handle(self, *_: Any, words: list[str], **__: Any) -> None:
        """Run the ``fsm-mediator`` command in *words*."""
        try:
            from fsm_mediator.cli.commands import cli
            from fsm_mediator.cli.options import APP_VARIABLE
        except ImportError as error:
            raise CommandError(str(MissingExtraError("manage.py sagas", "cli"))) from error
        if app := getattr(settings, SETTING, None):
            os.environ.setdefault(APP_VARIABLE, app)
        cli(list(words), prog_name="manage.py sagas")
