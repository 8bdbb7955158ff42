"""Sphinx: the directive ``saga-diagram``, which draws the machine of a saga into a page of documentation.

In ``conf.py``: ``extensions = ["fsm_mediator.sphinx"]``. Then in a page::

    .. saga-diagram:: shop.sagas:checkout
       :direction: down
       :caption: How a checkout goes

The page is built again if the saga's machine has changed, whichever file the change is in. Nothing is downloaded. An
SVG is an image without code. A Mermaid chart is drawn by the Mermaid script of the site, or by the script in the
configuration.
"""

from __future__ import annotations

import hashlib
import html
from collections.abc import Callable, Iterable
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar, Final

import msgspec
from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective
from sphinx.util.typing import ExtensionMetadata

from fsm_mediator.cli.loading import load_app
from fsm_mediator.diagram import Diagram
from fsm_mediator.diagram.folding import branches_of
from fsm_mediator.diagram.layout.step_sizes import DIRECTIONS
from fsm_mediator.diagram.picture import STEPS, VIEWS
from fsm_mediator.diagram.render import draw, svg_of
from fsm_mediator.diagram.themes import THEMES, ThemeName
from fsm_mediator.errors import DefinitionError, MediatorError, MissingExtraError
from fsm_mediator.statistics import Statistics
from fsm_mediator.statistics.showing import SHOWN, Show

SVG: Final = "svg"
MERMAID: Final = "mermaid"
AUTO: Final = "auto"
"""The theme that follows the page's theme. A light and a dark picture are on the page, and one of them is shown."""

_DRAWN: Final = (("image/svg+xml", "svg"), ("application/pdf", "pdf"), ("image/png", "png"))

_LOOK: Final = ("view", "direction", "width", "hide", "branches", "title", "legend")
"""The options of the directive that are attributes of `Diagram`."""

_CHART: Final = '<pre class="mermaid">'

logger: logging.SphinxLoggerAdapter = logging.getLogger(__name__)


class Wanted(msgspec.Struct, frozen=True):
    """The argument and the options of one directive.

    Attributes:
        target: The saga, as ``module:object``.
        format: The format of the diagram: ``svg`` or ``mermaid``.
        themes: The themes in which the diagram is drawn.
        look: The other attributes of the `Diagram`.
        stats: Files with statistics that are drawn on the diagram. Two files are drawn side by side.
        show: The statistic that is drawn, as in `Statistics.diagram`.
    """

    target: str
    format: str
    themes: tuple[ThemeName, ...]
    look: dict[str, Any]
    stats: tuple[str, ...] = ()
    show: Show = "p95"

    def drawings(self) -> Drawings:
        """Load the saga, and return its diagram as text.

        Raises:
            MediatorError: The saga, or a file with statistics, cannot be loaded.
        """
        sagas = load_app(self.target).sagas
        if len(sagas) != 1:
            names = ", ".join(saga.name for saga in sagas)
            raise DefinitionError(f"{self.target} holds {len(sagas)} sagas ({names}); name one of them")
        diagram = Diagram(sagas[0], **self.look)
        if self.stats:
            first, *second = (Statistics.from_json(sagas[0], Path(path)) for path in self.stats)
            diagram = first.diagram(self.show, beside=second[0] if second else None).with_(**self.look)
        diagrams = [diagram.with_(theme=theme) for theme in self.themes]
        return Drawings(
            sagas[0].name,
            diagrams[0].alt,
            {diagram.theme: diagram.to_dot() for diagram in diagrams},
            diagrams[0].to_mermaid(),
        )


class Drawings(msgspec.Struct, frozen=True):
    """A diagram as text. The page keeps it until a builder draws it in a format that the builder can show.

    Attributes:
        name: The saga's name.
        alt: The alternative text.
        dots: The DOT text of the diagram in each theme, by theme.
        mermaid: The text of the Mermaid chart.
    """

    name: str
    alt: str
    dots: dict[str, str]
    mermaid: str

    def digest(self) -> str:
        """The hash of all attributes. If the hash of a diagram has changed, the page of the diagram is built again."""
        return hashlib.sha256(repr(self).encode()).hexdigest()[:16]


