"""Cached: a cache for values that take long to compute. It returns the age of a value, which the page shows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Hashable
from typing import Any, Final, NamedTuple

from starlette.concurrency import run_in_threadpool

KEPT: Final = 200
"""The maximum number of values in the cache."""


SHARE: Final = 20
"""A value is kept for at least the time that it took to compute, multiplied by this number."""


class _Kept(NamedTuple):
    made_at: float
    took: float
    value: Any


class Cached:
    """A cache of values by key. Values are computed in threads.

    If several requests need the same value at the same time, it is computed once. While a value is computed again,
    requests get the previous value.
    """

    def __init__(self) -> None:
        self._values: dict[Hashable, _Kept] = {}
        self._running: dict[Hashable, asyncio.Task[Any]] = {}

    async def get(self, key: Hashable, compute: Callable[[], Any], *, seconds: float) -> tuple[Any, float]:
        """The value of *key* and its age in seconds. *compute* computes it if the cache does not have it.

        If the value is older than *seconds*, it is returned and computed again in the background. A value that took
        long to compute is computed again less often: see `SHARE`.

        Raises:
            Exception: The error of *compute*. Then nothing is cached.
        """
        kept = self._values.get(key)
        if kept is not None and (age := time.monotonic() - kept.made_at) <= max(seconds, SHARE * kept.took):
            return kept.value, age
        task = self._running.get(key)
        if task is None:
            task = asyncio.ensure_future(self._compute(key, compute))
            self._running[key] = task
            task.add_done_callback(lambda _: self._running.pop(key, None))
        if kept is not None:
            return kept.value, time.monotonic() - kept.made_at
        return await asyncio.shield(task), 0.0

    async def _compute(self, key: Hashable, compute: Callable[[], Any]) -> Any:
        began = time.monotonic()
        value = await run_in_threadpool(compute)
        if len(self._values) >= KEPT:
            self._values.pop(next(iter(self._values)))
        self._values[key] = _Kept(began, time.monotonic() - began, value)
        return value
