"""Pictures in a notebook's page: they fit it, are seen before anyone trusts it, and are no more than pictures."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser

import pytest

from fsm_mediator import Mediator, Saga, step
from fsm_mediator.diagram.notebook import NotebookImage
from tests.test_diagrams import in_notebook

pytestmark = pytest.mark.once


class Tags(HTMLParser):
    """Every tag of a text, with its attributes."""

    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


@step
def book(trip):
    """Books it."""


@pytest.fixture
def outcome():
    """A run that succeeded."""
    return Mediator(Saga("trip", [book])).run("trip", None, saga_id="t-1")


def test_bundle_holds_the_same_picture_as_html_and_as_itself(outcome):
    """A front end that shows HTML shows the very SVG that another one takes as it is."""
    bundle = in_notebook(outcome.diagram())
    (_, _), (tag, attributes) = Tags(bundle["text/html"]).found

    kind, _, data = attributes["src"].partition(";base64,")

    assert (tag, kind) == ("img", "data:image/svg+xml")
    assert base64.b64decode(data).decode() == bundle["image/svg+xml"] == outcome.diagram().to_svg()
    assert attributes["alt"] == outcome.diagram().alt


def test_picture_fits_the_page_and_is_never_less_than_half_its_size():
    """A wide picture shrinks to the page, a very wide one to half its size, and is scrolled from there."""
    _, (_, attributes) = Tags(NotebookImage('<svg width="1500pt" height="9pt">', "wide", "").html).found

    assert re.sub(r"\s", "", attributes["style"]) == "min-width:1000px;max-width:100%;height:auto"


def test_text_for_those_who_cannot_see_it_stays_text():
    """What a picture says cannot become markup."""
    evil = '"><script>alert(1)</script>'

    tags = Tags(NotebookImage("<svg>", evil, "").html).found

    assert [tag for tag, _ in tags] == ["div", "img"]
    assert tags[1][1]["alt"] == evil


def test_run_can_be_shown_as_a_picture_that_moves(outcome):
    """`animated()` on the last line of a cell plays the run."""
    shown = outcome.diagram().animated()

    assert shown.svg == outcome.diagram().to_svg(animate=True)
    assert set(in_notebook(shown)) == {"text/html", "image/svg+xml", "text/plain"}
    assert repr(shown).startswith("<Diagram of run 't-1'")
