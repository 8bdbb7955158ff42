"""Live: draws the picture of an execution again whenever the execution has moved, in a thread of its own.

This module does not import notebook libraries.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from fsm_mediator.diagram.history import Run
from fsm_mediator.error_types import MediatorError

POLL: Final = 0.2
"""The default number of seconds between two looks at an execution."""

SHARE: Final = 10
"""The wait between two looks is at least this many times as long as a look takes."""

MOVING: Final = "moving"
ENDED: Final = "ended"
PAUSED: Final = "paused"
STOPPED: Final = "stopped"


class Reader(Protocol):
    """Reads an execution repeatedly. A mediator provides it."""

    @property
    def ended(self) -> bool:
        """Whether the execution had ended at the last look."""

    def look(self) -> Run | None:
        """The run with its branches. None if it has not changed since the last look."""


class Drawn(Protocol):
    """The part of a `Diagram` that is shown. `Diagram` is above this module."""

    @property
    def run(self) -> Run | None:
        """The execution."""

    @property
    def alt(self) -> str:
        """The alternative text."""

    def to_svg(self) -> str:
        """The picture."""

    def _repr_mimebundle_(self) -> Mapping[str, Any]: ...


Show = Callable[[Run | None, str, str], object]
"""Called with the run if it has changed, with ``moving``, ``ended`` or ``stopped``, and with the reason of a stop."""


def drawing_of(diagram: Drawn) -> dict[str, str]:
    """The SVG of *diagram* and its alternative text. If it cannot be drawn, the reason is ``instead`` of the SVG."""
    try:
        return {"svg": diagram.to_svg(), "alt": diagram.alt, "instead": ""}
    except MediatorError as error:  # without Graphviz there is no picture; the rest works
        return {"svg": "", "alt": diagram.alt, "instead": str(error)}


class Follower:
    """Follows an execution in a thread, and shows each new state of it.

    The thread ends when the execution ends, when `stop` is called, or when the execution cannot be read.

    Args:
        reader: Reads the execution.
        show: Called in the thread after each change.
        wanted: Returns whether the execution is still to be followed.
        poll: Seconds between two looks.
    """

    def __init__(self, reader: Reader, show: Show, wanted: Callable[[], bool], poll: float = POLL) -> None:
        self._reader = reader
        self._show = show
        self._wanted = wanted
        self._poll = poll
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="fsm-mediator-live", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread soon. Nothing is shown after that."""
        self._stopped.set()

    def join(self, timeout: float | None = None) -> bool:
        """Wait until the thread has ended, at most *timeout* seconds. Returns whether it has."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _follow(self) -> None:
        while self._wanted() and not self._stopped.is_set():
            began = time.monotonic()
            try:
                run = self._reader.look()
            except Exception as error:
                self._report(None, STOPPED, f"{type(error).__name__}: {error}")
                return
            ended = self._reader.ended
            if run is not None or ended:
                self._report(run, ENDED if ended else MOVING)
            if ended:
                return
            self._stopped.wait(max(self._poll, SHARE * (time.monotonic() - began)))

    def _report(self, run: Run | None, motion: str, reason: str = "") -> None:
        if not self._stopped.is_set():
            self._show(run, motion, reason)
