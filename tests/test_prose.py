"""Plain English: each rule flags its sentence and not the plain version, and no file gets more flagged sentences."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests.prose import linter, ratchet
from tests.prose.rules import RULES, flagged_by
from tests.prose.sentences import (
    CELL,
    COMMENT,
    DOCSTRING,
    HEADING,
    ITEM,
    MESSAGE,
    PARAGRAPH,
    Sentence,
    of_module,
    of_page,
    sentences,
)

pytestmark = pytest.mark.once

PAIRS = {
    "long": (
        "A driver lists the branches " + "when one has failed, when all may have settled, " * 2 + "and each minute for "
        "those of a dead owner, and counts messages in the meantime.",
        "The driver of a group lists the branches when one has failed. Until then it counts messages.",
    ),
    "semicolons": (
        "The journal is the file of the app; without it, the one named; without that, a new one.",
        "The journal is the file of the app; without it, a new one (a path; a URL; an object).",
    ),
    "relative opening": (
        "Where the app is a mediator with a journal of its own, that journal is used.",
        "If the app is a mediator with its own journal, that journal is used.",
    ),
    "clause as noun": (
        "The process sees what is told by other processes.",
        "The process sees the messages of other processes.",
    ),
    "pronoun for a noun": (
        "Whoever returns from a write is durable.",
        "When a write returns, its record is durable.",
    ),
    "private word": (
        "The records are written anew.",
        "The records are written again.",
    ),
    "path, not way": (
        "They do not get into each other's way, nor leave their way.",
        "Daemons do not conflict, and take the path that the machine allows.",
    ),
    "old conjunction": (
        "The file is refused, for it belongs to another user.",
        "The file is refused, because it belongs to another user.",
    ),
    "inverted": (
        "Of a deleted execution one row is kept.",
        "One row of a deleted execution is kept.",
    ),
    "whose noun is far": (
        "The service made 2,632 transfers, of which 1,728 succeeded.",
        "The service made 2,632 transfers. 1,728 transfers succeeded.",
    ),
    "have it done": (
        "The leader writes the records and has them told.",
        "The leader writes the records and notifies the other threads.",
    ),
    "no subject": (
        "Needs the extra `postgres`.",
        "This command needs the extra `postgres`.",
    ),
}


def names(text, kind=PARAGRAPH):
    """The rules that a sentence breaks, by name."""
    return [rule.name for rule in flagged_by(Sentence(1, kind, text))]


@pytest.mark.parametrize("rule", [rule.name for rule in RULES])
def test_rule_flags_its_sentence_and_not_the_plain_version(rule):
    """A rule flags the sentence that it is made for, and no rule flags its plain version."""
    flagged, plain = PAIRS[rule]

    assert rule in names(flagged)
    assert names(plain) == []


@pytest.mark.parametrize(
    "text",
    [
        "What is a pivot?",
        "For example, a driver reads its inbox.",
        "So far everything was in memory.",
        "Of course the file is checked.",
        "The step runs again, for at most a minute.",
        "Run `what is told` in a shell.",
        "No attempt is under way that a crash can interrupt.",
    ],
)
def test_plain_sentence_is_not_flagged(text):
    """Questions, code and common phrases break no rule."""
    assert names(text) == []


def test_fragments_are_allowed_outside_of_paragraphs():
    """A cell or a docstring may begin with its verb; a heading may be a clause."""
    assert names("Needs the extra `postgres`.", CELL) == names("Needs the extra `postgres`.", DOCSTRING) == []
    assert names("What survives a crash", HEADING) == []


def test_page_is_split_into_sentences():
    """Text, items, cells and headings of a page are read; code blocks and generated tables are not."""
    page = (
        "# What it does\n\nIt runs `a. B` first. Then *it* [stops](there.md), e.g. Here.\nReally.\n\n- An item.\n\n"
        "```python\nx = 1  # What is told\n```\n\n| a |\n|---|\n| What is told |\n\n"
        "<!-- numbers -->\nWhoever.\n<!-- /numbers -->\n\nThe end.\n"
    )

    assert [(each.line, each.kind, each.text) for each in of_page(page)] == [
        (1, HEADING, "What it does"),
        (3, PARAGRAPH, "It runs `a. B` first."),
        (3, PARAGRAPH, "Then it stops, e.g. Here."),
        (3, PARAGRAPH, "Really."),
        (6, ITEM, "An item."),
        (12, CELL, "a"),
        (14, CELL, "What is told"),
        (20, PARAGRAPH, "The end."),
    ]


def test_module_is_split_into_sentences():
    """Docstrings with their sections, comments and messages of errors are read; code and marks are not."""
    module = (
        '"""Run it. With ``code. Here`` as::\n\n    x = 1\n\nArgs:\n    name: The name\n        of it.\n"""\n'
        "# One comment\n# of two lines.\nx = 1  # noqa: S101 - the reason why\ny = 'no message at all'\n"
        "raise ValueError(f'it is {x} and ' 'no more')\noption('--x', help='Print the x.')\n"
    )

    assert {(each.line, each.kind, each.text) for each in of_module(module)} == {
        (1, DOCSTRING, "Run it."),
        (1, DOCSTRING, "With `code. Here` as::"),
        (1, DOCSTRING, "The name of it."),
        (9, COMMENT, "One comment of two lines."),
        (11, COMMENT, "the reason why"),
        (13, MESSAGE, "it is `x` and no more"),
        (14, MESSAGE, "Print the x."),
    }


def test_linter_flags_a_sentence_by_its_place_and_touches_no_network_and_no_home(monkeypatch, tmp_path):
    """The linter names the sentence that it means, downloads nothing, and keeps nothing on disk."""
    monkeypatch.setattr(socket, "socket", None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(Path, "mkdir", None)
    plain = Sentence(1, PARAGRAPH, "The driver reads the `journal` `file`.")
    old = Sentence(2, PARAGRAPH, "The driver keeps the the row for ever and ever.")

    found = list(linter.findings([plain, old, plain]))

    assert {id(sentence) for sentence, _ in found} == {id(old)}
    assert any("lexical_illusions" in message for _, message in found)
    assert list(tmp_path.iterdir()) == []


def test_ceilings_fall_and_never_rise(tmp_path):
    """Writing the ceilings lowers them, drops those at zero, and neither raises one nor adds a file."""
    path = tmp_path / "ceilings.tsv"
    ratchet.write_ceilings({"a.md": 3, "b.md": 2, "gone.md": 1}, path)
    now = {"a.md": 1, "b.md": 5, "new.md": 1}

    assert ratchet.rose(now, ratchet.read_ceilings(path)) == {"b.md": (5, 2), "new.md": (1, 0)}
    assert ratchet.lowered(now, ratchet.read_ceilings(path)) == {"a.md": 1, "b.md": 2}


def test_every_file_is_held():
    """The pages, the guides at the root and each module of the package are read, and have sentences."""
    files = ratchet.files()

    assert {"README.md", "CHANGELOG.md", "docs/journal.md", "fsm_mediator/saga.py"} <= set(files)
    assert len([name for name in files if name.endswith(".py")]) > 300
    assert sentences(ratchet.ROOT / "docs" / "journal.md")


def test_no_file_has_more_flagged_sentences_than_its_ceiling():
    """Prose gets plainer: no page and no module gets one more flagged sentence. `python -m tests.prose` lists them."""
    assert ratchet.rose(ratchet.counts(), ratchet.read_ceilings()) == {}


def test_sample_is_drawn_by_its_seed():
    """A reader judges what cannot be counted: the same seed draws the same sentences, another one draws others."""
    drawn = ratchet.sample("a", 5, 3)

    assert len(drawn) == 8
    assert drawn == ratchet.sample("a", 5, 3)
    assert drawn != ratchet.sample("b", 5, 3)
    assert all(name.partition(":")[0].endswith(".py") for name in drawn[5:])
