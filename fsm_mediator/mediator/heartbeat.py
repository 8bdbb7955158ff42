"""Heartbeat: the thread that renews a driver's lease, even while a step blocks the event loop."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable


def start_heartbeat(beat: weakref.WeakMethod[Callable[[], None]], stop: threading.Event, seconds: float) -> None:
    """Call *beat* every so many seconds, until *stop* is set or its object is gone."""
    arguments = (beat, stop, seconds)
    threading.Thread(target=_run, args=arguments, name="fsm-mediator-heartbeat", daemon=True).start()


def _run(beat: weakref.WeakMethod[Callable[[], None]], stop: threading.Event, seconds: float) -> None:
    while not stop.wait(seconds):
        call = beat()
        if call is None:
            return
        call()
        del call
