"""Models: what pydantic's models know of themselves. They are recognised by their methods: pydantic is not imported."""

from __future__ import annotations

from typing import Any


def is_model(kind: Any) -> bool:
    """Whether *kind* is a class of pydantic's models."""
    return isinstance(kind, type) and all(
        hasattr(kind, name) for name in ("__get_pydantic_core_schema__", "model_dump", "model_validate_json")
    )


def fields_of(model: Any) -> Any:
    """The fields of *model*, an instance, as JSON types, from which its class makes an equal one."""
    return model.model_dump(mode="json", round_trip=True)


def shown(value: Any) -> Any:
    """*value*, which msgspec cannot encode, for readers: the fields of a model, the ``repr`` of anything else."""
    return fields_of(value) if is_model(type(value)) else repr(value)
