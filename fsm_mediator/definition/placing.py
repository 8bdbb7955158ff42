"""Placing: makes a branch of a group from a saga. The name of the branch is made from its place.

A branch keeps the parts and the machine of its saga. If they were compiled again at each depth, the time would grow
with the square of the depth.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Any, Final

from fsm_mediator.definition.waits import EACH
from fsm_mediator.error_types import DefinitionError
from fsm_mediator.ids import depth_of, root_of
from fsm_mediator.machine.parts import GROUPS, Part
from fsm_mediator.retry import Retry

MOST_NESTED: Final = 100
"""The maximum depth of nested groups. Defining, verifying and drawing a group needs stack frames for each depth."""


def name_at(saga: str, group: Part, name: str) -> str:
    """The name of the branch *name* of *group*: ``checkout/fulfil.pack`` for the branch ``pack``.

    Raises:
        DefinitionError: The group is nested too deep.
    """
    if depth_of(saga) >= MOST_NESTED:
        raise DefinitionError(
            f"saga {root_of(saga)!r}: its groups and choices are nested more than {MOST_NESTED} deep, down to "
            f"{group.path!r}. Start the deeper part in a step, as a saga of its own"
        )
    return f"{saga}/{group.path}" if name == EACH else f"{saga}/{group.path}.{name}"


def is_placed_as_defined(saga: Any, group: Part, retry: Retry | None, compensation_retry: Retry | None) -> bool:
    """Whether *saga* can be a branch of *group* without changes.

    True if the branch inherits no settings, the group is not after the pivot, and *saga* has no pivot.
    """
    inherits_nothing = retry is saga.retry and compensation_retry is saga.compensation_retry
    return inherits_nothing and not group.forward_only and not any(part.pivot for part in saga.parts)


def at_its_place(saga: Any, name: str, payload: Any, version: str, *, cancels_siblings: bool) -> Any:
    """A copy of *saga* as a branch.

    Args:
        saga: The saga. Its parts and its machine are not copied.
        name: The name of the branch, from `name_at`.
        payload: The type of the branch's payload. None if any value is allowed.
        version: The version of the enclosing saga.
        cancels_siblings: Whether the other branches of the group are cancelled if this branch fails.

    Raises:
        DefinitionError: The groups of *saga* would be nested too deep.
    """
    branches = {
        group.path: MappingProxyType(
            {
                inner: at_its_place(
                    branch,
                    name_at(name, group, inner),
                    branch.payload if group.each else payload,
                    version,
                    cancels_siblings=branch.cancels_siblings,
                )
                for inner, branch in saga.branches[group.path].items()
            }
        )
        for group in saga.parts
        if group.kind in GROUPS
    }
    values = {name: getattr(saga, name) for name in saga.__slots__} | {
        "name": name,
        "payload": payload,
        "version": version,
        "branches": MappingProxyType(branches),
        "cancels_siblings": cancels_siblings,
        "_every": None,
        "_warned": False,
    }
    placed: Any = object.__new__(type(saga))
    for attribute, value in values.items():
        object.__setattr__(placed, attribute, value)
    return placed
