"""``make guard``: checks whether the library became slower. It counts instructions, which other programs do not affect.

``valgrind --tool=callgrind`` counts the instructions of a saga, and of the bare loop that does the same work. (The
definition of a saga is compared with a plain `transitions` machine that has the same states and transitions. Works that
consist of many sagas are compared as in `benchmarks.marks`.) The ratio depends little on the machine, and not at all on
its load. It is compared with the ratio in ``benchmarks/guard.json``. If valgrind is not installed, the ratio of
processor times is compared with a wider bound, and the guard prints a message.

If a change is meant to cost more, or made the library faster, record new figures: ``python -m benchmarks.guard
--record``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.guarded import prepared

KEPT = Path(__file__).parent / "guard.json"
# Instructions repeat to within one per cent; the rest is room for changes that are worth what they cost.
BOUND = {"instructions": 1.25, "processor time": 2.0}
BETTER = 0.9  # below that share of what is kept, new figures are worth keeping
# Another minor version of Python has another interpreter: only a gross regression can be told.
OTHER_PYTHON = 1.5
ROUNDS = 15
PATIENCE = 600  # seconds


class GuardError(Exception):
    """The guard could not measure. The message gives the reason."""


WORKS = {
    "W3 success": ("3 steps in memory succeed", "the loop"),
    "W3 failure": ("3 steps in memory, the last fails", "the loop"),
    "W100 success": ("100 steps in memory succeed", "the loop"),
    "W100 failure": ("100 steps in memory, the last fails", "the loop"),
    "defining 3": ("the definition of a saga of 3 steps", "a machine of `transitions`"),
    "defining 100": ("the definition of a saga of 100 steps", "a machine of `transitions`"),
    "nested": ("3 nested sagas of 3 steps", "9 steps in a row"),
    "asyncio, 256 at a time": ("256 sagas at a time on asyncio", "one after the other"),
    "asyncio, a group of 256": ("a group of 256 branches on asyncio", "256 bare tasks"),
    "on disk, one at a time": ("on disk, one at a time, without the kernel", "the loop on disk"),
    "on disk, 256 tasks": ("on disk, 256 tasks, without the kernel", "256 tasks in memory"),
    "import": ("import", "`import transitions, msgspec`"),
}
"""What each label stands for: the work, and what its instructions are divided by."""

CALLGRIND = ("valgrind", "--tool=callgrind", "--callgrind-out-file=count")
IMPORTS = {"floor": "import transitions, msgspec", "ours": "import fsm_mediator"}


def instructions() -> dict[str, float]:
    """The number of instructions of each work, divided by the number for the code that it is compared with."""
    counted: dict[tuple[str, str], float] = {}
    with tempfile.TemporaryDirectory() as folder:
        told = _counting(folder, "--dump-before=getpriority", sys.executable, "-m", "benchmarks.guarded")
        # The first count is of everything until the first mark, the last of everything after the last one.
        for number, line in enumerate(told.splitlines(), start=2):
            side, label, runs = line.split("\t")
            counted[side, label] = total(Path(folder) / f"count.{number}") / int(runs)
        if not counted:
            raise GuardError("the counted process did nothing")
        bare = _of_code(folder, "pass")
        for side, code in IMPORTS.items():
            counted[side, "import"] = _of_code(folder, code) - bare
    return ratios(counted)


def _of_code(folder: str, code: str) -> int:
    """The number of instructions of an interpreter that runs *code*, whose modules are compiled already."""
    for _ in range(2):
        _counting(folder, sys.executable, "-c", code)
    return total(Path(folder) / "count")


def _counting(folder: str, *command: str) -> str:
    """Run a command under valgrind, which writes its counts to *folder*. Returns what the command printed."""
    settings = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    settings |= {"PYTHONHASHSEED": "0", "PYTHONPATH": str(Path(__file__).parent.parent)}
    done = subprocess.run(  # noqa: S603 - our own command
        [*CALLGRIND, *command],
        cwd=folder,
        env=settings,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    if done.returncode:
        raise GuardError(f"valgrind ended with {done.returncode}: {done.stderr.strip()[-500:]}")
    return done.stdout


def total(dump: Path) -> int:
    """The number of instructions in one dump."""
    for line in dump.read_text().splitlines():
        if line.startswith("totals:"):
            return int(line.split()[1])
    raise GuardError(f"{dump.name} says no total")


def processor_time() -> dict[str, float]:
    """The processor time of each work, divided by that of the code that it is compared with. Without the import.

    Each time is the minimum of some interleaved repetitions.
    """
    least: dict[tuple[str, str], float] = {}
    works = prepared()
    for _ in range(ROUNDS):
        for side, label, runs, ready in works:
            brief = side == "floor" and label.startswith("W")  # a loop that is over before a clock has ticked
            numbers = range(runs * (20 if brief else 1))
            started = time.process_time()
            for _ in numbers:
                ready.run()
            took = (time.process_time() - started) / len(numbers)
            least[side, label] = min(took, least.get((side, label), took))
    return ratios(least)


def ratios(taken: dict[tuple[str, str], float]) -> dict[str, float]:
    """Our figures, divided by the figures of the floor."""
    return {label: round(taken["ours", label] / taken["floor", label], 2) for side, label in taken if side == "ours"}


def verdict(kind: str, now: dict[str, float], kept: dict[str, Any], python: str) -> tuple[str, bool]:
    """The text to print, and whether all ratios are within the bounds.

    Args:
        kind: "instructions" or "processor time".
        now: The ratios that were just measured.
        kept: The content of ``guard.json``.
        python: The minor version of the running Python, such as "3.11".
    """
    same = python == kept["python"]
    bound = BOUND[kind] * (1.0 if same else OTHER_PYTHON)
    lines = [f"times the {kind} of the floor (kept: Python {kept['python']}; bound: {bound:.2f} times what is kept)"]
    if not same:
        lines.append(f"this is Python {python}: the bound is wider, since another interpreter counts differently")
    well = True
    for label, before in kept[kind].items():
        ratio = now.get(label)
        if ratio is None:
            lines.append(f"  {label:14} was not measured")
            well = False
            continue
        worse = ratio > before * bound
        well = well and not worse
        remark = "SLOWER" if worse else "faster: keep it with --record" if ratio < before * BETTER else ""
        lines.append(f"  {label:14}{ratio:8.2f}   kept {before:8.2f}   {remark}".rstrip())
    if not well:
        lines.append("Mend it; or, if it is worth what it costs: python -m benchmarks.guard --record")
    return "\n".join(lines), well


def main() -> int:
    """Compare the figures and return the exit code, or record new figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.guard", description=__doc__)
    parser.add_argument("--record", action="store_true", help="keep what is measured now as what is expected")
    parser.add_argument("--time", action="store_true", help="compare processor times, as if there were no valgrind")
    arguments = parser.parse_args()
    python = ".".join(platform.python_version_tuple()[:2])
    if arguments.record:
        figures = {"python": python, "instructions": instructions(), "processor time": processor_time()}
        KEPT.write_text(json.dumps(figures, indent=1) + "\n")
        print(KEPT.read_text(), end="")
        return 0
    kind = "instructions"
    if arguments.time or shutil.which("valgrind") is None:
        kind = "processor time"
        why = "as asked for" if arguments.time else "valgrind is not installed, so instructions cannot be counted"
        print(f"guard: {why}: comparing processor times instead, with a wider bound")
    now = instructions() if kind == "instructions" else processor_time()
    said, well = verdict(kind, now, json.loads(KEPT.read_text()), python)
    print(f"guard: {said}")
    return 0 if well else 1


if __name__ == "__main__":
    raise SystemExit(main())
