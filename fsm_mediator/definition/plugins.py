"""Steps from other distributions, found by name in the entry-point group ``fsm_mediator.steps``.

With `load_step`, a saga can be made from configuration, without imports of its participants. A distribution registers a
step in its ``pyproject.toml``::

    [project.entry-points."fsm_mediator.steps"]
    "billing.charge" = "acme_billing.steps:ChargeStep"
"""

from __future__ import annotations

from typing import Any

from fsm_mediator.definition.saga import Saga
from fsm_mediator.definition.steps import Step
from fsm_mediator.error_types import DefinitionError

GROUP = "fsm_mediator.steps"


def load_step(name: str, /, *arguments: Any, **settings: Any) -> Step | Saga:
    """The step (or saga) that a distribution has registered as *name*.

    Args:
        name: The name that the distribution registered, such as ``billing.charge``.
        *arguments: Arguments for the registered object, if it is a step class or another callable that returns a step.
        **settings: Keyword arguments for this class or callable.

    Raises:
        DefinitionError: No distribution or more than one distribution registers the name, the object cannot be
            imported, or it is not a step.
    """
    from importlib import metadata  # imported here, because it takes longer to load than all of fsm_mediator

    found = list(metadata.entry_points(group=GROUP, name=name))
    if not found:
        known = ", ".join(registered_steps()) or "none at all"
        raise DefinitionError(
            f"no installed distribution registers a step {name!r} under {GROUP!r}; registered: {known}"
        )
    if len({point.value for point in found}) > 1:
        sources = ", ".join(f"{point.value} ({point.dist.name if point.dist else 'unknown'})" for point in found)
        raise DefinitionError(f"more than one distribution registers a step {name!r}: {sources}; keep one of them")
    try:
        loaded = found[0].load()
    except Exception as error:
        raise DefinitionError(f"step {name!r} cannot be loaded from {found[0].value!r}: {error!r}") from error
    if isinstance(loaded, (Step, Saga)):
        if arguments or settings:
            raise DefinitionError(f"step {name!r} is ready made, {loaded!r}; it takes no arguments")
        return loaded
    if not callable(loaded):
        raise DefinitionError(f"step {name!r} is {loaded!r} ({found[0].value}), not a step nor a callable")
    try:
        made = loaded(*arguments, **settings)
    except Exception as error:
        raise DefinitionError(f"step {name!r} could not be made by {found[0].value!r}: {error!r}") from error
    if not isinstance(made, (Step, Saga)):
        raise DefinitionError(f"{found[0].value!r}, registered as step {name!r}, made {made!r}, which is not a step")
    return made


def registered_steps() -> list[str]:
    """The names of all steps that installed distributions register."""
    from importlib import metadata

    return sorted({point.name for point in metadata.entry_points(group=GROUP)})
