"""Of the tests that take long a share runs, drawn by a seed; nothing is left out for good."""

from __future__ import annotations

import ast
from pathlib import Path

import attrs
import pytest

from tests.shares import LONG, drawn

HERE = Path(__file__).parent


@attrs.frozen
class Item:
    """A long test, as pytest collects it."""

    nodeid: str
    mark: str = "long"

    def get_closest_marker(self, name: str) -> str | None:
        return name if name == self.mark else None


EACH = [Item(f"tests/test_mutants.py::test_each_mutant_is_caught[{number}]") for number in range(50)]
ALONE = [Item(f"tests/test_verifier.py::test_number_{number}") for number in range(50)]
BUILT = [name.removeprefix("*") for name in LONG["test_docs"].split() if name.startswith("*")]
TOGETHER = [Item(f"tests/test_docs.py::{name}{what}") for name in BUILT for what in ("", "[a]", "[b]")]


@pytest.fixture
def share(monkeypatch):
    """Sets the share and the seed."""
    for name in ("TESTS", "POSTGRES", "BROWSER", "TORTURE"):  # CI sets these for the run that this is part of
        monkeypatch.delenv(f"{name}_SHARE", raising=False)

    def set_to(share: int, seed: object = "") -> None:
        monkeypatch.setenv("LONG_SHARE", str(share))
        monkeypatch.setenv("LONG_SEED", str(seed))

    return set_to


@pytest.mark.parametrize("file", LONG)
def test_each_name_is_a_test(file):
    """A long test that is renamed stays a long test."""
    trees = ast.walk(ast.parse((HERE / f"{file}.py").read_text(encoding="utf-8")))
    names = {tree.name for tree in trees if isinstance(tree, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))}
    names |= {f"Test{name}" for name in names}  # the test of a state machine is named after it

    assert set(LONG[file].replace("*", "").split()) <= names


def test_a_share_of_one_is_all(share):
    """`make long` runs every test."""
    share(1)
    assert list(drawn([*EACH, *ALONE, *TOGETHER])) == [*EACH, *ALONE, *TOGETHER]


def test_a_share_is_drawn_and_another_seed_draws_others(share):
    """One in six or so, the same ones again for the same seed; many seeds leave none out."""
    share(6, "a")
    first = list(drawn(ALONE))
    assert first == list(drawn(ALONE))
    assert 0 < len(first) < 25

    seen = set()
    for seed in range(80):
        share(6, seed)
        seen |= {item.nodeid for item in drawn([*ALONE, *TOGETHER])}
    assert seen == {item.nodeid for item in (*ALONE, *TOGETHER)}


def test_of_each_function_with_parameters_one_runs_at_least(share):
    """However few parameters there are."""
    for seed in range(20):
        share(1000, seed)
        assert list(drawn(EACH))
    assert not list(drawn(ALONE))


def test_a_parameter_that_runs_at_other_times_is_not_the_one(share):
    """Of a function with some parameters under `torture`, one of the others runs."""
    share(1000)
    elsewhere = [Item(item.nodeid, mark="torture") for item in EACH[:49]]
    assert EACH[49] in list(drawn([*elsewhere, EACH[49]]))


def test_what_shares_a_long_preparation_is_drawn_together(share):
    """All tests of the built documentation run, or none."""
    for seed in range(20):
        share(3, seed)
        assert len(list(drawn(TOGETHER))) in (0, len(TOGETHER))


def test_other_tests_always_run(share):
    """A share is of tests with the marker."""
    share(1000)
    others = [Item(item.nodeid, mark="once") for item in ALONE]
    assert list(drawn(others)) == others


def test_share_of_all_tests_is_drawn(share, monkeypatch):
    """CI runs some of the tests once more on another Python."""
    share(1)
    others = [Item(item.nodeid, mark="") for item in ALONE]
    seen = set()
    for seed in range(30):
        monkeypatch.setenv("TESTS_SEED", str(seed))
        monkeypatch.setenv("TESTS_SHARE", "3")
        some = {item.nodeid for item in drawn(others)}
        assert 0 < len(some) < len(others)
        seen |= some
    assert len(seen) == len(others)
