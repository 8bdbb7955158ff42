"""The operator's desk: each command does what its help says, and ends with the exit code that is documented."""

from __future__ import annotations

import json
import re
import shlex
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
from fsm_mediator.journal.notes import Note, for_notes
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
    assert "... and 2 more" in desk("list", "-j", journal, "--limit", 1)


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
    said = desk("retry", "held", "-r", "it is open again", "--actor", "ann", "-j", journal, code=DID_NOT_SUCCEED)

    assert "no living driver knows saga 'checkout'" in said
    assert "fsm-mediator serve" in said
    assert "inbox    retry by ann: it is open again" in desk("show", "held", "-j", journal)
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
    ids = [entry.saga_id for entry in SQLiteJournal(journal).entries()]
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
    assert [entry.saga_id for entry in SQLiteJournal(journal).entries()] == ids
    assert "succeeded" in desk("run", "typed", "-p", '{"amount": 3}', "-j", journal, *app)


@pytest.mark.parametrize("command", ["list", "export"])
def test_a_state_that_there_is_not_is_refused(desk, journal, command):
    """Else a slip of the pen would look like good news."""
    assert "held" in desk(command, "--state", "stuck", "-j", journal)
    assert "held" in desk(command, "--state", "stuck.reserve", "-j", journal)
    said = desk(command, "--state", "stock", "-j", journal, code=USAGE)
    assert "'stock' is no state. A state is, or begins with, one of pending, executing," in said


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


def test_commands_name_the_user_who_types_them(desk, journal, monkeypatch):
    """The command line journals my login name, unless --actor says another."""
    monkeypatch.setattr("getpass.getuser", lambda: "carol")
    desk("undo", "good", "--drive", "-j", journal, "-a", "tests.cli_app:sagas", code=None)
    with Mediator(journal=str(journal)) as mediator:
        history = mediator.journal.records("good")
    assert [record.actor for record in history if record.event == "undo"] == ["carol"]

    shown = desk("show", "good", "-j", journal)
    exported = json.loads(desk("show", "good", "-j", journal, "--json"))
    assert "by carol" in shown
    assert "carol" in [record["actor"] for record in exported["history"]]


def test_command_names_another_actor(desk, journal):
    """A chat bot that types for somebody says who that is."""
    desk("undo", "good", "--drive", "--actor", "dora", "-j", journal, "-a", "tests.cli_app:sagas", code=None)

    assert "by dora" in desk("show", "good", "-j", journal)


def test_show_tells_notes_between_the_records(desk, journal):
    """What was said about an execution stands in its timeline at its time, with who said it."""
    with Mediator(journal=str(journal)) as mediator:
        records = mediator.journal.records("good")
        at = (records[0].at + records[1].at) / 2
        for_notes(mediator.journal).add_note(
            Note("seen", "good", value={"by": "phone"}, actor="ann", reason="she asked", at=at)
        )

    lines = desk("show", "good", "-j", journal).splitlines()
    where = [number for number, line in enumerate(lines) if "seen: by=phone" in line]
    begins = [number for number, line in enumerate(lines) if "the saga begins" in line]
    ends = [number for number, line in enumerate(lines) if "is executed" in line]
    assert begins[0] < where[0] < ends[-1]
    assert "by ann: she asked" in lines[where[0] + 1]
    assert json.loads(desk("show", "good", "-j", journal, "--json"))["notes"][0]["kind"] == "seen"


def test_list_finds_by_where_and_pages(desk, journal):
    """I find executions by what went wrong with them and by attributes, page by page, and am told how many follow."""
    where = ("list", "-j", journal, "--json", "--where")
    desk("attributes", "bad", "tenant=acme", "order=17", "-j", journal)

    def found(*words):
        return [json.loads(line)["saga_id"] for line in desk(*where, *words).splitlines()]

    assert found("state=failed,stuck saga=checkout") == ["held", "bad"]
    assert found("@tenant=acme @order=17 since=1h") == ["bad"]
    assert found("@order='\"17\"'") == []
    assert found("until=1h") == []
    assert found("since=2026-01-01 text=oo") == ["good"]
    first = desk("list", "-j", journal, "--limit", 1)
    assert "and 2 more" in first
    cursor = re.search(r"--after '(.+)'", first)
    assert cursor is not None
    assert [line.split()[0] for line in desk("list", "-j", journal, "--after", cursor[1]).splitlines()[1:]] == [
        "bad",
        "good",
    ]


