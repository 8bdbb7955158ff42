"""How the documentation is built: ``python -m sphinx -W docs docs/_build``, with the extra ``docs``.

A page that is added to this folder is found, and listed under the kind that `KINDS` says, else among the explanations;
a public name that the reference does not mention is listed at its end.
"""

import re
import sys
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]  # the examples, and this folder's own sagas

import fsm_mediator.errors  # noqa: E402 - after the path is known

project = "fsm_mediator"
copyright = "fsm_mediator contributors"  # noqa: A001 - as Sphinx calls it
release = version = fsm_mediator.__version__
html_title = f"fsm_mediator {version}"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "fsm_mediator.sphinx"]
html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["wide.css"]
exclude_patterns = ["_build", "pictures/README.md"]

myst_enable_extensions = ["colon_fence", "tasklist"]
myst_heading_anchors = 3
saga_diagram_theme = "auto"

if find_spec("sphinxcontrib.cairosvgconverter") is not None:  # of the extra `books`: LaTeX reads no SVG
    extensions.append("sphinxcontrib.cairosvgconverter")
latex_documents = [
    ("index", "documentation.tex", r"fsm\_mediator", r"fsm\_mediator contributors", "manual")
]  # a picture is called as the project is
SIGNS = {"21A9": "hookleftarrow", "21BB": "circlearrowright"}
latex_elements = {
    "fontpkg": r"\usepackage{mathptmx}\usepackage[scaled]{helvet}\usepackage{courier}",
    "preamble": "".join(
        rf"\DeclareUnicodeCharacter{{{sign}}}{{\ensuremath{{\{name}}}}}" for sign, name in SIGNS.items()
    ),
}

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_class_signature = "mixed"
napoleon_use_ivar = True  # attributes are told once, in their class

KINDS = {
    "tutorial": ["tutorial"],
    "how-to": [
        "composition",
        "timeouts",
        "testing",
        "operating",
        "production",
        "monitor",
        "fastapi",
        "flask",
        "django",
        "embedding",
        "scaling",
        "upgrades",
        "exactly_once",
        "secrets",
        "telemetry",
        "diagrams",
        "notebooks",
        "saga_files",
        "engines",
        "exports",
    ],
    "cookbook": ["cookbook"],
    "reference": ["reference", "machine", "glossary"],
    "explanation": [
        "why_sagas",
        "comparison",
        "coming_from",
        "rules",
        "journal",
        "verification",
        "mutants",
        "conformance",
        "pictures",
        "benchmarks",
        "costs",
    ],
}
"""The kinds of pages, and their order. A name may stand here before its page is written."""


def _pages() -> dict[str, list[str]]:
    there = {path.stem for path in HERE.glob("*.md")} - {"index", "README"}
    pages = {kind: [name for name in names if name in there] for kind, names in KINDS.items()}
    pages["explanation"] += sorted(there - {name for names in KINDS.values() for name in names})
    return pages


def _autodoc(name: str) -> str:
    thing = getattr(fsm_mediator, name)
    kind = "autoclass" if isinstance(thing, type) else "autofunction" if callable(thing) else "autodata"
    return f".. {kind}:: fsm_mediator.{name}\n" + ("   :members:\n" if kind == "autoclass" else "")


def _prepare(_app: object, docname: str, source: list[str]) -> None:
    text = source[0]
    if docname == "index":
        for kind, names in _pages().items():
            text = text.replace(f"[[{kind}]]", "\n".join(names))
    if docname == "reference":
        named = set(re.findall(r"fsm_mediator\.(\w+)$", text, re.MULTILINE))
        rest = sorted(set(fsm_mediator.__all__) - named - set(vars(fsm_mediator.errors)))
        text = text.replace("[[rest]]", "\n".join(map(_autodoc, rest)))
    # A page of the repository is read as plain Markdown as well; here its pictures take the width, and open on a click.
    image = r"```{image} \2\n:alt: \1\n:width: 100%\n```"
    text = re.sub(r"^!\[(.+)\]\((pictures/\S+\.svg)\)$", image, text, flags=re.MULTILINE)
    # A link to what lies outside of this folder is good on a page of the repository; here its path is told.
    source[0] = re.sub(r"(?<!!)\[([^\]\[]+)\]\(\.\./([^)\s]+)\)", r"\1 (`\2`)", text)


def setup(app: object) -> None:
    """Sphinx calls it."""
    app.connect("source-read", _prepare)  # type: ignore[attr-defined]  # its type would need Sphinx to lint this file
