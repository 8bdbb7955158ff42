"""The documentation: it builds without a warning, its pages are found, and the tutorial does what it says."""

from __future__ import annotations

import html
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import fsm_mediator
from fsm_mediator import Mediator
from fsm_mediator.ui import Monitor, Operator
from tests.asgi import get
from tests.drivers import eventually
from tests.test_readme import run, timeless

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

    assert (tmp_path / "trip.svg").is_file()
    assert (tmp_path / "to-nowhere.svg").is_file()


def test_tutorial_kills_and_recovers_as_it_says(tmp_path):
    """The process that books the trip is killed in the midst; the commands print what the page shows."""
    page = (DOCS / "tutorial.md").read_text(encoding="utf-8")
    slow = re.search(r"^```py\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert slow is not None
    (tmp_path / "slow.py").write_text(slow[1], encoding="utf-8")
    (tmp_path / "trip.py").write_text((DOCS / "trip.py").read_text(encoding="utf-8"), encoding="utf-8")
    bookings = tmp_path / "bookings.json"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "120"}
    with subprocess.Popen([sys.executable, "slow.py"], cwd=tmp_path, env=environment) as booking:
        eventually(lambda: bookings.exists() and '"hotel"' in bookings.read_text(encoding="utf-8"))
        booking.kill()
    assert booking.returncode < 0

    shown = re.findall(r"^```console\n\$ fsm-mediator (.*?)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert [words.split()[0] for words, _ in shown] == ["show", "recover", "show"]
    for words, output in shown:
        command = [sys.executable, "-m", "fsm_mediator", *words.split()]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert masked(done.stdout) == masked(output)
    assert list(json.loads(bookings.read_text(encoding="utf-8")).values()) == ["flight", "hotel", "payment"]


def masked(shown: str) -> list[list[str]]:
    """The words of each line, without times, process and computer."""
    known = re.sub(r"process \d+ on \S+", "process <number> on <computer>", timeless(shown))
    return [line.split() for line in known.strip().splitlines()]


def test_tutorial_s_saga_is_seen_in_the_monitor(tmp_path, monkeypatch):
    """The page of an execution of the trip names its steps, and offers to undo it."""
    monkeypatch.syspath_prepend(DOCS)
    monkeypatch.chdir(tmp_path)
    from trip import trip  # type: ignore[import-not-found]

    try:
        with Mediator(trip, journal="trips.db") as mediator:
            mediator.run("trip", {"money": 500}, saga_id="to-oslo")
            page = get(Monitor(mediator, authorize=lambda _: Operator.acting("ada")), "/runs/to-oslo").text
    finally:
        sys.modules.pop("trip", None)

    assert all(name in page for name in ("flight", "hotel", "payment", "Undo"))


def test_comparison_s_own_picture_is_fresh():
    """The page that compares pictures shows ours as it is drawn today; else: python docs/pictures/draw.py."""
    code = (
        "import sys; sys.path.insert(0, 'docs')\n"
        "from pathlib import Path\nfrom trip import trip\nfrom fsm_mediator.diagram.staleness import difference\n"
        "sys.exit('\\n'.join(difference(Path('docs/pictures/fsm_mediator.svg'), trip.diagram())) or None)"
    )

    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
