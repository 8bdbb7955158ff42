"""Pictures: diagrams as SVG without inline styles, which the security headers of the pages forbid."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from markupsafe import Markup, escape

from fsm_mediator.diagram import Diagram
from fsm_mediator.diagram.themes import dark_sheet
from fsm_mediator.errors import MissingExtraError
from fsm_mediator.records import Record
from fsm_mediator.states import phase_of

_STYLE: Final = re.compile(r"<style>.*?</style>\s*", re.DOTALL)
_ID: Final = re.compile(r'(<g )id="[^"]*" ')
_TAG: Final = re.compile(r"</?style>")

WIDTH: Final = 1000
"""The width of a strip, in the units of its SVG."""

LEAST: Final = 6
"""The minimum width of a bar in a strip, in the units of its SVG."""


def inline_svg(diagram: Diagram, *, ids: bool = False) -> Markup:
    """The SVG of a diagram, for a page. If the diagram cannot be drawn, a paragraph with the reason.

    Args:
        diagram: The diagram. Its theme must be ``auto``.
        ids: Whether the elements of the SVG keep their ids, which the page needs to handle clicks on states. A page can
            have only one such picture.
    """
    try:
        svg = diagram.to_svg()
    except MissingExtraError as error:
        return Markup('<p class="empty">{}</p>').format(str(error))
    svg = _STYLE.sub("", svg)
    return Markup(svg if ids else _ID.sub(r"\1", svg))  # noqa: S704 - our renderer escapes every text


def dark_rules() -> str:
    """The CSS that gives pictures dark colours if the reader's page is dark."""
    sheet = _TAG.sub("", dark_sheet())
    return sheet.replace("[fill=", "svg [fill=").replace("[stroke=", "svg [stroke=")


def strip(records: Sequence[Record], accepted_at: float, now: float | None) -> Markup:
    """An SVG with the history of an execution as a row of bars. Each bar is a state that the execution was in.

    The width of a bar grows with the logarithm of the state's duration, so that a wait of days leaves room for attempts
    of milliseconds.

    Args:
        records: The records, in order.
        accepted_at: The time at which the execution was accepted.
        now: The current time, which ends the last bar. None if the execution has ended.
    """
    held = []
    state, since = "pending", accepted_at
    for record in records:
        held.append((state, max(0.0, record.at - since)))
        state, since = record.target, record.at
    if now is not None:
        held.append((state, max(0.0, now - since)))
    weights = [_weight(seconds) for _, seconds in held]
    scale = max(0.0, WIDTH - LEAST * len(held)) / (sum(weights) or 1.0)
    bars, x = [], 0.0
    for (held_state, seconds), weight in zip(held, weights, strict=True):
        width = LEAST + weight * scale
        bars.append(
            f'<rect class="bar {escape(phase_of(held_state))}" x="{x:.1f}" y="0" width="{max(1.0, width - 1):.1f}" '
            f'height="18"><title>{escape(held_state)}: {seconds:.3f} s</title></rect>'
        )
        x += width
    label = f"{len(held)} states held, one after the other; long times are compressed"
    return Markup(  # noqa: S704 - every text is escaped above
        f'<svg class="strip" role="img" aria-label="{label}" viewBox="0 0 {max(x, 1.0):.0f} 18" '
        f'preserveAspectRatio="none">{"".join(bars)}</svg>'
    )


def _weight(seconds: float) -> float:
    """The weight of a duration for a bar's width: 0 up to a millisecond, and 1 more for each factor of ten above it."""
    weight = 0.0
    while seconds > 0.001 and weight < 12:
        seconds /= 10
        weight += 1.0
    return weight
