"""The example `examples.profile_sync`: its classic scenario, its services, its reader, its demo and its check."""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import attrs
import pytest

from examples.profile_sync import classic, saga
from examples.profile_sync import steps as profile
from examples.profile_sync.__main__ import main
from examples.profile_sync.changes import Line, ProfileChange, original, read_changes
from examples.profile_sync.check import QUERIES, _read, check
from examples.profile_sync.classic import AuthStep, BillingStep, MediatorPayload, NotificationStep
from examples.profile_sync.demo import DifferentRunError, clear, demo_faults, synchronise
from examples.profile_sync.faults import Faults, RefusedError, ServiceDownError
from examples.profile_sync.lifecycle import UserLifecycleMediator
from examples.profile_sync.make_changes import CHANGES, MALFORMED, make
from examples.profile_sync.services import BillingService, NotificationService, Services
from examples.profile_sync.services.service import Service
from fsm_mediator import MemoryJournal, SagaFailedError, StepRejectedError

pytestmark = pytest.mark.once

CHANGE = ProfileChange(user_id=1, email="ada@example.com", plan="pro", seats=2, display_name="Ada")


# The classic scenario


def test_classic_scenario_calls_each_service_once_in_order():
    """Each of three services is called once, with plain arguments, in the order of the steps."""
    world = Mock()
    auth, billing, notification = world.auth, world.billing, world.notification

    mediator = UserLifecycleMediator([AuthStep(auth), BillingStep(billing), NotificationStep(notification)])
    outcome = mediator.execute(MediatorPayload(user_id=1, amount=100, message="Welcome to our service!"))

    auth.login.assert_called_once_with(1)
    billing.charge.assert_called_once_with(1, 100, key=f"{outcome.saga_id}:billing:execute")
    notification.send.assert_called_once_with(
        1, "Welcome to our service!", key=f"{outcome.saga_id}:notification:execute"
    )
    assert [name for name, _, _ in world.mock_calls] == ["auth.login", "billing.charge", "notification.send"]
    assert outcome.succeeded
    mediator.close()


def test_classic_scenario_is_undone_newest_first_when_the_last_step_is_refused():
    """If the message cannot be sent, the money is refunded and the session ends."""
    world = Mock()
    world.notification.send.side_effect = StepRejectedError("no such user")

    with UserLifecycleMediator(
        [AuthStep(world.auth), BillingStep(world.billing), NotificationStep(world.notification)]
    ) as mediator:
        with pytest.raises(SagaFailedError) as caught:
            mediator.execute(MediatorPayload(user_id=1, amount=100, message="Welcome!"), saga_id="w-1")
        assert mediator.outcome("w-1").state == "failed"

    world.billing.charge.assert_called_once_with(1, 100, key="w-1:billing:execute")
    world.billing.refund.assert_called_once_with(1, 100, key="w-1:billing:execute")
    world.auth.logout.assert_called_once_with(1)
    assert [name for name, _, _ in world.mock_calls] == [
        *("auth.login", "billing.charge", "notification.send"),
        *("billing.refund", "auth.logout"),
    ]
    assert isinstance(caught.value.__cause__, StepRejectedError)
    assert not caught.value.outcome.succeeded


