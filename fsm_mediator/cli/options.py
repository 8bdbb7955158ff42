"""The options and arguments that several commands have, and the types and checks of their values."""

from __future__ import annotations

import getpass
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

import click
import msgspec

from fsm_mediator.errors import DefinitionError, PayloadError, RefusedError
from fsm_mediator.mediator.validation import check_listing, check_saga_id

JOURNAL_VARIABLE: Final = "FSM_MEDIATOR_JOURNAL"
APP_VARIABLE: Final = "FSM_MEDIATOR_APP"
ALERT_VARIABLE: Final = "FSM_MEDIATOR_ALERT_URL"
CIPHER_VARIABLE: Final = "FSM_MEDIATOR_CIPHER"
ACTOR_VARIABLE: Final = "FSM_MEDIATOR_ACTOR"
Command = TypeVar("Command", bound=Callable[..., Any])
_SECONDS: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


class Decorator(Protocol):
    """A decorator of commands that keeps the command's type."""

    def __call__(self, command: Command, /) -> Command:
        """Return *command* with the option or the argument of this decorator."""


journal: Decorator = click.option(
    "--journal", "-j", envvar=JOURNAL_VARIABLE, help="The journal's file or URL; env:NAME reads it from a variable."
)
app: Decorator = click.option("--app", "-a", envvar=APP_VARIABLE, help="The object with the sagas: module:object.")
app_for_signals: Decorator = click.option(
    "--app",
    "-a",
    envvar=APP_VARIABLE,
    help="module:object. Shows whether a wait with a time-out is for a signal or is a sleep.",
)
saga_id: Decorator = click.argument("saga_id")
saga_name: Decorator = click.option("--saga", "name", help="Only the saga with this name.")
executions_of: Decorator = click.option("--saga", help="Only executions of the saga with this name.")
output: Decorator = click.option("--output", "-o", default="-", help="A file; - is standard output.")
json_lines: Decorator = click.option("--json", "as_json", is_flag=True, help="Print JSON lines.")
as_json: Decorator = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def _login_name() -> str | None:
    """The login name of the user of this process. None if the user has no name."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # for example, a container can run as a user that has only a number
        return None


actor: Decorator = click.option(
    *("--actor", "actor"),
    envvar=ACTOR_VARIABLE,
    default=_login_name,
    show_default="your login name",
    help="Your name. It is journaled with the reason.",
)


def by_whom(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options --actor, --drive and --timeout of an operator's verb."""
    drives = click.option("--drive", is_flag=True, help="Drive the execution here, with the sagas of --app.")
    waits = click.option(
        "--timeout", type=Duration(), default="30s", show_default=True, help="The maximum wait for the driver's answer."
    )
    return actor(drives(waits(command)))


_APP_OPTION: Final = f"{__name__}.app"


def app_argument(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the argument APP, and the option --app with the same meaning. If both are given, the option is used."""

    def keep(ctx: click.Context, _param: click.Parameter, value: str | None) -> None:
        ctx.meta[_APP_OPTION] = value

    def pick(ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
        return ctx.meta[_APP_OPTION] or value

    argument = click.argument("app", required=False, envvar=APP_VARIABLE, callback=pick)
    option = click.option(
        *("--app", "-a", "app_option"), is_eager=True, expose_value=False, callback=keep, help="The same as APP."
    )
    return argument(option(command))


class Duration(click.ParamType[float]):
    """The type of options that are durations, such as ``90``, ``90s``, ``15m``, ``2h``, ``7d`` or ``4w``.

    The value is a number of seconds. If *unit* is True, a number without a unit is refused.
    """

    name = "duration"

    def __init__(self, *, unit: bool = False) -> None:
        self._unit = unit

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The duration *value* as a number of seconds."""
        if isinstance(value, float):
            return value
        if self._unit and value.strip()[-1:].isdigit():
            self.fail(f"{value!r} has no unit; write {value}s, {value}h or {value}d", param, ctx)
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhdw]?)", value.strip())
        if match is None:
            self.fail(f"{value!r} is no duration; write 90s, 15m, 2h, 7d or 4w", param, ctx)
        return float(match[1]) * _SECONDS[match[2]]


class State(click.ParamType[str]):
    """The type of options that are a state or a phase.

    An unknown phase is refused. Otherwise the result of a mistyped phase would be empty, as if nothing were wrong.
    """

    name = "state"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return *value* if it is a state or a phase."""
        try:
            check_listing(value, None, None)
        except DefinitionError as error:
            self.fail(str(error), param, ctx)
        return str(value)


def checked_id(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    """Return *value* if it is None or can be the id of an execution. Otherwise the command is refused."""
    try:
        if value is not None:
            check_saga_id(value)
    except RefusedError as error:
        raise click.BadParameter(str(error)) from error
    return value


def checked_reason(_ctx: click.Context, _param: click.Parameter, value: str) -> str:
    """Return *value*, a reason, if it is not empty. Otherwise the command is refused."""
    if not value.strip():
        raise click.BadParameter("say how you made sure; the reason is journaled")
    return value


def read_text(value: str) -> str:
    """The text that *value* means: the text of a file for ``@FILE``, standard input for ``-``, else *value* itself."""
    if value != "-" and not value.startswith("@"):
        return value
    where = "standard input" if value == "-" else f"the file {value[1:]!r}"
    try:
        data = sys.stdin.buffer.read() if value == "-" else Path(value[1:]).read_bytes()
        return data.decode("utf-8-sig")
    except OSError as error:
        raise PayloadError(f"{where} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise PayloadError(f"{where} is not UTF-8, as JSON has to be: {error.reason}") from error


def parse_json(text: str, what: str) -> Any:
    """The value of *text*, which is JSON that a person has typed. *what* names the value in error messages."""
    try:
        return msgspec.json.decode(text)
    except RecursionError as error:
        raise PayloadError(f"{what} is nested too deep") from error
    except (msgspec.MsgspecError, UnicodeError) as error:
        shown = text if len(text) <= 60 else f"{text[:60]}..."
        raise PayloadError(f"{what} {shown!r} is not JSON ({error}); a text needs quotes: '\"yes\"'") from error
