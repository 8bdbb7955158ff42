"""off_loop: does blocking work for a coroutine that may run with or without an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any


async def off_loop(work: Callable[..., Any], *arguments: Any) -> Any:
    """Call *work* and return its result.

    If an event loop runs here, *work* runs in a thread, so that the loop is not blocked.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return work(*arguments)
    return await asyncio.to_thread(work, *arguments)
