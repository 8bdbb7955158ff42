"""What a person gets wrong at the command line: nothing is destroyed, nothing ends silently, nothing is a traceback."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fsm_mediator import Mediator, SQLiteJournal
from fsm_mediator.cli.console import APP, DID_NOT_SUCCEED, JOURNAL, NOT_FOUND, REFUSED, USAGE
from tests import cli_errors_app
from tests.test_cli import APP_OPTION, desk, journal, world

__all__ = ["desk", "journal", "world"]
ROOT = Path(__file__).parent.parent
ERRORS_APP = ("--app", "tests.cli_errors_app:sagas")


def process(*words, **settings):
    """Run the command in a process of its own; its exit code, and what it wrote to standard error."""
    command = [sys.executable, "-c", "from fsm_mediator.cli import main; main()", *map(str, words)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE} | settings
    done = subprocess.run(command, env=environment, stderr=subprocess.PIPE, timeout=60, check=False, text=True, **pipes)
    return done.returncode, done.stderr


@pytest.fixture
def error_journal(world):
    """A journal with an execution that waits for a signal, one behind a group, and one that failed loudly."""
    path = world / "error_journal.db"
    with Mediator(*cli_errors_app.sagas, journal=str(path)) as mediator:
        mediator.run("asking", saga_id="a-1", check=False)
        mediator.run("asking", saga_id="-x; rm", check=False)
        mediator.run("grouped", saga_id="g-1", check=False)
        mediator.run("ringing", saga_id="r-1", check=False)
    return path


# Files


@pytest.mark.parametrize("ending", ["", "-wal", "-shm"])
def test_a_journal_is_never_written_over(desk, journal, world, ending):
    """Not even by an export of itself; what nothing else knows would be gone."""
    held = SQLiteJournal(journal)  # so that its other files are there
    held.enlist(process_driver())
    for words in (("export", "-j", journal), ("export-shape", APP_OPTION[1])):
        assert "is not overwritten" in desk(*words, "-o", f"{journal}{ending}", code=USAGE)
    held.close()
    assert "good" in desk("list", "-j", journal)
    (world / "link.jsonl").symlink_to(journal)
    assert "is not overwritten" in desk("export", "-j", journal, "-o", "link.jsonl", code=USAGE)


def process_driver():
    """A driver of this process."""
    from fsm_mediator.journal.liveness import this_driver

    return this_driver()


def test_an_export_is_whole_or_what_was_there_stays(desk, journal, world, monkeypatch):
    """A file is replaced once the new one is complete; one without executions is empty, and that is said."""
    target = world / "all.jsonl"
    desk("export", "-j", journal, "-o", target)
    assert len(target.read_text().splitlines()) == 3
    target.chmod(0o640)

    def breaks(*_):
        yield b"{}"
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("fsm_mediator.cli.tables.exported", breaks)
        assert "No space left on device" in desk("export", "-j", journal, "-o", target, code=DID_NOT_SUCCEED)
    assert len(target.read_text().splitlines()) == 3

    assert "exported 0 executions" in desk("export", "-j", journal, "--saga", "another", "-o", target)
    assert target.read_text() == ""
    assert target.stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in world.glob("*all*")) == ["all.jsonl"]
    assert "cannot be written" in desk("export", "-j", journal, "-o", "nowhere/x", code=USAGE)
    assert "is a folder" in desk("export", "-j", journal, "-o", ".", code=USAGE)


@pytest.fixture
def usual_mask():
    """New files can be read by all users, unless they are given another mode."""
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.mark.usefixtures("usual_mask")
def test_what_holds_a_journal_has_its_mode(desk, journal, world, monkeypatch):
    """A payload that only some may read in the journal is read by nobody else in an export or a picture of it."""
    words: dict[str, tuple[str, ...]] = {
        "all.jsonl": ("export",),
        "held.dot": ("render", "--id", "held", *APP_OPTION),
        "held.mmd": ("render", "--id", "held", *APP_OPTION),
    }
    for mode in (0o600, 0o640):
        journal.chmod(mode)
        for name, command in words.items():
            desk(*command, "-j", journal, "-o", name)
            assert (world / name).stat().st_mode & 0o777 == mode, name
    desk("render", "--saga", "checkout", *APP_OPTION, "-o", "checkout.dot")
    assert (world / "checkout.dot").stat().st_mode & 0o777 == 0o644

    (world / "pipe.dot").touch()
    monkeypatch.setattr("fsm_mediator.cli.exporting.owner_if_other", {str(world / "pipe.dot"): 7}.get)
    for command in (words["all.jsonl"], words["held.dot"]):
        assert "belongs to another user" in desk(*command, "-j", journal, "-o", "pipe.dot", code=USAGE)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is always full")
def test_a_full_disk_is_told(journal):
    """No traceback, whoever writes: the library, click or rich."""
    with Path("/dev/full").open("wb") as full:
        for words in (("export", "-j", journal), ("list", "-j", journal), ("list", "-j", journal, "--json")):
            code, said = process(*words, stdout=full)
            assert (code, "No space left on device" in said, "Traceback" in said) == (1, True, False), said
    code, said = process("export", "-j", journal, "-o", "/dev/full")
    assert (code, "No space left on device" in said, "Traceback" in said) == (1, True, False), said


def test_a_reader_that_has_seen_enough_ends_it_quietly(journal):
    """As in ``fsm-mediator export | head -1``."""
    reads, writes = os.pipe()
    os.close(reads)
    code, said = process("export", "-j", journal, stdout=writes)
    os.close(writes)
    assert (code in (1, -signal.SIGPIPE), said) == (True, "")


@pytest.mark.parametrize("verb", ["prune", "recover", "cancel", "retry", "resolve", "undo", "signal"])
def test_a_mistyped_path_makes_no_journal(desk, world, verb):
    """An empty journal would look as if all were well."""
    more = {
        "prune": ("--older-than", "1d"),
        "recover": APP_OPTION,
        "resolve": ("x", "-r", "looked", *APP_OPTION),
        "signal": ("x", "ok", *APP_OPTION),
    }
    said = desk(verb, *more.get(verb, ("x", *APP_OPTION)), "-j", "sagaz.db", code=JOURNAL)
    assert "there is no journal at 'sagaz.db'" in said.replace("\n", " ")
    assert not (world / "sagaz.db").exists()


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("mysql://somewhere", "is no journal: write a path"),
        ("sqlite:///", "would keep the journal in memory"),
        ("sqlite://", "would keep the journal in memory"),
        (":memory:", "would keep the journal in memory"),
        ("sqlite:///sagas.db?mode=ro", "settings after a question mark are not supported"),
        ("sqlite://sagas.db", "is no journal: write a path"),
    ],
)
def test_every_command_reads_the_same_journals(desk, world, spec, says):
    """Those that look and those that drive."""
    for words in (("list",), ("run", "checkout", *APP_OPTION), ("recover", *APP_OPTION)):
        assert says in desk(*words, "-j", spec, code=JOURNAL)
    assert [path.name for path in world.iterdir()] == []


def test_urls_of_files_are_read_by_all(desk, journal):
    """From this folder with three slashes, from the root with four."""
    for spec in (f"sqlite:///{journal.name}", f"sqlite:///{journal}"):
        assert "good" in desk("list", "-j", spec)
        assert "good" in desk("undo", "--drive", "good", "-j", spec, *APP_OPTION, code=None)


# The app


@pytest.mark.parametrize(
    "words", [("verify",), ("run", "x", "-j", "s.db", "-a"), ("render", "-o", "x.svg"), ("serve", "-a")]
)
def test_an_app_that_ends_the_process_is_no_success(desk, world, words):
    """Nothing was verified, run, drawn or served."""
    said = desk(*words, "tests.cli_errors_app:ends", code=APP)
    assert "was called, without arguments, for its sagas, and raised SystemExit(0)" in said


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("tests.cli_errors_app:awkward", "raised RuntimeError('do not ask for"),
        ("tests.cli_errors_app:raises_the_unshowable", "UnshowableError whose repr raises ValueError"),
        ("tests/cli_errors_app.py:sagas", "a module is named without .py, and with dots: tests.cli_errors_app"),
        ("tests.cli_errors_app:nope", "it has leaving, ringing, asking, grouped, sagas"),
        ("broken_here:sagas", "broken_here.py, line 2"),
    ],
)
def test_an_app_that_cannot_be_asked_is_told_in_a_line(desk, world, monkeypatch, spec, says):
    """With what went wrong in it, and where."""
    (world / "broken_here.py").write_text("x = 1\ny = x.z\n")
    monkeypatch.syspath_prepend(world)
    assert says in desk("verify", spec, code=APP).replace("\n", " ")


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ("[tool.fsm-mediator]\napp = 5", "app must be a text, not 5"),
        ("[tool.fsm-mediator]\njournal = ['x']", "journal must be a text, not ['x']"),
        ("[tool]\nfsm-mediator = 3", "must be a table, not 3"),
        (
            "[tool.fsm-mediator]\njurnal = 's.db'",
            "has 'jurnal', which is an unknown setting; there are app, journal",
        ),
    ],
)
def test_what_pyproject_says_wrong_is_told(desk, world, table, says):
    """A name that means nothing is a setting that is not in force."""
    (world / "pyproject.toml").write_text(table)
    assert says in desk("list", code=APP).replace("\n", " ")


def test_a_step_that_ends_the_process(desk, world):
    """It says so, and the attempt is judged; the step's own number is no exit code of ours."""
    said = desk("run", "leaving", "-j", "s.db", "--id", "l-1", *ERRORS_APP, code=DID_NOT_SUCCEED)
    assert "a step ended the process (SystemExit: 3)" in said
    assert "fsm-mediator recover" in said
    assert "l-1" in desk("list", "-j", "s.db", "--state", "failed")


