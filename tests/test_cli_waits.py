"""The operator's desk for sagas that wait: signals are given, branches shown, and what to type next is said."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from fsm_mediator import Mediator, SQLiteJournal
from fsm_mediator.cli import console as codes
from fsm_mediator.cli import driving
from fsm_mediator.cli.commands import cli
from fsm_mediator.cli.console import DID_NOT_SUCCEED, NOT_FOUND, REFUSED, USAGE
from tests import cli_waits_app

APP = ("--app", "tests.cli_waits_app:sagas", "--journal", "sagas.db")
LOOK = ("--journal", "sagas.db")


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
def parked(desk):
    """Leaves executions parked in the journal, one of each sort."""
    with Mediator(*cli_waits_app.sagas, journal="sagas.db", park_after=1.0) as mediator:
        mediator.run("approved", 1, saga_id="a-1", check=False)
        mediator.run("asked", 1, saga_id="g-1", check=False)
        mediator.run("many", 12, saga_id="m-1", check=False)
        mediator.run("refused", 1, saga_id="r-1", check=False)
        mediator.start("napping", 1, saga_id="n-1")
    return desk


def states():
    """Where each execution stands."""
    journal = SQLiteJournal("sagas.db", read_only=True)
    found = {entry.saga_id: entry.state for entry in journal.entries()}
    journal.close()
    return found


def test_signal_drives_on_what_waits_for_it(parked):
    """An approval from another terminal: the saga goes on, here, and the command says how it ended."""
    assert "saga 'a-1' (approved) succeeded" in parked("signal", "a-1", "approval", "7", *APP)
    assert states()["a-1"] == "succeeded"
    parked("signal", "a-1", "approval", "7", *APP)  # the same again is harmless
    assert "first one counts: 7" in parked("signal", "a-1", "approval", "8", *APP, code=REFUSED)


def test_signal_that_leads_to_failure_says_so(parked):
    """The exit code tells a script that what followed the signal went wrong."""
    told = parked("signal", "r-1", "approval", *APP, code=DID_NOT_SUCCEED)
    assert "out of stock" in told


def test_signal_to_a_branch_by_either_name(parked):
    """A signal in a branch is named through the group or by the branch's own id; the whole goes on when all have it."""
    told = parked("signal", "g-1", "g.lead.yes", "true", *APP)
    assert "parked in 'waiting.g'" in told
    assert "next: fsm-mediator show -a tests.cli_waits_app:sagas -j sagas.db g-1" in told
    assert states()["g-1/g.lead"] == "succeeded"
    parked("signal", "g-1/g.also", "also", '"me too"', *APP)
    assert states()["g-1/g.also"] == "succeeded"
    parked("recover", *APP)
    assert states()["g-1"] == "succeeded"


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("a-1", "approvel", "1"), REFUSED, "it has approval"),
        (("a-1", "approval", "yes"), USAGE, "a text needs quotes"),
        (("a-1", "approval", '"yes"'), USAGE, "approval"),
        (("a-1", "approval", "@missing.json"), USAGE, "missing.json"),
        (("nobody", "approval", "1"), NOT_FOUND, "nobody"),
        (("n-1", "nap"), REFUSED, "has no signal 'nap'"),
    ],
)
def test_wrong_signals_leave_it_parked(parked, words, code, says):
    """A signal that does not fit ends with the documented exit code, and the saga is as it was."""
    before = states()
    assert says in parked("signal", *words, *APP, code=code)
    assert states() == before


def test_signal_value_from_input(parked):
    """A long value can come from a file or standard input."""
    assert "succeeded" in parked("signal", "a-1", "approval", "-", *APP, input="7")


def test_signal_of_an_app_with_coroutines_in_its_branches(desk):
    """An app whose only coroutines are inside a group is driven on an event loop."""
    app = ("--app", "tests.cli_waits_app:slow", "--journal", "sagas.db")
    assert "parked in 'waiting.approval'" in desk("run", "approved", "--id", "s-1", *app, code=DID_NOT_SUCCEED)
    assert "succeeded" in desk("signal", "s-1", "approval", *app)


def test_commands_drive_as_the_apps_mediator_does(desk, tmp_path, monkeypatch):
    """What the app's mediator observes, limits and parks holds for whatever the command line drives, too."""
    made = []

    def make(*sagas, **settings):
        made.append(settings)
        return Mediator(*sagas, **settings)

    monkeypatch.setattr(driving, "Mediator", make)
    app = ("--app", "tests.cli_waits_app:mediator", "--journal", "sagas.db")

    desk("run", "approved", "--id", "a-1", *app, code=DID_NOT_SUCCEED)
    desk("signal", "a-1", "approval", "7", *app)

    assert (tmp_path / "observed").read_text().split() == ["start", "executed", "executed"]
    assert [settings["park_after"] for settings in made] == [5.0, 5.0]
    assert all(settings["limits"] is not None for settings in made)


