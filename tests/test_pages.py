"""Pages of the documentation: their code prints what they say, and their figures are those that were measured."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.test_readme import run

pytestmark = pytest.mark.once

DOCS = Path(__file__).parent.parent / "docs"


@pytest.mark.parametrize(("page", "blocks"), [("timeouts", 4), ("coming_from", 3)])
def test_page_does_what_it_says(page, blocks, tmp_path, monkeypatch):
    """I paste the page's code and see the page's output."""
    monkeypatch.chdir(tmp_path)

    assert run((DOCS / f"{page}.md").read_text(encoding="utf-8"), monkeypatch) == blocks


def test_code_of_other_projects_is_python():
    """What I compare my own code with can be parsed."""
    page = (DOCS / "coming_from.md").read_text(encoding="utf-8")
    theirs = re.findall(r"^```py\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)

    assert [ast.parse(code).body[0].lineno for code in theirs] == [1, 1, 1]


def row(page: str, name: str, heading: str) -> list[str]:
    """The cells of a row, below a heading of a page of figures."""
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8").partition(heading)[2]
    found = re.search(rf"^\| \**{re.escape(name)}\** \|(.*)\|$", text, re.MULTILINE)
    assert found is not None, name
    return [cell.strip(" *") for cell in found[1].split("|")]


def test_comparison_has_the_figures_that_were_measured():
    """The figures on the page of comparisons are those of the last benchmark, rounded."""
    page = (DOCS / "comparison.md").read_text(encoding="utf-8")
    memory = {
        name: float(row("benchmarks", name, "## In memory")[0]) for name in ("bare loop", "fsm_mediator", "sagaz")
    }
    disk = {name: float(row("benchmarks", name, "## On disk")[0].replace(",", "")) for name in ("fsm_mediator", "DBOS")}
    temporal = [row("engines", f"Temporal, {many} at a time", "## Price")[2] for many in (1, 16)]
    restate = [row("engines", f"Restate, {many} at a time", "## Price")[2] for many in (1, 16)]

    assert f"{disk['DBOS'] / 1000:.1f} ms with DBOS and {disk['fsm_mediator'] / 1000:.1f} ms here" in page
    assert f"{memory['sagaz']:.0f} µs with sagaz and {memory['fsm_mediator']:.0f} µs here" in page
    assert f"{memory['bare loop']:.1f} µs for three steps, and {memory['fsm_mediator']:.0f} µs here" in page
    assert f"{temporal[0]} to {temporal[1]}\ntimes the CPU time" in page
    assert f"{restate[0]} to {restate[1]} times the CPU time" in page


def test_comparison_names_the_versions_that_were_measured():
    """A version on the page of comparisons is the one of the benchmark, or of the pinned engines."""
    page = (DOCS / "comparison.md").read_text(encoding="utf-8")
    benchmarks = (DOCS / "benchmarks.md").read_text(encoding="utf-8")
    pins = (DOCS.parent / "constraints.txt").read_text(encoding="utf-8")

    for name, version in re.findall(r"^\| \*\*(DBOS|sagaz)\*\* ([\d.]+) \|", page, re.MULTILINE):
        assert f"{name.lower()} {version}." in benchmarks
    for name, version in re.findall(r"\*\*(Temporal|Restate)\*\* \(.*?SDK ([\d.]+)\)", page):
        assert f"{ {'Temporal': 'temporalio', 'Restate': 'restate-sdk'}[name] }=={version}." in pins
