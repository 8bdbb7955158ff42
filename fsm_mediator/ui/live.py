"""Live: server-sent events that tell a page when its content has changed.

The process that serves the page renders the page repeatedly and compares the results. Therefore it notices the changes
that any driver makes, in any process. If a proxy delays events, the browser instead requests the page every two
seconds.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

LEAST: Final = 1.0
"""The minimum number of seconds between two renderings. If rendering is slow, the pause is `SHARE` times as long as the
rendering.
"""

SHARE: Final = 10

_PASSING: Final = re.compile(
    r"""(?<=">)[^<]*(?=</time>)|(?<=class="age">)[^<]*|
    name="form_token"\ value="[^"]*"|data-digest="[^"]*"|<svg\ class="strip".*?</svg>""",
    re.DOTALL | re.VERBOSE,
)
"""The parts of a page that differ although nothing has happened, such as ages and durations."""


def digest_of(html: str) -> str:
    """A hash of a page. Texts such as "5 s ago" are left out, because they change although nothing has happened."""
    return hashlib.sha256(_PASSING.sub("", html).encode("utf-8", "surrogatepass")).hexdigest()[:16]


async def events(
    render: Callable[[], Awaitable[str]], gone: Callable[[], Awaitable[bool]], known: str
) -> AsyncIterator[bytes]:
    """The server-sent events of a page. For each change of the page's digest, yields an event ``changed``.

    The id of the event is the new digest.

    Args:
        render: Renders the page.
        gone: Returns whether the browser has disconnected.
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
