"""Eager tasks: a coroutine runs at once, in a new task, up to its first wait. Without a wait it ends at once.

If thousands of runs begin at the same moment, each of them can end before the next begins. Then neither the loop nor
the caller has to wait for their tasks, and the memory of a run is still in the processor's cache when the run ends.
From Python 3.12 on, asyncio has eager tasks. For Python 3.11, this module implements them.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def eager_task(loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """Run *coroutine* in a new task, at once up to its first wait.

    If the loop has a task factory, the factory makes the task, and decides when the coroutine begins.
    """
    if loop.get_task_factory() is not None:
        return loop.create_task(coroutine)
    if sys.version_info >= (3, 12):
        task: asyncio.Task[T] = asyncio.Task(coroutine, loop=loop, eager_start=True)
        return task
    task = asyncio.Task(coroutine, loop=loop)
    if isinstance(loop, asyncio.BaseEventLoop):
        _begin(loop, task)
    return task


def _begin(loop: Any, task: asyncio.Task[Any]) -> None:
    """Run *task* up to its first wait now, instead of later on the loop. Only for the asyncio of Python 3.11."""
    handle = loop._ready[-1]
    turn, context = handle._callback, handle._context
    if getattr(turn, "__self__", None) is not task:
        return  # another thread has just scheduled a call: the task begins later, on the loop
    handle.cancel()
    caller = asyncio.current_task(loop)
    if caller is None:
        context.run(turn)
        return
    asyncio.tasks._leave_task(loop, caller)
    try:
        context.run(turn)
    finally:
        asyncio.tasks._enter_task(loop, caller)
