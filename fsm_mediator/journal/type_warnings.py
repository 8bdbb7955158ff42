"""Warnings when a saga is registered: payload types that differ between steps, or that are not declared."""

from __future__ import annotations

import inspect
import types
import typing
import warnings
from collections.abc import Iterator
from itertools import combinations
from typing import Any

import msgspec

from fsm_mediator.definition.flatten import users_level
from fsm_mediator.definition.saga import Saga
from fsm_mediator.definition.waits import EACH
from fsm_mediator.error_types import DefinitionWarning
from fsm_mediator.journal.codec import Codec
from fsm_mediator.journal.plain import name_of_type, types_within


class _Taken(msgspec.Struct, frozen=True):
    """The payload type that a function annotates, and a description of the function."""

    type: Any
    who: str


class _Scope(msgspec.Struct, frozen=True):
    """Functions that receive the same payload.

    Attributes:
        where: A description of the payload's source.
        declared: The declared type of the payload. None if no type is declared.
        line: The code that declares the type, with ``{}`` in place of the type.
        taken: The types that the functions annotate.
    """

    where: str
    declared: Any
    line: str
    taken: list[_Taken]


def warn_of_payloads(saga: Saga, codec: Codec | None) -> None:
    """Warn if steps annotate different types for the payload, or if JSON would lose a type that is not declared.

    The second warning is given once per saga.

    Args:
        saga: The saga.
        codec: Encodes the journal's values. None if the journal keeps objects.
    """
    first = codec is not None and saga.is_first_warning()
    for scope in _scopes(saga):
        declared = [] if scope.declared is None else [_Taken(scope.declared, "its declaration")]
        # A declared type must agree with every step. The types of two steps need not agree with each other: they can be
        # two interfaces that the declared type implements.
        pairs = ((declared[0], each) for each in scope.taken) if declared else combinations(scope.taken, 2)
        differing = next(((one, other) for one, other in pairs if not agree(one.type, other.type)), None)
        if differing is not None:
            one, other = differing
            _warn(
                f"{scope.where}: {other.who} takes {_a(other.type)} as its payload, and {one.who} takes "
                f"{_a(one.type)}. Both are given the same payload. Annotate the same type, or an interface that it has"
            )
        elif first and codec is not None and not declared:
            lost = next((each for each in scope.taken if comes_back_as_another(each.type, codec)), None)
            if lost is not None:
                _warn(
                    f"{scope.where}: {lost.who} takes {_a(lost.type)} as its payload, and no type is declared. Steps "
                    f"see what the journal gives back, which is then plain data: dict, list, str. Declare it: "
                    f"{scope.line.format(name_of_type(lost.type))}"
                )


def _warn(message: str) -> None:
    warnings.warn(message, DefinitionWarning, stacklevel=users_level())


def _a(type: Any) -> str:
    return f"a {name_of_type(type)}"


def _scopes(saga: Saga) -> Iterator[_Scope]:
    scope = _Scope(f"saga {saga.name!r}", saga.payload, f"Saga({saga.name!r}, ..., payload={{}})", [])
    items: list[_Scope] = []
    _collect(saga, scope, items)
    yield scope
    yield from items


def _collect(saga: Saga, scope: _Scope, items: list[_Scope]) -> None:
    """Add the functions of *saga* to *scope*. Functions in a branch over items get a scope of their own in *items*."""
    for part in saga.parts:
        for verb in ("execute", "compensate", "probe", "decide"):
            callback = getattr(part, verb)
            if callback is not None and callback.takes is not Any:
                scope.taken.append(_Taken(callback.takes, f"{part.kind.value} {part.path!r} ({callback.label})"))
        for name, branch in saga.branches.get(part.path, {}).items():
            if name == EACH:
                line = f"Parallel.each({part.path!r}, ..., payload={{}})"
                inner = _Scope(f"saga {branch.name!r}, the items of {part.path!r}", branch.payload, line, [])
                items.append(inner)
                _collect(branch, inner, items)
            else:
                _collect(branch, scope, items)


def agree(one: Any, other: Any) -> bool:
    """Whether one value can have both types. True if that cannot be decided."""
    ones, others = _members(one), _members(other)
    return any(_can_be_both(each, every) for each in ones for every in others)


def _members(type: Any) -> tuple[Any, ...]:
    while isinstance(type, typing.NewType):
        type = type.__supertype__
    if typing.get_origin(type) in (typing.Union, types.UnionType):
        return tuple(member for each in typing.get_args(type) for member in _members(each))
    return (dict if typing.is_typeddict(type) else typing.get_origin(type) or type,)


def _can_be_both(one: Any, other: Any) -> bool:
    if not (isinstance(one, type) and isinstance(other, type)):
        return True
    if any(getattr(each, "_is_protocol", False) for each in (one, other)):
        return True
    if {one, other} <= {int, float, complex} or (inspect.isabstract(one) and inspect.isabstract(other)):
        return True
    try:
        return issubclass(one, other) or issubclass(other, one)
    except TypeError:
        return True


def comes_back_as_another(type: Any, codec: Codec) -> bool:
    """Whether a value of *type* can be journaled, but is decoded as another type if the type is not declared."""
    try:
        codec.check_type(type)
        found = list(types_within(type))
    except Exception:  # a payload of such a type is refused anyway
        return False
    return any(_is_lost(info) for info in found)


def _is_lost(info: msgspec.inspect.Type) -> bool:
    from msgspec import inspect as known

    if isinstance(info, known.DictType):
        return not isinstance(info.key_type, (known.StrType, known.AnyType, known.LiteralType))
    plain = (
        *(known.AnyType, known.NoneType, known.BoolType, known.IntType, known.FloatType, known.StrType),
        *(known.ListType, known.UnionType, known.TypedDictType, known.LiteralType),
    )
    return not isinstance(info, plain)
