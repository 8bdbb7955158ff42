"""Live: server-sent events that notify an open page when its content has changed.

The process that serves the page renders the page repeatedly and compares the results. Therefore it notices the changes
of all drivers in all processes. If a proxy delays the events, the browser requests the page every two seconds instead.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

LEAST: Final = 1.0
"""The minimum number of seconds between two renderings of a page.

If rendering is slow, the pause is the duration of a rendering multiplied by `SHARE`.
"""

SHARE: Final = 10

_PASSING: Final = re.compile(
    r"""(?<=">)[^<]*(?=</time>)|(?<=class="age">)[^<]*|
    name="form_token"\ value="[^"]*"|data-digest="[^"]*"|<svg\ class="strip".*?</svg>""",
    re.DOTALL | re.VERBOSE,
)
"""A pattern for the parts of a page that change with time alone, such as ages and durations."""


def digest_of(html: str) -> str:
    """A hash of a page. It ignores texts such as "5 s ago", which change with time alone."""
    return hashlib.sha256(_PASSING.sub("", html).encode("utf-8", "surrogatepass")).hexdigest()[:16]


async def events(
    render: Callable[[], Awaitable[str]], gone: Callable[[], Awaitable[bool]], known: str
) -> AsyncIterator[bytes]:
    """The server-sent events for an open page. An event ``changed`` is yielded whenever the page's digest changes.

    The id of the event is the new digest.

    Args:
        render: A function that renders the page and returns its HTML.
        gone: A function that returns whether the browser has disconnected.
        known: The digest of the page that the browser shows.
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
