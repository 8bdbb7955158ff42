"""The Sphinx extension: a page shows the saga's machine, notices changes, and warns of what it cannot find."""

from __future__ import annotations

import importlib
import io
import os
import re
import sys

import pytest
from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace, patch_docutils

from fsm_mediator import Mediator, MemoryJournal, Statistics
from fsm_mediator.diagram import saga_diagram
from fsm_mediator.diagram.text import digest_of
from tests.test_group_diagrams import saga as group_saga

pytestmark = pytest.mark.once

SHOP = """
from fsm_mediator import Saga, step

@step
def reserve(order): ...

@reserve.compensation
def release(order): ...

@step
def charge(order): ...

checkout = Saga("checkout", [reserve, charge])
both = [checkout, Saga("refund", [charge])]
"""


class Site:
    """A site in a folder, with a module of sagas."""

    def __init__(self, folder):
        self.folder = folder
        self.config = {"extensions": ["fsm_mediator.sphinx"], "html_theme": "basic"}
        (folder / "shop_for_docs.py").write_text(SHOP)

    def page(self, text, name="index"):
        (self.folder / f"{name}.rst").write_text(f"{name}\n{'=' * len(name)}\n\n{text}\n")

    def build(self, builder="html", **config):
        """Build what is out of date; returns the warnings, and which pages were read."""
        sys.modules.pop("shop_for_docs", None)  # as another process would have it
        warnings = io.StringIO()
        folder = self.folder
        with patch_docutils(), docutils_namespace():
            app = Sphinx(
                str(folder),
                None,
                str(folder / "_build" / builder),
                str(folder / "_build" / "doctrees"),
                builder,
                confoverrides={**self.config, **config},
                status=None,
                warning=warnings,
            )
            app.connect("env-before-read-docs", lambda app, env, names: setattr(self, "read", set(names)))
            app.build()
        return re.sub(r"\x1b\[[\d;]*m", "", warnings.getvalue())

    def checkout(self):
        return importlib.import_module("shop_for_docs").checkout

    def html(self, name="index"):
        return (self.folder / "_build" / "html" / f"{name}.html").read_text(encoding="utf-8")

    def images(self, builder="html"):
        return sorted((self.folder / "_build" / builder / "_images").glob("*"))


@pytest.fixture
def site(tmp_path, monkeypatch):
    """An empty site."""
    monkeypatch.syspath_prepend(tmp_path)
    yield Site(tmp_path)
    sys.modules.pop("shop_for_docs", None)


def test_page_shows_the_machine_and_says_it_in_words(site):
    """A page shows the SVG of the machine; who cannot see it is told the machine in a sentence."""
    site.page(".. saga-diagram:: shop_for_docs:checkout")

    assert site.build() == ""

    (image,) = site.images()
    wanted = saga_diagram(site.checkout(), "steps")
    assert f'data-dot="{digest_of(wanted.to_dot())}"' in image.read_text()
    assert f'alt="{wanted.alt}"' in site.html()
    assert f'href="_images/{image.name}"' in site.html()


def test_every_option_is_taken(site):
    """View, theme, caption, alt, name and class do what a figure's do."""
    site.page(
        ".. saga-diagram:: shop_for_docs:checkout\n"
        '   :view: steps\n   :theme: dark\n   :caption: How *it* goes\n   :alt: "Two" <steps>\n'
        "   :name: there\n   :class: wide\n\nSee :ref:`the picture <there>`."
    )

    assert site.build() == ""

    (image,) = site.images()
    wanted = saga_diagram(site.checkout(), view="steps", theme="dark")
    assert f'data-dot="{digest_of(wanted.to_dot())}"' in image.read_text()
    html = site.html()
    assert "How <em>it</em> goes" in html
    assert 'alt="&quot;Two&quot; &lt;steps&gt;"' in html
    assert re.search(r'<figure[^>]* id="there"', html)
    assert "wide" in html
    assert 'href="#there"' in html


def test_theme_auto_shows_the_page_s_own(site):
    """With `auto` both pictures are there, and the site's theme shows the one that fits."""
    site.page(".. saga-diagram:: shop_for_docs:checkout")

    assert site.build(saga_diagram_theme="auto") == ""

    assert len(site.images()) == 2
    links = re.findall(r'<a class="([^"]*)"[^>]*href="_images/', site.html())
    assert [link.split()[1] for link in links] == ["only-light", "only-dark"]


