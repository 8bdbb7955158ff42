"""Diagram: a picture of a saga's machine, or of a run, in every format."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypedDict, TypeVar, Unpack
from weakref import WeakKeyDictionary

import attrs
import msgspec

from fsm_mediator.definition.saga import Saga
from fsm_mediator.diagram.branches import saga_picture
from fsm_mediator.diagram.detail_dot import detail_lines
from fsm_mediator.diagram.dot import digraph
from fsm_mediator.diagram.flow import FlowPicture, flow_picture
from fsm_mediator.diagram.folding import MOST_BRANCHES, check_branches
from fsm_mediator.diagram.history import Run, frames_of
from fsm_mediator.diagram.layout.detail import detail_layout
from fsm_mediator.diagram.layout.step_sizes import DIRECTIONS, LEAST, PAGE, RIGHT, Direction
from fsm_mediator.diagram.layout.steps import steps_layout
from fsm_mediator.diagram.live import POLL, Reader
from fsm_mediator.diagram.mermaid import is_drawable, to_mermaid
from fsm_mediator.diagram.notebook import NotebookImage
from fsm_mediator.diagram.numbers import Numbers, with_numbers, with_numbers_on_states
from fsm_mediator.diagram.picture import DETAIL, HIDDEN, STEPS, Hidden, Picture, View, check_view
from fsm_mediator.diagram.steps_dot import steps_lines
from fsm_mediator.diagram.steps_text import steps_mermaid, steps_table
from fsm_mediator.diagram.table import records_table, transitions_table
from fsm_mediator.diagram.text import MOST_ALT, clean, digest_of, shorten
from fsm_mediator.diagram.themes import ThemeName, theme_of
from fsm_mediator.errors import DefinitionError, MissingExtraError
from fsm_mediator.execution.outcome import Outcome
from fsm_mediator.machine.machine import CompiledMachine
from fsm_mediator.retry import check_number
from fsm_mediator.states import is_ended

if TYPE_CHECKING:
    import graphviz

    from fsm_mediator.diagram.live_widget import LiveWidget

FORMATS: Final = ("svg", "png", "pdf", "dot", "mmd", "md")
"""The suffixes of the files that `Diagram.render` can write."""

LIGHT: Final[ThemeName] = "light"

T = TypeVar("T")
P = TypeVar("P", Picture, FlowPicture)

_results: WeakKeyDictionary[CompiledMachine, dict[tuple[Any, ...], Any]] = WeakKeyDictionary()
"""For each machine, the results of `Diagram._once` for diagrams without a run. They are shared by all such diagrams.

