"""Recognise and read models of pydantic. A model is recognised by its methods, so pydantic need not be imported."""

from __future__ import annotations

from typing import Any


def is_model(kind: Any) -> bool:
    """Whether *kind* is a class of pydantic models."""
    return isinstance(kind, type) and all(
        hasattr(kind, name) for name in ("__get_pydantic_core_schema__", "model_dump", "model_validate_json")
    )


def fields_of(model: Any) -> Any:
    """The fields of *model*, an instance of a model, as JSON types. Its class can make an equal instance from them."""
    return model.model_dump(mode="json", round_trip=True)


def shown(value: Any) -> Any:
    """A replacement for *value*, which msgspec cannot encode: the fields of a pydantic model, else the ``repr``."""
    return fields_of(value) if is_model(type(value)) else repr(value)
