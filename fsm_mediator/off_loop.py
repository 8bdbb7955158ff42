"""off_loop: blocking work of a coroutine that may run on an event loop, or without one in a thread of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any


async def off_loop(work: Callable[..., Any], *arguments: Any) -> Any:
    """The result of *work*, called in a thread if an event loop runs here, so that the loop is not blocked."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return work(*arguments)
    return await asyncio.to_thread(work, *arguments)
