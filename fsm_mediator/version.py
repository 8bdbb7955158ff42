"""The version of the installed distribution, which comes from the tag it was built at."""

from __future__ import annotations

from importlib import metadata


def _installed() -> str:
    try:
        return metadata.version("fsm-mediator")
    except metadata.PackageNotFoundError:  # a folder that is not installed
        return "0+unknown"


__version__ = _installed()