def test_mermaid_is_text_for_the_site_s_own_mermaid(site):
    """A Mermaid chart stands in the page as text that no browser takes for markup; its script is the site's."""
    site.page(".. saga-diagram:: shop_for_docs:checkout\n   :format: mermaid")
    site.page("No picture.", "other")

    site.build(saga_diagram_mermaid_js="mermaid.min.js")

    found = re.search(r'<pre class="mermaid">\n(.*?)</pre>', site.html(), re.DOTALL)
    assert found is not None
    assert found[1].startswith("flowchart LR")
    assert "<" not in found[1]
    assert "mermaid.min.js" in site.html()
    assert "mermaid.min.js" not in site.html("other")
    assert not site.images()


def test_book_has_one_drawn_picture_for_each_diagram(site):
    """A reader of EPUB has no dark theme and no scripts: it gets one picture, and a chart is drawn."""
    site.page(
        ".. saga-diagram:: shop_for_docs:checkout\n\n.. saga-diagram:: shop_for_docs:checkout\n   :format: mermaid"
    )

    assert site.build("epub", saga_diagram_theme="auto", version="1", copyright="us") == ""

    page = (site.folder / "_build" / "epub" / "index.xhtml").read_text()
    assert page.count("<img") == 2
    assert "only-dark" not in page
    assert "flowchart" not in page


@pytest.mark.parametrize(("option", "branches"), [("1", 1), ("all", None)])
def test_number_of_branches_can_be_chosen(site, option, branches):
    """The option ``branches`` limits the branches of each group; ``all`` draws every branch."""
    site.page(f".. saga-diagram:: tests.test_group_diagrams:saga\n   :branches: {option}")

    assert site.build() == ""

    wanted = group_saga.diagram("steps", branches=branches)
    assert f'data-dot="{digest_of(wanted.to_dot())}"' in site.images()[0].read_text()


def test_wrong_number_of_branches_is_a_warning_with_what_can_be_given(site):
    """A typo in the option ``branches`` is a warning that names the choices."""
    site.page(".. saga-diagram:: shop_for_docs:checkout\n   :branches: few")

    assert "at least 1, or 'all'" in site.build()


def test_what_is_shown_can_be_chosen(site):
    """Hidden parts, title, width and legend are options, as they are in Python."""
    options = "   :hide: stuck undo\n   :title: How it goes\n   :width: 400\n   :legend: all"
    site.page(f".. saga-diagram:: shop_for_docs:checkout\n{options}")

    assert site.build() == ""

    wanted = site.checkout().diagram("steps", hide={"stuck", "undo"}, title="How it goes", width=400, legend=True)
    assert f'data-dot="{digest_of(wanted.to_dot())}"' in site.images()[0].read_text()


def test_other_builders_get_what_they_can_show(site):
    """For PDF a chart is drawn; plain text says the machine in words."""
    site.page(".. saga-diagram:: shop_for_docs:checkout\n   :format: mermaid")

    assert site.build("latex") == ""
    assert site.build("text") == ""

    (drawn,) = (site.folder / "_build" / "latex").glob("checkout-*.pdf")
    assert drawn.read_bytes().startswith(b"%PDF")
    said = (site.folder / "_build" / "text" / "index.txt").read_text()
    assert "Steps of the saga checkout" in " ".join(said.split())


def test_changed_saga_is_drawn_anew_and_nothing_else_is(site):
    """An incremental build reads the pages of sagas that have changed, though their own files have not."""
    site.page(".. saga-diagram:: shop_for_docs:checkout\n\n.. toctree::\n\n   other\n   plain")
    site.page(".. saga-diagram:: shop_for_docs:both\n", "other")
    site.page("No picture.", "plain")
    (site.folder / "shop_for_docs.py").write_text(SHOP.replace("both = [checkout, ", "both = ["))
    site.build()
    assert site.read == {"index", "other", "plain"}

    assert site.build() == ""
    assert site.read == set()

    changed = SHOP.replace("both = [checkout, ", "both = [").replace("[reserve, charge]", "[charge, reserve]")
    (site.folder / "shop_for_docs.py").write_text(changed)
    os.utime(site.folder / "shop_for_docs.py", (1, 1))  # even where no clock tells: what is compared is the machine

    assert site.build() == ""
    assert site.read == {"index"}
    assert "charge, then reserve" in site.html()


