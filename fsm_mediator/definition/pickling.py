"""Pickling of sagas and steps. A step is pickled by the name of its function, and a saga by its parts.

A pickled outcome contains only the shape of its saga, without functions.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import MappingProxyType
from typing import Any, NoReturn

from msgspec.structs import replace

from fsm_mediator.error_types import DefinitionError
from fsm_mediator.machine.machine import compile_machine
from fsm_mediator.machine.parts import Callback, Part


def object_at(module: str | None, path: str | None) -> Any:
    """The object at *path* in an imported module. None if there is no such object."""
    found: Any = sys.modules.get(module or "")
    for name in (path or "").split("."):
        found = getattr(found, name, None)
    return found


def refuse(what: str, why: object) -> NoReturn:
    """Refuse to pickle *what*.

    Raises:
        PicklingError: Always.
    """
    import pickle  # imported here, because it is slow to load

    raise pickle.PicklingError(f"{what} cannot be pickled: {why}")


def check_parts(saga: Any) -> None:
    """Check that every part of *saga* can be pickled.

    Raises:
        PicklingError: A part cannot be pickled. The message names the part.
    """
    import pickle

    if "/" in saga.name:
        refuse(f"saga {saga.name!r}", "it is a branch; pickle the saga that it belongs to")
    for part in saga.contents:
        try:
            pickle.dumps(part)
        except Exception as error:
            refuse(f"saga {saga.name!r}: {part.name!r}", error)


def _is_not_here(*_: Any) -> NoReturn:
    raise DefinitionError("this saga came with a pickled outcome, without its steps' functions; use the saga itself")


def _without_function(callback: Callback | None) -> Callback | None:
    return callback and replace(callback, function=_is_not_here, returns=Any)


def _shape_of_part(part: Part) -> Part:
    return replace(
        part,
        subject=None,
        execute=_without_function(part.execute),
        compensate=_without_function(part.compensate),
        probe=_without_function(part.probe),
        decide=_without_function(part.decide),
        retry=replace(part.retry, on=Exception),
        compensation_retry=replace(part.compensation_retry, on=Exception),
        in_doubt_on=(),
        no_effect_on=(),
        returns=Any,
    )


def shape_values(saga: Any) -> dict[str, Any]:
    """The values from which `with_shape` makes a copy of *saga*. The copy can be drawn, but not run."""
    values = {name: getattr(saga, name) for name in ("name", "version", "deadline", "fingerprint", "single")}
    values |= {name: getattr(saga, name) for name in ("cancels_siblings", "nested")}
    values["parts"] = tuple(map(_shape_of_part, saga.parts))
    values["branches"] = {
        path: {name: shape_values(branch) for name, branch in branches.items()}
        for path, branches in saga.branches.items()
    }
    return values


def with_shape(kind: Callable[[], Any], values: dict[str, Any]) -> Any:
    """A saga with *values*, as `shape_values` returned them. *kind* makes an empty saga."""
    saga = kind()
    branches = {
        path: MappingProxyType({name: with_shape(kind, each) for name, each in found.items()})
        for path, found in values["branches"].items()
    }
    unset = dict.fromkeys(("payload", "retry", "compensation_retry", "_every"))
    made = {
        "branches": MappingProxyType(branches),
        "contents": (),
        "machine": compile_machine(values["parts"]),
        "_by_path": {part.path: part for part in values["parts"]},
    }
    for name, value in (values | unset | made).items():
        object.__setattr__(saga, name, value)
    return saga


def remade(make: Callable[..., Any], arguments: tuple[Any, ...], attributes: dict[str, Any]) -> Any:
    """Make an object with ``make(*arguments)``, set these *attributes* on it, and return it."""
    made = make(*arguments)
    made.__dict__.update(attributes)
    return made
