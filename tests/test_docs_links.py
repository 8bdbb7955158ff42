"""Links of the documentation lead somewhere, built or not; the search of the site finds what people type."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest
import snowballstemmer  # type: ignore[import-untyped]

from tests.test_docs import DOCS, ROOT, site

pytestmark = pytest.mark.once

__all__ = ["site"]  # the fixture

PAGES = sorted(
    path for pattern in ("*.md", "docs/*.md", "diagrams/*.md", "examples/**/*.md") for path in ROOT.glob(pattern)
)


class Links(HTMLParser):
    """The ids of a page, and what it links to and shows."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.targets: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the id and the target of an element."""
        for name, value in attrs:
            if name == "id" and value:
                self.ids.add(value)
            elif name in ("href", "src") and value:
                self.targets.append(value)


def dead_links(folder: Path) -> list[str]:
    """The links within a built site whose file or place is missing."""
    pages = {path: Links(path.read_text(encoding="utf-8")) for path in sorted(folder.rglob("*.html"))}
    dead = []
    for path, page in pages.items():
        for target in page.targets:
            if re.match(r"[a-z]+:|//", target):
                continue
            file, place = urldefrag(target)
            there = (path.parent / unquote(file.partition("?")[0])).resolve() if file else path
            if not there.exists() or (place and there in pages and unquote(place) not in pages[there].ids):
                dead.append(f"{path.name}: {target}")
    return dead


def test_every_link_of_the_site_leads_somewhere(site):
    """No page, picture or place that a page links to is missing."""
    assert dead_links(site) == []


def test_dead_links_are_found(tmp_path):
    """A missing file, a missing picture and a missing place do not pass; an address elsewhere is not looked up."""
    (tmp_path / "a.html").write_text('<p id="x"><a href="#x"></a><a href="b.html#y"></a><a href="https://e.org/c"></a>')
    (tmp_path / "b.html").write_text('<img src="no.svg"><a href="a.html#x"></a><a href="gone.html"></a>')

    assert dead_links(tmp_path) == ["a.html: b.html#y", "b.html: no.svg", "b.html: gone.html"]


def anchors(path: Path) -> set[str]:
    """The anchors of a Markdown page, as GitHub makes them from its headings."""
    text = re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_of_a_page_of_the_repository_lead_somewhere(path):
    """I read a page where nothing is built, and each of its links has a file and a heading."""
    text = re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    dead = []
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", text)):
        if re.match(r"[a-z]+:", target):
            continue
        file, place = urldefrag(target)
        there = (path.parent / file) if file else path
        if not there.exists() or (place and there.suffix == ".md" and place not in anchors(there)):
            dead.append(target)

    assert dead == []


def found(index: dict[str, object], word: str) -> list[str]:
    """The pages that the site's search ranks first for a word: those that have it in a title, else in their text."""
    stem = snowballstemmer.stemmer("english").stemWord(word.lower())
    for terms in (index["titleterms"], index["terms"]):
        assert isinstance(terms, dict)
        numbers = terms.get(stem, [])
        if pages := [numbers] if isinstance(numbers, int) else numbers:
            return [index["docnames"][page] for page in pages]  # type: ignore[index]
    return []


@pytest.mark.parametrize(
    ("word", "page"),
    [
        ("timeout", "timeouts"),
        ("timeouts", "timeouts"),
        ("CLI", "operating"),
        ("Postgres", "scaling"),
        ("PostgreSQL", "scaling"),
        ("FastAPI", "fastapi"),
        ("Django", "django"),
        ("Flask", "flask"),
        ("testing", "testing"),
        ("production", "production"),
        ("upgrading", "upgrades"),
        ("Temporal", "comparison"),
        ("DBOS", "coming_from"),
        ("outbox", "exactly_once"),
        ("OpenTelemetry", "telemetry"),
        ("monitor", "monitor"),
        ("cookbook", "cookbook"),
    ],
)
def test_search_finds_what_people_type(site, word, page):
    """I type a word into the search of the site, and the page that answers is among the first."""
    text = (site / "searchindex.js").read_text(encoding="utf-8")
    index = json.loads(text[text.index("(") + 1 : text.rindex(")")])

    assert page in found(index, word)
    assert (DOCS / f"{page}.md").is_file()
