"""The operator's desk: each command does what its help says, and ends with the exit code that is documented."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from fsm_mediator import Mediator, SQLiteJournal
from fsm_mediator.cli import console as codes
from fsm_mediator.cli.commands import cli
from fsm_mediator.cli.console import APP, DID_NOT_SUCCEED, JOURNAL, NOT_FOUND, REFUSED, USAGE
from fsm_mediator.journal.protocol import Commit
from tests import cli_app

ROOT = Path(__file__).parent.parent
APP_OPTION = ("--app", "tests.cli_app:sagas")


@pytest.fixture
def world(tmp_path, monkeypatch):
    """An empty world of participants, and the working directory."""
    monkeypatch.setenv("CLI_APP_FOLDER", str(tmp_path))
    monkeypatch.setattr(codes.out, "_width", 200)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def desk(world):
    """Runs a command in this process; checks its exit code."""

    def run(*words, code=0, **settings):
        result = CliRunner().invoke(cli, [*map(str, words)], **settings)
        assert code is None or result.exit_code == code, (words, result.output, result.exception)
        return result.output

    return run


@pytest.fixture
def journal(world):
    """A journal with one execution that succeeded, one that failed and one that is stuck."""
    path = world / "sagas.db"
    with Mediator(*cli_app.sagas, journal=str(path)) as mediator:
        mediator.run("checkout", {"amount": 5}, saga_id="good")
        mediator.run("checkout", {"amount": 500}, saga_id="bad", check=False)
        (world / "warehouse_closed").touch()
        mediator.run("checkout", {"amount": 501}, saga_id="held", check=False)
    (world / "done").write_text("")
    return path


def done(world):
    """What the participants have done since."""
    return (world / "done").read_text().split()


def test_list_needs_no_app_and_filters(desk, journal):
    """Whoever has the file can see what is in it, by state, saga and age."""
    assert [line.split()[0] for line in desk("list", "-j", journal).splitlines()] == [
        "id",
        "held",
        "bad",
        "good",
        "next:",
    ]
    assert "held" in desk("list", "-j", journal, "--state", "stuck")
    assert "held" in desk("list", "-j", journal, "--state", "stuck.reserve")
    assert "good" not in desk("list", "-j", journal, "--state", "failed")
    assert "no executions" in desk("list", "-j", journal, "--saga", "another")
    assert "no executions" in desk("list", "-j", journal, "--older-than", "1h")
    assert "and more" in desk("list", "-j", journal, "--limit", 1)


def test_list_and_show_speak_json(desk, journal):
    """A script gets one JSON object a line, payload and history decoded."""
    lines = [json.loads(line) for line in desk("list", "-j", journal, "--json").splitlines()]
    assert {line["saga_id"]: line["state"] for line in lines} == {
        "good": "succeeded",
        "bad": "failed",
        "held": "stuck.reserve",
    }

    shown = json.loads(desk("show", "good", "-j", journal, "--json"))

    assert shown["payload"] == {"amount": 5}
    assert [record["event"] for record in shown["history"]] == ["start", "executed", "executed"]
    assert shown["history"][2]["value"] == {"receipt": 5}


def test_show_tells_the_story(desk, journal):
    """One look tells what happened, how often it was tried, and why it stands where it stands."""
    shown = desk("show", "held", "-j", journal, terminal_width=200)

    assert "stuck.reserve" in shown
    assert "ValueError: the card is refused" in shown
    assert "RuntimeError: the warehouse is closed" in shown
    assert "attempt 2" in shown


def test_unknown_execution(desk, journal):
    """A wrong id is told as such, with what to type next."""
    assert "fsm-mediator list" in desk("show", "nobody", "-j", journal, code=NOT_FOUND)
    assert "nobody" in desk("retry", "--drive", "nobody", "-j", journal, *APP_OPTION, code=NOT_FOUND)


def test_retry_after_the_cause_is_mended(desk, journal, world):
    """A stuck compensation goes on where it stands; nothing before it is repeated."""
    told = desk("retry", "--drive", "held", "-j", journal, *APP_OPTION, code=DID_NOT_SUCCEED)
    assert "is stuck" in told

    (world / "warehouse_closed").unlink()
    desk("retry", "--drive", "held", "-r", "it is open again", "-j", journal, *APP_OPTION)

    assert done(world) == ["release"]
    assert "it is open again" in desk("show", "held", "-j", journal, terminal_width=200)
    assert "from 'failed' there is only: nothing" in desk(
        "retry", "--drive", "held", "-j", journal, *APP_OPTION, code=REFUSED
    )


def test_resolve_by_hand(desk, journal, world):
    """A person settles what no program can, and says how; the reason is journaled."""
    assert "reason" in desk("resolve", "--drive", "held", "-j", journal, *APP_OPTION, code=USAGE)

    desk("resolve", "--drive", "held", "--reason", "carried back by hand", "-j", journal, *APP_OPTION)

    assert done(world) == []
    shown = json.loads(desk("show", "held", "-j", journal, "--json"))
    assert shown["history"][-1]["event"] == "settled_undone"
    assert shown["history"][-1]["reason"] == "carried back by hand"


def test_undo_what_succeeded(desk, journal, world):
    """A finished saga is undone newest first; a second time is refused."""
    (world / "warehouse_closed").unlink()

    desk("undo", "--drive", "good", "--reason", "ordered twice", "-j", journal, *APP_OPTION)

    assert done(world) == ["refund", "release"]
    desk("undo", "--drive", "good", "-j", journal, *APP_OPTION, code=REFUSED)


def test_a_verb_is_carried_out_by_whoever_serves(desk, journal, world):
    """An operator needs neither the app nor to drive: a daemon carries it out, and the command prints its answer."""
    (world / "warehouse_closed").unlink()
    with Mediator(*cli_app.sagas, journal=str(journal)) as mediator, mediator.daemon(poll=0.01):
        said = desk("retry", "held", "-r", "it is open again", "-j", journal)
        assert mediator.wait("held", check=False).failed
        refused = desk("retry", "held", "-j", journal, code=REFUSED)
        undone = desk("undo", "good", "-j", journal, "--timeout", "1m")

    assert "accepted as record" in said
    assert "next: fsm-mediator show" in said
    assert "it takes no 'retry'" in refused
    assert "accepted as record" in undone
    assert "it is open again" in desk("show", "held", "-j", journal, terminal_width=200)


def test_a_verb_with_no_driver_alive_says_so_at_once(desk, journal, world):
    """Nothing is waited for; the verb stays in the inbox, and the next move is told."""
    (world / "warehouse_closed").unlink()
    said = desk("retry", "held", "-r", "it is open again", "-j", journal, code=DID_NOT_SUCCEED)

    assert "no living driver knows saga 'checkout'" in said
    assert "fsm-mediator serve" in said
    assert "inbox    retry it is open again" in desk("show", "held", "-j", journal)
    desk("recover", "-j", journal, *APP_OPTION)
    assert done(world) == ["release"]


def test_drive_carries_out_what_an_operator_has_said_before(desk, journal, world):
    """The same command with --drive is no second retry: the one in the inbox is carried out."""
    (world / "warehouse_closed").unlink()
    desk("retry", "held", "-r", "it is open again", "-j", journal, code=DID_NOT_SUCCEED)

    desk("retry", "held", "--drive", "-j", journal, *APP_OPTION)

    assert done(world) == ["release"]


def test_a_verb_that_is_not_answered_in_time(desk, journal):
    """A driver that knows the saga lives, and looks at nothing: the command ends when its time is over."""
    with Mediator(*cli_app.sagas, journal=str(journal)):
        said = desk("retry", "held", "--timeout", "0", "-j", journal, code=DID_NOT_SUCCEED)
    assert "no answer to 'retry' in 0 seconds. It stays in the inbox" in said


def test_cancel_too_late_is_refused(desk, journal):
    """What has ended cannot be cancelled, and the message says where it stands."""
    assert "succeeded" in desk("cancel", "good", "-j", journal, *APP_OPTION, code=REFUSED)


def test_run_from_the_command_line(desk, world):
    """A saga can be run by hand; the payload is JSON, from the line, a file or standard input."""
    assert "succeeded" in desk("run", "checkout", "-p", '{"amount": 7}', "--id", "r", "-j", "sagas.db", *APP_OPTION)
    (world / "order.json").write_text('{"amount": 700}')
    failed = desk("run", "checkout", "-p", "@order.json", "-j", "sagas.db", *APP_OPTION, code=DID_NOT_SUCCEED)
    assert "the card is refused" in failed
    desk("run", "checkout", "-p", "-", "-j", "sagas.db", *APP_OPTION, input='{"amount": 8}')
    assert "checkout" in desk("run", "nothing", "-j", "sagas.db", *APP_OPTION, code=APP)


def test_what_is_no_json_says_so(desk, journal, world):
    """Most often a text without its quotes; or JSON, and not of the saga's type. Nothing is started."""
    before = desk("list", "-j", journal)
    said = desk("run", "checkout", "-p", "x" * 100, "-j", journal, *APP_OPTION, code=USAGE)
    assert f"the payload '{'x' * 60}...' is not JSON (JSON is malformed: invalid character (byte 0))" in said
    assert "a text needs quotes" in said
    app = ("--app", "tests.cli_app:typed")
    said = desk("run", "typed", "-p", '{"amount": "much"}', "-j", journal, *app, code=USAGE)
    assert "the payload is not what saga 'typed' takes, Order: Expected `int`, got `str` - at `$.amount`" in said
    assert "--result 'done' is not JSON" in desk(
        *("resolve", "--drive", "held", "--reason", "looked", "--done", "--result", "done", "-j", journal),
        *APP_OPTION,
        code=USAGE,
    )
    assert desk("list", "-j", journal) == before
    assert "succeeded" in desk("run", "typed", "-p", '{"amount": 3}', "-j", journal, *app)


