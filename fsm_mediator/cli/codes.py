"""The exit codes, and where commands write. Every command keeps to them; `docs/operating.md` tells them."""

from __future__ import annotations

from typing import Final

from rich.console import Console

DID_NOT_SUCCEED: Final = 1
USAGE: Final = 2
NOT_FOUND: Final = 3
REFUSED: Final = 4
JOURNAL: Final = 5
APP: Final = 6
MISSING: Final = 7

out = Console()
err = Console(stderr=True)
