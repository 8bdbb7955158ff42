"""`Violation.to_pytest`: a test that verifies a saga again, and fails while the law is broken."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fsm_mediator import DefinitionError, Saga, Violation, verify
from tests.test_mutants import MUTANTS, made

CRASH = "A crash during a compensation counts as a completed compensation."

checkout = Saga("checkout", [made("reserve"), made("charge"), made("ship")])


def violation_of(saga: Saga) -> Violation:
    """What the verifier finds where a crash counts as compensated."""
    with pytest.MonkeyPatch.context() as patches:
        MUTANTS[CRASH][1](patches.setattr)
        return verify(saga).violations[0]


def run(source: str, **names: Any) -> None:
    """Run the test that *source* writes; *names* replace what it defines."""
    written: dict[str, Any] = {}
    exec(compile(source, "test_found", "exec"), written)  # noqa: S102 - our own, and running it is the test
    written.update(names)
    (test,) = [value for name, value in written.items() if name.startswith("test_")]
    test()


def test_written_test_fails_while_the_law_is_broken():
    """The test that I am given finds the fault again, and passes once it is fixed."""
    source = violation_of(checkout).to_pytest()

    assert "from tests.test_pytest_source import checkout\n" in source
    with pytest.MonkeyPatch.context() as patches:
        MUTANTS[CRASH][1](patches.setattr)
        with pytest.raises(AssertionError, match=r"law \d is broken"):
            run(source)
    run(source)


def test_saga_without_a_public_name_is_filled_in():
    """A saga that a function builds has no name to import: the test says where to put it."""
    violation = violation_of(Saga("built", [made("a"), made("b"), made("c")]))
    source = violation.to_pytest()

    with pytest.raises(NotImplementedError, match="return the saga 'built' here"):
        run(source)
    run(source, saga_to_verify=lambda: violation.saga)


def test_written_test_tells_the_path():
    """A reader of the test sees how the law was broken, step by step."""
    violation = violation_of(checkout)
    source = violation.to_pytest()

    assert all(words in source for words in violation.path)


def test_written_test_is_in_good_style(tmp_path):
    """What is written can be put among one's tests as it is: it is formatted, and its linter has nothing to say."""
    for number, saga in enumerate((checkout, Saga("built", [made("a"), made("b"), made("c")]))):
        (tmp_path / f"test_found_{number}.py").write_text(violation_of(saga).to_pytest(), encoding="utf-8")
    config = str(Path(__file__).parent.parent / "pyproject.toml")

    for command in (
        ["format", "--check"],
        ["check", "--extend-ignore", "INP001,I001"],
    ):  # here the package and its users are both our own
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--config", config, str(tmp_path)],
            capture_output=True,
            check=False,
            text=True,
        )
        assert done.returncode == 0, done.stdout


def test_tests_of_earlier_versions_say_what_to_do():
    """A test that an earlier version wrote fails with the command that writes it again."""
    from fsm_mediator.testing.counterexamples import Replay

    with pytest.raises(DefinitionError, match="Generate it again"):
        Replay(checkout)
