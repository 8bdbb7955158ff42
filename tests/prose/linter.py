"""proselint, offline: a chosen set of its checks, over the sentences of a file. Nothing is cached on disk."""

from __future__ import annotations

import bisect
import functools
import importlib
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import proselint.tools

from tests.prose.sentences import CODE, Sentence

CHECKS: Final = (
    *("airlinese.misc", "archaism.misc", "cliches.hell", "consistency.spelling", "corporate_speak.misc"),
    *("cursing.filth", "hedging.misc", "hyperbole.misc", "jargon.misc", "lexical_illusions.misc", "malapropisms.misc"),
    *("misc.apologizing", "misc.back_formations", "misc.bureaucratese", "misc.debased", "misc.false_plurals"),
    *("misc.illogic", "misc.inferior_superior", "misc.latin", "misc.many_a", "misc.metadiscourse", "misc.narcissism"),
    *("misc.not_guilty", "misc.pretension", "misc.suddenly", "misc.whence", "mixed_metaphors.misc", "mondegreens.misc"),
    *("nonwords.misc", "oxymorons.misc", "skunked_terms.misc", "spelling.ally_ly", "spelling.ance_ence"),
    *("spelling.ely_ly", "spelling.er_or", "spelling.in_un", "spelling.ve_of", "weasel_words.very"),
)
"""Checks that reach for the network are left out, and checks of typography, because Markdown has its own.

The checks of clichés, of redundancy and of variants of words take many seconds over all files. They flagged no sentence
that was wrong.
"""


@functools.cache
def _checks() -> list[Callable[[str], list[tuple[int, int, str, str, object]]]]:
    """The check functions, without proselint's cache in the user's home."""
    proselint.tools.memoize = lambda check: check
    modules = [importlib.import_module(f"proselint.checks.{name}") for name in CHECKS]
    return [value for module in modules for name, value in vars(module).items() if name.startswith("check")]


def _without_code(sentence: Sentence) -> str:
    """The sentence with a word for each piece of code, so that no two neighbours are the same word."""
    first, *rest = sentence.plain.split(CODE)
    return first + "".join(f"x{number % 2}{text}" for number, text in enumerate(rest))


def findings(sentences: Sequence[Sentence]) -> Iterator[tuple[Sentence, str]]:
    """The sentences that a check flags, each with the check and its message."""
    texts = [f" {_without_code(sentence)}\n" for sentence in sentences]
    starts = [0]
    for text in texts:
        starts.append(starts[-1] + len(text))
    whole = "".join(texts)
    for check in _checks():
        for start, _end, name, message, _ in check(whole):
            yield sentences[bisect.bisect_right(starts, min(start, len(whole) - 1)) - 1], f"{name}: {message}"