def test_readme_code_runs():
    """The code in the README of the example runs."""
    readme = CHANGES.with_name("README.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)  # noqa: S102 (our own README)
    names["auth"].login.assert_called_once_with(1)
    names["mediator"].close()


# The steps


def test_profile_steps_translate_changes_into_plain_calls():
    """Each service gets its own part of the profile, and the key of the request."""
    world = Mock()
    services = Services(world.auth, world.billing, world.notification, world.ui_cache)

    with UserLifecycleMediator(profile.profile_steps(services), payload=ProfileChange) as mediator:
        outcome = mediator.execute(CHANGE, saga_id="s")

    world.auth.change_email.assert_called_once_with(1, "ada@example.com", key="s:auth:execute")
    world.billing.subscribe.assert_called_once_with(1, "pro", 1800, key="s:billing:execute")
    world.notification.send.assert_called_once_with(
        1, "Hello Ada, you are on plan pro with 2 seat(s).", key="s:notification:execute"
    )
    world.ui_cache.refresh.assert_called_once_with(1, "Ada", "pro", key="s:ui_cache:execute")
    assert len(world.mock_calls) == 4
    assert outcome.results["billing"] == 1800


def test_refusal_of_a_service_is_not_tried_again_and_undoes_the_rest():
    """A declined card is not retried, and the steps before it are undone."""
    world = Mock()
    world.billing.subscribe.side_effect = RefusedError("the card was declined")
    services = Services(world.auth, world.billing, world.notification, world.ui_cache)

    with UserLifecycleMediator(profile.profile_steps(services), payload=ProfileChange) as mediator:
        outcome = mediator.execute(CHANGE, saga_id="s", check=False)

    assert outcome.state == "failed"
    world.billing.subscribe.assert_called_once()
    world.billing.refund.assert_not_called()
    world.auth.restore_email.assert_called_once_with(1, key="s:auth:execute")


def test_saga_at_module_level_opens_nothing(tmp_path):
    """Importing the example, for example for a diagram, creates no file."""
    assert saga.name == "user_lifecycle"
    code = "from examples.profile_sync import saga; print(saga.name)"
    root = str(CHANGES.parents[2])
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env={"PYTHONPATH": root}, capture_output=True, text=True, check=True
    )
    assert done.stdout == "user_lifecycle\n"
    assert list(tmp_path.iterdir()) == []


# The services


@attrs.frozen
class Participant:
    """One of the four services, with its change of user 1 and the undo of that change."""

    service: Service
    name: str
    do: str
    undo: str
    arguments: tuple[object, ...]

    def change(self, key: str) -> None:
        getattr(self.service, self.do)(1, *self.arguments, key=key)

    def reverse(self, key: str) -> None:
        getattr(self.service, self.undo)(1, key=key)

    def row(self):
        """The row of user 1, read from the database."""
        return _read(self.service.path.parent, self.name).get(1)


PARTICIPANTS = {
    "auth": ("change_email", "restore_email", ("ada@example.com",)),
    "billing": ("subscribe", "refund", ("pro", 1800)),
    "notification": ("send", "withdraw", ("Hello",)),
    "ui_cache": ("refresh", "restore", ("Ada", "pro")),
}


@pytest.fixture
def make_participant(tmp_path):
    """Creates the participant with a name, on a network with faults, with one user."""
    made: list[Services] = []

    def make_one(name: str, faults: Faults | None = None) -> Participant:
        services = Services.at(tmp_path, faults)
        services.enroll([original(1)])
        made.append(services)
        return Participant(getattr(services, name), name, *PARTICIPANTS[name])

    yield make_one
    for services in made:
        services.close()


@pytest.fixture(params=PARTICIPANTS)
def participant(request, make_participant):
    """Each of the four services, reliable."""
    return make_participant(request.param)


def test_change_asked_for_twice_happens_once(participant):
    """A repeated request with the same key has no second effect: one charge, one message."""
    before = participant.row()
    participant.change("k")
    once = participant.row()
    participant.change("k")
    assert participant.row() == once != before


def test_undone_change_leaves_what_was_before(participant):
    """After an undo, and after a repeated one, the table is as before."""
    before = participant.row()
    participant.change("k")
    participant.reverse("k")
    participant.reverse("k")
    assert participant.row() == before


def test_undoing_what_never_arrived_is_harmless_and_refuses_it_when_it_comes_late(participant):
    """A request that arrives after its undo is refused."""
    before = participant.row()
    participant.reverse("k")
    with pytest.raises(RefusedError, match="'k' was undone before it arrived"):
        participant.change("k")
    assert participant.row() == before


def test_change_that_was_undone_is_refused_when_it_is_repeated_late(participant):
    """A second copy of an undone request does not repeat the change."""
    before = participant.row()
    participant.change("k")
    participant.reverse("k")
    with pytest.raises(RefusedError):
        participant.change("k")
    assert participant.row() == before


