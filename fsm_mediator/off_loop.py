"""off_loop: does blocking work for a coroutine, which may run on an event loop or without one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any


async def off_loop(work: Callable[..., Any], *arguments: Any) -> Any:
    """Call *work*, and return its result. If an event loop runs here, *work* runs in a thread to not block the loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return work(*arguments)
    return await asyncio.to_thread(work, *arguments)
