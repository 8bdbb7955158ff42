"""``python -m examples.profile_sync``: runs the demo and prints the result.

Exits with 0 if the tables of all services are correct, with 1 on a mismatch, with 2 if it could not start.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from rich.console import Console

from examples.profile_sync import DEFAULT_FOLDER
from examples.profile_sync.demo import JOURNAL, DifferentRunError, clear, demo_faults, synchronise
from examples.profile_sync.make_changes import CHANGES
from examples.profile_sync.report import progress, show


def main(argv: list[str] | None = None) -> int:
    """Parses the command line, runs the demo and prints the result. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m examples.profile_sync", description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, nargs="?", default=CHANGES, help="changes, a JSON object per line")
    parser.add_argument("--dir", type=Path, default=DEFAULT_FOLDER, help="folder of the state (%(default)s)")
    parser.add_argument("--seed", type=int, default=7, help="seed of the faults (%(default)s)")
    parser.add_argument("--fresh", action="store_true", help="delete the state in the folder first")
    parser.add_argument("--workers", type=int, default=8, help="sagas at a time (%(default)s)")
    parser.add_argument("--latency", type=float, default=0.002, help="seconds that a request takes (%(default)s)")
    options = parser.parse_args(argv)

    # With a journal on disk, the next run resumes a run that was killed.
    journal = str(options.dir / JOURNAL)

    console = Console()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console = Console(width=120)  # a pipe has no width, and 80 columns are too few
    if options.fresh:
        clear(options.dir)
    try:
        with progress(console) as (on_begin, on_end):
            result = synchronise(
                options.source,
                options.dir,
                demo_faults(options.seed, options.latency),
                journal=journal,
                workers=options.workers,
                on_begin=on_begin,
                on_end=on_end,
            )
    except (DifferentRunError, OSError) as error:
        console.print(f"[bold red]{error}[/]")
        return 2
    except KeyboardInterrupt:
        console.print("interrupted; run the same command again to resume")
        return 130
    show(console, result)
    return 1 if result.mismatches else 0


if __name__ == "__main__":
    sys.exit(main())
