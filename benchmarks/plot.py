"""The plot: three panels of bars, each on a logarithmic scale, written as SVG for light and dark pages."""

from __future__ import annotations

import math
import statistics
from typing import Any

from benchmarks.roster import DURABLE_FLOOR, FLOOR, OURS, ROSTER

PANELS = (
    ("W3 success", FLOOR, "In memory: three steps succeed"),
    ("W3 failure", FLOOR, "In memory: the third fails three times, two are compensated"),
    ("W3 success full", DURABLE_FLOOR, "On disk, every transition synced: three steps succeed"),
)
WIDTH, LABELS, RIGHT = 860, 180, 150
BAR, GAP, HEAD, FOOT = 18, 6, 44, 34

STYLE = """
  text { font: 13px system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; fill: #1f2937 }
  .head { font-size: 15px; font-weight: 600 }
  .axis, .foot { font-size: 11px; fill: #6b7280 }
  .grid { stroke: #e5e7eb }
  .bar { fill: #a8b3c4 }
  .floor { fill: #d7dde6 }
  .ours { fill: #2563eb }
  .name { text-anchor: end }
  .mine { font-weight: 700 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e5e7eb }
    .axis, .foot { fill: #9ca3af }
    .grid { stroke: #374151 }
    .bar { fill: #64748b }
    .floor { fill: #475569 }
    .ours { fill: #60a5fa }
  }
"""


def svg(results: dict[str, Any]) -> str:
    """The plot of these results."""
    parts, top = [], 8.0
    for label, floor, title in PANELS:
        sample = results["samples"].get(label)
        if not sample or floor not in sample:
            continue
        values = {each.name: statistics.median(sample[each.name]) for each in ROSTER if each.name in sample}
        drawn, height = _panel(values, floor, title, top)
        parts += drawn
        top += height
    parts.append(
        f'<text class="foot" x="{LABELS}" y="{top + 8:.0f}">Microseconds for one saga, medians of one run, '
        f"on a logarithmic scale; in brackets, times the floor. Shorter is faster.</text>"
    )
    height = top + 22
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}" '
        f'height="{height:.0f}" role="img" aria-label="Microseconds for one saga of three steps, by library">\n'
        f"<style>{STYLE}</style>\n" + "\n".join(parts) + "\n</svg>\n"
    )


def _panel(values: dict[str, float], floor: str, title: str, top: float) -> tuple[list[str], float]:
    """One panel, and its height."""
    low = math.floor(math.log10(min(values.values())) - 0.3)
    high = math.log10(max(values.values()) * 1.05)
    scale = (WIDTH - LABELS - RIGHT) / (high - low)

    def across(value: float) -> float:
        return LABELS + (math.log10(value) - low) * scale

    bottom = top + HEAD + len(values) * (BAR + GAP)
    parts = [f'<text class="head" x="{LABELS}" y="{top + 16:.0f}">{title}</text>']
    for power in range(low, math.floor(high) + 1):
        x = across(10.0**power)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{top + HEAD - 8:.0f}" y2="{bottom:.0f}"/>')
        parts.append(
            f'<text class="axis" x="{x:.1f}" y="{top + HEAD - 12:.0f}" text-anchor="middle">{_tick(power)}</text>'
        )
    for index, (name, value) in enumerate(sorted(values.items(), key=lambda pair: pair[1])):
        y = top + HEAD + index * (BAR + GAP)
        kind = "ours" if name == OURS else "floor" if name == floor else "bar"
        mine = " mine" if name == OURS else ""
        width = max(1.0, across(value) - LABELS)
        parts.append(f'<text class="name{mine}" x="{LABELS - 10}" y="{y + 13:.0f}">{name}</text>')
        parts.append(f'<rect class="{kind}" x="{LABELS}" y="{y:.0f}" width="{width:.1f}" height="{BAR}" rx="2"/>')
        ratio = "" if name == floor else f" ({_figure(value / values[floor])}\N{MULTIPLICATION SIGN})"
        parts.append(
            f'<text class="{mine.strip()}" x="{LABELS + width + 6:.1f}" y="{y + 13:.0f}">{_figure(value)}{ratio}</text>'
        )
    return parts, HEAD + len(values) * (BAR + GAP) + FOOT


def _figure(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _tick(power: int) -> str:
    value = 10.0**power
    if value >= 1e6:
        return f"{value / 1e6:g} s"
    return f"{value / 1e3:g} ms" if value >= 1e3 else f"{value:g} µs"