def test_list_shows_branches_below_their_parent(parked):
    """One look at the list: who waits for whom, how far a group is, which branches may not begin yet."""
    listed = parked("list", *LOOK).splitlines()

    whole = next(number for number, line in enumerate(listed) if line.startswith("g-1"))
    assert "waiting.g (1 succeeded, 2 waiting)" in listed[whole]
    assert [line.split()[0] for line in listed[whole + 1 : whole + 4]] == ["g.lead", "g.also", "g.one"]
    assert "waiting.n (10 dormant, 2 waiting)" in "\n".join(listed)
    (more,) = [line for line in listed if "... 4 more" in line]
    assert "fsm-mediator list --parent m-1" in more
    assert "pending (dormant)" in "\n".join(listed)
    assert sum(not line.startswith(" ") and "-1" in line.split()[0] for line in listed) == 5


def test_list_counts_whole_sagas_not_branches(parked):
    """A saga with many branches does not push the others off the list."""
    listed = parked("list", *LOOK, "--limit", "3")
    assert "n-1" in listed
    assert "... and 2 more" in listed
    assert parked("list", *LOOK, "--parent", "m-1").count("m-1/n.") >= 12
    assert "m-1/n.3" in parked("list", *LOOK, "--state", "pending")
    parked("list", *LOOK, "--parent", "nobody", code=NOT_FOUND)


def test_what_to_type_next_can_be_typed(parked):
    """What `show` says to type next is what makes it go on."""
    (said,) = [line for line in parked("show", "a-1", *LOOK).splitlines() if line.startswith("next")]
    assert said.split(maxsplit=1)[1] == "fsm-mediator signal -j sagas.db a-1 approval VALUE"
    parked(*said.split()[2:-1], "7", *APP)

    said = [line.split()[2:] for line in parked("show", "g-1", *LOOK).splitlines() if line.startswith("next")]
    assert said == [
        ["signal", "-j", "sagas.db", f"g-1/g.{name}", signal, "VALUE"]
        for name, signal in (("lead", "yes"), ("also", "also"))
    ]
    for words in said:
        parked(*words[:-1], "true", *APP)
    assert states()["g-1/g.lead"] == states()["g-1/g.also"] == "succeeded"


def test_with_the_app_a_signal_with_a_timeout_is_told_from_a_sleep(parked):
    """Only who knows the sagas knows what a wait with an end is; others say that they do not."""
    with Mediator(*cli_waits_app.sagas, journal="sagas.db") as mediator:
        mediator.run("timed", 1, saga_id="t-1", check=False)
    line = "fsm-mediator signal -j sagas.db t-1/who.boss word VALUE"
    with_app = line.replace("-j", "-a tests.cli_waits_app:sagas -j")
    assert line not in parked("list", *LOOK)
    assert f"{line}  (if it is a signal)" in parked("show", "t-1", *LOOK)
    assert f"next: {with_app}\n" in parked("list", *APP)
    assert f"next     {with_app}\n" in parked("show", "t-1", *APP)
    assert "signal -j sagas.db n-1" in parked("show", "n-1", *LOOK)
    assert "fsm-mediator signal" not in parked("show", "n-1", *APP)


def test_show_tells_of_branches_and_sleeps(parked):
    """A group shows its branches, a branch its parent, and a sleep until when it sleeps."""
    shown = parked("show", "m-1", *LOOK)
    assert "n.0  waiting.ok" in shown
    assert "... 4 more" in shown
    assert "branch   of m-1" in parked("show", "m-1/n.5", *LOOK)
    assert "dormant" in parked("show", "m-1/n.5", *LOOK)
    assert "waiting.nap until 2" in parked("show", "n-1", *LOOK)
    assert "branches" not in parked("show", "m-1", *LOOK)
    parked("cancel", "g-1", *APP)
    parked("recover", *APP)
    assert "branches 3: fsm-mediator list --parent g-1" in parked("show", "g-1", *LOOK)


def test_json_is_valid_for_those_that_wait(parked):
    """A script can read dormant branches too: no infinity that no parser knows."""

    def refuse(constant):
        raise AssertionError(constant)

    lines = [json.loads(line, parse_constant=refuse) for line in parked("list", *LOOK, "--json").splitlines()]
    by_id = {line["saga_id"]: line for line in lines}
    assert by_id["m-1/n.5"]["dormant"]
    assert by_id["m-1/n.5"]["wake_at"] is None
    assert by_id["m-1/n.5"]["parent"] == "m-1"
    assert not by_id["m-1"]["dormant"]
    assert by_id["n-1"]["wake_at"] > by_id["n-1"]["accepted_at"] + 86000
    shown = json.loads(parked("show", "m-1", *LOOK, "--json"), parse_constant=refuse)
    assert shown["history"][-1]["children"] == [str(number) for number in range(12)]
