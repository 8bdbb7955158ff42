"""The plot of cost against size: a small panel for each size, with logarithmic scales, written as SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from benchmarks.plot import STYLE
from benchmarks.sizes import Curve, Panel, panels

COLUMNS, WIDTH, HEIGHT = 2, 430, 270
LEFT, RIGHT, TOP, BOTTOM = 62, 128, 40, 46
INK = """
  .curve { fill: none; stroke: #a8b3c4; stroke-width: 2 }
  .point { fill: #a8b3c4 }
  .mine.curve { stroke: #2563eb }
  .mine.point { fill: #2563eb }
  .must { stroke: #6b7280; stroke-dasharray: 3 4; fill: none }
  .label { font-size: 11px }
  @media (prefers-color-scheme: dark) {
    .curve { stroke: #64748b }
    .point { fill: #64748b }
    .mine.curve { stroke: #60a5fa }
    .mine.point { fill: #60a5fa }
    .must { stroke: #9ca3af }
  }
"""


def svg(results: Mapping[str, Any]) -> str:
    """The plot for the sizes of a run."""
    shown = panels(results)
    parts = []
    for number, panel in enumerate(shown):
        x, y = number % COLUMNS * WIDTH, number // COLUMNS * HEIGHT
        parts.append(f'<g transform="translate({x} {y})">{"".join(_panel(panel))}</g>')
    width, height = COLUMNS * WIDTH, max(1, math.ceil(len(shown) / COLUMNS)) * HEIGHT + 24
    parts.append(
        f'<text class="foot" x="{LEFT}" y="{height - 10}">Both scales are logarithmic. In brackets, the slope. '
        "Dashed: the slope that the cost must have, 1 or 0.</text>"
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-label="The cost of a saga by steps, branches, executions in the journal and workers">\n'
        f"<style>{STYLE}{INK}</style>\n" + "\n".join(parts) + "\n</svg>\n"
    )


def _panel(panel: Panel) -> list[str]:
    sizes = [size for curve in panel.curves for size in curve.points]
    costs = [cost for curve in panel.curves for cost in curve.points.values()]
    left, right = math.log10(min(sizes)), math.log10(max(sizes))
    low, high = math.floor(math.log10(min(costs))), math.ceil(math.log10(max(costs)))

    def across(size: float) -> float:
        return LEFT + (math.log10(size) - left) / (right - left) * (WIDTH - LEFT - RIGHT)

    def up(cost: float) -> float:
        return HEIGHT - BOTTOM - (math.log10(cost) - low) / (high - low) * (HEIGHT - TOP - BOTTOM)

    parts = [f'<text class="head" x="{LEFT}" y="20">{panel.title}</text>']
    for power in range(low, high + 1):
        y = up(10.0**power)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="axis" x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{_cost(10.0**power)}</text>')
    below = HEIGHT - BOTTOM + 16
    shown = sorted({min(sizes), max(sizes), *_between(min(sizes), max(sizes))})
    parts += [
        f'<text class="axis" x="{across(size):.1f}" y="{below}" text-anchor="middle">{_size(size)}</text>'
        for size in shown
    ]
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text class="axis" x="{middle}" y="{HEIGHT - BOTTOM + 34}" text-anchor="middle">{panel.size}</text>')
    taken: list[float] = []
    for curve in sorted(panel.curves, key=lambda each: each.points[max(each.points)]):
        parts += _curve(panel, curve, across, up, taken)
    return parts


def _curve(panel: Panel, curve: Curve, across: Any, up: Any, taken: list[float]) -> list[str]:
    kind = "mine " if curve.ours else ""
    places = [(across(size), up(cost)) for size, cost in curve.points.items()]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    parts = [f'<polyline class="{kind}curve" points="{line}"/>']
    parts += [f'<circle class="{kind}point" cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in places]
    if curve.ours:
        parts.append(_must(panel, curve, across, up))
    y = places[-1][1]
    while any(abs(y - other) < 14 for other in taken):
        y -= 2
    taken.append(y)
    parts.append(
        f'<text class="label" x="{places[-1][0] + 8:.1f}" y="{y + 4:.1f}">{curve.name} ({curve.slope:.2f})</text>'
    )
    return parts


def _must(panel: Panel, curve: Curve, across: Any, up: Any) -> str:
    """A line from the last point backwards, with the slope that the work itself requires."""
    first, last = min(curve.points), max(curve.points)
    cost = curve.points[last]
    least = min(curve.points.values()) / 2
    begins = max(first, last * (least / cost)) if panel.must else first
    at_first = cost * (begins / last) ** panel.must
    return (
        f'<line class="must" x1="{across(begins):.1f}" y1="{up(at_first):.1f}" x2="{across(last):.1f}" '
        f'y2="{up(cost):.1f}"/>'
    )


def _between(low: int, high: int) -> list[int]:
    powers = range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1)
    return [10**power for power in powers if low * 2 < 10**power < high / 2]


def _size(size: int) -> str:
    return f"{size // 1_000_000} M" if size >= 1_000_000 else f"{size:,}"


def _cost(cost: float) -> str:
    return f"{cost / 1e6:g} s" if cost >= 1e6 else f"{cost / 1e3:g} ms" if cost >= 1e3 else f"{cost:g} µs"
