"""Live: server-sent events that tell a page when its content has changed.

The process that serves the page renders it again and again and compares. So it notices the changes of every driver, in
any process. A browser whose proxy holds events back asks for the page itself every two seconds.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

LEAST: Final = 1.0
"""Seconds between two looks, at least; ten times as long as a look takes, if that is more."""

SHARE: Final = 10

_PASSING: Final = re.compile(
    r"""(?<=">)[^<]*(?=</time>)|(?<=class="age">)[^<]*|
    name="form_token"\ value="[^"]*"|data-digest="[^"]*"|<svg\ class="strip".*?</svg>""",
    re.DOTALL | re.VERBOSE,
)
"""The parts of a page that differ although nothing has happened: how long ago, or for how long."""


def digest_of(html: str) -> str:
    """A short text that changes when a page does; how long ago something was does not count."""
    return hashlib.sha256(_PASSING.sub("", html).encode("utf-8", "surrogatepass")).hexdigest()[:16]


async def events(
    render: Callable[[], Awaitable[str]], gone: Callable[[], Awaitable[bool]], known: str
) -> AsyncIterator[bytes]:
    """The events of a page: ``changed``, with its digest as the id, whenever it is another than the *known* one.

    Args:
        render: Renders the page.
        gone: Whether the browser has left.
        known: The digest that the browser shows.
    """
    yield b"retry: 2000\n: listening\n\n"
    while not await gone():
        began = time.monotonic()
        digest = digest_of(await render())
        if digest != known:
            known = digest
            yield f"id: {digest}\nevent: changed\ndata: {digest}\n\n".encode()
        else:
            yield b": the same\n\n"
        await asyncio.sleep(max(LEAST, SHARE * (time.monotonic() - began)))
