"""The results as text for a terminal, and as tables for the docs and the README. This module measures nothing.

The text between two marks in a page is rendered from ``benchmarks/results.json``, and a test compares the pages with
this file.
"""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from benchmarks import guard, marks, sizes_plot
from benchmarks.compare import GROWTH, SIZES, WIDTHS, Results
from benchmarks.plot import svg
from benchmarks.roster import ALONE, DURABLE_FLOOR, FLOOR, OURS, ROSTER
from benchmarks.sizes import Curve, panels

ROOT = Path(__file__).parent.parent
KEPT = ROOT / "benchmarks" / "results.json"
PLOT = ROOT / "docs" / "benchmarks.svg"
SIZES_PLOT = ROOT / "docs" / "sizes.svg"
PAGES = (ROOT / "docs" / "benchmarks.md", ROOT / "README.md")
DURABILITY = {
    "full": "write-ahead log, `synchronous = full`",
    "normal": "write-ahead log, `synchronous = normal`",
    "default": "as the library comes",
}
BUSY = 1.0  # the load, before the run began, from which the report warns

Row = Sequence[str]


def write(results: Results) -> list[Path]:
    """Store the results, and write them to every page and the plot. Returns the written files."""
    KEPT.write_text(json.dumps(results, indent=1) + "\n")
    return render(results)


def render(results: Results) -> list[Path]:
    """Write the results to every page and the plot. Returns the written files."""
    for page in PAGES:
        page.write_text(rendered(page.read_text(), results))
    PLOT.write_text(svg(results))
    SIZES_PLOT.write_text(sizes_plot.svg(results))
    return [*PAGES, PLOT, SIZES_PLOT]


def rendered(page: str, results: Results) -> str:
    """*page*, with the text between its marks replaced."""

    def fresh(match: re.Match[str]) -> str:
        return f"<!-- bench:{match[1]} -->\n{SECTIONS[match[1]](results)}\n<!-- /bench -->"

    return re.sub(r"<!-- bench:([a-z-]+) -->\n.*?<!-- /bench -->", fresh, page, flags=re.DOTALL)


