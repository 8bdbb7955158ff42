"""What a person gives to a command: durations, states, ids, reasons, JSON. It means something, or is refused here."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
import msgspec

from fsm_mediator.cli import tables
from fsm_mediator.errors import DefinitionError, PayloadError, RefusedError
from fsm_mediator.mediator.validation import check_listing, check_saga_id


class Duration(click.ParamType[float]):
    """Seconds, as ``15m`` or ``7d``; *unit*: to be said, for what cannot be taken back must not be misunderstood."""

    name = "duration"

    def __init__(self, *, unit: bool = False) -> None:
        self._unit = unit

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """What *value* means."""
        if isinstance(value, float):
            return value
        if self._unit and value.strip()[-1:].isdigit():
            self.fail(f"{value!r} says no unit; write {value}s, {value}h or {value}d", param, ctx)
        try:
            return tables.duration(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def an_id(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    """An id that an execution can have."""
    try:
        if value is not None:
            check_saga_id(value)
    except RefusedError as error:
        raise click.BadParameter(str(error)) from error
    return value


def a_reason(_ctx: click.Context, _param: click.Parameter, value: str) -> str:
    """A reason that says something."""
    if not value.strip():
        raise click.BadParameter("say in words how you made sure; it is journaled")
    return value


class State(click.ParamType[str]):
    """A state or a phase; what begins with no phase there is would match nothing, and seem to say that all is well."""

    name = "state"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """What *value* means."""
        try:
            check_listing(value, None, None)
        except DefinitionError as error:
            self.fail(str(error), param, ctx)
        return str(value)


def text_of(given: str) -> str:
    """What is given: itself, the text of ``@FILE``, or for ``-`` standard input."""
    if given != "-" and not given.startswith("@"):
        return given
    where = "standard input" if given == "-" else f"the file {given[1:]!r}"
    try:
        data = sys.stdin.buffer.read() if given == "-" else Path(given[1:]).read_bytes()
        return data.decode("utf-8-sig")
    except OSError as error:
        raise PayloadError(f"{where} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise PayloadError(f"{where} is not UTF-8, as JSON has to be: {error.reason}") from error


def json_of(text: str, what: str) -> Any:
    """The value that a person has written as JSON."""
    try:
        return msgspec.json.decode(text)
    except RecursionError as error:
        raise PayloadError(f"{what} is nested too deep") from error
    except (msgspec.MsgspecError, UnicodeError) as error:
        shown = text if len(text) <= 60 else f"{text[:60]}..."
        raise PayloadError(f"{what} {shown!r} is not JSON ({error}); a text needs quotes: '\"yes\"'") from error