class saga_diagram(nodes.General, nodes.Element):  # noqa: N801 - as docutils names its nodes
    """The node of a diagram in a page. `_draw` replaces it when the format of the page is known."""


def _choice(*known: str) -> Callable[[str], str]:
    return lambda argument: directives.choice(argument, known)


class SagaDiagram(SphinxDirective):
    """The directive ``.. saga-diagram:: module:object``."""

    required_arguments = 1
    option_spec: ClassVar[dict[str, Callable[[str], Any]] | None] = {
        "view": _choice(*VIEWS),
        "direction": _choice(*DIRECTIONS),
        "width": directives.positive_int,
        "hide": str.split,
        "branches": branches_of,
        "title": directives.unchanged_required,
        "legend": lambda argument: _choice("all", "none")(argument) == "all",
        "stats": str.split,
        "show": _choice(*SHOWN),
        "format": _choice(SVG, MERMAID),
        "theme": _choice(*THEMES, AUTO),
        "caption": directives.unchanged_required,
        "alt": directives.unchanged_required,
        "name": directives.unchanged,
        "class": directives.class_option,
    }

    def run(self) -> list[nodes.Node]:
        """The nodes for the diagram, in a figure if there is a caption. Empty, with a warning, if drawing fails."""
        theme = self.options.get("theme", self.config.saga_diagram_theme)
        wanted = Wanted(
            self.arguments[0],
            self.options.get("format", self.config.saga_diagram_format),
            ("light", "dark") if theme == AUTO else (theme,),
            {"view": STEPS, **{name: self.options[name] for name in _LOOK if name in self.options}},
            tuple(self.env.relfn2path(path)[1] for path in self.options.get("stats", ())),
            self.options.get("show", "p95"),
        )
        kept = _kept(self.env).setdefault(self.env.docname, [])
        try:
            drawings = wanted.drawings()
        except MediatorError as error:
            kept.append((wanted, None))
            logger.warning("saga-diagram: %s", error, location=self.get_location(), type="saga-diagram")
            return []
        kept.append((wanted, drawings.digest()))
        node = saga_diagram(
            "",
            drawings=drawings,
            format=wanted.format,
            alt=self.options.get("alt", drawings.alt),
            classes=self.options.get("class", []),
        )
        self.set_source_info(node)
        if "caption" not in self.options:
            self.add_name(node)
            return [node]
        text, messages = self.parse_inline(self.options["caption"], lineno=self.lineno)
        figure = nodes.figure("", node, nodes.caption("", "", *text))
        self.set_source_info(figure)
        self.add_name(figure)
        return [figure, *messages]


