"""The notebooks run, and show what is kept in them."""

from __future__ import annotations

import contextlib
import copy
import getpass
import io
import re
from pathlib import Path

import pytest

from notebooks.run import NOTEBOOKS, WIDGET, measureless, normalise_svg, read, shown, stale

pytestmark = pytest.mark.once


@pytest.mark.parametrize("path", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS])
def test_notebook_runs_and_shows_what_is_kept_in_it(path):
    """Whoever runs a notebook sees what the repository shows of it."""
    difference = stale(path)
    if difference:
        told = "\n".join(difference)
        pytest.fail(f"{told}\n\nIf that is as it should be: python notebooks/run.py {path.name[0]}", pytrace=False)


def test_there_are_six():
    """First a saga, then its failures, a crash, pictures, a proof, and many runs; in this order."""
    assert [path.stem.partition("_")[0] for path in NOTEBOOKS] == ["1", "2", "3", "4", "5", "6"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS])
def test_what_is_kept_is_complete_and_of_no_machine(path):
    """Every cell was run, in order and without an error; no widget, folder or name of whoever ran it is kept."""
    notebook = read(path)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]

    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"]
    assert not [output for output in outputs if WIDGET in output.get("data", {})]
    text = path.read_text(encoding="utf-8")
    assert str(Path.home()) not in text
    assert not re.search(rf"\b{getpass.getuser()}@|/tmp/", text)


def test_links_between_notebooks_and_to_the_docs_lead_somewhere():
    """No link of a notebook is broken."""
    for path in NOTEBOOKS:
        for cell in read(path).cells:
            if cell.cell_type == "markdown":
                for link in re.findall(r"\]\(([^)#:]+)\)", cell.source):
                    assert (path.parent / link).exists(), f"{path.name}: {link}"


def test_page_on_notebooks_runs():
    """What the how-to shows can be pasted, from its first block to its last."""
    page = (Path(__file__).parent.parent / "docs" / "notebooks.md").read_text(encoding="utf-8")
    names: dict[str, object] = {"__name__": "page"}
    printed = io.StringIO()

    with contextlib.redirect_stdout(printed):
        for block in re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL):
            exec(block, names)  # noqa: S102 - it is our own page, and running it is the test

    assert "saga 'weekend', moment 2 of 2: execute room" in printed.getvalue()


def kept():
    """A notebook that was run, small enough to be looked at."""
    return normalise_svg(copy.deepcopy(read(NOTEBOOKS[0])))


def test_changed_output_is_stale():
    """A notebook that shows something else than it did is found."""
    notebook = kept()
    before = shown(notebook)
    stream = next(
        output for cell in notebook.cells for output in cell.get("outputs", ()) if output.output_type == "stream"
    )

    stream.text = stream.text.replace("succeeded", "failed", 1)

    assert shown(notebook) != before


def test_picture_that_says_something_else_is_stale():
    """Of a picture what it says is compared: another run's picture is found, another Graphviz's is not."""
    notebook = kept()
    before = shown(notebook)
    output = next(
        output for cell in notebook.cells for output in cell.get("outputs", ()) if "text/html" in output.get("data", {})
    )

    output.data["text/html"] = output.data["text/html"].replace("base64,", "base64,QUJD")
    assert shown(notebook) == before
    output.data["text/html"] = output.data["text/html"].replace("then room", "then hall")
    assert shown(notebook) != before


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("    0.089 s  notification is given up", "    0.132 s  notification is given up", True),
        ("succeeded · 4 records · 3 ms", "succeeded · 4 records · 1.2 s", True),
        ("/tmp/a1b2/work/shop.py", "/tmp/c3d4/work/shop.py", True),  # noqa: S108 - text, not used
        (
            "774 situations, 3,785 moves, 4.2e+17 paths to an end or a park",
            "9 situations, 12 moves, 40 paths to an end or a park",
            True,
        ),
        ("survives all 64 faults: 17 failure paths", "survives all 70 faults: 3 failure paths", True),
        ("27 of 38 transitions of its machine", "27 of 40 transitions of its machine", True),
        ("after 2 attempts", "after 3 attempts", False),
        ("succeeded · 4 records", "succeeded · 5 records", False),
        ("killed, exit code -9", "killed, exit code -15", False),
    ],
)
def test_only_what_was_measured_may_differ(one, other, same):
    """Durations, folders and how much there was to check may differ; what happened may not."""
    assert (measureless(one) == measureless(other)) is same
