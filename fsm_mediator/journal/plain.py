"""Plain data: converts objects to JSON types and back, for types that msgspec does not know.

Models of pydantic convert themselves (``fsm_mediator.models``). For other types the user gives the journal two hooks,
as msgspec defines them (https://jcristharif.com/msgspec/extending.html).
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import msgspec

from fsm_mediator.errors import DefinitionError
from fsm_mediator.models import fields_of, is_model

Types: TypeAlias = "tuple[Callable[[Any], Any], Callable[[type, Any], Any]]"
"""The hooks: ``to_plain(value)``, and ``from_plain(type, plain)``. A hook raises NotImplementedError for a type that it
does not know."""


def check_hooks(where: str, types: Any) -> None:
    """Refuse *types* if it is neither None nor a pair of hooks.

    Raises:
        DefinitionError: *types* is neither None nor a pair of functions.
    """
    if types is not None and not (isinstance(types, tuple) and len(types) == 2 and all(map(callable, types))):
        raise DefinitionError(f"{where}: types must be a pair of functions, (to_plain, from_plain), not {types!r}")


def to_plain(hook: Callable[[Any], Any] | None, value: Any) -> Any:
    """Return *value* as plain data. A model converts itself; *hook* converts any other value.

    Raises:
        TypeError: *value* is not a model, and *hook* does not know its type.
    """
    if is_model(type(value)):
        return fields_of(value)
    if hook is not None and not isinstance(value, msgspec.Raw):
        try:
            return hook(value)
        except NotImplementedError:
            pass
    raise TypeError(f"encoding objects of type {type(value).__qualname__} is unsupported")


def from_plain(hook: Callable[[type, Any], Any] | None, kind: Any, plain: Any) -> Any:
    """The object of type *kind* from its plain data."""
    if is_model(kind):  # as JSON: then a strict model accepts a text for a datetime
        return kind.model_validate_json(msgspec.json.encode(plain), **_names(kind))
    if hook is None:
        raise NotImplementedError
    return hook(kind, plain)


@functools.lru_cache(maxsize=1024)
def _names(model: Any) -> dict[str, bool]:
    """The arguments with which ``model_validate_json`` accepts fields by name, even if the fields have aliases.

    The journal stores fields by name.

    Empty before pydantic 2.11, which has no such arguments.
    """
    by_name = "by_name" in inspect.signature(model.model_validate_json).parameters
    return {"by_name": True, "by_alias": True} if by_name else {}


def name_of_type(type: Any) -> str:
    """The name of *type*, for display."""
    return getattr(type, "__qualname__", None) or repr(type)


def types_within(type: Any) -> Iterator[msgspec.inspect.Type]:
    """Msgspec's description of *type*, and of every type within *type*."""
    from msgspec import inspect

    seen: set[int] = set()
    todo: list[Any] = [inspect.type_info(type)]
    while todo:
        info = todo.pop()
        if isinstance(info, (tuple, list)):
            todo += info
        elif isinstance(info, msgspec.Struct) and id(info) not in seen:
            seen.add(id(info))
            if isinstance(info, inspect.Type):
                yield info
            todo += [getattr(info, field) for field in info.__struct_fields__]


def describe_change(value: Any, back: Any, where: str = "it") -> str | None:
    """The first difference between *value* and *back*, the decoded value, as text. None if there is no difference."""
    if type(value) is dict and type(back) is dict:
        for key, each in value.items():
            if key not in back:
                return f"{where} has the key {key!r}, which comes back as {str(key)!r}"
            if (found := describe_change(each, back[key], f"{where}[{key!r}]")) is not None:
                return found
        return None
    if type(value) is list and type(back) is list:
        changes = (describe_change(*pair, f"{where}[{at}]") for at, pair in enumerate(zip(value, back, strict=False)))
        return next((found for found in changes if found is not None), None)
    if type(value) is type(back):
        return None
    return f"{where} is a {name_of_type(type(value))}, and comes back as a {name_of_type(type(back))}"
