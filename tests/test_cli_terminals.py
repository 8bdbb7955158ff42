"""The command line in a pipe, a narrow terminal, another encoding and another folder."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from fsm_mediator import Mediator, Parallel, Retry, Saga, Signal, step
from fsm_mediator.cli import console

ROOT = Path(__file__).parent.parent
LONG = "ord-059-with-a-rather-long-identifier-from-somewhere-else-for-the-spring-sale"
SHOP = """\
from fsm_mediator import Mediator, Saga, Signal, step
@step
def reserve(order): ...
saga = Saga("shop", [reserve, Signal("approval", timeout=86400)])
{last}
"""


def fsm(*words, cwd, code=0, **environment):
    """What a command prints into a pipe, as bytes; where it is to fail, its errors too."""
    done = subprocess.run(
        [sys.executable, "-m", "fsm_mediator", *map(str, words)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        check=False,
    )
    assert done.returncode == code, done
    assert b"Traceback" not in done.stderr
    return done.stdout if code == 0 else done.stdout + done.stderr


@step(retry=Retry(attempts=1))
def cannot_write(order):
    """Fails with characters that few encodings have."""
    raise ValueError("cart → order\nline two")


@pytest.fixture
def journal(tmp_path):
    """A journal with an execution of a long id that waits, one with branches, and one that failed."""
    path = tmp_path / "sagas.db"
    group = Parallel("both", [Saga("left", [Signal("yes")]), Saga("right", [Signal("no")])])
    sagas = (Saga("par", [Signal("approval", timeout=86400)]), Saga("group", [group]), Saga("arrow", [cannot_write]))
    with Mediator(*sagas, journal=path) as mediator:
        mediator.run("par", {"note": "x" * 300}, saga_id=LONG, check=False)
        mediator.run("group", None, saga_id="branches", check=False)
        mediator.run("arrow", None, saga_id="arrow-1", check=False)
    return path


def test_list_in_a_pipe_has_one_line_for_each_execution(journal, tmp_path):
    """A script finds id, saga and state in one line, however long they are, also where COLUMNS is set."""
    for environment in ({}, {"COLUMNS": "40"}):
        lines = fsm("list", "-j", journal, cwd=tmp_path, **environment).decode().splitlines()
        (waiting,) = [line for line in lines if LONG in line and not line.startswith("next:")]
        assert re.search(r"  par 1  +waiting\.approval until \S+( \S+)?  ", waiting)
        assert len([line for line in lines if not line.startswith(("id", "next:"))]) == 5  # two of them branches
        assert all(line == line.rstrip() for line in lines)


def test_show_in_a_pipe_has_one_line_for_each_record_and_keeps_the_payload(journal, tmp_path):
    """What a script reads is never cut with an ellipsis, and never broken."""
    text = fsm("show", LONG, "-j", journal, cwd=tmp_path).decode()
    assert "x" * 300 in text
    (state,) = re.findall(r"^state .*", text, re.MULTILINE)
    assert "waiting.approval until" in state


@pytest.mark.parametrize("width", [20, 40, 60, 80, 200])
def test_list_in_a_narrow_terminal_leaves_columns_out_before_it_breaks_anything(
    journal, monkeypatch, capsys, width, tmp_path
):
    """Ids and states are whole in a terminal of any width; age, owner and saga go first."""
    from click.testing import CliRunner

    from fsm_mediator.cli.commands import cli

    monkeypatch.setattr(console.out, "_force_terminal", True)
    monkeypatch.setattr(console.out, "_width", width)
    monkeypatch.setattr(console.out, "_color_system", None)
    output = CliRunner().invoke(cli, ["list", "-j", str(journal)]).output
    lines = output.splitlines()
    header = lines[0].split()
    (waiting,) = [line for line in lines if line.startswith(LONG)]
    assert "waiting.approval until" in waiting
    assert len([line for line in lines if "failed" in line]) == 1
    assert header == (["id", "saga", "state", "age", "since"] if width == 200 else ["id", "state"])


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_characters_that_an_encoding_lacks_are_shown_escaped(journal, tmp_path, encoding):
    """On a terminal or a file that is not UTF-8 every command ends as elsewhere, with the escape of the character."""
    for words in (("show", "arrow-1"), ("list",), ("conform", "-a", "tests.cli_app:sagas")):
        text = fsm(*words, "-j", journal, cwd=tmp_path, code=6 if words[0] == "conform" else 0,
                   PYTHONIOENCODING=encoding)  # fmt: skip
        assert b"Traceback" not in text
    shown = fsm("show", "arrow-1", "-j", journal, cwd=tmp_path, PYTHONIOENCODING=encoding).decode(encoding)
    assert "cart \\u2192 order" in shown
    assert "charmap" not in shown


def test_an_export_is_utf_8_whatever_the_encoding_of_the_terminal(journal, tmp_path):
    """Exports are for programs: JSON and XML are UTF-8 by their own rules."""
    (line,) = fsm("export", "-j", journal, "--id", "arrow-1", cwd=tmp_path, PYTHONIOENCODING="cp1252").splitlines()
    assert "cart → order" in json.loads(line)["history"][-1]["error"]["message"]
    (tmp_path / "umlaut.py").write_text('from fsm_mediator import *\ns = Saga("größe", [Signal("ja")])\n', "utf-8")
    text = fsm("export-machine", "umlaut:s", "-f", "scxml", cwd=tmp_path, PYTHONIOENCODING="cp1252")
    assert "größe" in text.decode("utf-8")


def test_export_of_one_execution_has_its_branches_and_no_other(journal, tmp_path):
    """`export --id` gives what `conform --from` needs of one execution; an unknown id leaves an old file alone."""
    lines = fsm("export", "-j", journal, "--id", "branches", cwd=tmp_path).splitlines()
    assert {json.loads(line)["saga_id"].split("/")[0] for line in lines} == {"branches"}
    assert len(lines) == 3
    (tmp_path / "old").write_text("kept")
    assert b"unknown" in fsm("export", "-j", journal, "--id", "unknown", "-o", "old", cwd=tmp_path, code=3)
    assert (tmp_path / "old").read_text() == "kept"
    assert b"--id" in fsm("export", "-j", journal, "--id", "x", "--saga", "par", cwd=tmp_path, code=2)


def test_a_picture_goes_to_standard_output(tmp_path):
    """`render -o -` writes an SVG, or what --format says, and nothing else."""
    svg = fsm("render", "tests.cli_app:checkout", "-o", "-", cwd=tmp_path)
    assert svg.startswith(b"<svg")
    assert svg.rstrip().endswith(b"</svg>")
    assert fsm("render", "-a", "tests.cli_app:checkout", "-o", "-", "-f", "dot", cwd=tmp_path).startswith(b"digraph")
    assert fsm("render", "tests.cli_app:checkout", "-o", "-", "-f", "png", cwd=tmp_path)[:4] == b"\x89PNG"


@pytest.fixture(params=["", "deep/down"])
def project(tmp_path, request):
    """A project whose pyproject.toml names nothing but the app, a mediator with a journal, and a folder of it."""
    here = tmp_path / request.param
    here.mkdir(parents=True, exist_ok=True)
    (tmp_path / "shop.py").write_text(SHOP.format(last='mediator = Mediator(saga, journal="sagas.db")'))
    (tmp_path / "pyproject.toml").write_text('[tool.fsm-mediator]\napp = "shop:mediator"\n')
    return here


def test_app_in_pyproject_is_enough_for_every_command_in_every_folder(project, tmp_path):
    """Each command finds the app, and the app's own journal beside pyproject.toml, wherever it is typed."""
    fsm("run", "shop", "--id", "o-1", cwd=project, code=1)  # it waits for a signal
    assert (tmp_path / "sagas.db").exists()
    assert project == tmp_path or not (project / "sagas.db").exists()
    assert b"waiting.approval" in fsm("list", cwd=project)
    assert b"(if it is a signal)" not in fsm("show", "o-1", cwd=project)  # the app says that it is one
    assert json.loads(fsm("export", "--id", "o-1", cwd=project))["saga_id"] == "o-1"
    assert b"holds" in fsm("verify", cwd=project)
    assert b"1 execution" in fsm("conform", cwd=project)
    fsm("export-shape", "-o", "old.json", cwd=project)
    fsm("compare", "old.json", cwd=project)
    fsm("export-machine", "-f", "json", cwd=project)
    fsm("render", "--id", "o-1", "-o", "-", "-f", "dot", cwd=project)
    fsm("signal", "o-1", "approval", "1", cwd=project)
    assert b"can be compensated" in fsm("undo", "o-1", "--drive", cwd=project, code=4)
    fsm("recover", cwd=project)
    assert b"would delete 1" in fsm("prune", "--older-than", "0s", "--dry-run", cwd=project)
    assert b"deleted 1" in fsm("prune", "--older-than", "0s", cwd=project)


def test_a_journal_that_is_named_is_read_where_the_app_is_broken(project, tmp_path, journal):
    """An operator sees the journal although the app cannot be imported; without a name the message says how."""
    (tmp_path / "shop.py").write_text("raise RuntimeError('broken')")
    assert LONG.encode() in fsm("list", "-j", journal, cwd=project)
    text = fsm("list", cwd=project, code=6)
    assert b"broken" in text
    assert b"name it with --journal" in text


def test_journal_of_pyproject_is_used_where_the_app_has_none(project, tmp_path):
    """An app of sagas, or a mediator in memory, is given the journal of pyproject.toml, by every command."""
    (tmp_path / "shop.py").write_text(SHOP.format(last="mediator = Mediator(saga)"))
    assert b"in memory" in fsm("list", cwd=project, code=5)
    with (tmp_path / "pyproject.toml").open("a") as file:
        file.write('journal = "kept.db"\n')
    fsm("run", "shop", "--id", "o-1", cwd=project, code=1)
    assert b"o-1" in fsm("list", cwd=project)
    assert (tmp_path / "kept.db").exists()