@pytest.mark.parametrize("command", ["list", "export"])
def test_a_state_that_there_is_not_is_refused(desk, journal, command):
    """Else a slip of the pen would look like good news."""
    assert "held" in desk(command, "--state", "stuck", "-j", journal)
    assert "held" in desk(command, "--state", "stuck.reserve", "-j", journal)
    said = desk(command, "--state", "stock", "-j", journal, code=USAGE)
    assert "'stock' is no state; a state is, or begins with, one of pending, executing," in said


def test_export_and_prune(desk, journal):
    """Everything can be taken out as JSON lines; what has ended long ago can be deleted, the rest cannot."""
    lines = [json.loads(line) for line in desk("export", "-j", journal).splitlines()]
    assert sorted(line["saga_id"] for line in lines) == ["bad", "good", "held"]
    assert all(line["history"] for line in lines)

    assert "deleted 0" in desk("prune", "--older-than", "1h", "-j", journal)
    assert "deleted 2" in desk("prune", "--older-than", "0s", "-j", journal)
    assert [json.loads(line)["saga_id"] for line in desk("export", "-j", journal).splitlines()] == ["held"]
    assert "no duration" in desk("prune", "--older-than", "soon", "-j", journal, code=USAGE)


def test_app_and_journal_from_pyproject(desk, journal, world):
    """In a project that says where its sagas and its journal are, no option is needed."""
    (world / "pyproject.toml").write_text(
        '[tool.fsm-mediator]\napp = "tests.cli_app:make"\njournal = "sagas.db"\n', encoding="utf-8"
    )
    (world / "warehouse_closed").unlink()

    assert "held" in desk("list")
    desk("retry", "--drive", "held")


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("retry", "held"), JOURNAL, "which journal?"),
        (("retry", "--drive", "held"), APP, "--app module:object"),
        (("retry", "held", "--app", "tests.cli_app"), APP, "module:object"),
        (("retry", "held", "--app", "tests.cli_app:gone"), APP, "has no 'gone'"),
        (("retry", "held", "--app", "no_such_module:x"), APP, "cannot be imported"),
        (("retry", "held", "--app", "an_app_that_ends:x"), APP, "cannot be imported: SystemExit(3)"),
        (("retry", "held", "--app", "tests.cli_app:nothing"), APP, "42"),
        (("retry", "held", *APP_OPTION), JOURNAL, "which journal?"),
        (("list",), JOURNAL, "which journal?"),
        (("list", "-j", "nowhere/sagas.db"), JOURNAL, "nowhere"),
        (("list", "-j", "missing.db"), JOURNAL, "missing.db"),
        (("frobnicate",), USAGE, "No such command"),
    ],
)
def test_mistakes_say_what_to_do(desk, world, words, code, says):
    """A mistake ends with the documented exit code and a line that says what to type instead."""
    (world / "an_app_that_ends.py").write_text("raise SystemExit(3)")
    assert says in desk(*words, code=code)


