"""The name of a text: what is drawn from the same text bears the same name."""

from __future__ import annotations

import hashlib


def digest_of(*texts: str) -> str:
    """A short name for *texts* together."""
    return hashlib.sha256("".join(texts).encode()).hexdigest()[:16]
