"""Pictures in a real Chromium, with its fonts: every text can be read, in its own shape, at the width of a page."""

from __future__ import annotations

import pytest

from diagrams.generate import diagrams, sagas
from fsm_mediator.statistics.showing import SHOWN
from tests.browser.lab import CHROMIUM_ARGS, chromium
from tests.test_statistics import busy
from tests.test_steps_view import FIXED

pytestmark = pytest.mark.browser

LEAST = 11.0
"""Pixels of the least text of the steps view, in a column of 736."""

FAULTS = """() => {
  const svg = document.querySelector('svg'), scale = svg.getScreenCTM().a, faults = [];
  const box = (element) => element.getBoundingClientRect();
  const texts = [...svg.querySelectorAll('text')].filter((each) => each.textContent.trim());
  for (const node of svg.querySelectorAll('g.node')) {
    const shapes = [...node.querySelectorAll('path, polygon, ellipse')].map(box);
    if (!shapes.length) continue;
    const [left, right] = [Math.min(...shapes.map((b) => b.left)), Math.max(...shapes.map((b) => b.right))];
    const [top, bottom] = [Math.min(...shapes.map((b) => b.top)), Math.max(...shapes.map((b) => b.bottom))];
    for (const text of node.querySelectorAll('text')) {
      const b = box(text);
      if (b.left < left - 1 || b.right > right + 1 || b.top < top - 2 || b.bottom > bottom + 2)
        faults.push(`${text.textContent.trim()} leaves its shape`);
    }
  }
  texts.forEach((text, index) => texts.slice(0, index).forEach((other) => {
    const [a, b] = [box(text), box(other)];
    const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left);
    const high = Math.min(a.bottom - a.height * 0.2, b.bottom - b.height * 0.2)
      - Math.max(a.top + a.height * 0.2, b.top + b.height * 0.2);
    if (wide > 2 && high > 1.5) faults.push(`${text.textContent.trim()} lies on ${other.textContent.trim()}`);
  }));
  const least = Math.min(...texts.map((each) => Number(each.getAttribute('font-size')) * scale));
  return [faults, least];
}"""


def pictures():
    """Every picture: its name, and itself."""
    for name, make in FIXED.items():
        for look in ({"view": "steps"}, {"view": "steps", "direction": "down"}, {"view": "steps", "width": 360}):
            yield f"{name} {look}", make().diagram(**look)
        yield f"{name} in detail", make().diagram()
        for show in SHOWN:
            yield f"{name} with {show}", busy(make()).diagram(show)
        yield f"{name} in detail with numbers", busy(make()).diagram("failures", view="detail")
        yield f"{name} beside itself", busy(make()).diagram("failures", beside=busy(make()), direction="down")
    for name, _, diagram in diagrams():
        yield name, diagram
    for name, saga in sagas().items():
        yield f"{name} with its whole legend", saga.diagram("steps", legend=True)


def test_every_text_can_be_read_in_its_own_shape():
    """No text leaves its shape or lies on another one; in the steps view each is large enough in a README's column."""
    from playwright.sync_api import sync_playwright

    wrong = {}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium(), args=list(CHROMIUM_ARGS), chromium_sandbox=False
        )
        page = browser.new_page(viewport={"width": 736, "height": 900})
        for name, diagram in pictures():
            style = "max-width: 100%; height: auto" if diagram.view == "steps" else ""
            page.set_content(
                f'<body style="margin: 0">{diagram.to_svg().replace("<svg ", f"<svg style={style!r} ", 1)}'
            )
            faults, least = page.evaluate(FAULTS)
            if diagram.view == "steps" and least < LEAST:
                faults.append(f"the least text is {least} pixels high")
            if faults:
                wrong[name] = faults
        browser.close()
    assert wrong == {}
