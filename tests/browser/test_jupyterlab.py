"""The explorer and the pictures in a real JupyterLab, in a real Chromium, as a person sees and presses them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from fsm_mediator import explore
from fsm_mediator.explorer.view import view_of
from notebooks.run import NOTEBOOKS, read
from tests.browser.lab import Lab, lab
from tests.browser.sagas import LOST, checkout

pytestmark = pytest.mark.browser

ROOT = Path(__file__).resolve().parent.parent.parent
IMPORTS = f"import sys; sys.path.insert(0, {str(ROOT)!r})\nfrom tests.browser.sagas import *"

CONTRAST = """(root) => {
  const channels = (color) => color.match(/[\\d.]+/g).map(Number);
  const light = (color) => {
    const [r, g, b] = channels(color).map((c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    const color = getComputedStyle(element).backgroundColor;
    const seen = channels(color);
    return seen.length === 3 || seen[3] === 1 ? color : behind(element.parentElement);
  };
  return [...root.querySelectorAll("*")]
    .filter((e) => !e.closest("svg") && !e.closest("[aria-disabled=true]") && e.getClientRects().length)
    .filter((e) => [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()))
    .map((e) => {
      const [a, b] = [light(getComputedStyle(e).color), light(behind(e))];
      return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), e.textContent.slice(0, 60)];
    })
    .filter(([ratio]) => ratio < 4.5);
}"""
"""Texts whose contrast is less than WCAG 2 asks for: the ratio, and what they say."""


@pytest.fixture(scope="module")
def playwright():
    """What drives browsers."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as made:
        yield made


@pytest.fixture(scope="module")
def place(playwright, tmp_path_factory):
    """A JupyterLab and a browser for all tests here; whatever a page asked of any other address is a failure."""
    folder, home = tmp_path_factory.mktemp("notebooks"), tmp_path_factory.mktemp("home")
    with lab(playwright, folder, home) as made:
        yield made
    assert made.strangers == []


@pytest.fixture(scope="module")
def opened(place: Lab):
    """An open notebook whose first cell shows an explorer of the checkout: the page, and the explorer in it."""
    page = place.open("explorer.ipynb", [f"{IMPORTS}\nplay = explore(checkout())\nplay"])
    place.run_all(page)
    found = page.locator(".fsm-explorer")
    found.wait_for()
    yield page, found
    page.close()


@pytest.fixture
def explorer(opened):
    """The same, with nothing played yet."""
    page, found = opened
    for name in ("Steps", "Full size"):
        button = found.get_by_role("button", name=name)
        if button.get_attribute("aria-pressed") == "true":
            press(button)
            found.get_by_role("button", name=name, pressed=False).wait_for()
    press(found.get_by_role("button", name="Restart"))
    says(found, "Now: pending.")
    found.get_by_text("moment 0 of 0").wait_for()
    return page, found


def press(button):
    """Press a button where it is, also one that has nothing to do, whatever moves on the page meanwhile."""
    button.dispatch_event("click")


def choose(found, label):
    """Press the button that says *label*, and wait until it has happened."""
    found.locator(f"button[data-choice={label!r}]").click()
    says(found, label)


def says(found, text):
    """Wait until the explorer says *text*."""
    found.locator(".fsm-said", has_text=text).wait_for()


def test_every_button_ledger_and_journal_are_those_of_the_play(explorer):
    """What is on the page is what the play says, at every moment of it."""
    _, found = explorer
    play = explore(checkout())
    for label in LOST:
        choose(found, label)
        play.choose(label)
        view = view_of(play)

        buttons = found.locator("button[data-choice]")
        labels = [button["label"] for group in view["groups"] for button in group["choices"]]
        assert [button.get_attribute("data-choice") for button in buttons.all()] == labels
        ledger = found.locator(".fsm-ledger tbody tr").all_inner_texts()
        assert [row.split()[0] for row in ledger] == [entry["path"] for entry in view["ledger"]]
        assert ["●" in row for row in ledger] == [entry["effect"] for entry in view["ledger"]]
        assert found.locator(".fsm-journal tbody tr").count() == len(view["journal"])
        assert found.locator(".fsm-picture g.node.current").get_attribute("id") == view["state"]
        assert found.locator(".fsm-picture svg").get_attribute("aria-label") == view["picture"]["alt"]