def numbers(site, orders):
    """Write statistics of so many orders beside the page."""
    journal = MemoryJournal()
    with Mediator(site.checkout(), journal=journal) as mediator:
        for number in range(orders):
            mediator.run("checkout", saga_id=f"o-{number}")
    stats = Statistics.read(site.checkout(), journal)
    (site.folder / "week.json").write_text(stats.to_json())
    return stats


def test_numbers_are_drawn_from_a_file(site):
    """A build without a journal shows the numbers of a JSON file beside the page, anew when the file has changed."""
    stats = numbers(site, 3)
    site.page(
        ".. saga-diagram:: shop_for_docs:checkout\n   :stats: week.json\n   :show: failures\n\n"
        ".. saga-diagram:: shop_for_docs:checkout\n   :stats: week.json week.json\n   :theme: dark"
    )

    assert site.build() == ""

    shown = "".join(image.read_text() for image in site.images())
    for diagram in (stats.diagram("failures"), stats.diagram(beside=stats, theme="dark")):
        assert f'data-dot="{digest_of(diagram.to_dot())}"' in shown
    assert site.build() == ""
    assert site.read == set()
    numbers(site, 4)
    assert site.build() == ""
    assert site.read == {"index"}
    assert "of 4" in site.html()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (":stats: nowhere.json", "cannot be read: No such file"),
        (":stats: index.rst", "holds no statistics"),
    ],
)
def test_numbers_that_cannot_be_drawn_are_a_warning(site, options, says):
    """A missing or wrong file is told with the page's file and line."""
    numbers(site, 1)
    site.page(f".. saga-diagram:: shop_for_docs:checkout\n   {options}")

    told = site.build()

    assert told.startswith(f"{site.folder / 'index.rst'}:4: WARNING: saga-diagram: ")
    assert says in told


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("shop_for_docs:chekout", "'shop_for_docs' has no 'chekout'"),
        ("no_such_shop:checkout", "the module 'no_such_shop' cannot be imported"),
        ("shop_for_docs", "names no object"),
        ("shop_for_docs:both", "holds 2 sagas (checkout, refund); name one of them"),
        ("shop_for_docs:reserve", "takes a mediator, a saga, or a list of sagas"),
    ],
)
def test_broken_reference_is_a_warning_with_file_and_line(site, target, says):
    """A saga that is not there is told with the page's file and line, at every build until it is mended."""
    site.page(f"Before.\n\n.. saga-diagram:: {target}\n\nAfter.")

    for _ in range(2):
        told = site.build()

        assert told.startswith(f"{site.folder / 'index.rst'}:6: WARNING: saga-diagram: ")
        assert says in told
        assert told.count("WARNING") == 1
    assert "After." in site.html()

    site.page("Before.\n\n.. saga-diagram:: shop_for_docs:checkout\n\nAfter.")
    assert site.build() == ""


def test_without_graphviz_a_warning_names_both_cures_and_the_chart_is_shown_as_text(site, monkeypatch):
    """Who builds without Graphviz is told what to install, and where the picture is missing."""
    monkeypatch.setitem(sys.modules, "pygraphviz", None)
    monkeypatch.setenv("PATH", "/nowhere")
    site.page(".. saga-diagram:: shop_for_docs:checkout")

    told = site.build()

    assert "index.rst:4: WARNING: saga-diagram: " in told
    assert "'dot' is on the PATH" in told
    assert "fsm-mediator[diagrams]" in told
    assert "flowchart LR" in site.html()


def test_hostile_alt_cannot_leave_its_attribute(site):
    """Whatever is said for those who cannot see a picture, it stays that."""
    site.page('.. saga-diagram:: shop_for_docs:checkout\n   :alt: "><script>alert(1)</script>')

    assert site.build() == ""

    assert "<script>alert" not in site.html()
    assert "<script>alert" not in site.images()[0].read_text()
