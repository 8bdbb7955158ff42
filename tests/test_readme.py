"""The README's code runs and prints what the README says."""

from __future__ import annotations

import contextlib
import doctest
import io
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

pytestmark = pytest.mark.once

README = Path(__file__).parent.parent / "README.md"

# A block of Python, and the block of text right below it, if there is one.
BLOCK = re.compile(r"^```python\n(?P<code>.*?)^```\n(?:\s*^```text\n(?P<output>.*?)^```$)?", re.MULTILINE | re.DOTALL)

# What the clock says differs from run to run: points in time, and seconds with a fraction.
TIMES = {
    r"\b(?:\d{4}-\d\d-\d\d[T ])?\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)?": "<time>",
    r"\b\d+(?:\.\d+)? ?(?:ms|us|µs)\b|\b\d+\.\d+ ?s\b": "<duration>",
}
OPTIONS = doctest.ELLIPSIS | doctest.DONT_ACCEPT_BLANKLINE | doctest.DONT_ACCEPT_TRUE_FOR_1 | doctest.REPORT_NDIFF


def run(page: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """Run a page's Python blocks in order as one module, compare each one's output, return how many there were."""
    # A module of its own: annotations are resolved by looking their module up in sys.modules.
    module = ModuleType("readme")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    blocks = list(BLOCK.finditer(page))
    for block in blocks:
        line = page.count("\n", 0, block.start("code"))
        code = compile("\n" * line + block["code"], README.name, "exec", dont_inherit=True)
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(code, module.__dict__)  # noqa: S102 - it is our own page, and running it is the test
        expected, got = timeless(block["output"] or ""), timeless(printed.getvalue())
        checker = doctest.OutputChecker()
        if not checker.check_output(expected, got, OPTIONS):
            difference = checker.output_difference(doctest.Example(block["code"], expected), got, OPTIONS)
            pytest.fail(
                f"{README.name}, line {line + 1}: the block prints something else.\n{difference}", pytrace=False
            )
    return len(blocks)


def timeless(text: str) -> str:
    """The text without what the clock put into it."""
    for pattern, name in TIMES.items():
        text = re.sub(pattern, name, text)
    return text


def test_readme_runs_and_prints_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever pastes the README's code sees the README's output."""
    monkeypatch.chdir(tmp_path)

    assert run(README.read_text(encoding="utf-8"), monkeypatch), "README.md has no block of Python"


def test_page_that_promises_other_output_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """A README that has drifted from the code does not pass."""
    page = "```python\nx = 6\n```\n\n```python\nprint(7 * x)\n```\n\n```text\n43\n```\n"

    with pytest.raises(pytest.fail.Exception, match="line 6"):
        run(page, monkeypatch)
    assert run(page.replace("43", "4..."), monkeypatch) == 2


def test_output_that_the_page_hides_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """A block without a text block below it prints nothing."""
    with pytest.raises(pytest.fail.Exception, match="line 2"):
        run("```python\nprint('unseen')\n```\n\nSome prose.\n\n```text\nunseen\n```\n", monkeypatch)


@pytest.mark.parametrize(
    ("promised", "printed", "same"),
    [
        ("at 2025-01-31 12:00:00Z", "at 2026-11-23T07:08:09.123+01:00", True),
        ("took 12 ms", "took 3.5 ms", True),
        ("waits 0.1 s", "waits 0.2 s", True),
        ("5 attempts", "6 attempts", False),
        ("deadline 5 s", "deadline 6 s", False),
    ],
)
def test_only_what_the_clock_says_may_differ(promised: str, printed: str, same: bool) -> None:
    """Points in time and measured durations may differ from the page; settings and counts may not."""
    assert (timeless(promised) == timeless(printed)) is same
