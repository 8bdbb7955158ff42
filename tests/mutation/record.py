"""The kept record: what became of each mutant, and which of those that nothing caught are equivalent."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import attrs

from tests.mutation.plan import BY_VERIFY, WHOLE

CAUGHT: Final = Path(__file__).parent / "caught.tsv"
EQUIVALENT: Final = Path(__file__).parent / "equivalent.tsv"

NOT_ASKED: Final = "-"
UNKNOWN: Final = "?"
Z: Final = 1.96
"""Standard deviations on either side of an interval of 95 %."""

ENDINGS: Final = ("time-out: ", "died: ")


@attrs.define
class Verdict:
    """What became of a mutant.

    Attributes:
        identity: The mutant's.
        kind: Its operator.
        verify: How `verify` found it: a saga and a law, or what was raised. Empty: it did not. `NOT_ASKED`: it does not
            walk this module. With ``differs`` in front: every law holds, and the report is yet another.
        tests: The test that caught it, after ``time-out`` or ``died`` where it did not fail; empty: none did.
    """

    identity: str
    kind: str
    verify: str
    tests: str

    @property
    def module(self) -> str:
        """The module of the mutant."""
        return self.identity.partition(":")[0]

    @property
    def function(self) -> str:
        """The function of the mutant, with its module; the module alone where the mutant is in none."""
        return self.identity.partition(": ")[0]

    @property
    def test(self) -> str:
        """The test that caught it, without the word before it."""
        for ending in ENDINGS:
            if self.tests.startswith(ending):
                return self.tests.removeprefix(ending)
        return self.tests

    @property
    def found_by_verify(self) -> bool:
        """Whether `verify` alone found it, by a broken law or an error."""
        return self.verify not in ("", NOT_ASKED, UNKNOWN) and not self.verify.startswith("differs")

    @property
    def caught(self) -> bool:
        """Whether a test caught it."""
        return self.tests not in ("", UNKNOWN)


def read_verdicts(path: Path = CAUGHT) -> dict[str, Verdict]:
    """The kept verdicts, by identity."""
    if not path.is_file():
        return {}
    rows = (line.split("\t") for line in path.read_text(encoding="utf-8").splitlines())
    return {row[0]: Verdict(*row) for row in rows}


def write_verdicts(verdicts: Iterable[Verdict], path: Path = CAUGHT) -> None:
    """Keep *verdicts*."""
    rows = sorted(f"{each.identity}\t{each.kind}\t{each.verify}\t{each.tests}" for each in verdicts)
    path.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")


def read_equivalents(path: Path = EQUIVALENT) -> dict[str, str]:
    """The reason, by the identity of each mutant that changes nothing that anybody could see."""
    return dict(line.split("\t") for line in path.read_text(encoding="utf-8").splitlines())


def interval(hits: int, of: int) -> tuple[float, float]:
    """Wilson's interval of 95 % for a share."""
    if of == 0:
        return 0.0, 1.0
    share = hits / of
    middle = (share + Z * Z / (2 * of)) / (1 + Z * Z / of)
    half = Z * math.sqrt(share * (1 - share) / of + Z * Z / (4 * of * of)) / (1 + Z * Z / of)
    return max(0.0, middle - half), min(1.0, middle + half)


@attrs.frozen
class Count:
    """The figures of some mutants; the equivalent ones count only in their own figure.

    Attributes:
        made: How many there are, without the equivalent ones.
        tests: How many of them tests caught.
        timed_out: How many of these by a time-out.
        verify: How many `verify` alone found.
        either: How many were caught by either.
        equivalent: How many more are equivalent.
    """

    made: int
    tests: int
    timed_out: int
    verify: int
    either: int
    equivalent: int


def count(verdicts: Iterable[Verdict], equivalents: Iterable[str]) -> Count:
    """The figures of *verdicts*."""
    every = list(verdicts)
    same = {each.identity for each in every if not each.caught} & set(equivalents)
    real = [each for each in every if each.identity not in same]
    return Count(
        made=len(real),
        tests=sum(each.caught for each in real),
        timed_out=sum(each.tests.startswith("time-out") for each in real),
        verify=sum(each.found_by_verify for each in real),
        either=sum(each.caught or each.found_by_verify for each in real),
        equivalent=len(same),
    )


def _percent(hits: int, of: int) -> str:
    return f"{100 * hits / of:.1f} %" if of else "-"


def _row(name: str, found: Count, *, asked: bool) -> str:
    verify = f"{found.verify} ({_percent(found.verify, found.made)})" if asked else "-"
    tests = f"{found.tests} ({_percent(found.tests, found.made)})"
    neither = found.made - found.either
    return f"| {name} | {found.made} | {verify} | {tests} | {found.timed_out} | {neither} | {found.equivalent} |"


HEAD: Final = (
    (
        "| module | mutants | found by `verify` alone | caught by tests | caught by a time-out | caught by neither "
        "| equivalent |"
    ),
    "|---|---|---|---|---|---|---|",
)


def rendered(verdicts: dict[str, Verdict], equivalents: dict[str, str]) -> str:
    """The tables, as they stand in the docs."""
    every = list(verdicts.values())
    whole = [each for each in every if each.module in WHOLE]
    core = [each for each in every if each.module not in WHOLE]
    lines = [*HEAD]
    lines += [
        _row(f"`{name}`", count((e for e in whole if e.module == name), equivalents), asked=name in BY_VERIFY)
        for name in WHOLE
    ]
    lines.append(_row("all of these modules", count(whole, equivalents), asked=False))
    judged = count((each for each in whole if each.module in BY_VERIFY), equivalents)
    lines.append(_row("table, rules and branching", judged, asked=True))
    sample = count(core, equivalents)
    if core:
        lines.append(_row("core and journals (a sample)", sample, asked=False))
        low, high = (round(100 * share, 1) for share in interval(sample.tests, sample.made))
        lines += ["", f"Of the sample the tests caught {_percent(sample.tests, sample.made)}: of all mutants of these"]
        lines += [f"modules {low} to {high} % (Wilson's interval of 95 %)."]
    lines += ["", *_survivors(every, equivalents)]
    return "\n".join(lines) + "\n"


def _survivors(every: Iterable[Verdict], equivalents: dict[str, str]) -> Iterator[str]:
    alive = sorted((each for each in every if not each.caught), key=lambda each: each.identity)
    yield "No test caught these mutants:"
    yield ""
    for each in alive:
        if each.identity not in equivalents:
            found = f" (`verify` finds it: {each.verify})" if each.found_by_verify else ""
            yield f"- `{_code(each.identity)}`{found}"
    yield ""
    yield "These mutants are equivalent to the original code, for the reasons given:"
    yield ""
    for each in alive:
        if each.identity in equivalents:
            yield f"- `{_code(each.identity)}`: {equivalents[each.identity]}"


def _code(identity: str) -> str:
    return identity.replace("`", "'")
