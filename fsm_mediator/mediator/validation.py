"""Validation: refuses wrong arguments of both mediators before anything is done."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

from fsm_mediator.error_types import safe_repr
from fsm_mediator.errors import DefinitionError, InvalidSagaIdError, RefusedError, UnknownExecutionError
from fsm_mediator.retry import check_wait, takes_number
from fsm_mediator.states import PHASES, UNDRIVABLE, phase_of


def check_settings(
    *, max_workers: Any, max_recoveries: Any, close_grace: Any, observers: Any, **functions: Any
) -> None:
    """Refuse wrong settings of a mediator now, because otherwise they would fail only during an execution.

    *functions* has, by name, the settings that must be functions or None.

    Raises:
        DefinitionError: A setting is wrong. The message names the setting and the accepted values.
    """
    for name, number in (("max_workers", max_workers), ("max_recoveries", max_recoveries)):
        if type(number) is not int or number < 1:
            raise DefinitionError(f"{name} must be a whole number of at least 1, not {safe_repr(number)}")
    check_wait("close_grace", close_grace)
    if not isinstance(observers, Iterable):
        raise DefinitionError(f"observers is a list of callables that take a Record, not {safe_repr(observers)}")
    for name, function in functions.items():
        if function is not None and not callable(function):
            raise DefinitionError(f"{name} must be a function, not {safe_repr(function)}")


def checked_relays(relays: Any, retention: Any = None) -> tuple[Any, ...]:
    """The relays of a mediator, including its retention.

    Raises:
        DefinitionError: A relay has no `pass_on`, or the retention cannot be used.
    """
    if retention is not None:
        from fsm_mediator.journal.retention import Retention  # imports asyncio, which takes time

        relays = (*relays, retention if isinstance(retention, Retention) else Retention(retention))
    for relay in relays:
        if not callable(getattr(relay, "pass_on", None)):
            raise DefinitionError(f"relays is a list of Transactions, or of others with pass_on(), not {relay!r}")
    return tuple(relays)


def check_not_coroutine(sleep: Any) -> None:
    """Refuse a *sleep* that would never be awaited.

    Raises:
        DefinitionError: *sleep* is a coroutine function.
    """
    if inspect.iscoroutinefunction(sleep):
        raise DefinitionError(
            f"sleep={safe_repr(sleep)} is a coroutine function, which Mediator cannot await; use a plain one"
        )


def check_blocking(connection: Any) -> None:
    """Refuse an asynchronous connection, because a `Mediator` cannot await its answers.

    Raises:
        DefinitionError: The connection is asynchronous.
    """
    if inspect.iscoroutinefunction(getattr(connection, "execute", None)):
        raise DefinitionError(
            f"connection= is a {type(connection).__name__}, which Mediator cannot await; use AsyncMediator, or a "
            f"psycopg.Connection"
        )


def check_seconds(what: str, seconds: Any) -> None:
    """Refuse any value that is not a finite number of seconds. A negative number counts as no time left.

    Raises:
        DefinitionError: *seconds* is not a finite number, or is more than this system can wait.
    """
    if not takes_number(seconds):
        raise DefinitionError(f"{what} must be a finite number, not {safe_repr(seconds)}")
    check_wait(what, max(0.0, seconds))


def check_id_argument(saga_id: Any, reason: Any = None, actor: Any = None) -> None:
    """Refuse an id, a reason or an actor that is not a text.

    Raises:
        UnknownExecutionError: The id is not a text, but for example an `Outcome` or an `Entry`.
        RefusedError: The reason or the actor is not a text.
    """
    if not isinstance(saga_id, str):
        raise UnknownExecutionError(f"the id of an execution must be a text, not {safe_repr(saga_id)}")
    if reason is not None and not isinstance(reason, str):
        raise RefusedError(f"a reason must be a text; {safe_repr(reason)} is no text")
    if actor is not None and not isinstance(actor, str):
        raise RefusedError(f"actor= must be a name, a text; {safe_repr(actor)} is no text")


def check_listing(state: Any, saga: Any, limit: Any) -> None:
    """Refuse a filter that can match nothing, because an empty list would look as if there were no problems.

    Raises:
        DefinitionError: There is no such state, or an argument has the wrong type.
    """
    if state is not None and (not isinstance(state, str) or phase_of(state) not in (*PHASES, UNDRIVABLE)):
        raise DefinitionError(
            f"state={safe_repr(state)} is no state. A state is, or begins with, one of {', '.join(PHASES)}. "
            f"{UNDRIVABLE!r} selects executions that no living driver can drive"
        )
    if saga is not None and not isinstance(saga, str):
        raise DefinitionError(
            f"saga={safe_repr(saga)} must be the name of a saga, a text: saga={getattr(saga, 'name', '...')!r}"
        )
    if limit is not None and (type(limit) is not int or limit < 0):
        raise DefinitionError(f"limit={safe_repr(limit)} must be a whole number of at least 0, or None for no limit")


def is_instance(value: Any, type: type) -> bool:
    """Whether *value* is an instance of *type*. True if this cannot be checked."""
    try:
        return isinstance(value, type) or (type is float and isinstance(value, int))
    except TypeError:  # a TypedDict or a protocol. The value is not encoded, so it does not change
        return True


def check_saga_id(saga_id: Any) -> None:
    """Refuse an id that could be confused with another id in a journal, in a group or in a shell.

    Raises:
        InvalidSagaIdError: The id is not allowed. The message names the reserved characters.
    """
    if (
        not isinstance(saga_id, str)
        or not 0 < len(saga_id) <= 255
        or "/" in saga_id
        or ":" in saga_id
        or not saga_id.isprintable()
        or saga_id != saga_id.strip()
    ):
        raise InvalidSagaIdError(
            f"{safe_repr(saga_id)} cannot be a saga_id: it must be a text of 1 to 255 printable characters, without "
            f"'/' and ':', and without space around it. These two characters mark branches and the parts of a key"
        )
