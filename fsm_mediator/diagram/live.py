"""Live: a thread that follows an execution and draws its picture again after each change.

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
"""The default number of seconds between two queries to the journal."""

SHARE: Final = 10
"""The pause between two queries to the journal is at least the duration of a query multiplied by this number."""

MOVING: Final = "moving"
ENDED: Final = "ended"
PAUSED: Final = "paused"
STOPPED: Final = "stopped"


class Reader(Protocol):
    """An object that reads one execution again and again. A mediator provides such an object."""

    @property
    def ended(self) -> bool:
        """Whether the execution had ended when it was last read."""

    def look(self) -> Run | None:
        """Read the execution. Returns its run with its branches, or None if nothing has changed since the last call."""


class Drawn(Protocol):
    """The methods of `Diagram` that this module needs.

    `Diagram` itself cannot be imported here, because its module imports this one.
    """

    @property
    def run(self) -> Run | None:
        """The execution that the diagram shows. None if it shows only a saga's machine."""

    @property
    def alt(self) -> str:
        """The alternative text of the diagram's picture."""

    def to_svg(self) -> str:
        """The picture of the diagram as SVG."""

    def _repr_mimebundle_(self) -> Mapping[str, Any]: ...


Show = Callable[[Run | None, str, str], object]
"""A function that shows a change of an execution.

Its first argument is the run, or None if the run has not changed. The second argument is ``moving``, ``ended`` or
``stopped``. The third argument is the reason for ``stopped``, otherwise an empty text.
"""


def drawing_of(diagram: Drawn) -> dict[str, str]:
    """The drawing of *diagram* for a front end, as a dict.

    ``svg`` is the SVG and ``alt`` is the alternative text. If the diagram cannot be drawn, ``svg`` is empty and
    ``instead`` is the reason, otherwise ``instead`` is empty.
    """
    try:
        return {"svg": diagram.to_svg(), "alt": diagram.alt, "instead": ""}
    except MediatorError as error:  # for example, Graphviz is not installed
        return {"svg": "", "alt": diagram.alt, "instead": str(error)}


class Follower:
    """Follows an execution in a thread, and shows each of its new states.

    The thread ends when the execution ends or cannot be read, when *wanted* returns False, or after `stop`.

    Args:
        reader: Reads the execution.
        show: A function that shows a change. It is called in the thread.
        wanted: A function that returns whether to continue. It is called before each query.
        poll: Seconds between two queries to the journal.
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
        """Let the thread end soon. Later changes are not shown."""
        self._stopped.set()

    def join(self, timeout: float | None = None) -> bool:
        """Wait until the thread has ended, at most *timeout* seconds. Returns whether the thread has ended."""
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
