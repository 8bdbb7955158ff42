"""Making: makes the driver of a mediator. Hooks and notices are only loaded if the mediator has any."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from fsm_mediator.error_types import safe_repr
from fsm_mediator.errors import DefinitionError
from fsm_mediator.mediator.driving import ExecutionDriver

if TYPE_CHECKING:
    from fsm_mediator.mediator.around import Hook
    from fsm_mediator.observe.observers import Observer


def make_driver(
    around: Iterable[Hook], *arguments: Any, observers: Iterable[Observer], **settings: Any
) -> ExecutionDriver:
    """An `AroundDriver` if there are hooks, or observers that take notices. Otherwise an `ExecutionDriver`.

    Raises:
        DefinitionError: *around* is not a list, or has an element that is not a hook.
    """
    if not isinstance(around, Iterable):
        raise DefinitionError(f"around is a list of functions that return a context manager, not {safe_repr(around)}")
    hooks, observers = tuple(around), tuple(observers)
    if hooks or any(hasattr(each, "notice") for each in observers):
        from fsm_mediator.mediator.around import AroundDriver  # loaded when it is used

        return AroundDriver(*arguments, around=hooks, observers=observers, **settings)
    return ExecutionDriver(*arguments, observers=observers, **settings)