def test_what_the_app_cannot_drive_is_counted(desk, world):
    """Recovery that left some has not recovered."""
    code = (
        "import os\nfrom fsm_mediator import Mediator, Saga, step\n"
        "@step\ndef dies(payload):\n    os._exit(0)\n"
        "Mediator(Saga('elsewhere', [dies]), journal='s.db').run('elsewhere')"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=world)
    said = desk("recover", "-j", "s.db", *ERRORS_APP, code=APP)
    assert "1 of saga 'elsewhere' version 1" in said.replace("\n", " ")


# Words


def test_payloads_that_are_no_text(desk, world):
    """Bytes that are no UTF-8, and JSON that is nested too deep for anybody."""
    (world / "latin").write_bytes(b'{"a": "\xe9"}')
    (world / "deep").write_text("[" * 100_000 + "]" * 100_000)
    run = ("run", "checkout", "-j", "s.db", *APP_OPTION)
    assert "the file 'latin' is not UTF-8" in desk(*run, "-p", "@latin", code=USAGE)
    assert "standard input is not UTF-8" in desk(*run, "-p", "-", input=b"\xff\xfe", code=USAGE)
    assert "nested too deep" in desk(*run, "-p", "@deep", code=USAGE)
    assert "cannot be read: No such file" in desk(*run, "-p", "@nowhere", code=USAGE)
    assert "is not JSON" in desk(*run, "-p", "\udce9", code=USAGE)


