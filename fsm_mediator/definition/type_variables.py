"""The type variables with which sagas, steps and contexts are generic.

For a type checker, some variables have a default: `Step` without parameters is `Step[Any]`. Before Python 3.13,
defaults need `typing_extensions`. This package does not depend on `typing_extensions`, because type checkers have their
own copy of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

P = ParamSpec("P")
"""The parameters of a decorated function."""

R = TypeVar("R")
"""The result of a step."""

T_co = TypeVar("T_co", covariant=True)

Payload = TypeVar("Payload")
"""The payload of a run."""

if TYPE_CHECKING:
    from typing_extensions import ParamSpec as ParamSpecWithDefault
    from typing_extensions import TypeVar as TypeVarWithDefault

    Payload_co = TypeVarWithDefault("Payload_co", covariant=True, default=Any)
    Payload_contra = TypeVarWithDefault("Payload_contra", contravariant=True, default=Any)
    Result_co = TypeVarWithDefault("Result_co", covariant=True, default=Any)
    Parameters = ParamSpecWithDefault("Parameters", default=...)
    Returned_co = TypeVarWithDefault("Returned_co", covariant=True, default=Any)
else:
    Payload_co = TypeVar("Payload_co", covariant=True)
    Payload_contra = TypeVar("Payload_contra", contravariant=True)
    Result_co = TypeVar("Result_co", covariant=True)
    Parameters = ParamSpec("Parameters")
    Returned_co = TypeVar("Returned_co", covariant=True)
