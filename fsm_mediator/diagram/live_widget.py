"""LiveWidget: a picture that moves, as an anywidget. Only this module of the diagrams imports anywidget."""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import attrs
import traitlets

from fsm_mediator.diagram.history import Run
from fsm_mediator.diagram.live import ENDED, MOVING, PAUSED, STOPPED, Drawn, Follower, Reader, drawing_of

if TYPE_CHECKING:  # type checkers cannot use the real class, because its metaclass has no type annotations

    class AnyWidget(traitlets.HasTraits):
        """The base class `anywidget.AnyWidget`, as type checkers see it."""

        def __getattr__(self, name: str) -> Any: ...

        def close(self) -> None:
            """Close the widget."""

        def _repr_mimebundle_(self, **_kinds: Any) -> Any: ...

else:
    from anywidget import AnyWidget


class LiveWidget(AnyWidget):
    """Shows an execution in a notebook as a picture that moves, until the execution ends or the widget is closed.

    A thread reads new records, so the picture also moves while a cell runs. The thread ends when no page shows the
    widget any more. It starts again when a page shows the widget again.

    Args:
        diagram: The diagram that is shown first.
        make: A function that returns a reader of the execution. None if the execution has ended.
        poll: Seconds between two queries to the journal.

    Attributes:
        shown: The data for the front end: the SVG, the alternative text, the state of the execution, its summary, and
            whether the picture is ``moving``, ``ended``, ``paused`` or ``stopped``, with the reason.
        diagram: The diagram that is shown now.
    """

    _esm = (files("fsm_mediator.diagram") / "live.js").read_text(encoding="utf-8")
    shown: traitlets.Dict[str, Any] = traitlets.Dict().tag(sync=True)

    def __init__(self, diagram: Drawn, make: Callable[[], Reader] | None, poll: float) -> None:
        self.diagram: Any = diagram
        self._make = make
        self._poll = poll
        self._views = 0
        self._closed = False
        self._follower: Follower | None = None
        super().__init__(shown=_shown(diagram, ENDED if make is None else MOVING, ""))
        self.on_msg(self._take)
        self._follow()

    def close(self) -> None:
        """Stop following the execution, and remove the widget from all pages."""
        self._closed = True
        if self._follower is not None:
            self._follower.stop()
        super().close()

    def join(self, timeout: float | None = None) -> bool:
        """Wait until the picture does not move any more, at most *timeout* seconds.

        Returns False if the picture still moves.
        """
        return self._follower is None or self._follower.join(timeout)

    def mimebundle(self) -> dict[str, Any]:
        """The MIME bundle for a notebook: the widget, and a still picture for front ends without widgets."""
        found = super()._repr_mimebundle_()
        widget = dict((found[0] if isinstance(found, tuple) else found) or {})
        return {**widget, **self.diagram._repr_mimebundle_()}

    def _repr_mimebundle_(self, **_kinds: Any) -> Any:
        return self.mimebundle()

    def _follow(self) -> None:
        if self._make is not None and not self._closed and self.shown["motion"] in (MOVING, PAUSED):
            self._follower = Follower(self._make(), self._show, self._is_open, self._poll)

    def _is_open(self) -> bool:
        """Whether a page can still show the widget. It cannot if the comm, the connection to the page, is closed.

        If a cell runs again, marimo closes only the comm and not the widget.
        """
        return self.comm is not None and not getattr(self.comm, "_closed", False)

    def _show(self, run: Run | None, motion: str, reason: str) -> None:
        if run is not None:
            self.diagram = attrs.evolve(self.diagram, run=run)
        self.shown = _shown(self.diagram, motion, reason)

    def _take(self, _widget: object, content: dict[str, Any], _buffers: object) -> None:
        """Execute a message of a page: the page shows the widget, or does not show it any more."""
        if content.get("do") == "open":
            self._views += 1
            if self._follower is not None and self._follower.join(0):
                self._follow()
        elif content.get("do") == "leave":
            self._views -= 1
            if self._views <= 0 and self._follower is not None and not self._follower.join(0):
                self._follower.stop()
                self._follower.join()
                if self.shown["motion"] == MOVING:  # not if the execution ended a moment ago
                    self._show(None, PAUSED, "")


def _shown(diagram: Drawn, motion: str, reason: str) -> dict[str, Any]:
    run = diagram.run
    words = "" if run is None else f"{run.saga_id}: {run.summary}"
    note = {MOVING: "live", ENDED: "ended", PAUSED: "paused", STOPPED: f"stopped, {reason}"}[motion]
    state = "" if run is None else run.state
    return {**drawing_of(diagram), "state": state, "motion": motion, "words": f"{words} ({note})"}
