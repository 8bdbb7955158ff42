"""The version of the installed distribution. It comes from the git tag from which the distribution was built."""

from __future__ import annotations

from importlib import metadata


def _installed() -> str:
    try:
        return metadata.version("fsm-mediator")
    except metadata.PackageNotFoundError:  # the package is used from a folder and is not installed
        return "0+unknown"


__version__ = _installed()
