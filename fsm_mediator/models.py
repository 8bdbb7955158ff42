"""Models of pydantic. A model is recognised by its methods, so that pydantic need not be imported."""

from __future__ import annotations

from typing import Any


def is_model(kind: Any) -> bool:
    """Whether *kind* is a class of pydantic models."""
    return isinstance(kind, type) and all(
        hasattr(kind, name) for name in ("__get_pydantic_core_schema__", "model_dump", "model_validate_json")
    )


def fields_of(model: Any) -> Any:
    """The fields of the instance *model* as JSON types, from which its class can make an equal instance."""
    return model.model_dump(mode="json", round_trip=True)


def shown(value: Any) -> Any:
    """A readable form of a *value* that msgspec cannot encode: the fields of a model, or the ``repr``."""
    return fields_of(value) if is_model(type(value)) else repr(value)
