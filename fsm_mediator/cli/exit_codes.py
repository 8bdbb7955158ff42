"""The exit codes, and where commands write. Every command keeps to them; `docs/operating.md` tells them."""

from __future__ import annotations

import re
from typing import Final

from rich.console import Console

DID_NOT_SUCCEED: Final = 1
USAGE: Final = 2
NOT_FOUND: Final = 3
REFUSED: Final = 4
JOURNAL: Final = 5
APP: Final = 6
MISSING: Final = 7

_UNPRINTABLE: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
"""What would command the terminal instead of being shown, or cannot be written at all."""


def printable(text: str) -> str:
    """*text*, which came from a step, a person or a file, with what a terminal would obey spelled out."""
    return _UNPRINTABLE.sub(lambda found: found.group().encode("unicode_escape").decode(), text)


out = Console()
err = Console(stderr=True)