@pytest.mark.parametrize(
    "words",
    [
        ("run", "checkout", "--id", "", *APP_OPTION),
        ("run", "checkout", "--id", "a/b", *APP_OPTION),
        ("resolve", "held", "-r", " ", *APP_OPTION),
        ("prune", "--older-than", "30"),
        ("conform", APP_OPTION[1], "--from", "/dev/null"),
    ],
)
def test_wrong_usage_is_called_that(desk, journal, words):
    """Exit code 2 is for what no journal need be asked about."""
    more = () if words[0] == "conform" else ("-j", journal)
    desk(*words, *more, code=USAGE)


@pytest.mark.parametrize(
    "words",
    [
        ("-o", "a.svg", "--animate"),
        ("-o", "y.svg", "-f", "png"),
        ("-o", "-", "-f", "svg", "-f", "dot"),
        ("-o", "-", "--check"),
        ("-o", "x.xyz"),
        ("-o", "a.svg", "-o", "-"),
    ],
)
def test_render_refuses_what_it_would_ignore(desk, world, words):
    """Who asks for something gets it, or is told how."""
    desk("render", "tests.cli_app:checkout", *words, code=USAGE)
    assert list(world.iterdir()) == []


def test_what_is_typed_next_can_be_pasted(desk, error_journal):
    """Whatever the id is: a shell takes it as it is meant."""
    said = [line for line in desk("list", "-j", error_journal, *ERRORS_APP).splitlines() if line.startswith("next")]
    assert f"next: fsm-mediator signal -a tests.cli_errors_app:sagas -j {error_journal} -- '-x; rm' ok VALUE" in said


def test_errors_cannot_command_the_terminal(desk, error_journal):
    """What a step says is shown, not obeyed; and half a character breaks nothing."""
    for words in (("show", "r-1"), ("show", "r-1", "--json"), ("export",)):
        said = desk(*words, "-j", error_journal)
        assert "\x1b" not in said
        assert "\x07" not in said
    assert r"\x1b[31mred\x07" in desk("show", "r-1", "-j", error_journal)
    assert r"\ud800" in desk("run", "ringing", "-j", error_journal, *ERRORS_APP, code=DID_NOT_SUCCEED)


