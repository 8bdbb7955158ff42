"""``make bench``: every benchmark there is, in one run."""

from __future__ import annotations

import argparse

from benchmarks import durable, in_memory, rendering, verifying
from benchmarks.measure import machine, pin_to_one_core


def main() -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=15, help="repetitions of each measurement (default: 15)")
    parser.add_argument("--million", action="store_true", help="fill a journal with a million ended executions, too")
    arguments = parser.parse_args()
    ended = (1_000, 100_000, 1_000_000) if arguments.million else (1_000, 100_000)
    print(f"{machine()}, {pin_to_one_core()}\n")
    print(in_memory.run(rounds=arguments.rounds), end="\n\n")
    print(durable.run(rounds=max(3, arguments.rounds // 3), ended=ended), end="\n\n")
    print(verifying.run(), end="\n\n")
    print(rendering.run())


if __name__ == "__main__":
    main()
