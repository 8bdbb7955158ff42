"""``python -m tests.mutation``: every mutant of the plan; with MUTANTS_SECONDS a few, drawn by MUTANTS_SEED.

``--new`` tries only those that the record does not know, such as those of code that is newer; ``--missed`` also those
again that `verify` or the tests missed; ``--survivors`` those that the tests missed. ``--write`` keeps the record and
writes the table of docs/mutants.md; the figures are printed in any case.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import Final

import attrs

from tests.mutation.hunts import hunt, planned, sampled
from tests.mutation.page import write_page
from tests.mutation.plan import BY_VERIFY, WHOLE, test_files
from tests.mutation.record import (
    NOT_ASKED,
    UNKNOWN,
    Verdict,
    count,
    interval,
    read_equivalents,
    read_verdicts,
    rendered,
    write_verdicts,
)

BY_TESTS_AT_LEAST: Final = 0.95
BY_VERIFY_AT_LEAST: Final = 0.80


def main() -> int:
    """Run what was asked for; 1 if a bar is missed."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--new", dest="again", action="store_const", const=_new, help="only what the record lacks")
    which.add_argument(
        "--missed", dest="again", action="store_const", const=again_what_was_missed, help="and those that were missed"
    )
    which.add_argument("--survivors", dest="again", action="store_const", const=_survived, help="no test caught these")
    parser.add_argument("--write", action="store_true", help="keep the record and write docs/mutants.md")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 2, help="how many mutants at once")
    parser.add_argument("--seconds", type=float, default=4.0, help="how long the tests of one mutant may take")
    parser.add_argument("--whole-only", action="store_true", help="leave out the sample of the core and the journals")
    parser.add_argument("--files", nargs="+", default=test_files(), help="the files of the tests")
    options = parser.parse_args()
    seconds = os.environ.get("MUTANTS_SECONDS")
    if seconds:
        return _few(float(seconds), os.environ.get("MUTANTS_SEED") or "17", options.jobs)
    return _whole(options)


def _few(seconds: float, seed: str, jobs: int) -> int:
    """A few mutants; 1 if so many escape that the bar of all is missed for certain."""
    verdicts = sampled(seconds, seed, jobs)
    caught = sum(each.caught for each in verdicts)
    low, high = interval(caught, len(verdicts))
    share = f"{100 * low:.0f} to {100 * high:.0f} % of all"
    print(f"mutants, drawn by the seed {seed!r}: {caught} of {len(verdicts)} caught, that is {share}")
    for each in verdicts:
        if not each.caught:
            print(f"  not caught: {each.identity}")
    return 0 if verdicts and high >= BY_TESTS_AT_LEAST else 1


def _whole(options: argparse.Namespace) -> int:
    """All mutants of the plan, or those that survived; 1 if a bar is missed."""
    kept = read_verdicts()
    verdicts = {
        mutant.identity: Verdict(
            mutant.identity, mutant.kind, UNKNOWN if mutant.module in BY_VERIFY else NOT_ASKED, UNKNOWN
        )
        for mutant in planned()
        if mutant.module in WHOLE or not options.whole_only
    }
    if options.again is not None:
        for identity in verdicts.keys() & kept.keys():
            verdicts[identity] = options.again(kept[identity])

    def found(verdict: Verdict) -> None:
        verdicts[verdict.identity] = verdict
        if options.write:
            write_verdicts(verdicts.values())

    hunt(verdicts, found, at_once=options.jobs, budget=options.seconds, files=options.files)
    equivalents = read_equivalents()
    if options.write:
        write_page(verdicts, equivalents)
    print(rendered(verdicts, equivalents))
    return _judged(verdicts, equivalents)


def _new(before: Verdict) -> Verdict:
    """What the record says."""
    return before


def again_what_was_missed(before: Verdict) -> Verdict:
    """What the record says, but for what `verify` or the tests missed."""
    verify = before.verify if before.found_by_verify or before.verify == NOT_ASKED else UNKNOWN
    return attrs.evolve(before, verify=verify, tests=before.tests or UNKNOWN)


def _survived(before: Verdict) -> Verdict:
    """What the record says, but for what the tests missed."""
    return attrs.evolve(before, tests=before.tests or UNKNOWN)


def _judged(verdicts: dict[str, Verdict], equivalents: dict[str, str]) -> int:
    """1 if a bar is missed."""
    whole = count((each for each in verdicts.values() if each.module in WHOLE), equivalents)
    sample = count((each for each in verdicts.values() if each.module not in WHOLE), equivalents)
    judged = count((each for each in verdicts.values() if each.module in BY_VERIFY), equivalents)
    missed = [
        words
        for words, hits, of, bar in (
            ("caught by the tests", whole.tests, whole.made, BY_TESTS_AT_LEAST),
            ("caught by the tests, of the sample", sample.tests, sample.made, BY_TESTS_AT_LEAST),
            ("found by verify alone", judged.verify, judged.made, BY_VERIFY_AT_LEAST),
        )
        if hits < bar * of
    ]
    for words in missed:
        print(f"fewer than they should be are {words}", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
