"""The second table of docs/mutants.md: what became of the mutants that were made by rule."""

from __future__ import annotations

from typing import Final

from tests.mutation.operators import ROOT
from tests.mutation.record import Verdict, rendered

PAGE: Final = ROOT / "docs" / "mutants.md"
MARK: Final = "<!-- the mutants made by rule: written by `make mutants` -->"


def with_table(text: str, verdicts: dict[str, Verdict], equivalents: dict[str, str]) -> str:
    """The page, with the table of *verdicts* below its mark."""
    above = text[: text.index(MARK)]
    return f"{above}{MARK}\n\n{rendered(verdicts, equivalents)}"


def write_page(verdicts: dict[str, Verdict], equivalents: dict[str, str]) -> None:
    """Write the table into the page."""
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8"), verdicts, equivalents), encoding="utf-8")
