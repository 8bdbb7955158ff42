"""The option --where, which selects executions."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final

import click

from fsm_mediator.cli.options import Decorator, Duration
from fsm_mediator.errors import DefinitionError, PayloadError
from fsm_mediator.journal.attributes import scalar_of
from fsm_mediator.journal.finding import Filter
from fsm_mediator.mediator.finding import filter_of

TEXTS: Final = ("saga", "version", "error", "step", "parent", "text")
TIMES: Final = ("since", "until")

where: Decorator = click.option(
    *("--where", "-w", "words"),
    multiple=True,
    help="Only executions that match: 'saga=order error=ConnectionError state=failed,stuck since=2h @tenant=acme'. "
    f"Names: {', '.join(TEXTS)}, state, {', '.join(TIMES)}, and @ for attributes.",
)


def parse_where(words: Iterable[str], **more: Any) -> Filter:
    """The filter that *words*, the texts of --where, and *more*, the values of other options, describe together.

    If --where and another option set the same field, the other option counts.

    Raises:
        click.BadParameter: A text is not NAME=VALUE, or names no field.
    """
    asked: dict[str, Any] = {"attributes": {}}
    for word in (word for text in words for word in _split(text)):
        name, is_pair, value = word.partition("=")
        if not is_pair:
            raise click.BadParameter(
                f"--where: {word!r} has no form name=value; a value with spaces needs quotes: text='a b'"
            )
        if name.startswith("@"):
            asked["attributes"][name[1:]] = scalar_of(value)
        elif name == "state":
            asked["state"] = tuple(value.split(","))
        elif name in TIMES:
            asked[name] = _time(name, value)
        elif name in TEXTS:
            asked[name] = value
        else:
            known = ", ".join((*TEXTS, "state", *TIMES))
            raise click.BadParameter(f"--where: there is no {name!r}; there are {known}, and @NAME for an attribute")
    asked |= {name: value for name, value in more.items() if value is not None}
    try:
        return filter_of(**asked)
    except (DefinitionError, PayloadError) as error:
        raise click.BadParameter(str(error)) from error


def _split(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise click.BadParameter(f"--where {text!r}: {error}") from error


def _time(name: str, text: str) -> float:
    """The time in *text*, in seconds since the epoch.

    *text* is a time before now, such as ``2h``, or a date, such as ``2026-11-29T10:00``.
    """
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        pass
    try:
        return time.time() - Duration(unit=True).convert(text, None, None)
    except click.BadParameter as error:
        raise click.BadParameter(
            f"--where {name}={text}: give 15m, 2h or 7d ago, or a date: 2026-11-29T10:00"
        ) from error