def test_where_that_means_nothing_says_what_there_is(desk, journal):
    """A mistyped filter is a usage error that names what can be asked."""
    assert "there is no 'sgaa'" in desk("list", "-j", journal, "--where", "sgaa=x", code=USAGE)
    assert "has no form name=value" in desk("list", "-j", journal, "--where", "order", code=USAGE)
    assert "is no state" in desk("list", "-j", journal, "--where", "state=over", code=USAGE)
    assert "give 15m" in desk("list", "-j", journal, "--where", "since=yesterday", code=USAGE)
    assert "no cursor" in desk("list", "-j", journal, "--after", "x", code=JOURNAL)


def test_count_groups_failures(desk, journal):
    """I see what fails most, and where, without reading a list."""
    assert desk("count", "-j", journal).split() == ["3"]
    assert desk("count", "-j", journal, "--by", "state", "--where", "state=succeeded,failed").split() == [
        *("1", "failed", "1", "succeeded")
    ]
    assert json.loads(desk("count", "-j", journal, "--by", "saga", "--json")) == {"checkout": 3}
    assert "charge" in desk("count", "-j", journal, "--by", "step", "--where", "state=failed")


def test_attributes_are_shown_and_changed(desk, journal):
    """I label an execution from the command line; `show` tells the labels, and who gave them."""
    assert desk(
        "attributes", "good", "tenant=acme", "vip=true", "note=x=y", "--actor", "ann", "-j", journal
    ).split() == [*('note="x=y"', 'tenant="acme"', "vip=true")]
    assert desk("attributes", "good", "vip=", "note=", "-j", journal).split() == ['tenant="acme"']
    shown = desk("show", "good", "-j", journal)
    assert 'known by tenant="acme"' in shown
    assert "by ann" in shown
    assert "set an attribute" in desk("attributes", "good", "vip", "-j", journal, code=USAGE)


def test_hold_and_unhold_are_said_and_shown(desk, journal):
    """I hold what I name, see what is held and by whom, and lift the hold by the same name."""
    assert "execution 'held' is held" in desk("hold", "held", "-r", "look first", "--actor", "ann", "-j", journal)
    desk("hold", "--saga", "checkout", "--step", "charge", "--compensations", "--actor", "bob", "-j", journal)
    listed = desk("holds", "-j", journal).splitlines()
    assert [line.partition("  ")[0] for line in listed] == [
        *("execution 'held'", "step 'charge' of saga 'checkout' and its compensations")
    ]
    assert "by ann: look first" in listed[0]
    assert "on hold  execution 'held' by ann: look first" in desk("show", "held", "-j", journal)

    assert "goes on" in desk("unhold", "held", "-j", journal)
    assert "is not held" in desk("unhold", "held", "-j", journal, code=REFUSED)
    desk("unhold", "--saga", "checkout", "--step", "charge", "-j", journal)
    assert "there are no holds" in desk("holds", "-j", journal)
    desk("hold", "unknown", "-j", journal, code=NOT_FOUND)
    desk("hold", "-j", journal, code=USAGE)


def test_again_runs_once_more_what_failed(desk, journal, world):
    """From the command line too: what failed is run again under a new id, and `show` tells both of each other."""
    desk("again", "good", *APP_OPTION, "-j", journal, code=REFUSED)
    ran = desk("again", "bad", "--actor", "ann", *APP_OPTION, "-j", journal, code=None)

    assert "is run again as 'bad~2'" in ran
    assert "run again: id=bad~2" in desk("show", "bad", "-j", journal)
    assert "runs again: id=bad" in desk("show", "bad~2", "-j", journal)
    desk("again", "held", *APP_OPTION, "-j", journal, code=REFUSED)


