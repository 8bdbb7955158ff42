"""Digests: pictures of the same text have the same one."""

from __future__ import annotations

import hashlib


def digest_of(*texts: str) -> str:
    """A short digest of *texts* together."""
    return hashlib.sha256("".join(texts).encode()).hexdigest()[:16]