def table(heads: Row, rows: Iterable[Row]) -> str:
    """A Markdown table. The first column is left-aligned, all others are right-aligned, and our row is bold."""
    lines = [f"| {' | '.join(heads)} |", f"|---|{'---:|' * (len(heads) - 1)}"]
    for row in rows:
        cells = [f"**{cell}**" if row[0] == OURS and cell else cell for cell in row]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def figure(value: float) -> str:
    """A number with about three digits."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def spread(sample: Sequence[float]) -> str:
    """Half of the distance between the quartiles, in per cent of the median."""
    if len(sample) < 3:
        return ""
    low, middle, high = statistics.quantiles(sample, n=4)
    return f"±{(high - low) / 2 / middle * 100:.0f} %"


def middle(results: Results, label: str, name: str) -> float | None:
    """The median, in microseconds."""
    sample = results["samples"].get(label, {}).get(name)
    return statistics.median(sample) if sample else None


def present(results: Results, label: str) -> list[str]:
    """The contestants that were measured for *label*, in the order of the roster."""
    return [each.name for each in ROSTER if each.name in results["samples"].get(label, {})]


def with_ratio(results: Results, label: str, name: str, floor: str) -> list[str]:
    """The median, the spread, and the ratio to the floor."""
    value, base = middle(results, label, name), middle(results, label, floor)
    if value is None or base is None:
        return ["", "", ""]
    return [figure(value), spread(results["samples"][label][name]), f"{figure(value / base)}"]


def in_memory(results: Results, ending: str) -> str:
    """One table: a row for each contestant, and three sizes."""
    heads = ["", *(head for size in SIZES for head in (f"W{size}, µs", "", "x floor")), "keeps"]
    names = present(results, f"W3 {ending}")
    rows = [
        [
            name,
            *(cell for size in SIZES for cell in with_ratio(results, f"W{size} {ending}", name, FLOOR)),
            results["contestants"][name]["keeps"],
        ]
        for name in names
    ]
    return table(heads, rows)


def durable(results: Results) -> str:
    """One table for each durability."""
    told = []
    for durability, wording in DURABILITY.items():
        success, failure = f"W3 success {durability}", f"W3 failure {durability}"
        names = sorted(present(results, success), key=lambda name: name != DURABLE_FLOOR)
        if not names:
            continue
        heads = [wording[0].upper() + wording[1:], "success, µs", "", "x loop", "failure, µs", "", "x loop"]
        rows = []
        # What comes as it is has no floor of its own: it is compared with the loop under full.
        floor = "full" if durability == "default" else durability
        for name in names:
            row = [name]
            for label in (success, failure):
                value, base = (
                    middle(results, label, name),
                    middle(results, label.replace(durability, floor), DURABLE_FLOOR),
                )
                sample = results["samples"].get(label, {}).get(name, [])
                row += [figure(value), spread(sample), figure(value / base)] if value and base else ["", "", ""]
            rows.append(row)
        told.append(table(heads, rows))
    return "\n\n".join(told)


def at_once(results: Results) -> str:
    """Microseconds for one saga of three steps, by the number of sagas that run at the same time."""
    heads = ["at a time, on asyncio", *(f"{width:,}" for width in WIDTHS)]
    rows = [
        [each.name, *(_shown(results, f"W3 success {width} at once", each.name) for width in WIDTHS)]
        for each in ROSTER
        if each.at_once
    ]
    for durability in ("full", "normal"):
        cells = [_shown(results, f"W3 success {durability} {width} at once", OURS) for width in WIDTHS]
        rows.append([f"{OURS}, on disk, {durability}", *cells])
        loop = middle(results, f"W3 success {durability}", DURABLE_FLOOR)
        if loop:
            values = [middle(results, f"W3 success {durability} {width} at once", OURS) for width in WIDTHS]
            rows.append(
                [
                    "times the throughput of the loop, one at a time",
                    *(figure(loop / value) if value else "" for value in values),
                ]
            )
    return table(heads, rows)


def _shown(results: Results, label: str, name: str) -> str:
    value = middle(results, label, name)
    return "" if value is None else figure(value)


def growth(results: Results) -> str:
    """Microseconds for one step, by the number of steps."""
    sizes = sorted({*GROWTH, *SIZES})
    heads = ["µs a step, in memory", *map(str, sizes)]
    rows = []
    for name in (FLOOR, OURS):
        for ending in ("success", "failure"):
            values = [middle(results, f"W{size} {ending}", name) for size in sizes]
            cells = [figure(value / size) if value else "" for value, size in zip(values, sizes, strict=True)]
            rows.append([f"{name}, {ending}", *cells])
    return table(heads, rows)


def weight(results: Results) -> str:
    """The cost of the import, of a definition and of one live execution."""
    heads = ["", "import, ms", "defining 3 steps, ms", "100 steps, ms", "a live execution, bytes"]
    rows = []
    for each in ROSTER:
        if each.name not in results["contestants"]:
            continue
        imported = results.get("import", {}).get(each.name)
        defined = [results["defining"].get(f"W{size} success", {}).get(each.name) for size in (3, 100)]
        live = results.get("live", {}).get(each.name)
        rows.append(
            [
                each.name,
                figure(statistics.median(imported)) if imported else "",
                *(figure(statistics.median(sample) / 1e3) if sample else "" for sample in defined),
                f"{live['bytes']:,}" if live else "",
            ]
        )
        if each.name == OURS and ALONE in results.get("live", {}):
            rows.append([ALONE, "", "", "", f"{results['live'][ALONE]['bytes']:,}"])
    return table(heads, rows)


def machine(results: Results) -> str:
    """The machine and the versions of the measurement."""
    on = results["machine"]
    versions = {
        package: version
        for name in (each.name for each in ROSTER)
        for package, version in results["contestants"].get(name, {}).get("versions", {}).items()
    }
    newer = {
        f"{name} on Python {about['python']}"
        for name, about in results["contestants"].items()
        if about["python"] not in on["python"]
    }
    pinned = all(about["pinned"] for about in results["contestants"].values())
    taken = (
        f"Taken on {results['taken']}: {on['processor']}, {on['cores']} cores, {on['system']}, {on['python']}, "
        f"SQLite {on['sqlite']}; every contestant {'pinned to one core' if pinned else 'not pinned to a core'}; "
        f"{results['effort']}."
    )
    listed = ", ".join(f"{package} {version}" for package, version in versions.items())
    lines = [taken]
    if listed:
        lines += ["", f"{'; '.join([listed, *sorted(newer)])}."]
    load = on.get("load")
    if load is not None and load > BUSY:
        lines += [
            "",
            f"**The machine was busy with other work (load {load}): look at the ratios, not at the microseconds.**",
        ]
    for name, reason in results["missing"].items():
        lines += ["", f"**Not measured: {name}**: {reason}."]
    return "\n".join(lines)


def short(results: Results) -> str:
    """The table of the README."""
    columns = (
        ("W3 success", FLOOR, "in memory, µs"),
        ("W3 failure", FLOOR, "failing, µs"),
        ("W3 success full", DURABLE_FLOOR, "on disk, full, µs"),
        ("W3 success normal", DURABLE_FLOOR, "on disk, normal, µs"),
    )
    rows = []
    for each in ROSTER:
        values = [middle(results, label, each.name) for label, _, _ in columns]
        if any(values):
            rows.append([each.name, *("" if value is None else figure(value) for value in values)])
    return table(["3 steps", *(head for _, _, head in columns)], rows)


def goals(results: Results, *, short: bool = False) -> str:
    """Each goal, with our figure and the lower bound of the same run. Figures that miss the goal are bold."""
    lines = []
    for mark, ours, least in marks.rows(results):
        if short and not mark.short:
            continue
        own = f"{marks.shown_as(ours)} {mark.unit}"
        lines.append(
            [
                f"{mark.case}{f', against {mark.beside}' if mark.beside else ''}",
                f"{marks.shown_as(least)} {mark.unit}" if least else "",
                own if mark.met(ours) else f"**{own}**",
                f"{'at least' if mark.at_least else 'at most'} {mark.goal:g} {mark.unit}",
            ]
        )
    return table(["case", "lower bound", "this library", "goal"], lines) if lines else "Not part of this run."


def slopes(results: Results) -> str:
    """The slope of each curve of cost against size."""
    lines = [
        [panel.size, f"{panel.title}: {curve.name}", _span(curve), f"{curve.slope:.2f}", str(panel.must)]
        for panel in panels(results)
        for curve in panel.curves
    ]
    heads = ["by the number of", "cost of", "from, to", "slope", "must be"]
    return table(heads, lines) if lines else "Not part of this run."


def guarded(_results: Results) -> str:
    """What each work takes, in instructions of the code that it is compared with, as the guard keeps it."""
    kept = json.loads(guard.KEPT.read_text())["instructions"]
    lines = [[*guard.WORKS[label], f"{ratio:.2f} times"] for label, ratio in kept.items()]
    return table(["work", "compared with", "instructions"], lines)


def _span(curve: Curve) -> str:
    first, last = min(curve.points), max(curve.points)
    return f"{figure(curve.points[first])} µs at {first:,}, {figure(curve.points[last])} µs at {last:,}"


def told(results: Results, what: str) -> str:
    """The output of another benchmark, word for word."""
    text = results.get("told", {}).get(what)
    return f"```text\n{text}\n```" if text else "Not part of this run."


SECTIONS: dict[str, Callable[[Results], str]] = {
    "machine": machine,
    "success": lambda results: in_memory(results, "success"),
    "failure": lambda results: in_memory(results, "failure"),
    "durable": durable,
    "at-once": at_once,
    "growth": growth,
    "weight": weight,
    "short": short,
    "goals": goals,
    "goals-short": lambda results: goals(results, short=True),
    "slopes": slopes,
    "guard": guarded,
    "journal": lambda results: told(results, "durable"),
    "floors": lambda results: told(results, "floors"),
    "verifying": lambda results: told(results, "verifying"),
    "rendering": lambda results: told(results, "rendering"),
    "composition": lambda results: told(results, "composition"),
    "postgres": lambda results: told(results, "postgres"),
}


def plain(results: Results) -> str:
    """All results, for a terminal."""
    shown = ["machine"]
    shown += ["success", "failure", "growth"] if "W3 success" in results["samples"] else []
    shown += ["durable"] if "W3 success full" in results["samples"] else []
    shown += ["at-once"] if any("at once" in label for label in results["samples"]) else []
    shown += ["weight"] if results["contestants"] else []
    told_too = [f"{what}\n\n{text}" for what, text in results.get("told", {}).items()]
    return "\n\n".join([*(_aligned(SECTIONS[name](results)) for name in shown), *told_too])


def _aligned(text: str) -> str:
    """A Markdown table with aligned columns."""
    blocks = []
    for block in text.split("\n\n"):
        lines = block.splitlines()
        if not lines or not lines[0].startswith("| "):
            blocks.append(block)
            continue
        rows = [[cell.strip().strip("*") for cell in line.strip("|").split("|")] for line in lines if "---" not in line]
        widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
        blocks.append(
            "\n".join(
                "  ".join(
                    cell.ljust(width)
                    if index in {0, len(row) - 1 if row[-1][:1].isalpha() else 0}
                    else cell.rjust(width)
                    for index, (cell, width) in enumerate(zip(row, widths, strict=True))
                ).rstrip()
                for row in rows
            )
        )
    return "\n\n".join(blocks)
