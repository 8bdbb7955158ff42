"""``python -m tests.prose [FILE...]``: list flagged sentences; without files, compare all counts with the ceilings.

``--write`` lowers the ceilings to today's counts. No option raises one. ``--sample SEED`` prints 100 sentences of pages
and 30 docstrings for a reader to judge, drawn by the seed.
"""

from __future__ import annotations

import argparse
import sys

from tests.prose.ratchet import counts, flagged, lowered, read_ceilings, rose, sample, write_ceilings


def main() -> int:
    """List flagged sentences, or compare; 1 if a count is above its ceiling."""
    parser = argparse.ArgumentParser(prog="python -m tests.prose", description=__doc__)
    parser.add_argument("files", nargs="*", help="paths from the root, such as docs/journal.md")
    parser.add_argument("--write", action="store_true", help="lower the ceilings to today's counts")
    parser.add_argument("--sample", metavar="SEED", help="print sentences for a reader to judge")
    options = parser.parse_args()
    if options.sample:
        for line in sample(options.sample):
            print(line)
        return 0
    for name in options.files:
        for each in flagged(name):
            print(f"{name}:{each.sentence.line}: {each.sentence.text}")
            for rule, instead in each.reasons:
                print(f"    {rule}: {instead}")
    if options.files and not options.write:
        return 0
    now, ceilings = counts(), read_ceilings()
    if options.write:
        write_ceilings(lowered(now, ceilings))
    above = rose(now, ceilings)
    for name, (count, ceiling) in above.items():
        print(f"{name}: {count} flagged sentences, at most {ceiling}; list them: python -m tests.prose {name}")
    print(f"prose: {sum(now.values())} flagged sentences in {len(now)} files, ceilings {sum(ceilings.values())}")
    return bool(above)


if __name__ == "__main__":
    sys.exit(main())