def test_keys_are_remembered_by_the_file_not_by_the_process(make_participant):
    """A restarted service remembers its keys."""
    make_participant("billing").change("k")
    later = make_participant("billing")
    later.change("k")
    assert later.row() == ("pro", 1800, 1)


@pytest.mark.parametrize("name", PARTICIPANTS)
def test_request_that_is_down_has_no_effect_and_lost_answer_has(make_participant, name):
    """An error before the effect says that the service is down; after it, that the answer was lost."""
    down = make_participant(name, Faults(down=1.0))
    before = down.row()
    with pytest.raises(ServiceDownError):
        down.change("k")
    assert down.row() == before

    lost = make_participant(name, Faults(lost=1.0))
    with pytest.raises(ConnectionError):
        lost.change("k")
    assert lost.row() != before


@pytest.mark.parametrize("name", PARTICIPANTS)
def test_late_request_takes_effect_only_later(make_participant, name):
    """A request that seems lost can arrive later and have its effect."""
    faults = Faults(late=1.0)
    participant = make_participant(name, faults)
    before = participant.row()
    with pytest.raises(ConnectionError):
        participant.change("k")
    assert participant.row() == before
    assert faults.deliver_late() == {"answered": 1}
    assert participant.row() != before


@pytest.mark.parametrize("name", ["auth", "billing", "notification"])
def test_refused_request_has_no_effect(make_participant, name):
    """A refused request has no effect, and its key is not stored as done."""
    participant = make_participant(name, Faults(refused=1.0))
    before = participant.row()
    for _ in range(2):
        with pytest.raises(RefusedError):
            participant.change("k")
    assert participant.row() == before


def test_taken_address_and_unknown_user_are_refused(tmp_path):
    """A service refuses with a message of its own, not with the error of its database."""
    services = Services.at(tmp_path)
    services.enroll([original(1), original(2)])
    with pytest.raises(RefusedError, match=r"the address user2@old\.example is taken"):
        services.auth.change_email(1, "user2@old.example", key="k")
    with pytest.raises(RefusedError, match="billing has no user 3"):
        services.billing.subscribe(3, "pro", 900, key="l")
    services.close()


def test_failed_effect_is_rolled_back(make_participant):
    """If the charge cannot be booked, the plan is not changed either, so an exception means no effect."""
    billing = make_participant("billing")
    with closing(sqlite3.connect(billing.service.path)) as db:
        db.execute("ALTER TABLE book RENAME TO elsewhere")
    with pytest.raises(sqlite3.OperationalError):
        billing.change("k")
    with closing(sqlite3.connect(billing.service.path)) as db:
        db.execute("ALTER TABLE elsewhere RENAME TO book")
    assert billing.row() == ("free", 0, 0)
    billing.change("k")
    assert billing.row() == ("pro", 1800, 1)


def test_faults_depend_on_seed_user_and_attempt_not_on_thread_order():
    """The same seed gives every user the same faults, in any order of threads."""

    def faults_of(users: list[int], workers: int) -> dict[int, list[str]]:
        faults = demo_faults(3)

        def call(user: int) -> str:
            try:
                faults.deliver("billing", "subscribe", user, lambda: None)
            except (ServiceDownError, ConnectionError) as error:
                return str(error)
            return "none"

        with ThreadPoolExecutor(workers) as pool:
            return dict(zip(users, pool.map(lambda user: [call(user) for _ in range(4)], users), strict=True))

    users = list(range(200))
    assert faults_of(users, 1) == faults_of(users[::-1], 8)
    assert len({str(each) for each in faults_of(users, 1).values()}) > 5


# The reader


