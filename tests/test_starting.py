"""`fsm-mediator init` writes a project whose tests pass, and `fsm-mediator schema` prints the schema of saga files."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from fsm_mediator.cli.commands import cli

ROOT = Path(__file__).parent.parent


@pytest.fixture
def ask(tmp_path, monkeypatch):
    """Runs a command in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*words, code=0):
        done = CliRunner().invoke(cli, list(words))
        assert done.exit_code == code, done.output
        return done.output

    return run


def test_tests_of_a_new_project_pass(ask, tmp_path):
    """The tests of a new project pass: its steps survive every fault, its machine is verified, its API answers."""
    assert "shop/sagas.py" in ask("init", "shop").replace("\n", "")

    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"],
        cwd=tmp_path / "shop",
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed" in done.stdout


def test_command_line_finds_the_sagas_of_a_new_project(ask, tmp_path, monkeypatch):
    """In the new folder the commands need no options, and the name of the project is everywhere."""
    ask("init", "parcels", "--folder", "here")
    for path in (tmp_path / "here").rglob("*.py"):
        ast.parse(path.read_text(encoding="utf-8"))
        assert "$" not in path.read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.syspath_prepend(tmp_path / "here")

    assert "every failure path ends compensated" in ask("verify")
    for name in [name for name in sys.modules if name.partition(".")[0] == "parcels"]:
        del sys.modules[name]


def test_init_overwrites_nothing(ask, tmp_path):
    """A file that is there is kept, and the command names it; nothing else is written."""
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "README.md").write_text("mine")

    assert "README.md exists already" in ask("init", "shop", code=2).replace("\n", "")
    assert [path.name for path in (tmp_path / "shop").rglob("*")] == ["README.md"]


@pytest.mark.parametrize("name", ["my-shop", "class", "a b", "../x"])
def test_name_that_is_no_package_is_refused(ask, tmp_path, name):
    """A name that Python cannot import is refused before a file is written."""
    assert "cannot be the name of a Python package" in ask("init", name, code=2)
    assert list(tmp_path.iterdir()) == []


def test_schema_is_printed_for_editors(ask):
    """What the command prints is JSON that an editor takes as a schema."""
    assert json.loads(ask("schema"))["title"] == "A saga of fsm_mediator"
