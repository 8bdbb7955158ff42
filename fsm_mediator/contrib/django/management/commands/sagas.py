"""``manage.py sagas`` runs the commands of ``fsm-mediator`` with the site's mediator, such as ``sagas list``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.management.base import CommandError

from fsm_mediator.contrib.django.helpers import SETTING
from fsm_mediator.errors import MissingExtraError

if TYPE_CHECKING:  # Django has no type annotations
    BaseCommand = object
else:
    from django.core.management.base import BaseCommand

HELP = "Runs a command of fsm-mediator with the mediator of FSM_MEDIATOR_APP: manage.py sagas list. See sagas --help."


class Command(BaseCommand):
    """Passes its arguments to ``fsm-mediator``. The options and the exit codes are the same."""

    help = HELP

    def add_arguments(self, parser: Any) -> None:
        """Declare the arguments that Django's ``call_command`` accepts."""
        parser.add_argument("words", nargs="*")

    def run_from_argv(self, argv: list[str]) -> None:
        """Run ``manage.py sagas ...`` with the arguments of the command line, which ``fsm-mediator`` parses."""
        self.handle(words=argv[2:])

    def handle(self, *_: Any, words: list[str], **__: Any) -> None:
        """Run ``fsm-mediator`` with the arguments *words*."""
        try:
            from fsm_mediator.cli.commands import cli
            from fsm_mediator.cli.options import APP_VARIABLE
        except ImportError as error:
            raise CommandError(str(MissingExtraError("manage.py sagas", "cli"))) from error
        if app := getattr(settings, SETTING, None):
            os.environ.setdefault(APP_VARIABLE, app)
        cli(list(words), prog_name="manage.py sagas")