def test_malformed_lines_are_reported_and_the_others_processed(tmp_path):
    """A malformed line does not affect the other lines."""
    good = json.dumps(attrs.asdict(CHANGE))
    path = tmp_path / "changes.jsonl"
    path.write_bytes(
        b"\n".join(
            [
                good.encode(),
                b"",
                b'{"user_id": 3',
                good.replace('"user_id": 1', '"user_id": -4').encode(),
                good.replace("ada@", "ada at ").encode(),
                good.replace('"seats": 2, ', "").encode(),
                good.replace('"seats": 2', '"seats": "2"').encode(),
                good.replace('"seats": 2', '"seats": -2').encode(),
                good.replace('"pro"', '"gold"').encode(),
                good.replace('"Ada"', '"  "').encode(),
                good.encode().replace(b"Ada", b"\xff"),
                b"[1, 2]",
                good.encode(),
                good.replace('"user_id": 1', '"user_id": 14').encode(),
            ]
        )
    )

    lines, malformed = read_changes(path)

    assert [(line.number, line.saga_id, line.change.user_id) for line in lines] == [
        (1, "sync-1", 1),
        (14, "sync-14", 14),
    ]
    assert lines[0].change == CHANGE
    assert [(each.number, each.reason) for each in malformed] == [
        (2, "blank line"),
        (3, "Input data was truncated"),
        (4, "'user_id' must be >= 1: -4"),
        (5, "'email' is not an e-mail address: 'ada at example.com'"),
        (6, "Object missing required field `seats`"),
        (7, "Expected `int`, got `str` - at `$.seats`"),
        (8, "'seats' must be >= 1: -2"),
        (9, "Invalid enum value 'gold' - at `$.plan`"),
        (10, "'display_name' is blank"),
        (11, "not UTF-8"),
        (12, "Expected `object`, got `array`"),
        (13, "user 1 has a change already, on line 1"),
    ]
    assert malformed[1].text == '{"user_id": 3'


def test_changes_file_is_what_the_script_makes():
    """The file in the repository can be regenerated, and has exactly the intended malformed lines."""
    assert CHANGES.read_bytes() == make()
    lines, malformed = read_changes(CHANGES)
    assert len(lines) == 289
    assert [each.number for each in malformed] == sorted(MALFORMED)


# The demo


@pytest.fixture
def source(tmp_path):
    """The first sixty lines of the changes; 14 and 41 are malformed."""
    path = tmp_path / "some.jsonl"
    path.write_bytes(b"".join(CHANGES.read_bytes().splitlines(keepends=True)[:60]))
    return path


@pytest.mark.parametrize("seed", range(5))
def test_demo_changes_every_user_everywhere_or_nowhere(tmp_path, source, seed):
    """With every kind of fault, a succeeded saga changed every service, a failed saga none; both happen."""
    result = synchronise(source, tmp_path / "state", demo_faults(seed))

    states = [outcome.state for _, outcome in result.outcomes]
    assert result.mismatches == []
    assert set(states) == {"succeeded", "failed"}
    assert len(states) == 58
    assert [each.number for each in result.malformed] == [14, 41]


def test_demo_without_faults_succeeds_for_everybody_with_one_attempt_a_step(tmp_path, source):
    """Without faults nothing is retried or compensated."""
    result = synchronise(source, tmp_path / "state", Faults())
    assert all(outcome.succeeded and len(outcome.history) == 5 for _, outcome in result.outcomes)
    assert result.mismatches == []


def test_demo_outcomes_do_not_depend_on_how_many_sagas_run_at_once(tmp_path, source):
    """With one worker or eight, the same seed gives every user the same outcome."""

    def ends(workers: int) -> list[tuple[str, str, list[str]]]:
        result = synchronise(source, tmp_path / str(workers), demo_faults(1), workers=workers)
        return [(o.saga_id, o.state, [record.event for record in o.history]) for _, o in result.outcomes]

    assert ends(1) == ends(8)


def test_demo_begun_again_in_the_same_folder_keeps_every_promise(tmp_path, source):
    """A second run without a journal charges nobody twice: the services remember the first."""
    first = synchronise(source, tmp_path / "state", demo_faults(2))
    again = synchronise(source, tmp_path / "state", demo_faults(2))
    assert again.mismatches == []
    assert [o.state for _, o in again.outcomes] == [o.state for _, o in first.outcomes]


def test_demo_begun_again_with_its_journal_repeats_nothing(tmp_path, source):
    """A second run with the journal sends no request, and has the same histories."""
    journal = MemoryJournal(encode=True)
    first = synchronise(source, tmp_path / "state", demo_faults(2), journal=journal)
    again = synchronise(source, tmp_path / "state", Faults(seed=2, down=1.0), journal=journal)
    assert again.mismatches == first.mismatches == []
    assert [o.history for _, o in again.outcomes] == [o.history for _, o in first.outcomes]