def test_slider_looks_back_and_a_choice_there_forks(explorer):
    """The slider shows what was; a choice made there drops what came after."""
    _, found = explorer
    for label in LOST:
        choose(found, label)

    found.get_by_role("slider").press("ArrowLeft")
    says(found, LOST[-2])
    found.get_by_role("slider").press("Home")
    says(found, "Now: pending.")
    assert "moment 0 of 3" in found.inner_text()
    found.get_by_role("button", name="to the latest").click()
    says(found, LOST[-1])

    found.get_by_role("slider").fill("1")
    says(found, LOST[0])
    choose(found, "reserve rejects, without effect")

    assert "moment 2 of 2" in found.inner_text()
    assert found.locator(".fsm-picture g.node.current").get_attribute("id") == "failed"
    assert "it has ended" in found.locator(".fsm-choices").inner_text()
    found.get_by_role("button", name="Restart").click()
    says(found, "Now: pending.")


def test_keyboard_alone_is_enough_and_the_notebook_does_not_take_its_keys(explorer):
    """Without a mouse: the focus goes to the first of the new choices, and no key becomes a command of JupyterLab."""
    page, found = explorer
    found.locator("button[data-choice]").first.focus()

    page.keyboard.press("Enter")
    says(found, "the saga begins")
    assert page.evaluate("document.activeElement.dataset.choice") == "reserve takes effect and returns"
    page.keyboard.press("Tab")
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Space")
    says(found, "reserve takes effect and returns")
    for key in "ddab":  # delete the cell, one above, one below: were they the notebook's
        page.keyboard.press(key)

    assert page.locator(".jp-Notebook .jp-Cell").count() == 1
    assert found.is_visible()


def test_code_and_buttons_play_the_same_play(place):
    """What a cell chooses is seen at once above it; what was pressed is seen by the next cell."""
    page = place.open(
        "both.ipynb", [f"{IMPORTS}\nplay = explore(checkout())\nplay", "play.choose(1)\nprint(play.now.label)"]
    )
    place.run_all(page)
    found = page.locator(".fsm-explorer")

    says(found, "the saga begins")
    choose(found, "reserve rejects, without effect")
    page.locator(".jp-CodeCell").nth(1).locator(".cm-content").fill("print('it is', play.outcome.state)")
    page.keyboard.press("Shift+Enter")
    page.get_by_text("it is failed").wait_for()
    page.close()


def test_pages_theme_is_followed_and_readable_in_light_and_dark(explorer):
    """Whoever turns the page dark sees a dark explorer with a dark picture; every text can be read in both."""
    page, found = explorer
    for label in LOST:
        choose(found, label)
    assert found.get_attribute("data-theme") == "light"
    light = found.locator(".fsm-picture svg polygon").first.get_attribute("fill")
    assert found.evaluate(CONTRAST) == []

    page.get_by_role("menuitem", name="Settings", exact=True).click()
    page.get_by_text("Theme", exact=True).hover()
    page.get_by_text("JupyterLab Dark", exact=True).click()
    page.locator(".fsm-explorer[data-theme=dark]").wait_for()

    assert found.locator(".fsm-picture svg polygon").first.get_attribute("fill") != light
    assert found.evaluate(CONTRAST) == []
    page.get_by_role("menuitem", name="Settings", exact=True).click()
    page.get_by_text("Theme", exact=True).hover()
    page.get_by_text("JupyterLab Light", exact=True).click()
    page.locator(".fsm-explorer[data-theme=light]").wait_for()


def test_everything_that_can_be_pressed_has_a_name(explorer):
    """A screen reader says what each control does, where one stands, and what is now."""
    _, found = explorer
    choose(found, "the saga begins")

    tree = found.aria_snapshot()

    for said in (
        'region "Explorer of the saga checkout"',
        'button "to the beginning"',
        'button "one back"',
        'slider "moment"',
        'button "Steps"',
        'button "Full size"',
        'group "The participant"',
        'button "→ reserve takes effect and returns executed → execute charge"',
        'status: "the saga begins. Now: execute reserve."',
        "table",
    ):
        assert said in tree, tree
    assert found.locator("tr[aria-current=step]").count() == 1