def test_what_is_stuck_is_told_in_the_words_of_the_command_line(desk, journal):
    """Whoever typed a command is told commands, and not what to write in Python."""
    said = desk("retry", "--drive", "held", "-j", journal, *APP_OPTION, code=DID_NOT_SUCCEED)
    assert "mediator.r" not in said
    assert f"next: fsm-mediator retry -a {APP_OPTION[1]} -j {journal} held  (once the cause is mended)\n" in said
    assert "held --reason ...  (settles it by hand)" in said


def test_resolve_is_for_what_is_stuck(desk, error_journal):
    """Who waits for a signal is told the command for that; nothing is said to have taken effect."""
    said = desk(
        "resolve", "--drive", "a-1", "--done", "-r", "yes", "-j", error_journal, *ERRORS_APP, code=REFUSED
    ).replace("\n", " ")
    assert "is not stuck" in said
    assert "fsm-mediator signal" in said


def test_a_signal_of_another_type_is_refused_with_its_name(desk, error_journal):
    """In words that need no knowledge of how it is encoded."""
    said = desk("signal", "a-1", "ok", '"perhaps"', "-j", error_journal, *ERRORS_APP, code=USAGE)
    assert "signal 'ok' takes a bool: Expected `bool`, got `str`" in said


def test_a_branch_whose_group_is_over(desk, error_journal):
    """It was not settled by hand: it was executed."""
    said = desk("retry", "--drive", "g-1/g.packed", "-j", error_journal, *ERRORS_APP, code=REFUSED).replace("\n", " ")
    assert "does not wait for its group 'g' any more: it is in 'waiting.ok'" in said


def test_unknown_ids_and_names_get_a_hint(desk, journal):
    """What to type to see those that there are."""
    for verb in ("retry", "cancel", "undo"):
        said = desk(verb, "nobody", "-j", journal, *APP_OPTION, code=NOT_FOUND)
        assert "see those it knows: fsm-mediator list" in said.replace("\n", " ")
    assert "no execution of a saga 'chekout'" in desk("list", "--saga", "chekout", "-j", journal)
    assert "no execution of a saga" not in desk("list", "--saga", "checkout", "--state", "waiting", "-j", journal)


def test_prune_can_be_tried(desk, journal):
    """How many there are, before they are gone."""
    assert "would delete 2 executions" in desk("prune", "--older-than", "0s", "--dry-run", "-j", journal)
    assert "deleted 2 executions" in desk("prune", "--older-than", "0s", "-j", journal)


def test_those_that_look_use_the_journal_of_the_app(desk, world, monkeypatch):
    """Where the app is a mediator with a journal of its own, no other need be named."""
    (world / "with_journal.py").write_text(
        "from fsm_mediator import Mediator\nfrom tests.cli_app import checkout\n"
        "mediator = Mediator(checkout, journal='mine.db')\nmediator.run('checkout', {'amount': 5}, saga_id='o-1')\n"
    )
    monkeypatch.syspath_prepend(world)
    assert json.loads(desk("list", "--json", "-a", "with_journal:mediator"))["saga_id"] == "o-1"
    sys.modules.pop("with_journal").mediator.close()


def test_those_that_look_ask_the_app_once(desk, journal, world, monkeypatch):
    """A factory that is called opens what it opens: a second call would open it twice."""
    (world / "counted.py").write_text(
        "from tests.cli_app import sagas\ncalls = []\ndef make():\n    calls.append(1)\n    return sagas\n"
    )
    monkeypatch.syspath_prepend(world)
    for number, words in enumerate((("list",), ("show", "good")), 1):
        desk(*words, "-j", journal, "-a", "counted:make")
        assert len(sys.modules["counted"].calls) == number
    del sys.modules["counted"]


def test_a_file_of_shapes_that_is_none_is_not_printed(desk, world):
    """Bytes that are no text would fill the terminal."""
    (world / "shapes.json").write_bytes(bytes(range(256)) * 100)
    said = desk("compare", "shapes.json", APP_OPTION[1], code=APP)
    assert "is not a text file" in said
    assert len(said) < 500


def test_export_machine_into_what_cannot_be_written(desk, world):
    """Told with the path."""
    (world / "file").write_text("")
    said = desk("export-machine", APP_OPTION[1], "-f", "json", "-o", "file/x", code=DID_NOT_SUCCEED)
    assert "file/x" in said
