"""The documentation: it builds without a warning, its pages are found, and the tutorial does what it says."""

from __future__ import annotations

import html
import re
import subprocess
import sys
from pathlib import Path

import pytest

import fsm_mediator
from tests.test_readme import run

pytestmark = pytest.mark.once

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """The documentation as built, warnings being errors."""
    built = tmp_path_factory.mktemp("site")
    words = ["-W", "--keep-going", "-q", "-b", "html", "-d", str(built / "doctrees"), str(DOCS), str(built / "html")]
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return built / "html"


def test_every_page_is_built_and_listed(site):
    """No page is forgotten: each one that stands in docs/ is in the index, under one of the kinds."""
    index = (site / "index.html").read_text(encoding="utf-8")
    pages = {path.stem for path in DOCS.glob("*.md")} - {"index"}

    for name in pages:
        assert (site / f"{name}.html").is_file()
        assert f'href="{name}.html"' in index
    for kind in ("Tutorial", "How-to", "Explanation", "Cookbook", "Reference"):
        assert f'<span class="caption-text">{kind}</span>' in index


def test_reference_tells_every_public_name(site):
    """What can be imported from the package is explained on the reference page."""
    page = (site / "reference.html").read_text(encoding="utf-8")
    told = set(re.findall(r'id="fsm_mediator\.(?:\w+\.)*(\w+)"', page))

    assert set(fsm_mediator.__all__) - told == set()


def test_pages_show_the_saga_that_the_tutorial_writes(site):
    """The picture of the first page comes from the directive, in the colours of the page; the others show the same."""
    index = (site / "index.html").read_text(encoding="utf-8")
    assert len(re.findall(r'<a class="saga-diagram only-(?:light|dark)[^>]*href="_images/trip-', index)) == 2
    for page in ("pictures", "tutorial"):
        assert 'src="_images/fsm_mediator.svg"' in (site / f"{page}.html").read_text(encoding="utf-8")
    assert (site / "tutorial.html").read_text(encoding="utf-8").count(html.escape("StepRejectedError")) >= 2


def test_sizes_on_the_page_of_pictures_are_those_of_the_pictures():
    """Whoever compares pictures by their figures compares the pictures that are shown."""
    page = (DOCS / "pictures.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| .+? \| (\d+) [^|] (\d+) \| ([\d.]+) \|", page, re.MULTILINE)
    names = re.findall(r"\((pictures/order-[\w-]+\.svg)\)", page)

    assert len(rows) == len(names) == 5
    for row, name in zip(rows, names, strict=True):
        svg = (DOCS / name).read_text(encoding="utf-8")
        size = re.search(r'width="([\d.]+)pt" height="([\d.]+)pt"', svg)
        assert size is not None
        wide, high = (float(points) * 96 / 72 for points in size.groups())
        least = min(map(float, re.findall(r'font-size="([\d.]+)"', svg))) * 96 / 72 * min(1, 736 / wide)
        assert row == (f"{wide:.0f}", f"{high:.0f}", f"{least:.1f}"), name


@pytest.mark.parametrize("page", ["tutorial", "pictures", "journal", "rules", "composition", "testing", "conformance"])
def test_pages_read_well_where_nothing_is_built(page):
    """Whoever reads a page on GitHub sees its code, its pictures and its links, and no directives of Sphinx."""
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")

    assert re.findall(r"^[`:]{3,}\{.*|\{(?:doc|ref)\}`.*", text, re.MULTILINE) == []
    for target in re.findall(r"\]\(([\w/.-]+\.(?:md|svg|png))", text):
        assert (DOCS / target).is_file(), target


def test_tutorial_shows_the_file_that_it_has_me_write():
    """What the tutorial has me put into trip.py is what the other pages draw."""
    first = re.search(
        r"^```python\n(.*?)^```\n", (DOCS / "tutorial.md").read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )

    assert first is not None
    assert first[1] == (DOCS / "trip.py").read_text(encoding="utf-8")


def test_tutorial_does_what_it_says(tmp_path, monkeypatch):
    """Whoever types the tutorial's code sees the tutorial's output."""
    monkeypatch.syspath_prepend(DOCS)
    monkeypatch.chdir(tmp_path)
    try:
        assert run((DOCS / "tutorial.md").read_text(encoding="utf-8"), monkeypatch) == 8
    finally:
        sys.modules.pop("trip", None)

    assert (tmp_path / "to-nowhere.svg").is_file()


def test_comparison_s_own_picture_is_fresh():
    """The page that compares pictures shows ours as it is drawn today; else: python docs/pictures/draw.py."""
    code = (
        "import sys; sys.path.insert(0, 'docs')\n"
        "from pathlib import Path\nfrom trip import trip\nfrom fsm_mediator.diagram.staleness import difference\n"
        "sys.exit('\\n'.join(difference(Path('docs/pictures/fsm_mediator.svg'), trip.diagram())) or None)"
    )

    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
