"""What packaging adds to the metadata: the project's addresses, and the README as an index shows it.

The one place where the project's home is filled in is ``home`` in pyproject.toml. A page of an index has no files
beside it, so the README's relative links are made absolute from that address. Without a home the metadata names no
address, a link becomes its text, and a picture is left out.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

_RELATIVE = r"(?![a-z]+:|#|/)"
_PICTURE = re.compile(rf'(src=")({_RELATIVE}[^"]+)(")|(!\[[^\]]*\]\()({_RELATIVE}[^)]+)(\))')
_LINK = re.compile(rf'(href=")({_RELATIVE}[^"]+)(")|((?<!!)\[[^\]]+\]\()({_RELATIVE}[^)]+)(\))')
_PICTURE_ALONE = re.compile(
    rf'(?:<a href="{_RELATIVE}[^"]+">)?<img src="{_RELATIVE}[^>]*>(?:</a>)?\n*|!\[[^\]]*\]\({_RELATIVE}[^)]+\)\n*'
)
_LINK_ALONE = re.compile(rf"(?<!!)\[([^\]]+)\]\({_RELATIVE}[^)]+\)")


class ProjectMetadataHook(MetadataHookInterface):
    """Fills in ``readme`` and ``urls``, which pyproject.toml names as dynamic."""

    PLUGIN_NAME = "custom"

    def update(self, metadata: dict[str, Any]) -> None:
        """Add both fields."""
        page = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        home = str(self.config["home"]).rstrip("/")
        version = str(metadata["version"])
        metadata["readme"] = {"content-type": "text/markdown", "text": page_of_index(page, home, version, self.config)}
        metadata["urls"] = {name: address.format(home=home) for name, address in self.config["urls"].items() if home}


def page_of_index(page: str, home: str, version: str, config: dict[str, Any]) -> str:
    """The README for the page of a package index.

    Args:
        page: The README of the repository.
        home: The address of the repository; empty: there is none yet.
        version: The version that is packaged. A release links to the files of its tag, any other to the newest.
        config: ``files`` and ``pictures``: the address of a file and of a picture, with ``{home}``, ``{ref}`` and
            ``{path}``.
    """
    if not home:
        return _LINK_ALONE.sub(r"\1", _PICTURE_ALONE.sub("", page))
    ref = f"v{version}" if re.fullmatch(r"[\d.]+(?:(?:a|b|rc|\.post)\d+)?", version) else "HEAD"

    def absolute(pattern: re.Pattern[str], address: str, text: str) -> str:
        def put(found: re.Match[str]) -> str:
            before, path, after = (found[1], found[2], found[3]) if found[1] else (found[4], found[5], found[6])
            return before + address.format(home=home, ref=ref, path=path) + after

        return pattern.sub(put, text)

    return absolute(_LINK, config["files"], absolute(_PICTURE, config["pictures"], page))
