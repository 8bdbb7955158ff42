"""Names of a package that are imported when they are first asked for."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any


def lazy_names(
    package: str, names: dict[str, Any], owners: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The ``__getattr__`` and ``__dir__`` of a package.

    Args:
        package: The package's name.
        names: Its ``globals()``, where a name is kept once it was imported.
        owners: The module of each such name.
    """

    def get(name: str) -> Any:
        owner = owners.get(name)
        if owner is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        names[name] = found = getattr(importlib.import_module(owner), name)
        return found

    return get, lambda: sorted({*names, *owners})