def test_demo_that_dies_in_the_middle_is_taken_up_where_it_was(tmp_path, source, monkeypatch):
    """After Ctrl-C during a charge, the next run with the journal completes every saga."""
    journal = MemoryJournal(encode=True)
    subscribe = BillingService.subscribe

    def dies(self: BillingService, user_id: int, plan: str, cents: int, *, key: str) -> None:
        subscribe(self, user_id, plan, cents, key=key)
        if user_id == 30:
            raise KeyboardInterrupt

    monkeypatch.setattr(BillingService, "subscribe", dies)
    with pytest.raises(KeyboardInterrupt):
        synchronise(source, tmp_path / "state", Faults(), journal=journal)
    monkeypatch.undo()
    result = synchronise(source, tmp_path / "state", Faults(), journal=journal)
    assert result.mismatches == []
    assert all(outcome.succeeded for _, outcome in result.outcomes)


@pytest.mark.torture
@pytest.mark.parametrize("seconds", [0.2, 0.5, 1.0])
def test_demo_that_is_killed_and_begun_again_keeps_every_promise(tmp_path, seconds):
    """After kill -9 the same command completes every saga: no user is half changed."""
    command = [sys.executable, "-m", "examples.profile_sync", "--dir", str(tmp_path / "state"), "--latency", "0.02"]
    with subprocess.Popen(command, cwd=CHANGES.parents[2], stdout=subprocess.DEVNULL) as demo:
        book = tmp_path / "state" / "ui_cache.db"
        while not book.exists():
            time.sleep(0.01)
        time.sleep(seconds)
        assert demo.poll() is None
        demo.kill()
    again = subprocess.run(command, cwd=CHANGES.parents[2], capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stdout + again.stderr


def test_demo_refuses_a_folder_of_another_run(tmp_path, source):
    """A folder that was used with another seed or file is refused."""
    synchronise(source, tmp_path / "state", demo_faults(1))
    with pytest.raises(DifferentRunError, match="--fresh"):
        synchronise(source, tmp_path / "state", demo_faults(2))
    clear(tmp_path / "state")
    assert synchronise(source, tmp_path / "state", demo_faults(2)).mismatches == []


def test_fresh_removes_only_what_the_demo_keeps(tmp_path, source):
    """Clearing a folder keeps unrelated files."""
    (tmp_path / "mine.txt").write_text("mine")
    synchronise(source, tmp_path, Faults())
    clear(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"mine.txt", "some.jsonl"}


def test_command_line_prints_sanely_and_exits_with_zero(tmp_path, source, capsys):
    """Output to a pipe has tables and no control characters."""
    assert main([str(source), "--dir", str(tmp_path / "state"), "--latency", "0"]) == 0
    printed = capsys.readouterr().out
    assert "users changed in every service" in printed
    assert "Malformed lines" in printed
    assert "failed and was compensated" in printed
    assert "\x1b" not in printed


def test_command_line_exits_with_one_and_names_the_mismatch_when_a_service_does_not_undo(
    tmp_path, source, capsys, monkeypatch
):
    """A billing service that does not refund is found by the check of its table."""
    monkeypatch.setattr(BillingService, "refund", lambda self, user_id, *, key: None)
    assert main([str(source), "--dir", str(tmp_path / "state"), "--latency", "0"]) == 1
    assert "billing should hold" in capsys.readouterr().out


def test_command_line_exits_with_two_when_it_cannot_begin(tmp_path, source, capsys):
    """A missing file, or a folder of another run, exits with 2."""
    state = ["--dir", str(tmp_path / "state"), "--latency", "0"]
    assert main([str(tmp_path / "nowhere.jsonl"), *state]) == 2
    assert main([str(source), *state]) == 0
    assert main([str(source), *state, "--seed", "99"]) == 2
    assert "--fresh" in capsys.readouterr().out


# The check


@pytest.fixture
def checked(tmp_path, source):
    """A successful run: its folder, its lines and the state of each saga."""
    result = synchronise(source, tmp_path / "state", demo_faults(1))
    assert result.mismatches == []
    lines = [line for line, _ in result.outcomes]
    return tmp_path / "state", lines, {outcome.saga_id: outcome.state for _, outcome in result.outcomes}


def _one(lines: list[Line], states: dict[str, str], state: str) -> Line:
    return next(line for line in lines if states[line.saga_id] == state and line.change.plan != "free")


@pytest.mark.parametrize("state", ["succeeded", "failed"])
@pytest.mark.parametrize(
    ("participant", "statement"),
    [
        ("auth", "UPDATE accounts SET email = 'x@example.com' WHERE user_id = ?"),
        ("auth", "DELETE FROM accounts WHERE user_id = ?"),
        ("billing", "UPDATE subscriptions SET plan = 'planted' WHERE user_id = ?"),
        ("billing", "INSERT INTO book (user_id, entry, cents) VALUES (?, 'charge', 0)"),
        ("billing", "INSERT INTO book (user_id, entry, cents) VALUES (?, 'refund', 900)"),
        ("notification", "INSERT INTO inbox (user_id, message) VALUES (?, 'planted')"),
        ("ui_cache", "UPDATE pages SET display_name = 'planted' WHERE user_id = ?"),
        ("ui_cache", "UPDATE pages SET badge = 'planted' WHERE user_id = ?"),
    ],
)
def test_check_finds_a_planted_mismatch(checked, state, participant, statement):
    """One changed row is found, and no other."""
    folder, lines, states = checked
    line = _one(lines, states, state)
    with closing(sqlite3.connect(folder / f"{participant}.db")) as db, db:
        db.execute(statement, (line.change.user_id,))

    (mismatch,) = check(folder, lines, states)

    assert (mismatch.saga_id, mismatch.participant) == (line.saga_id, participant)
    assert f"{line.saga_id}: {participant} should hold" in str(mismatch)


@pytest.mark.parametrize("state", ["succeeded", "failed"])
def test_check_finds_an_outcome_that_is_not_so(checked, state):
    """Wrong outcomes contradict all four tables."""
    folder, lines, states = checked
    line = _one(lines, states, state)
    states[line.saga_id] = {"succeeded": "failed", "failed": "succeeded"}[state]
    found = check(folder, lines, states)
    assert [(each.saga_id, each.participant) for each in found] == [(line.saga_id, name) for name in QUERIES]


def test_check_finds_a_saga_that_has_not_ended(checked):
    """A saga that is stuck or never started is a mismatch."""
    folder, lines, states = checked
    states[lines[0].saga_id] = "stuck.billing"
    del states[lines[1].saga_id]
    assert [str(each) for each in check(folder, lines, states)] == [
        "sync-1: mediator should hold 'succeeded or failed', but holds 'stuck.billing'",
        "sync-2: mediator should hold 'succeeded or failed', but holds None",
    ]


def test_check_finds_a_user_whom_no_line_is_about(checked):
    """A malformed line that had an effect is a mismatch."""
    folder, lines, states = checked
    services = Services.at(folder)
    services.notification.send(14, "Hello", key="stray")
    services.close()
    (mismatch,) = check(folder, lines, states)
    assert (mismatch.participant, mismatch.found) == ("notification", (14, "Hello"))


def test_check_of_an_empty_folder_finds_everything_missing(tmp_path):
    """Missing tables are a mismatch."""
    found = check(tmp_path, [Line(1, CHANGE)], {"sync-1": "succeeded"})
    assert [each.participant for each in found] == list(QUERIES)


def test_steps_bear_the_names_that_the_report_shows():
    """Step names come from the class names."""
    services = Services.at(Path("unused"))
    assert [step.name for step in profile.profile_steps(services)] == list(QUERIES)
    assert [cls.name for cls in (classic.AuthStep, classic.BillingStep, classic.NotificationStep)] == [
        *("auth", "billing", "notification"),
    ]
    assert isinstance(services.notification, NotificationService)