A machine never changes, so these results never change.
"""


class Look(TypedDict, total=False):
    """Keyword arguments that set how a picture is drawn. `Diagram` has an attribute for each of them."""

    theme: ThemeName
    direction: Direction | None
    width: int | None
    hide: Hidden | Collection[Hidden]
    branches: int | None
    title: str | None
    legend: bool | None


def _as_view(view: View) -> View:
    return check_view(view)


def _as_set(names: Hidden | Collection[Hidden]) -> frozenset[Hidden]:
    return frozenset([names] if isinstance(names, str) else names)


@attrs.frozen(eq=False, repr=False, slots=False)
class Diagram:
    """A picture of a saga's machine, or of one run of it.

    ``saga.diagram()`` and ``outcome.diagram()`` return a diagram. Jupyter, VS Code and marimo show it. The methods
    `to_dot`, `to_mermaid` and `to_markdown_table` return text and need no Graphviz. The methods `to_svg` and `render`
    draw, and need the extra ``diagrams`` or the program ``dot`` on the PATH. In an f-string, the formats ``dot``,
    ``mermaid``, ``md`` and ``svg`` work too: ``f"{diagram:mermaid}"``.

    Attributes:
        saga: The definition.
        run: The execution to show. None to show only the machine.
        view: ``steps`` (one box for each step) or ``detail`` (every state).
        theme: ``light``, ``dark``, ``auto`` (an SVG that follows the theme of the reader's page) or ``red`` (for a run
            that should be impossible).
        direction: The direction of the steps view: ``right`` (rows, like lines of text) or ``down`` (one column). None
            for the default of the format.
        width: The maximum width of the rows in the steps view, in pixels. None for 736, the width of a README.
        hide: The elements to leave out: the states ``stuck``, the states ``retrying``, all of compensation (``undo``),
            or everything except the run's own path (``unreached``).
        branches: The maximum number of branches that are drawn for each group and choice. None for all branches. A box
            stands for the branches that are left out: it has their number, their names and, in the picture of a run,
            their states. A picture of a run prefers branches that are stuck, failed, wait, run or were compensated.
        title: The title. None for the saga's name and the run's id.
        legend: True to explain every sign, False for no legend, None to explain only the signs in the picture.
        numbers: Statistics of many runs, written on the steps. `Statistics.diagram` sets them. None for no statistics.
        beside: A second diagram that is drawn beside this one. Both must have statistics. A colour means the same value
            in both.
        reader: A function that returns a reader of the execution, for `live`. `Mediator.diagram` sets it.

    Raises:
        DefinitionError: There is no such view, theme or direction, *hide* has an unknown name, or *branches* is not a
            positive number.
    """

    saga: Saga
    run: Run | None = None
    view: View = attrs.field(default=DETAIL, kw_only=True, converter=_as_view)
    theme: ThemeName = attrs.field(default=LIGHT, kw_only=True)
    direction: Direction | None = attrs.field(default=None, kw_only=True)
    width: int | None = attrs.field(default=None, kw_only=True)
    hide: frozenset[Hidden] = attrs.field(default=frozenset(), kw_only=True, converter=_as_set)
    branches: int | None = attrs.field(default=MOST_BRANCHES, kw_only=True, converter=check_branches)
    title: str | None = attrs.field(default=None, kw_only=True)
    legend: bool | None = attrs.field(default=None, kw_only=True)
    numbers: Numbers | None = attrs.field(default=None, kw_only=True)
    beside: Diagram | None = attrs.field(default=None, kw_only=True)
    reader: Callable[[], Reader] | None = attrs.field(default=None, kw_only=True)
    _own: dict[tuple[Any, ...], Any] = attrs.field(factory=dict, init=False)

    def __attrs_post_init__(self) -> None:
        theme_of(self.theme)
        wrong = self.direction not in (None, *DIRECTIONS) or (LEAST if self.width is None else self.width) < LEAST
        if (self.direction is not None or self.width is not None) and (wrong or self.view != STEPS):
            raise DefinitionError(
                f"the view {self.view!r} cannot be drawn with direction={self.direction!r} and width={self.width!r}; "
                f"{STEPS!r} has the directions {', '.join(DIRECTIONS)}, and a width of at least {LEAST} pixels"
            )
        if unknown := self.hide - HIDDEN:
            raise DefinitionError(f"cannot hide {', '.join(sorted(unknown))}; there are {', '.join(sorted(HIDDEN))}")

        if self.beside is not None and self.view != STEPS:
            raise DefinitionError(f"two pictures are drawn side by side in the view {STEPS!r}, not in {self.view!r}")

    def with_(self, *, view: View | None = None, **look: Unpack[Look]) -> Diagram:
        """A copy of the diagram with other attributes: ``diagram.with_(theme="dark")``."""
        view = view or self.view
        if view != STEPS:
            look = {"direction": None, "width": None, **look}
        return attrs.evolve(self, view=view, **look)

    @property
    def picture(self) -> Any:
        """The content of the diagram: a `FlowPicture` in the steps view, a `Picture` in the detail view."""
        return self._drawing[0]

    @property
    def _drawing(self) -> tuple[Any, Any]:
        """The picture and its layout: a `Picture` or a `FlowPicture`, and a `Layout`."""
        return self._once("drawing", self._draw)

    def _once(self, what: str, make: Callable[[], T]) -> T:
        """The result of *make*. Later calls with the same *what* return the stored result.

        If diagrams of the same machine have no run and no statistics, they share the stored results.
        """
        own = self.run is not None or self.numbers is not None
        results = self._own if own else _results.setdefault(self.saga.machine, {})
        look = (self.theme, self.direction, self.width, self.hide, self.branches, self.title, self.legend)
        key = (what, self.view, *look)
        if key not in results:
            results[key] = make()
        made: T = results[key]
        return made

    def _draw(self) -> tuple[Any, Any]:
        saga, run = self.saga, self.run
        parts = len(saga.parts)
        about: tuple[str, ...] = (f"version {saga.version} · {parts} {'part' if parts == 1 else 'parts'}",)
        if run is not None:
            about = (run.summary, run.last_error)
        if self.view == STEPS:
            shown = self._titled(flow_picture(saga, run, about=about, most=self.branches))
            if self.numbers is not None:
                shown = self._with_numbers(shown, self.numbers)
            return shown, steps_layout(shown, self.direction or RIGHT, self.width or PAGE)
        detail = self._titled(saga_picture(saga, run, about=about, most=self.branches))
        if self.numbers is not None:
            detail = with_numbers_on_states(detail, self.numbers)
        return detail, detail_layout(detail)

    def _titled(self, picture: P) -> P:
        if self.title is not None:
            picture = msgspec.structs.replace(picture, heading=self.title)
        return picture.without(self.hide)

    def _with_numbers(self, picture: FlowPicture, numbers: Numbers) -> FlowPicture:
        """A copy of *picture* with the statistics *numbers*.

        If `beside` is a diagram with statistics, its picture is added to the right, with its own statistics.
        """
        other = self.beside
        if other is None or other.numbers is None:
            return with_numbers(picture, numbers, [numbers])
        both = [numbers, other.numbers]
        right = self._titled(flow_picture(other.saga, None, about=(), prefix="beside/", most=self.branches))
        return with_numbers(picture, numbers, both, with_numbers(right, other.numbers, both))

    @property
    def alt(self) -> str:
        """The alternative text: one or two sentences about the machine or the run, with at most 300 characters."""
        return shorten(clean(self.picture.alt), MOST_ALT)

    def to_dot(self) -> str:
        """The diagram as DOT, the language of Graphviz.

        The text contains all positions, so any ``dot`` draws the same picture.
        """
        return self._once("dot", lambda: digraph(self.picture.name, self._lines()))

    def to_graphviz(self) -> graphviz.Digraph:
        """The diagram as a ``graphviz.Digraph``, which you can render or extend. Needs the package ``graphviz``."""
        import graphviz

        return graphviz.Digraph(self.picture.name, body=[line + "\n" for line in self._lines()])

    def _lines(self) -> list[str]:
        lines = steps_lines if self.view == STEPS else detail_lines
        return lines(*self._drawing, theme_of(self.theme), self.legend)

    def to_mermaid(self) -> str:
        """A Mermaid flowchart, for a README, MkDocs or a wiki.

        Mermaid refuses charts of more than 500 lines or 50,000 characters. If the chart of the detail view is larger,
        the result is the chart of the steps view. If this chart is also larger, it has at most 12 branches of each
        group, even if `branches` is larger.
        """
        if self.view == STEPS:
            chart, lines = steps_mermaid(self.picture, theme_of(self.theme), self.direction or RIGHT)
            if is_drawable(chart, lines) or (self.branches is not None and self.branches <= MOST_BRANCHES):
                return chart
            return self.with_(branches=MOST_BRANCHES).to_mermaid()
        chart = to_mermaid(self.picture, theme_of(self.theme))
        lines = sum(1 for _ in self.picture.all_edges())
        if is_drawable(chart, lines):
            return chart
        note = f"%% every state would be {lines} lines, more than Mermaid draws: these are the steps"
        return f"{note}\n{self.with_(view=STEPS).to_mermaid()}"

    def to_markdown_table(self) -> str:
        """The diagram as a Markdown table.

        In the steps view, the rows are the steps. In the detail view, the rows are the machine's transitions, or the
        records of the run.
        """
        if self.view == STEPS:
            return steps_table(self.picture)
        return transitions_table(self.picture) if self.run is None else records_table(self.run.records)

    def to_svg(self, *, animate: bool = False) -> str:
        """The diagram as SVG. If *animate* is True and the diagram has a run, the SVG shows the run frame by frame.

        Raises:
            MissingExtraError: Graphviz is not installed. The message says what to install.
        """
        if animate and self.run is not None:
            from fsm_mediator.diagram.animation import animated_svg

            frames = self.frames()
            return animated_svg([each.to_svg() for each in frames], digest_of(*(each.to_dot() for each in frames)))
        from fsm_mediator.diagram.render import svg_of

        return self._once("svg", lambda: svg_of(self.to_dot(), self.alt))

    def animated(self) -> NotebookImage:
        """An animation of the run, for the last line of a notebook's cell.

        Raises:
            MissingExtraError: Graphviz is not installed. The message says what to install.
        """
        return NotebookImage(self.to_svg(animate=True), self.alt, repr(self))

    def live(self, mediator: Any = None, *, poll: float = POLL) -> LiveWidget:
        """A widget for the last line of a notebook's cell. Its picture changes whenever any process commits a record.

        The picture stops moving when the execution ends, or when ``close()`` of the widget is called.

        Args:
            mediator: The mediator that reads the execution. Not necessary for a diagram that `Mediator.diagram` made.
            poll: Seconds between two queries to the journal.

        Raises:
            DefinitionError: The diagram shows no execution, or it was not made by a mediator and *mediator* is None.
            MissingExtraError: anywidget is not installed.
        """
        check_number("live: poll (seconds)", poll)
        if self.run is None:
            raise DefinitionError("live() shows an execution, and this is the picture of a machine")
        saga_id, make = self.run.saga_id, self.reader
        if mediator is not None:
            if not hasattr(mediator, "watch"):
                raise DefinitionError(f"live() takes the mediator that reads {saga_id!r}, not {mediator!r}")
            make = mediator.watch(saga_id).reader
        if make is None and not is_ended(self.run.state):
            raise DefinitionError(
                f"live() needs the mediator of {saga_id!r}: outcome.diagram().live(mediator), or "
                f"mediator.watch({saga_id!r})"
            )
        try:
            from fsm_mediator.diagram.live_widget import LiveWidget
        except ImportError as error:
            raise MissingExtraError("a picture that moves", "notebook") from error
        return LiveWidget(self, make, poll)

    def frames(self) -> Sequence[Diagram]:
        """One diagram of the run before its first record, and one after each record.

        If this diagram shows no run, the result contains only this diagram.
        """
        if self.run is None:
            return [self]
        return [attrs.evolve(self, run=frame) for frame in frames_of(self.run)]

    def render(self, path: str | Path, *, animate: bool = False) -> Path:
        """Write a file in the format of its suffix.

        Args:
            path: The path of the file. Its suffix is ``.svg``, ``.png``, ``.pdf``, ``.dot``, ``.mmd`` or ``.md`` (a
                table).
            animate: Whether to show a run frame by frame. Only for ``.svg``.

        Returns:
            The path of the written file.

        Raises:
            DefinitionError: The suffix is not known, or *path* is not a path.
            MissingExtraError: Graphviz is not installed.
            OSError: The file cannot be written. The folder must exist.
        """
        if not isinstance(path, (str, os.PathLike)):
            raise DefinitionError(f"render() takes the path of a file, not {path!r}")
        path = Path(path)
        kind = path.suffix[1:].lower()
        if kind == "gif":
            raise DefinitionError("GIF is not supported; for an animation, use render('run.svg', animate=True)")
        if kind not in FORMATS:
            raise DefinitionError(f"{str(path)!r} has no known suffix; the suffix must be one of {FORMATS}")
        path.write_bytes(self.encoded(kind, animate=animate))
        return path

    def encoded(self, kind: str, *, animate: bool = False) -> bytes:
        """The content of the file that `render` would write for the suffix *kind*, for example ``png``.

        The suffixes and the errors are those of `render`.
        """
        from fsm_mediator.diagram.render import draw

        if animate and kind != "svg":
            raise DefinitionError(f"a .{kind} file cannot be animated; only .svg can")
        if kind == "svg":
            return self.to_svg(animate=animate).encode()
        if kind in ("png", "pdf"):
            return draw(self.to_dot(), kind)
        return format(self, {"mmd": "mermaid"}.get(kind, kind)).encode()

    def __format__(self, spec: str) -> str:
        if not spec:
            return str(self)
        makers = {"dot": self.to_dot, "mermaid": self.to_mermaid, "md": self.to_markdown_table, "svg": self.to_svg}
        if spec not in makers:
            raise DefinitionError(f"a diagram has no format {spec!r}; there are {', '.join(makers)}")
        return makers[spec]()

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> Mapping[str, Any]:  # noqa: ARG002 - as IPython calls it
        """The diagram for a notebook: an SVG, or a Mermaid chart if Graphviz is not installed.

        The bundle never has both, because JupyterLab would prefer Mermaid. The bundle has the SVG twice: as an HTML
        image, which front ends prefer, and as SVG. This method never raises, because a notebook would then show only
        a traceback.
        """
        bundle = {"text/plain": repr(self)}
        try:
            bundle |= NotebookImage(self.to_svg(), self.alt, repr(self))._repr_mimebundle_()
        except Exception:
            try:
                bundle["text/vnd.mermaid"] = bundle["text/plain"] = self.to_mermaid()
            except Exception as error:
                bundle["text/plain"] = f"<Diagram that cannot be shown: {type(error).__name__}>"
        return bundle

    def __repr__(self) -> str:
        what = f"run {self.run.saga_id!r} of saga" if self.run is not None else "saga"
        return f"<Diagram of {what} {self.saga.name!r}: {self.view}, {self.theme}>"


def saga_diagram(saga: Saga, view: View = DETAIL, **look: Unpack[Look]) -> Diagram:
    """A diagram of a saga's machine. *look* has attributes of `Diagram`."""
    return Diagram(saga, view=view, **look)


def run_diagram(outcome: Outcome, view: View = DETAIL, **look: Unpack[Look]) -> Diagram:
    """A diagram of a saga's machine with the marks of a run. *look* has attributes of `Diagram`."""
    run = Run(saga_id=outcome.saga_id, state=outcome.state, records=tuple(outcome.history))
    return Diagram(outcome.saga, run, view=view, **look)
