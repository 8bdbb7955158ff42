"""Notifications: checks the observers of a mediator, and reports records to them."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING

from fsm_mediator.errors import DefinitionError
from fsm_mediator.mediator.active import ActiveExecution
from fsm_mediator.records import Record

if TYPE_CHECKING:
    from fsm_mediator.observe.observers import Observer

logger: logging.Logger = logging.getLogger("fsm_mediator")


def checked_observers(observers: Iterable[Observer]) -> tuple[Observer, ...]:
    """Return *observers* as a tuple, after a check that each can be called with a record.

    Raises:
        DefinitionError: An observer cannot be called, is a class, or is a coroutine function.
    """
    observers = tuple(observers)
    for observer in observers:
        if not callable(observer):
            raise DefinitionError(f"an observer is a callable that takes a Record, not {observer!r}")
        if isinstance(observer, type):
            raise DefinitionError(f"observer {observer!r} is a class; give an instance: {observer.__name__}(...)")
        if any(map(inspect.iscoroutinefunction, (observer, getattr(type(observer), "__call__", None)))):  # noqa: B004
            raise DefinitionError(
                f"observer {observer!r} is a coroutine function, and observers are not awaited; make it a plain "
                f"function that hands the record on"
            )
    return observers


def report(observers: tuple[Observer, ...], active: ActiveExecution, records: Iterable[Record]) -> None:
    """Call each observer with each record, in order. If an observer raises, this is logged once per execution."""
    for record in records:
        for number, observer in enumerate(observers):
            try:
                observer(record)
            except Exception:
                if number not in active.failed_observers:
                    active.failed_observers |= {number}
                    logger.exception(
                        "observer %r raised at record %s of execution %r; the saga goes on",
                        *(observer, record.seq, record.saga_id),
                    )
