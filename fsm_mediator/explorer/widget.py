"""The explorer as an anywidget. Only this module imports anywidget, and it is imported only when needed."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

import traitlets

from fsm_mediator.explorer.view import Play, take, view_of

if TYPE_CHECKING:  # type checkers cannot use the real class, because its metaclass has no type annotations

    class AnyWidget(traitlets.HasTraits):
        """The base class `anywidget.AnyWidget`, as type checkers see it."""

        def __getattr__(self, name: str) -> Any: ...

else:
    from anywidget import AnyWidget

_HERE: Final = files("fsm_mediator.explorer")


class ExplorerWidget(AnyWidget):
    """Shows an explorer in a notebook. The front end gets only the result of `view_of`."""

    _esm = (_HERE / "explorer.js").read_text(encoding="utf-8")
    _css = (_HERE / "explorer.css").read_text(encoding="utf-8")
    view: traitlets.Dict[str, Any] = traitlets.Dict().tag(sync=True)

    def __init__(self, explorer: Play) -> None:
        self._explorer = explorer
        super().__init__(view=view_of(explorer))
        explorer.watch(self._show)
        self.on_msg(self._take)

    def mimebundle(self) -> dict[str, Any]:
        """The MIME bundle that makes a front end show the widget."""
        shown = self._repr_mimebundle_()
        return dict(shown[0] if isinstance(shown, tuple) else shown or {})

    def _show(self) -> None:
        self.view = view_of(self._explorer)

    def _take(self, _widget: object, content: dict[str, Any], _buffers: object) -> None:
        take(self._explorer, content)
