"""Finds coroutine functions of steps that block the event loop, or that swallow a cancellation."""

from __future__ import annotations

import asyncio
import contextvars
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final

from fsm_mediator.mediator.runtime import StepCall
from fsm_mediator.records import Answer, Raised, Returned, TimedOut

PATIENCE: Final = 60.0
"""The seconds that a cancelled coroutine has to clean up, in the virtual time of the event loop."""

_BLOCKING: Final = frozenset({"time.sleep", "socket.connect", "socket.getaddrinfo", "urllib.Request"})
"""The audit events of calls that block a thread. Before Python 3.13, ``time.sleep`` has no audit event. So a profiler
function also detects ``time.sleep``."""

_WAITS: Final = {
    threading.Condition.wait.__code__: "threading.Condition.wait",
    threading.Thread.join.__code__: "threading.Thread.join",
    subprocess.Popen.wait.__code__: "subprocess.Popen.wait",
}
"""The names of the functions in which a thread waits for another thread or a process, by their code.

Events, queues, futures and barriers wait in ``threading.Condition.wait``.
"""

_watching: contextvars.ContextVar[tuple[int, Callable[[str], None]] | None] = contextvars.ContextVar(
    "_watching", default=None
)
_hook_lock = threading.Lock()
_profiled = threading.local()
_hooked = False


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if event in _BLOCKING and not (event == "socket.connect" and arguments[0].gettimeout() == 0):
        _note(event)


def _note(what: str) -> None:
    watching = _watching.get()
    if watching is not None and watching[0] == threading.get_ident():  # in other threads, functions may block
        watching[1](what)


@contextmanager
def blocking_calls_noted(note: Callable[[str], None]) -> Iterator[None]:
    """Inside of the ``with`` block, call *note* with the name of each blocking call.

    Only calls of this thread in the current `contextvars` context count.
    """
    global _hooked  # noqa: PLW0603 - an audit hook cannot be removed
    with _hook_lock:
        if not _hooked:
            sys.addaudithook(_hook)
            _hooked = True
    token = _watching.set((threading.get_ident(), note))
    _profiled.calls = getattr(_profiled, "calls", 0) + 1  # coroutines of one thread overlap
    if sys.getprofile() is None:
        sys.setprofile(_profile)
    try:
        yield
    finally:
        _watching.reset(token)
        _profiled.calls -= 1
        if not _profiled.calls and sys.getprofile() is _profile:
            sys.setprofile(None)


def _profile(frame: FrameType, event: str, function: Any) -> None:
    if event == "c_call" and function is time.sleep:
        _note("time.sleep")
    elif event == "call" and frame.f_code in _WAITS and frame.f_locals.get("timeout") != 0:
        event_wait = frame.f_back
        caller = None if event_wait is None else event_wait.f_back
        if caller is None or caller.f_code is not threading.Thread.start.__code__:  # Thread.start waits only briefly
            _note(_WAITS[frame.f_code])


async def cut_short(call: StepCall, note: Callable[[str], None]) -> Answer:
    """Call a coroutine function, and cancel it at its first await, as a timeout does.

    If the function keeps running after the cancellation, *note* is called with the problem.

    Returns:
        The answer for the mediator: the result or the error of the function, or `TimedOut` if there is neither.
    """
    callback = call.effect.callback
    assert callback is not None
    task = asyncio.ensure_future(callback.function(*call.arguments))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    late = not task.done()
    if late:
        task.cancel()
        await asyncio.wait({task}, timeout=PATIENCE)
    if not task.done():
        note(f"swallows its cancellation, and still runs {PATIENCE:g} s later: let CancelledError pass")
        task.cancel()
    if not task.done() or task.cancelled():
        return TimedOut(call.effect.part.timeout or PATIENCE)
    error = task.exception()
    return Returned(task.result(), late) if error is None else Raised(error, late)
