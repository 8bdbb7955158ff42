"""Which files are read, how many sentences of each are flagged, and the ceilings that may only fall."""

from __future__ import annotations

import ast
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import attrs

from tests.prose import linter
from tests.prose.rules import flagged_by
from tests.prose.sentences import Sentence, sentences

ROOT: Final = Path(__file__).parent.parent.parent
CEILINGS: Final = Path(__file__).with_name("ceilings.tsv")
LEFT_OUT: Final = frozenset(("docs/history.md", "docs/mutants.md"))
"""The list of what changed, which quotes itself; and a page that a command writes."""


@attrs.frozen
class Flagged:
    """A sentence, and for each rule that it breaks the name of the rule and what to write instead."""

    sentence: Sentence
    reasons: tuple[tuple[str, str], ...]


def files() -> list[str]:
    """The pages and modules that are held, as paths from the root."""
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
    modules = (ROOT / "fsm_mediator").rglob("*.py")
    names = (path.relative_to(ROOT).as_posix() for path in [*pages, *modules])
    return sorted(name for name in names if name not in LEFT_OUT)


def flagged(name: str, root: Path = ROOT) -> list[Flagged]:
    """The flagged sentences of a file, in its order."""
    found = sentences(root / name)
    reasons: dict[int, list[tuple[str, str]]] = {}
    for number, sentence in enumerate(found):
        if broken := [(rule.name, rule.instead) for rule in flagged_by(sentence)]:
            reasons[number] = broken
    numbers = {id(sentence): number for number, sentence in enumerate(found)}
    for sentence, message in linter.findings(found):
        check, _, words = message.partition(": ")
        reasons.setdefault(numbers[id(sentence)], []).append((check, words))
    return [Flagged(found[number], tuple(reasons[number])) for number in sorted(reasons)]


def counts(root: Path = ROOT) -> dict[str, int]:
    """How many sentences of each file are flagged; files without any are left out."""
    return {name: count for name in files() if (count := len(flagged(name, root)))}


def read_ceilings(path: Path = CEILINGS) -> dict[str, int]:
    """The ceilings by file; a file that is not there has ceiling zero."""
    rows = (line.split("\t") for line in path.read_text(encoding="utf-8").splitlines() if line)
    return {name: int(count) for name, count in rows}


def rose(now: Mapping[str, int], ceilings: Mapping[str, int]) -> dict[str, tuple[int, int]]:
    """The files with more flagged sentences than their ceiling: the count and the ceiling of each."""
    return {name: (count, ceilings.get(name, 0)) for name, count in now.items() if count > ceilings.get(name, 0)}


def lowered(now: Mapping[str, int], ceilings: Mapping[str, int]) -> dict[str, int]:
    """The ceilings, each lowered to today's count; none rises, and no file is added."""
    return {name: count for name, ceiling in ceilings.items() if (count := min(ceiling, now.get(name, 0)))}


def write_ceilings(ceilings: Mapping[str, int], path: Path = CEILINGS) -> None:
    """Write the ceilings, sorted by file."""
    path.write_text("".join(f"{name}\t{ceilings[name]}\n" for name in sorted(ceilings)), encoding="utf-8")


def sample(seed: str, pages: int = 100, docstrings: int = 30) -> list[str]:
    """Sentences of pages, and whole docstrings of the package, drawn by *seed*: what a reader judges."""
    chance = random.Random(seed)  # noqa: S311 - a draw that can be repeated
    of_pages, of_modules = [], []
    for name in files():
        if name.endswith(".md"):
            of_pages += [
                f"{name}:{each.line}: {each.text}" for each in sentences(ROOT / name) if len(each.text.split()) > 4
            ]
        else:
            tree = ast.parse((ROOT / name).read_text(encoding="utf-8"))
            nodes = (each for each in ast.walk(tree) if isinstance(each, ast.Module | ast.ClassDef | ast.FunctionDef))
            found = ((getattr(each, "name", ""), ast.get_docstring(each)) for each in nodes)
            of_modules += [f"{name}:{known}: {' '.join(text.split())}" for known, text in found if text]
    return [*chance.sample(of_pages, pages), *chance.sample(of_modules, docstrings)]