def test_every_command_is_documented(desk):
    """Each command explains itself and stands on the page on operating, which names every exit code."""
    helped = desk("--help", terminal_width=100)
    page = (ROOT / "docs" / "operating.md").read_text(encoding="utf-8")
    for name, command in cli.commands.items():
        assert name in helped
        assert command.help
        assert "Usage" in desk(name, "--help")
        assert f"fsm-mediator {name}" in page
    assert "Exit codes" in helped
    told = re.findall(r"(\d)\s+[a-z]", helped.partition("Exit codes:")[2].partition("Options:")[0])
    assert told == re.findall(r"^\| (\d) \|", page, re.MULTILINE)


def start(world, *words):
    """A real process of the command."""
    return subprocess.Popen(
        [sys.executable, "-m", "fsm_mediator", *words],
        env={"PATH": "/usr/bin:/bin", "CLI_APP_FOLDER": str(world), "PYTHONPATH": str(ROOT)},
        cwd=world,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_recover_takes_up_what_a_dead_process_left(world):
    """After a crash one command drives everything on to its end."""
    script = (
        "import os, signal\n"
        "from fsm_mediator import Mediator\n"
        "from tests import cli_app\n"
        "die = lambda record: record.target == 'executing.charge' and os.kill(os.getpid(), signal.SIGKILL)\n"
        "Mediator(*cli_app.sagas, journal='sagas.db', observers=[die]).run('checkout', {'amount': 3}, saga_id='x')\n"
    )
    environment = {"PATH": "/usr/bin:/bin", "CLI_APP_FOLDER": str(world), "PYTHONPATH": str(ROOT)}
    died = subprocess.run([sys.executable, "-c", script], cwd=world, env=environment, check=False)
    assert died.returncode == -signal.SIGKILL

    process = start(world, "recover", "-j", "sagas.db", *APP_OPTION)
    told, complaints = process.communicate(timeout=60)

    assert process.returncode == 0, complaints
    assert re.search(r"recovered 1 executions?, 1 succeeded", told)
    assert done(world) == ["reserve", "charge"]


def test_recover_shows_how_far_it_has_come(desk, journal, world, monkeypatch):
    """In a terminal the executions that have come to rest are counted while it goes on."""
    sagas = SQLiteJournal(journal)
    (left,) = (entry.acceptance for entry in sagas.entries() if entry.saga_id == "good")
    for number in range(5):
        sagas.write(Commit(f"left-{number}", (), acceptance=msgspec.structs.replace(left, saga_id=f"left-{number}")))
    sagas.close()
    counted = []
    monkeypatch.setattr("rich.progress.Progress.advance", lambda *_: counted.append(1))

    assert "recovered 5 executions, 5 succeeded" in desk("recover", "-j", journal, *APP_OPTION)

    assert len(counted) == 5


def test_serve_drives_until_it_is_told_to_stop(world):
    """The daemon takes up what others leave, and ends cleanly on SIGTERM."""
    process = start(world, "serve", "-j", "sagas.db", *APP_OPTION)
    try:
        line = process.stderr.readline()
        assert "serving checkout, refuse" in line
        script = (
            "import os\nfrom fsm_mediator import Mediator\nfrom tests import cli_app\n"
            "m = Mediator(*cli_app.sagas, journal='sagas.db', observers=[lambda record: os._exit(9)])\n"
            "m.run('checkout', {'amount': 3}, saga_id='left')\n"
        )
        environment = {"PATH": "/usr/bin:/bin", "CLI_APP_FOLDER": str(world), "PYTHONPATH": str(ROOT)}
        subprocess.run([sys.executable, "-c", script], cwd=world, env=environment, check=False)
        journal = SQLiteJournal(world / "sagas.db")
        until = time.monotonic() + 30
        while (entry := journal.find("left")) is None or entry.state != "succeeded":
            assert time.monotonic() < until, entry
            time.sleep(0.02)
        journal.close()
    finally:
        process.send_signal(signal.SIGTERM)
        _, complaints = process.communicate(timeout=60)
    assert process.returncode == 0, complaints
