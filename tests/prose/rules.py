"""The rules of plain English: each a name, a pattern or a measure, and what to write instead.

They follow CONTRIBUTING.md, "The words": the thing is the subject, then the verb, then the object; one fact a sentence.
A rule is kept only if nearly all that it flags reads better once it is rewritten.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

import attrs

from tests.prose.sentences import CELL, CODE, COMMENT, DOCSTRING, HEADING, ITEM, MESSAGE, PARAGRAPH, Sentence

MOST_WORDS: Final = 32
WHOLE: Final = frozenset((PARAGRAPH, ITEM))
"""Kinds of text in which every sentence has a subject and a verb."""

TEXT: Final = frozenset((PARAGRAPH, ITEM, DOCSTRING, COMMENT, MESSAGE))
EVERYWHERE: Final = TEXT | {CELL, HEADING}

PARTICIPLE = (
    r"(?:\w+(?:ed|wn)|begun|bound|built|cut|done|found|gone|held|hit|kept|left|let|lost|made|meant|met|put|read|run|said"
    r"|sent|set|shut|stuck|taken|told|written|given|driven|chosen|forgotten|broken|hidden)"
)
BE = r"(?:is|are|was|were|has been|have been|can be|cannot be|could be|may be|must be|will be|would be)"

RELATIVE: Final = re.compile(
    r"[*(\"']*(?:What|Whatever|Whoever|Whichever|Who|Whose|Where|Wherever|That which|Those (?:that|who))\b"
)


@attrs.frozen
class Rule:
    """A rule: whether it flags a sentence, in which kinds of text, and what to write instead."""

    name: str
    instead: str
    kinds: frozenset[str]
    flags: Callable[[str], bool]


def _pattern(name: str, instead: str, pattern: str, kinds: frozenset[str] = TEXT, *, exact: bool = False) -> Rule:
    """A rule that flags a sentence in which a pattern is found; *exact*: in this case alone."""
    compiled = re.compile(pattern, 0 if exact else re.IGNORECASE)
    return Rule(name, instead, kinds, lambda text: compiled.search(text) is not None)


def words_of(text: str) -> list[str]:
    """The words of a sentence; a piece of code is one, and lists of code in parentheses do not count."""
    rest = re.sub(rf"\([{CODE}, ]*\)", "", text)
    return [word for word in rest.split() if re.search(rf"[\w{CODE}]", word)]


def _opens_with_a_clause(text: str) -> bool:
    """Whether a sentence that is no question begins with a relative clause."""
    return not text.endswith(("?", "?*", "?**")) and RELATIVE.match(text) is not None


def _has_many_semicolons(text: str) -> bool:
    """Whether there is more than one semicolon outside of parentheses."""
    return re.sub(r"\([^)]*\)", "", text).rstrip(";").count(";") > 1


RULES: Final = (
    Rule(
        "long",
        f"Make two sentences: at most {MOST_WORDS} words.",
        TEXT | {CELL},
        lambda text: len(words_of(text)) > MOST_WORDS,
    ),
    Rule("semicolons", "One fact a sentence: at most one semicolon.", TEXT, _has_many_semicolons),
    Rule("relative opening", "Begin with the thing, or with If or When.", TEXT, _opens_with_a_clause),
    _pattern(
        "clause as noun",
        "Name the thing: 'the result', 'the caller', 'records'.",
        rf"\b(?:what|whatever|whoever|who) {BE} (?:not |never |already |then |only )?{PARTICIPLE}\b(?!\?)"
        r"|[,;:] (?:what|who) (?:\w+ ){1,5}(?:is|are|was|were) \w+",
    ),
    _pattern(
        "pronoun for a noun",
        "Repeat the noun.",
        r"\b(?:whoever|whomever|one that|ones that|those (?:that|which|who|whose)|that which|the one (?:that|which|who)"
        r"|nobody|somebody|anybody|the same of)\b",
        EVERYWHERE,
    ),
    _pattern(
        "private word",
        "Use the field's word: notified, reported, fixed, resumes, continues, is in state, path, run.",
        r"\b(?:anew|mend(?:s|ed|ing)?|for ever|goodbye|told|stand(?:s)? in|stood in|in the midst|in (?:its|their) midst"
        r"|driv(?:e|es|en|ing) (?:\w+ )?on|drove on|go(?:es)? on|going on|gone on|went on|tak(?:e|es|en) up|took up"
        r"|had (?:it|them) told|at the most|robbed|as ever|as it comes|desk|theatre|witness|ghost"
        r"|seat of|fates?|said plainly|to stand|came of it|come of it|go(?:es)? wrong way|hold(?:s)? good)\b",
        EVERYWHERE,
    ),
    _pattern(
        "path, not way",
        "Write 'path', or name the transitions.",
        r"\b(?:its|their) ways?\b(?! to)|(?<!under )\bway that\b|\bways that\b",
    ),
    _pattern(
        "old conjunction",
        "Write 'because', 'since' or 'except'.",
        r"[,;] for (?:there|it|they|this|that|these|he|she|no)\b|\b(?:all|none) but\b",
    ),
    _pattern(
        "inverted",
        "Put the subject first.",
        r"^(?:Of (?!course)|(?:By|With|Without|On|In|Within|Under|After|Before|From|To) (?:which|those|them|that one)\b"
        r"|Nor\b|So (?:do|does|is|are|can|has|have)\b|Not \w+(?: \w+){0,4}[:,])",
    ),
    _pattern("whose noun is far", "Make a second sentence.", r"\bof (?:which|whom)\b"),
    _pattern(
        "have it done",
        "Name who does it: 'X runs the step again'.",
        rf"\b(?:has|have|had|having) (?:it|them|others|one|another|each) (?:\w+ )?{PARTICIPLE}\b",
    ),
    _pattern(
        "no subject",
        "Begin with the subject.",
        r"^(?:(?:Needs|Takes|Gives|Has|Can|May|Must|Works|Holds|Says|Keeps|Means|Returns|Raises|Reads|Writes|Makes|Runs"
        r"|Shows|Lists|Draws|Counts) (?:the|an?|its|every|each|no|all|to|it|them|be|with)|Also|Or|And)\b(?!.*\?$)",
        WHOLE,
        exact=True,
    ),
)


def flagged_by(sentence: Sentence) -> list[Rule]:
    """The rules that a sentence breaks."""
    text = sentence.plain
    return [rule for rule in RULES if sentence.kind in rule.kinds and rule.flags(text)]
