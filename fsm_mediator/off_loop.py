"""off_loop: do blocking work in a coroutine that may run with or without an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any


async def off_loop(work: Callable[..., Any], *arguments: Any) -> Any:
    """Call ``work(*arguments)`` and return its result.

    If the coroutine runs on an event loop, *work* is called in another thread, so that the loop is not blocked.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return work(*arguments)
    return await asyncio.to_thread(work, *arguments)
