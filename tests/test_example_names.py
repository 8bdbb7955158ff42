"""Names in the examples, the README, the docs and the notebooks can be guessed by an engineer."""

from __future__ import annotations

import ast

import pytest

from tests.test_house import OPAQUE, defined, words_of
from tests.test_safe_examples import ROOT, code_of

pytestmark = pytest.mark.once

VAGUE = OPAQUE | {"tell", "telling", "tells", "what", "who", "whoever", "dice", "plainly", "waive", "heed"}
"""Words that name no thing of a user's program."""

PATHS = sorted(
    str(path.relative_to(ROOT))
    for pattern in ("README.md", "docs/*.md", "docs/*.py", "notebooks/*.ipynb", "examples/**/*.py", "examples/**/*.md")
    for path in ROOT.glob(pattern)
)

ALLOWED = {
    "docs/notebooks.md": {"seat", "give_seat_back"},  # a seat of a train, as in the picture on that page
    "examples/profile_sync/changes.py": {"CENTS_PER_SEAT"},  # a paid seat of a plan
}


@pytest.mark.parametrize("path", PATHS)
def test_names_of_an_example_can_be_guessed(path):
    """The names that I copy from an example are those of my own field."""
    found = {name for name in defined(ast.parse(code_of(path))) if words_of(name) & VAGUE}

    assert found == ALLOWED.get(path, set())
