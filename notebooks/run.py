"""Runs the notebooks: ``python notebooks/run.py`` executes them all and keeps what they show; ``--check`` compares.

Each runs in a kernel and a folder of its own. Not compared are what the clock and the machine put into an output
(durations, temporary folders, process ids), how many situations a check went through, and of a picture anything but
what it says for those who cannot see it. Widgets live in a kernel, and so are not kept: in their place stands the
picture that a front end without widgets shows. nbformat is imported where it is used: that takes three seconds.
"""

from __future__ import annotations

import argparse
import difflib
import os
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

HERE: Final = Path(__file__).resolve().parent
NOTEBOOKS: Final = sorted(HERE.glob("[0-9]*.ipynb"))
PATIENCE: Final = 120
"""Seconds that one cell may take."""

WIDGET: Final = "application/vnd.jupyter.widget-view+json"
HTML: Final = "text/html"
SVG: Final = "image/svg+xml"
KERNEL: Final = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}

COUNTED: Final = "situations|moves|paths|faults|failure paths|states|transitions|runs"
MEASURED: Final = (
    (re.compile(r"\b\d+(?:\.\d+)? ?(?:ms|us|µs|s)\b"), "<duration>"),
    (re.compile(r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)?"), "<time>"),
    (re.compile(r"/(?:[\w.+-]+/)*tmp\w*(?:/[\w.+-]+)*"), "<folder>"),
    (re.compile(r"\b(process|pid) \d+"), r"\1 <pid>"),
    (re.compile(rf"\b\d[\d,.e+]* (?:of \d+ )?(?={COUNTED})"), "<count> "),
    (re.compile(r"\([0-9a-f]{16}\)"), "(<fingerprint>)"),
    (re.compile(r" {2,}"), " "),
    (re.compile(r" +$", re.MULTILINE), ""),
)
"""What differs from run to run, or with how much there is to check, and what stands for it in a comparison."""

_NOISE: Final = re.compile(r"^Fontconfig (?:warning|error): .*\n?", re.MULTILINE)
_PICTURE: Final = f'src="data:{SVG};base64,'
_SAYS: Final = re.compile(r'(?:aria-label|alt)="([^"]*)"')


def executed(notebook: Any) -> Any:
    """*notebook* with what it shows when it is run now, in a kernel and an empty folder of its own."""
    import nbformat
    from nbclient import NotebookClient

    fresh = nbformat.from_dict(notebook)  # type: ignore[no-untyped-call]
    with tempfile.TemporaryDirectory(prefix="notebook-") as folder:
        home = Path(folder)
        (home / "work").mkdir()
        client = NotebookClient(
            fresh,
            timeout=PATIENCE,
            kernel_name="python3",
            resources={"metadata": {"path": str(home / "work")}},
            extra_arguments=["--HistoryManager.enabled=False"],
        )
        client.execute(env={**os.environ, "IPYTHONDIR": str(home / "ipython"), "PYTHONDONTWRITEBYTECODE": "1"})
    return normalise_svg(fresh)


def normalise_svg(notebook: Any) -> Any:
    """*notebook* without what belongs to a kernel, a machine or a moment, and not to the notebook."""
    import nbformat

    notebook.metadata = nbformat.from_dict(KERNEL)  # type: ignore[no-untyped-call]
    for cell in notebook.cells:
        cell.metadata = nbformat.from_dict({})  # type: ignore[no-untyped-call]
        if cell.cell_type == "code":
            cell.outputs = [output for output in _joined(cell.outputs) if output.get("text", True)]
    return notebook


def _joined(outputs: Iterable[Any]) -> Iterator[Any]:
    """The outputs, pieces of one stream put together: where they are cut is chance."""
    last = None
    for output in outputs:
        if output.output_type == "stream":
            text = _NOISE.sub("", output.text)
            if last is not None and last.output_type == "stream" and last.name == output.name:
                last.text += text
                continue
            output.text = text
        elif "data" in output:
            output.data.pop(WIDGET, None)
            if HTML in output.data:
                output.data.pop(SVG, None)  # the same picture once more
            output.metadata = type(output)()
        last = output
        yield output


def shown(notebook: Any) -> list[str]:
    """What is compared of *notebook*: its cells, and what they show, a line each."""
    lines = []
    for number, cell in enumerate(notebook.cells, 1):
        lines.append(f"--- cell {number}, {cell.cell_type}")
        lines += cell.source.splitlines()
        for output in cell.get("outputs", ()):
            lines += _told(output)
    return lines


def _told(output: Any) -> list[str]:
    if output.output_type == "stream":
        return [f"--- {output.name}", *measureless(output.text).splitlines()]
    if output.output_type == "error":
        return [f"--- {output.ename}", *measureless(output.evalue).splitlines()]
    lines = []
    for kind in sorted(output.data):
        held = output.data[kind]
        text = held if isinstance(held, str) else repr(held)
        if kind == SVG or _PICTURE in text:
            says = _SAYS.search(text)
            text = says.group(1) if says else "says nothing"
        lines += [f"--- {kind}", *measureless(text).splitlines()]
    return lines


def measureless(text: str) -> str:
    """*text* without what differs from run to run."""
    for pattern, stands_for in MEASURED:
        text = pattern.sub(stands_for, text)
    return text


def read(path: Path) -> Any:
    """The notebook at *path*."""
    import nbformat

    return nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]


def stale(path: Path) -> list[str]:
    """What the notebook at *path* shows, and does not show when it is run now, as a diff; empty if it is fresh."""
    kept, fresh = read(path), executed(read(path))
    names = (f"{path.name} (as it is kept)", f"{path.name} (as it runs now)")
    return list(difflib.unified_diff(shown(kept), shown(fresh), *names, lineterm="", n=1))


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 and a diff if one is stale")
    parser.add_argument("names", nargs="*", help="beginnings of names; by default all notebooks")
    options = parser.parse_args()
    found = []
    for path in NOTEBOOKS:
        if options.names and not path.name.startswith(tuple(options.names)):
            continue
        if options.check:
            found += stale(path)
        else:
            import nbformat

            nbformat.write(executed(read(path)), path)  # type: ignore[no-untyped-call]
    if found:
        sys.stdout.write("\n".join([*found, "", "Notebooks are stale. Run them anew: python notebooks/run.py", ""]))
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
