"""Import the names of a package at their first use, and not when the package is imported."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any


def lazy_names(
    package: str, names: dict[str, Any], owners: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The functions ``__getattr__`` and ``__dir__`` for a package with names that are imported at their first use.

    Args:
        package: The package's name.
        names: The ``globals()`` of the package. A name is added to it when the name is imported.
        owners: For each name, the module from which it is imported.
    """

    def get(name: str) -> Any:
        owner = owners.get(name)
        if owner is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        names[name] = found = getattr(importlib.import_module(owner), name)
        return found

    return get, lambda: sorted({*names, *owners})