def _draw(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Replace each diagram of the page *docname* by nodes that the builder can show."""
    for node in list(doctree.findall(saga_diagram)):
        if node["format"] == MERMAID and _runs_scripts(app):
            code = html.escape(node["drawings"].mermaid)
            node.replace_self(nodes.raw("", f"{_CHART}\n{code}</pre>\n", format="html"))
        else:
            node.replace_self(_images(app, node, docname))


def _runs_scripts(app: Sphinx) -> bool:
    """Whether the site's styles and scripts work in the pages. They do in a browser, but not in an EPUB file."""
    return app.builder.format == "html" and app.builder.name != "epub"


def _images(app: Sphinx, node: saga_diagram, docname: str) -> list[nodes.Node]:
    drawings: Drawings = node["drawings"]
    several = _runs_scripts(app) and len(drawings.dots) > 1
    images: list[nodes.Node] = []
    for theme, dot in list(drawings.dots.items())[: None if several else 1]:
        try:
            path = _drawn(app, drawings.name, dot, node["alt"])
        except MissingExtraError as error:
            logger.warning("saga-diagram: %s", error, location=node, type="saga-diagram")
            return [nodes.literal_block(drawings.mermaid, drawings.mermaid, language="text")]
        classes = [*node["classes"], "saga-diagram", *([f"only-{theme}"] if several else [])]
        # The picture is as wide as the page. If this is not its own width, Sphinx makes it a link to the whole picture.
        image = nodes.image("", uri=path, candidates={"*": path}, alt=node["alt"], width="100%", classes=classes)
        image["ids"], image["names"] = ([], []) if images else (node["ids"], node["names"])
        image.source, image.line = node.source, node.line
        app.env.images.add_file(docname, path)
        images.append(image)
    return images


def _drawn(app: Sphinx, name: str, dot: str, alt: str) -> str:
    """The path of the file with the picture of *dot*. If the file does not exist, the picture is drawn into it."""
    can_show = app.builder.supported_image_types
    kind = next((kind for mime, kind in _DRAWN if mime in can_show), "svg")
    digest = hashlib.sha256(f"{dot}{alt}".encode()).hexdigest()[:12]
    path = Path(app.doctreedir) / "saga-diagrams" / f"{name}-{digest}.{kind}"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(svg_of(dot, alt).encode() if kind == "svg" else draw(dot, kind))
    return str(path)


Kept = dict[str, list[tuple[Wanted, str | None]]]
"""For each page, by name: each directive on it, and the digest of its drawing, or None if it could not be drawn."""


def _kept(env: BuildEnvironment) -> Kept:
    if not hasattr(env, "saga_diagrams"):
        env.saga_diagrams = {}  # type: ignore[attr-defined]  # Sphinx lets extensions keep data in the environment
    kept: Kept = env.saga_diagrams  # type: ignore[attr-defined]
    return kept


def _forget(_app: Sphinx, env: BuildEnvironment, docname: str) -> None:
    _kept(env).pop(docname, None)


def _merge(_app: Sphinx, env: BuildEnvironment, docnames: Iterable[str], other: BuildEnvironment) -> None:
    theirs = _kept(other)
    _kept(env).update({name: theirs[name] for name in docnames if name in theirs})


def _outdated(
    _app: Sphinx, env: BuildEnvironment, added: set[str], changed: set[str], removed: set[str]
) -> Iterable[str]:
    """The names of the pages that Sphinx must read again, because a saga on them has changed or could not be loaded."""
    return [
        docname
        for docname, asked in _kept(env).items()
        if docname not in added | changed | removed and any(_digest(wanted) != digest for wanted, digest in asked)
    ]


def _digest(wanted: Wanted) -> str | None:
    try:
        return wanted.drawings().digest()
    except MediatorError:
        return ""  # no kept digest is empty, so a broken diagram causes a warning in each build


def _with_mermaid(app: Sphinx, _page: str, _template: str, _context: dict[str, Any], doctree: Any) -> None:
    """Add the configured Mermaid script to a page that has a chart. Without a configured script, add nothing."""
    script = app.config.saga_diagram_mermaid_js
    if (
        script
        and doctree is not None
        and any('<pre class="mermaid">' in raw.astext() for raw in doctree.findall(nodes.raw))
    ):
        app.add_js_file(script)
        app.add_js_file(None, body="mermaid.initialize({startOnLoad: true, securityLevel: 'strict'})")


def setup(app: Sphinx) -> ExtensionMetadata:
    """Register the directive and its settings. Sphinx calls this function."""
    app.add_config_value("saga_diagram_format", SVG, "env", str)
    app.add_config_value("saga_diagram_theme", "light", "env", str)
    app.add_config_value("saga_diagram_mermaid_js", "", "html", str)
    app.add_node(saga_diagram)
    app.add_directive("saga-diagram", SagaDiagram)
    app.connect("env-purge-doc", _forget)
    app.connect("env-merge-info", _merge)
    app.connect("env-get-outdated", _outdated)
    app.connect("doctree-resolved", _draw)
    app.connect("html-page-context", _with_mermaid)
    return {
        "version": metadata.version("fsm-mediator"),
        "env_version": 2,
        "parallel_read_safe": True,
        "parallel_write_safe": True,
    }