def test_steps_and_full_size_can_be_pressed(explorer):
    """A box a step instead of every state; and the picture as large as it is, scrolled to where the saga stands."""
    page, found = explorer
    page.set_viewport_size({"width": 900, "height": 900})  # less than the picture is wide
    for label in LOST:
        choose(found, label)
    found.get_by_role("button", name="Steps").click()
    found.locator(".fsm-picture g.node[id=charge]").wait_for()
    found.get_by_role("button", name="Steps").click()
    found.locator(".fsm-picture g.node[id='probing.charge']").wait_for()

    frame = found.locator(".fsm-picture")
    assert frame.evaluate("(e) => e.scrollWidth <= e.clientWidth")
    found.get_by_role("button", name="Full size").click()

    assert frame.evaluate("(e) => e.scrollWidth > e.clientWidth")
    inside = "(e) => { const [n, f] = [e.querySelector('g.node.current'), e].map((x) => x.getBoundingClientRect());"
    inside += " return n.left >= f.left && n.right <= f.right && n.top >= f.top && n.bottom <= f.bottom }"
    assert frame.evaluate(inside)
    page.set_viewport_size({"width": 1280, "height": 1000})


def test_hostile_names_do_nothing_but_look_odd(place):
    """A name that is a script runs nowhere: not in the picture, not in the buttons, not in a plain diagram."""
    cells = [f"{IMPORTS}\nplay = explore(hostile(), ['the saga begins'])\nplay", "hostile().diagram()"]
    page = place.open("hostile.ipynb", cells)
    place.run_all(page)
    found = page.locator(".fsm-explorer")
    found.wait_for()

    choose(found, "a takes effect and returns")
    page.locator(".jp-RenderedHTML img").wait_for()

    assert page.evaluate("window.pwned") is None
    assert "<img" in found.locator(".fsm-picture").inner_html().replace("&lt;", "<")
    assert found.locator(".fsm-picture img, .fsm-picture script").count() == 0
    page.close()


def test_plain_diagram_is_seen_and_fits_the_page(place):
    """A diagram on the last line of a cell is a picture no wider than the page, with a text for who cannot see it."""
    page = place.open("plain.ipynb", [f"{IMPORTS}\ncheckout().diagram()"])
    place.run_all(page)
    image = page.locator(".jp-OutputArea-output img")
    image.wait_for()
    page.set_viewport_size({"width": 900, "height": 900})

    wide, shown, room = image.evaluate("(e) => [e.naturalWidth, e.width, e.closest('.jp-OutputArea').clientWidth]")

    assert wide > room > 0
    assert wide / 2 <= shown <= room
    assert image.get_attribute("alt") == checkout().diagram().alt
    page.close()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS])
def test_kept_notebook_shows_its_pictures_before_it_is_run_or_trusted(place, path):
    """Whoever opens a notebook of ours, having run nothing, sees its pictures and no text in their place."""
    shutil.copy(path, place.folder / path.name)
    outputs = [output for cell in read(path).cells for output in cell.get("outputs", ())]
    pictures = [output for output in outputs if "text/html" in output.get("data", {})]

    page = place.open(path.name, wait_for_kernel=False)
    page.wait_for_function(
        "(many) => document.querySelectorAll('.jp-OutputArea-output img').length === many", arg=len(pictures)
    )

    sizes = page.eval_on_selector_all(".jp-OutputArea-output img", "(all) => all.map((e) => e.naturalWidth)")
    assert pictures
    assert 0 not in sizes
    page.close()


def test_without_a_widget_front_end_the_picture_is_there(playwright, tmp_path_factory):
    """Where JupyterLab has no widgets, an explorer is the picture of where the saga stands."""
    folder, home = tmp_path_factory.mktemp("notebooks"), tmp_path_factory.mktemp("home")
    with lab(playwright, folder, home, without="@jupyter-widgets/jupyterlab-manager") as place:
        page = place.open("still.ipynb", [f"{IMPORTS}\nexplore(checkout(), LOST)"])
        place.run_all(page)
        image = page.locator(".jp-OutputArea-output img")
        image.wait_for()

        assert "probe charge" in (image.get_attribute("alt") or "")
        assert page.locator(".fsm-explorer").count() == 0
