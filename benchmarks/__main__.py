"""``make bench``: every benchmark there is, in one run."""

from __future__ import annotations

import argparse

from benchmarks import durable, in_memory, verifying
from benchmarks.measure import machine, pin_to_one_core


def main() -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=15, help="repetitions of each measurement (default: 15)")
    arguments = parser.parse_args()
    print(f"{machine()}, {pin_to_one_core()}\n")
    print(in_memory.run(rounds=arguments.rounds), end="\n\n")
    print(durable.run(rounds=max(3, arguments.rounds // 3)), end="\n\n")
    print(verifying.run())


if __name__ == "__main__":
    main()
