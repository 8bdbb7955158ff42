"""The commands that check: what they find, how they say it, and the exit code that CI sees."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from fsm_mediator import Mediator
from fsm_mediator.cli import console as codes
from fsm_mediator.cli.commands import cli
from fsm_mediator.cli.console import APP, DID_NOT_SUCCEED, JOURNAL, NOT_FOUND, USAGE
from tests import cli_app

ROOT = Path(__file__).parent.parent
SAGAS = "tests.cli_app:sagas"


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """Runs a command in this process, in an empty folder; checks its exit code."""
    monkeypatch.setenv("CLI_APP_FOLDER", str(tmp_path))
    monkeypatch.setattr(codes.out, "_width", 200)
    monkeypatch.chdir(tmp_path)

    def run(*words, code=0, **settings):
        result = CliRunner().invoke(cli, [*map(str, words)], **settings)
        assert result.exit_code == code, (words, result.output, result.exception)
        return result.output

    return run


@pytest.fixture
def journal(desk, tmp_path):
    """A journal with one execution that succeeded, one that failed and one that is stuck."""
    path = tmp_path / "sagas.db"
    with Mediator(*cli_app.sagas, journal=str(path)) as mediator:
        mediator.run("checkout", {"amount": 5}, saga_id="good")
        mediator.run("checkout", {"amount": 500}, saga_id="bad", check=False)
        (tmp_path / "warehouse_closed").touch()
        mediator.run("checkout", {"amount": 501}, saga_id="held", check=False)
    return path


def change(path, statement):
    """Change the journal as nobody should."""
    with closing(sqlite3.connect(path)) as connection, connection:
        assert connection.execute(statement).rowcount == 1
    connection.close()


def test_verify_every_saga_of_an_app(desk):
    """One command in CI holds that every failure path of every saga ends compensated."""
    told = desk("verify", SAGAS)

    assert "saga 'checkout'" in told
    assert "saga 'refuse'" in told
    assert "broken" not in told
    assert "saga 'checkout'" not in desk("verify", SAGAS, "--saga", "refuse")


def test_verify_ends_with_1_where_a_law_is_broken(desk):
    """A saga whose steps raise after their effect without saying so is found, with the shortest way there."""
    told = desk("verify", SAGAS, "--strict", code=DID_NOT_SUCCEED)

    assert "law 2 is broken" in told
    assert "the shortest path to it:" in told


def test_verify_that_is_bounded_says_what_it_did_not_walk(desk):
    """The bound is mine to set. What lies behind it is not proved, is listed, and ends the command with 1."""
    told = desk("verify", SAGAS, "--saga", "checkout", "--most", "10", code=DID_NOT_SUCCEED)

    assert "STOPPED after 10 situations" in told
    assert "not reached because the search stopped early" in told


def test_verify_writes_counterexamples(desk, tmp_path):
    """Each broken law leaves a timeline to read, a picture to look at and a test that fails until it is mended."""
    told = desk("verify", SAGAS, "--strict", "--counterexample", "found", "--saga", "refuse", code=DID_NOT_SUCCEED)

    files = {file.name: file.read_text() for file in (tmp_path / "found").iterdir()}
    assert sorted(files) == ["refuse-law-2.svg", "refuse-law-2.txt", "test_refuse_law_2.py"]
    assert all(f"written: found/{name}" in told for name in files)
    assert "the shortest path to it:" in files["refuse-law-2.txt"]
    assert files["refuse-law-2.svg"].startswith("<?xml") or "<svg" in files["refuse-law-2.svg"][:200]
    scope: dict[str, Any] = {}
    exec(files["test_refuse_law_2.py"], scope)  # noqa: S102 - it was written here
    [test] = [value for name, value in scope.items() if name.startswith("test_")]
    with pytest.raises(AssertionError):
        test()


def test_verify_writes_counterexamples_of_branches(desk, tmp_path):
    """A law that is broken within a branch of a group leaves its files as well; their tests can be run."""
    desk("verify", "tests.cli_app:group", "--strict", "--counterexample", "found", code=DID_NOT_SUCCEED)

    files = {file.name: file.read_text() for file in (tmp_path / "found").iterdir()}
    assert "group.both.charge-law-2.txt" in files
    scope: dict[str, Any] = {}
    exec(files["test_group_both_charge_law_2.py"], scope)  # noqa: S102 - it was written here
    [test] = [value for name, value in scope.items() if name.startswith("test_")]
    with pytest.raises(AssertionError):
        test()


def test_verify_without_a_counterexample_writes_nothing(desk, tmp_path):
    """Where every law holds there is no folder to clear away."""
    desk("verify", SAGAS, "--counterexample", "found")

    assert not (tmp_path / "found").exists()


def test_verify_speaks_json(desk):
    """A script gets one line of JSON for each saga."""
    lines = desk("verify", SAGAS, "--strict", "--json", code=DID_NOT_SUCCEED).splitlines()

    assert [(told["saga"], told["ok"]) for told in map(json.loads, lines)] == [("checkout", False), ("refuse", False)]


def test_verify_needs_an_app_that_can_be_loaded(desk, tmp_path):
    """What cannot be loaded is told apart from what is wrong; the app may also stand in pyproject.toml."""
    assert "--app module:object" in desk("verify", code=APP)
    assert "no saga is named 'nothing'" in desk("verify", SAGAS, "--saga", "nothing", code=APP)
    (tmp_path / "pyproject.toml").write_text(f'[tool.fsm-mediator]\napp = "{SAGAS}"\n')
    assert "saga 'checkout'" in desk("verify")
    assert "saga 'checkout'" in desk("verify", "--app", "tests.cli_app:checkout")


def test_conform_of_a_journal(desk, journal):
    """A journal that nobody tampered with conforms, whole or one execution of it."""
    assert "3 executions checked" in desk("conform", "-j", journal, SAGAS)
    assert "1 execution checked" in desk("conform", "-j", journal, SAGAS, "--id", "held")
    assert "0 executions checked" in desk("conform", "-j", journal, SAGAS, "--saga", "refuse")
    assert json.loads(desk("conform", "-j", journal, SAGAS, "--json"))["executions"] == 3


def test_conform_names_the_first_illegal_move(desk, journal):
    """A row that was changed by hand is found: which execution, which move, and what could have stood there."""
    change(journal, "UPDATE records SET event = 'compensated' WHERE seq = 2 AND execution = 1")

    told = desk("conform", "-j", journal, SAGAS, code=DID_NOT_SUCCEED)

    assert "execution 'good' of saga 'checkout' version 1: move 2 is illegal" in told
    assert "executed -> executing.charge" in told
    assert "'bad'" not in told
    desk("conform", "-j", journal, SAGAS, "--id", "bad")
    told = json.loads(desk("conform", "-j", journal, SAGAS, "--json", code=DID_NOT_SUCCEED))
    assert [(each["saga_id"], each["position"]) for each in told["violations"]] == [("good", 2)]


def test_check_and_conform_find_a_damaged_file(desk, journal):
    """A lost row is found, even if the execution has vanished from every list; a whole journal is said to be whole."""
    assert desk("check", "-j", journal) == "no damage found\n"
    change(journal, "DELETE FROM records WHERE seq = 0 AND execution = 1")
    assert "good" not in desk("list", "-j", journal)

    fault = "execution 'good': records are lost, or numbered wrongly"
    told = desk("check", "-j", journal, code=DID_NOT_SUCCEED)
    assert fault in told
    assert "restore a backup" in told
    assert f"the journal is damaged: {fault}" in desk("conform", "-j", journal, SAGAS, code=DID_NOT_SUCCEED)
    assert json.loads(desk("conform", "-j", journal, SAGAS, "--json", code=DID_NOT_SUCCEED))["damage"] == [fault]
    desk("check", "-j", journal.with_name("none.db"), code=JOURNAL)


def test_a_lost_end_is_named_everywhere_and_repaired(desk, journal):
    """An execution whose last record is lost stands half compensated: each command says so, and the repair frees it."""
    change(journal, "DELETE FROM records WHERE target = 'failed'")
    fault = "execution 'bad': its row says that it has ended, and its last record leads to 'compensating.reserve'"

    told = desk("check", "-j", journal, code=DID_NOT_SUCCEED)
    assert fault in told
    assert f"1 faults; 1 rows can be computed again from the records: fsm-mediator check -j {journal} --repair" in told
    assert "restore a backup" not in told
    assert f"damaged  {fault}" in desk("show", "bad", "-j", journal)
    assert "damaged" not in desk("show", "good", "-j", journal)
    assert f"damaged: {fault}" in desk("recover", "-j", journal, "-a", SAGAS, code=DID_NOT_SUCCEED)

    told = desk("check", "-j", journal, "--repair")
    assert "computed again from the records: 1 rows; 0 faults are left" in told
    assert "no damage found" in told
    assert "recovered 1 executions" in desk("recover", "-j", journal, "-a", SAGAS)
    assert desk("check", "-j", journal, "--repair") == "no damage found\n"


def test_an_execution_that_cannot_be_listed_is_shown_as_damaged(desk, journal):
    """Nobody is told that an execution is unknown whose records are there, without their first."""
    change(journal, "DELETE FROM records WHERE seq = 0 AND execution = 1")

    told = desk("show", "good", "-j", journal, code=JOURNAL)

    assert "execution 'good': records are lost, or numbered wrongly; see fsm-mediator check" in told


def test_conform_of_a_journal_with_unknown_sagas(desk, journal):
    """What the app has no definition of is reported and ends with a code of its own, after all else is checked."""
    told = desk("conform", "-j", journal, "tests.cli_app:refuse", code=APP)

    assert "0 executions checked" in told
    assert "3 executions unchecked ('held', 'bad', 'good'): no saga is named 'checkout'" in told

    change(journal, "UPDATE definitions SET fingerprint = 'f00d'")
    assert "there is only version 1" in desk("conform", "-j", journal, SAGAS, code=APP)


def test_conform_of_an_export(desk, journal, tmp_path):
    """A file that was taken out of a journal elsewhere is checked without that journal."""
    desk("export", "-j", journal, "-o", "export.jsonl")
    assert "3 executions checked" in desk("conform", SAGAS, "--from", "export.jsonl")

    lines = (tmp_path / "export.jsonl").read_text().splitlines()
    told = json.loads(lines[1])
    del told["history"][1]
    (tmp_path / "export.jsonl").write_text("\n".join([lines[0], json.dumps(told)]))

    assert "move 2 (line 2) is illegal" in desk("conform", SAGAS, "--from", "export.jsonl", code=DID_NOT_SUCCEED)


def test_conform_with_mistakes(desk, journal):
    """A wrong id, a missing journal, a missing file and a contradiction are told apart."""
    assert "fsm-mediator list" in desk("conform", "-j", journal, SAGAS, "--id", "nobody", code=NOT_FOUND)
    assert "which journal?" in desk("conform", SAGAS, code=JOURNAL)
    assert "nowhere.jsonl" in desk("conform", SAGAS, "--from", "nowhere.jsonl", code=JOURNAL)
    assert "use one of them" in desk("conform", SAGAS, "--from", "x", "-j", journal, code=USAGE)


def test_conform_of_a_journal_with_a_row_that_cannot_be_read(desk, journal):
    """A damaged row is named with its execution, and keeps none of the others from being checked."""
    change(journal, "UPDATE records SET details = '{' WHERE seq = 1 AND execution = 1")

    told = desk("conform", "-j", journal, SAGAS, code=DID_NOT_SUCCEED)

    assert "3 executions checked" in told
    assert "execution 'good' of saga 'checkout' version 1: move 1 is illegal" in told
    assert "its records cannot be read" in told


def test_compare_refuses_a_deploy_that_strands(desk):
    """CI is told which states are in the way, and ends with 1; with the old version registered as well it ends well."""
    told = desk("compare", SAGAS, "tests.cli_app:newer", code=DID_NOT_SUCCEED)
    assert "STRANDED" in told
    assert "must drain" in told
    assert "the deploy would strand executions" in told

    assert "stays registered" in desk("compare", SAGAS, "tests.cli_app:both")
    assert "the same shape" in desk("compare", SAGAS, SAGAS)
    assert "STRANDED" not in desk("compare", SAGAS, "tests.cli_app:newer", "--saga", "refuse")


def test_compare_with_what_is_deployed_written_down(desk):
    """The old code is not there any more: a file that was written with it is enough, whole or as JSON."""
    desk("export-shape", SAGAS, "-o", "deployed.json")

    desk("compare", "deployed.json", "tests.cli_app:both")
    told = json.loads(desk("compare", "deployed.json", "tests.cli_app:newer", "--json", code=DID_NOT_SUCCEED))

    assert [(each["saga"], each["ok"]) for each in told["sagas"]] == [("checkout", False), ("refuse", True)]
    assert json.loads(desk("export-shape", SAGAS))["sagas"][0]["saga"] == "checkout"
    assert "cannot be read" in desk("compare", "gone.json", SAGAS, code=APP)


def test_compare_with_the_journal_refuses_only_what_is_in_flight(desk, journal):
    """A deploy that could strand executions is let through once none of them is in flight any more."""
    told = desk("compare", SAGAS, "tests.cli_app:newer", "-j", journal, code=DID_NOT_SUCCEED)
    assert "1 of saga 'checkout' version 1 would be stranded: 1 in stuck.reserve" in told

    desk("resolve", "--drive", "held", "--reason", "by hand", "-j", journal, "--app", SAGAS)

    assert "no execution in flight would be stranded" in desk("compare", SAGAS, "tests.cli_app:newer", "-j", journal)


def test_compare_with_other_names(desk):
    """Parts that are called otherwise now are told so; a slip is shown."""
    told = desk("compare", SAGAS, "tests.cli_app:newer", "--rename", "charge=check", code=DID_NOT_SUCCEED)
    assert "renamed" in told
    assert "write it as OLD=NEW" in desk("compare", SAGAS, SAGAS, "--rename", "charge", code=USAGE)
    assert "has a part 'x'" in desk("compare", SAGAS, SAGAS, "--rename", "x=y", code=APP)


def test_export_machine_in_each_language(desk, tmp_path):
    """The machines of an app for other checkers: one on standard output, or all of them into a folder."""
    assert desk("export-machine", SAGAS, "--saga", "refuse", "-f", "scxml").startswith("<?xml")
    assert "MODULE refuse" in desk("export-machine", SAGAS, "--saga", "refuse", "-f", "tla")
    assert json.loads(desk("export-machine", SAGAS, "--saga", "refuse", "-f", "json"))["saga"] == "refuse"

    told = desk("export-machine", SAGAS, "-f", "tla", "-o", "models")

    assert sorted(file.name for file in (tmp_path / "models").iterdir()) == [
        "checkout.cfg",
        "checkout.tla",
        "refuse.cfg",
        "refuse.tla",
    ]
    assert "written: models/checkout.tla" in told


def test_export_machine_with_mistakes(desk):
    """Which saga, and which language, must be said."""
    assert "name one saga with --saga" in desk("export-machine", SAGAS, "-f", "json", code=APP)
    assert "--format" in desk("export-machine", SAGAS, code=USAGE)
    assert "no saga is named 'x'" in desk("export-machine", SAGAS, "--saga", "x", "-f", "json", code=APP)


def test_branches_come_along(desk, tmp_path):
    """An execution is checked with its branches, a saga exported with those of its groups."""
    with Mediator(cli_app.group, journal=str(tmp_path / "sagas.db")) as mediator:
        mediator.run("group", {"amount": 5}, saga_id="g")

    app = "tests.cli_app:group"
    for words in ((), ("--id", "g"), ("--saga", "group")):
        assert "3 executions checked" in desk("conform", "-j", "sagas.db", app, *words)
    assert "1 execution checked" in desk("conform", "-j", "sagas.db", app, "--id", "g/both.charge")
    desk("export-machine", app, "-f", "scxml", "-o", "models")
    assert sorted(file.name for file in (tmp_path / "models").iterdir()) == [
        "group.both.charge.scxml",
        "group.both.reserve.scxml",
        "group.scxml",
    ]
    assert "the branches" not in desk("compare", app, app)


def test_every_command_is_in_the_operators_page():
    """Whoever reads the page about operating finds every command that there is."""
    page = (ROOT / "docs" / "operating.md").read_text(encoding="utf-8")

    assert [name for name in cli.commands if f"`fsm-mediator {name}" not in page] == []
