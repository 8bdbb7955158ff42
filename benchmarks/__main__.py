"""``make bench``: runs all benchmarks, and writes the results to the terminal, docs/benchmarks.md and the README."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable

from benchmarks import (
    compare,
    composition,
    durable,
    environments,
    floors,
    postgres,
    rendering,
    report,
    sizes,
    verifying,
)
from benchmarks.measure import Figures, pin_to_one_core

GROUPS = (
    *("in_memory", "durable", "imports", "journal", "floors"),
    *("verifying", "rendering", "composition", "postgres", "sizes"),
)
PICTURES = (3, 10)  # Graphviz needs most of a minute for those of 40 steps: ``python -m benchmarks.rendering``
RENDERING = f"""
import json
from benchmarks import rendering
figures = {{}}
print(json.dumps([rendering.run(figures, sizes={PICTURES}), figures]))
"""
PEERS = ("in_memory", "durable", "imports")


def main() -> None:
    """Measure, and write the results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="about a minute: the peers, few repetitions; nothing is written"
    )
    parser.add_argument(
        "--only",
        choices=(*GROUPS, "peers"),
        help="one part (peers: in_memory, durable and imports; journal: our journal's growth); nothing is written",
    )
    parser.add_argument("--rounds", type=int, help="repetitions of each measurement (default: 11, quick: 3)")
    parser.add_argument("--million", action="store_true", help="fill the journal with a million ended executions, too")
    parser.add_argument("--keep", action="store_true", help="write the pages after a quick run as well")
    parser.add_argument(
        "--render", action="store_true", help="only write the pages anew from the results that are kept"
    )
    arguments = parser.parse_args()
    if arguments.keep and arguments.only:
        parser.error("--keep goes with a run of everything: what the pages tell comes from one run")
    if arguments.render:
        for path in report.render(json.loads(report.KEPT.read_text())):
            print(path.relative_to(report.ROOT))
        return
    effort = compare.QUICK if arguments.quick else compare.FULL
    if arguments.rounds:
        effort = effort._replace(rounds=arguments.rounds)
    groups = (arguments.only,) if arguments.only else PEERS if arguments.quick else GROUPS
    if arguments.only == "peers":
        groups = PEERS
    results = measured(groups, effort, million=arguments.million)
    print(report.plain(results))
    if not arguments.only and (arguments.keep or not arguments.quick):
        for path in report.write(results):
            print(f"written: {path.relative_to(report.ROOT)}")


def measured(groups: tuple[str, ...], effort: compare.Effort, *, million: bool) -> compare.Results:
    """The results of these groups of benchmarks."""
    started = time.perf_counter()

    def say(what: str) -> None:
        print(f"{time.perf_counter() - started:6.1f} s  {what}", file=sys.stderr, flush=True)

    results, pythons = compare.start(say)
    say(pin_to_one_core())
    results["effort"] = f"medians of {effort.rounds} interleaved repetitions"
    results["told"], results["figures"] = {}, {}
    figures: Figures = results["figures"]
    if "in_memory" in groups:
        compare.in_memory(results, pythons, effort, say)
    if "durable" in groups:
        compare.durable(results, pythons, effort, say)
    if "imports" in groups:
        compare.imports(results, pythons, effort, say)
    if "journal" in groups:
        say("our journal: threads, growth, recovery, waiting")
        ended = (1_000, 100_000, 1_000_000) if million else (1_000, 100_000) if effort.rounds > 3 else (1_000, 5_000)
        results["told"]["durable"] = durable.run(rounds=max(3, effort.rounds // 3), figures=figures, ended=ended)
    if "floors" in groups:
        say("floors")
        results["told"]["floors"] = floors.run(max(3, effort.rounds // 2), figures)
    if "verifying" in groups:
        say("verifying")
        results["told"]["verifying"] = verifying.run()
    if "rendering" in groups:
        say("rendering")
        results["told"]["rendering"] = rendered(say, figures)
    if "composition" in groups:
        say("composition")
        results["told"]["composition"] = composition.run(figures, rounds=effort.few)
    if "postgres" in groups:
        say("postgres")
        results["told"]["postgres"] = postgres.run(figures)
    if "sizes" in groups:
        say("sizes")
        sizes.run(figures, rounds=max(3, effort.rounds // 3))
    say("done")
    return results


def rendered(say: Callable[[str], None], figures: Figures) -> str:
    """The output of the benchmark of pictures. The libraries to compare with are installed beside the project."""
    try:
        beside = environments.beside(report.ROOT / "benchmarks" / "rendering.txt")
    except environments.NotToBeHadError as error:
        say(f"NOT COMPARED: pictures of others: {error}")
        return rendering.run(figures, sizes=PICTURES)
    # In a process of its own: what is beside must not be found by what was measured before.
    path = os.pathsep.join((str(report.ROOT), str(beside)))
    done = subprocess.run(  # noqa: S603 - our own command
        [sys.executable, "-c", RENDERING],
        cwd=report.ROOT,
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    text, found = json.loads(done.stdout)
    figures.update(found)
    return str(text)


if __name__ == "__main__":
    main()
