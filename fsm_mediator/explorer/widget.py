"""ExplorerWidget: an explorer as an anywidget. The one file that imports anywidget; imported when it is asked for."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

import anywidget
import traitlets

from fsm_mediator.explorer.view import take, view_of

if TYPE_CHECKING:
    from fsm_mediator.explorer.explorer import Explorer

_HERE: Final = files("fsm_mediator.explorer")


class ExplorerWidget(anywidget.AnyWidget):
    """What a notebook's front end shows of an explorer; its `view` is all that it knows."""

    _esm = (_HERE / "explorer.js").read_text(encoding="utf-8")
    _css = (_HERE / "explorer.css").read_text(encoding="utf-8")
    view = traitlets.Dict().tag(sync=True)

    def __init__(self, explorer: Explorer) -> None:
        self._explorer = explorer
        super().__init__(view=view_of(explorer))
        explorer.watch(self._show)
        self.on_msg(self._take)

    def mimebundle(self) -> dict[str, Any]:
        """What tells a front end to show it."""
        shown = self._repr_mimebundle_()
        return dict(shown[0] if isinstance(shown, tuple) else shown or {})

    def _show(self) -> None:
        self.view = view_of(self._explorer)

    def _take(self, _widget: object, content: dict[str, Any], _buffers: object) -> None:
        take(self._explorer, content)