def test_preview_tells_what_undo_would_do(desk, journal):
    """Before I undo from the command line I see the steps in order, and the command to type."""
    shown = desk("preview", "good", *APP_OPTION, "-j", journal)

    assert "1  compensate charge" in shown or "1  compensate reserve" in shown
    assert "undo" in shown.splitlines()[-1]
    assert "has ended" in desk("preview", "bad", *APP_OPTION, "-j", journal, code=REFUSED)


def test_acknowledged_alert_is_shown_with_who_saw_it(desk, journal):
    """I say that I know; the timeline has it, and what has ended is refused."""
    said = desk("acknowledge", "held", "-r", "the warehouse is closed", "--actor", "ann", "-j", journal)
    assert re.search(r"the alerts of 'held', which is in 'stuck\.\w+', are silent until it moves", said)
    shown = " ".join(desk("show", "held", "-j", journal).split())
    assert re.search(r"acknowledged: state=stuck\.\w+, seq=\d+", shown)
    assert "by ann: the warehouse is closed" in shown
    assert "has ended" in desk("acknowledge", "good", "-j", journal, code=REFUSED)


def test_bulk_deletes_what_has_ended_without_an_app(desk, journal):
    """I look first, then delete; no app is loaded, and nothing that goes on is touched."""
    fits = ("--where", "saga=checkout")
    assert "prune would be given to 2 executions" in desk("bulk", "prune", *fits, "--dry-run", "-j", journal)
    done = desk("bulk", "prune", *fits, "-r", "the trial is over", "--actor", "ann", "-j", journal)
    assert "2 done, 0 refused" in done
    assert re.search(r"^good  deleted", done, re.MULTILINE)
    batch = re.search(r"batch (\w+):", done)
    assert batch is not None
    assert "0 done, 0 refused" in desk("bulk", "--resume", batch[1], "-j", journal)
    assert "prune would be given to 0 executions" in desk("bulk", "--resume", batch[1], "--dry-run", "-j", journal)
    assert desk("list", "-j", journal, "--json").count('"saga_id"') == 1


def test_commands_of_the_operators_page_run(desk, journal, monkeypatch):
    """What I copy from the page on operating, in its order, works: each command ends as the page says."""
    monkeypatch.setenv("FSM_MEDIATOR_JOURNAL", str(journal))
    page = (ROOT / "docs" / "operating.md").read_text(encoding="utf-8")
    typed = re.findall(r"^(?:\$ )?fsm-mediator (.+)$", page, re.MULTILINE)
    commands = [shlex.split(line) for line in typed if not line.startswith("serve")]  # it has no end of its own
    assert {words[0] for words in commands} >= {"list", "count", "hold", "unhold", "check"}
    for words in commands:
        desk(*("good" if word == "o-1" else word for word in words), code=0)


def test_bulk_does_to_many_and_says_what_came_of_each(desk, journal, world):
    """I look first, then do to all that fit; what refuses is counted, and a batch can be named to go on."""
    (world / "warehouse_closed").unlink()
    fits = ("--where", "state=stuck,failed saga=checkout")
    assert "retry would be given to 2 executions" in desk("bulk", "retry", *fits, "--dry-run", "-j", journal)

    done = desk(
        "bulk", "retry", *fits, "-r", "open again", "--actor", "ann", *APP_OPTION, "-j", journal, code=DID_NOT_SUCCEED
    )

    assert "1 done, 1 refused" in done
    assert "held  failed" in done
    assert "by ann: open again" in desk("show", "held", "-j", journal)
    batch = re.search(r"batch (\w+):", done)
    assert batch is not None
    assert "0 done, 0 refused" in desk("bulk", "--resume", batch[1], *APP_OPTION, "-j", journal)
    assert "name a verb" in desk("bulk", "-j", journal, code=USAGE)
    assert "no batch" in desk("bulk", "--resume", "unknown", *APP_OPTION, "-j", journal, code=REFUSED)
