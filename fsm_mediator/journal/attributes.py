"""Attributes: pairs of a name and a JSON scalar. Executions can be found by their attributes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final, TypeAlias

import msgspec

from fsm_mediator.error_types import safe_repr
from fsm_mediator.errors import PayloadError
from fsm_mediator.journal.storable import is_text

Scalar: TypeAlias = str | int | float | bool

MOST: Final = 32
"""The maximum number of attributes of an execution."""

LONGEST_NAME: Final = 64
LONGEST_TEXT: Final = 256
"""The maximum number of characters of an attribute's name, and of a text value. Both are stored in an index."""


def checked_attributes(attributes: Any, *, removes: bool = False) -> dict[str, Scalar | None]:
    """The attributes in the form in which they are stored: a float without a fraction becomes an integer.

    Args:
        attributes: The values, by name.
        removes: Whether a value may be None, which removes the attribute.

    Raises:
        PayloadError: *attributes* is not a mapping, there are too many, or a name or a value cannot be stored.
    """
    if not isinstance(attributes, Mapping):
        raise PayloadError(f"attributes= is a mapping of names to JSON scalars, not {safe_repr(attributes)}")
    if len(attributes) > MOST:
        raise PayloadError(f"an execution has at most {MOST} attributes, and {len(attributes)} are given")
    return {
        _name(name): None if removes and value is None else _value(name, value) for name, value in attributes.items()
    }


def _name(name: Any) -> str:
    if not isinstance(name, str) or not name or len(name) > LONGEST_NAME or not is_text(name):
        raise PayloadError(
            f"{safe_repr(name)} is not a valid name of an attribute: give a text of 1 to {LONGEST_NAME} characters"
        )
    if any(character.isspace() or character in "=@" for character in name):
        raise PayloadError(f"{name!r} is not a valid name of an attribute: it holds a space, = or @")
    return name


def _value(name: str, value: Any) -> Scalar:
    if isinstance(value, str) and len(value) <= LONGEST_TEXT and is_text(value):
        return value
    if isinstance(value, bool):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return int(value) if value.is_integer() and abs(value) < 2**53 else value
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return value
    raise PayloadError(
        f"the attribute {name!r} is {safe_repr(value)}: give a text of at most {LONGEST_TEXT} characters, an integer "
        f"of 64 bits, a finite float, or a bool"
    )


def attribute_text(value: Scalar) -> str:
    """The value of an attribute as JSON. The journal stores the value and looks it up in this form."""
    return msgspec.json.encode(value).decode()


def changed_attributes(value: Any) -> tuple[dict[str, str], list[str]]:
    """The changes of attributes that a note of kind ``attributes`` makes. *value* is the value of the note.

    Returns:
        The new attributes as JSON, by name, and the names of the removed attributes.
    """
    kept = {name: attribute_text(each) for name, each in value.items() if each is not None}
    return kept, [name for name, each in value.items() if each is None]


def scalar_of(text: str) -> Scalar:
    """Decode *text* as a JSON scalar. If *text* is not a JSON scalar, it is returned unchanged."""
    try:
        value = msgspec.json.decode(text)
    except (msgspec.MsgspecError, UnicodeError):
        return text
    return value if isinstance(value, (str, int, float, bool)) else text
