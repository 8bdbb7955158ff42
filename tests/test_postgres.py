"""The journal on PostgreSQL: what it promises beyond `Journal`, and one test of each kind of work on it."""

from __future__ import annotations

import signal
import subprocess
import sys
import traceback
from contextlib import closing
from typing import Any

import msgspec
import psycopg
import pytest
from click.testing import CliRunner

from fsm_mediator import DefinitionError, JournalError, Mediator, Parallel, Saga, Signal
from fsm_mediator.cli.commands import cli
from fsm_mediator.errors import MissingExtraError
from fsm_mediator.journal.factory import open_journal, without_password
from fsm_mediator.journal.postgres import PostgresJournal, sql
from fsm_mediator.journal.postgres.connections import Session
from fsm_mediator.journal.postgres.schema import STEPS, qualified
from fsm_mediator.journal.protocol import Driver, IdTakenError
from fsm_mediator.records import InboxItem
from tests.commits import DRIVER, OTHER, ROOT, ending, found, going_on, opening, seen
from tests.drivers import World, eventually, in_thread
from tests.postgres_server import Server, connections_of, liveness_of, server, until_unlocked
from tests.test_verbs import dead_driver

ELSEWHERE = Driver("far", host="other", boot_id="another boot", pid=1, started="1")
SECRET = "s3cr3t:t@p/x?y#z%"  # noqa: S105 - of a server that lives as long as the tests
QUOTED = "s3cr3t%3At%40p%2Fx%3Fy%23z%25"


@pytest.fixture
def journal():
    """A journal in tables of its own."""
    with closing(server().journal()) as made:
        made.enlist(DRIVER)
        yield made


def again(journal: PostgresJournal, **settings: Any) -> PostgresJournal:
    """Another journal on the same tables, as another process has it."""
    return server().journal(connections_of(journal).schema, **settings)


def change_driver(journal: PostgresJournal, driver_id: str, change: str) -> None:
    """Change a driver's row by hand."""
    schema = connections_of(journal).schema
    server().execute(f"UPDATE {schema}.drivers SET {change} WHERE id = '{driver_id}'")  # noqa: S608


# Work of each kind, with both mediators


def test_a_saga_that_fails_is_compensated_and_listed(drive, journal):
    """Steps run, are retried and undone, and any process sees what came of it."""
    world = World()
    saga = Saga("shop", [world.step("charge"), world.step("ship", ValueError("no"))])
    drive(saga, journal=journal).start("shop", {"order": "1"}, saga_id="o-1")
    eventually(lambda: found(journal, "o-1").state == "failed" and found(journal, "o-1").driver is None)
    assert world.calls[:4] == ["charge", "ship", "ship", "ship"]
    assert world.calls[-1] == "undo charge"
    with closing(again(journal, read_only=True)) as other:
        assert [entry.saga_id for entry in other.entries(phase="failed")] == ["o-1"]
        assert other.records("o-1") == journal.records("o-1")


def test_branches_and_a_signal_from_another_process(drive, journal):
    """A group's branches are executions of their own, and a signal reaches the execution wherever it is driven."""
    world = World()
    group = Parallel("all", [world.step("a"), world.step("b")])
    saga = Saga("shop", [group, Signal("approval"), world.step("ship")])
    mediator = drive(saga, journal=journal)
    mediator.start("shop", None, saga_id="o-1")
    eventually(lambda: found(journal, "o-1").state == "waiting.approval")
    with closing(again(journal)) as other:
        assert other.post("o-1", InboxItem("signal", "approval", True, at=1.0))
    mediator.recover()
    eventually(lambda: found(journal, "o-1").state == "succeeded")
    assert sorted(world.calls) == ["a", "b", "ship"]


def test_what_a_dead_driver_owned_is_recovered_and_fenced(journal):
    """Another driver claims it and counts the crash; a driver that was only taken to be dead writes nothing more."""
    world = World()
    saga = Saga("shop", [world.step("charge", world.gate(), "paid")])
    with closing(Mediator(saga, journal=journal, close_grace=0.0)) as mediator:
        mediator.start("shop", None, saga_id="o-1")
        world.begun()
        owner = found(journal, "o-1").driver
        assert owner is not None
        change_driver(journal, owner.id, "pid = 1, started = '0'")
        with closing(again(journal)) as other, closing(Mediator(saga, journal=other)) as second:
            second.recover()
            eventually(lambda: found(other, "o-1").state == "succeeded")
        world.go()
    assert world.calls == ["charge", "charge"]
    assert [record.event for record in journal.records("o-1")] == ["start", "errored", "retry_due", "executed"]


# Commits


def test_opening_and_going_on_are_one_statement_each(journal, monkeypatch):
    """One round trip and one commit: a statement outside of any transaction."""
    executed = []
    execute = Session.execute

    def noted(self: Session, statement: str, parameters: Any = ()) -> Any:
        executed.append((self.connection.info.transaction_status.name, statement.split(maxsplit=1)[0]))
        return execute(self, statement, parameters)

    monkeypatch.setattr(Session, "execute", noted)
    assert journal.write(opening("o-1", "executing.a")) == ()
    assert journal.write(going_on("o-1", 2)) == ()
    assert journal.write_all([ending("o-1", 3)]) == [()]  # as a mediator on asyncio writes a single one
    assert executed == [("IDLE", "WITH")] * 3


def test_a_commit_whose_answer_was_lost_is_not_refused_the_second_time(journal):
    """A driver that does not know whether its commit was made tries the very same again."""
    for commit in (opening("o-1", "executing.a"), going_on("o-1", 2), ending("o-1", 3)):
        journal.write(commit)
        assert journal.write(commit) == ()
        assert journal.write_all([commit]) == [()]
    assert seen(journal, "o-1") == [(1, "executing.a"), (2, "executing.b"), (3, "succeeded")]
    with pytest.raises(IdTakenError):
        journal.write(opening("o-1", "executing.c"))


def test_two_that_open_the_same_ids_at_the_same_time(journal):
    """Of two transactions that open one id each finds the other's, and one is refused."""
    journal.enlist(OTHER)
    with closing(again(journal)) as other:
        commits = [[opening(f"o-{n}", "executing.a", driver=each) for n in range(50)] for each in ("d-1", "d-2")]
        asked = [in_thread(each.write_all, its) for each, its in zip((journal, other), commits, strict=True)]
        results = [call() for call in asked]
    for one, two in zip(*results, strict=True):
        assert sorted(map(str, map(type, (one, two)))) == sorted(map(str, (tuple, IdTakenError)))


def test_a_client_that_is_stopped_in_a_transaction_keeps_nobody_waiting_for_longer_than_its_lease(journal):
    """The server ends the transaction, and others get at the rows; the client is told, and can try again."""
    journal.write(opening("o-1", "executing.a"))
    with closing(again(journal, lease=1.0)) as stopped:

        def lock_and_stop() -> None:
            with connections_of(stopped).session("written") as session, session.connection.transaction():
                session.execute(sql.LOCK, (["o-1"],))
                assert journal.post("o-1", InboxItem("signal", "x", at=1.0))  # it waits for the row
                session.execute(sql.LOCK, (["o-1"],))

        with pytest.raises(JournalError, match="longer than the lease"):
            lock_and_stop()
        assert [item.name for item in stopped.inbox("o-1")] == ["x"]


def test_transactions_see_what_they_have_waited_for(journal, monkeypatch):
    """Whatever the database's default is: a decision after a lock is made on what was committed before it."""
    monkeypatch.setenv("PGOPTIONS", "-c default_transaction_isolation=serializable")
    with (
        closing(again(journal)) as other,
        connections_of(other).session("written") as session,
        session.connection.transaction(),
    ):
        assert session.execute("SHOW transaction_isolation").fetchone() == ("read committed",)


def test_a_reason_with_a_nul_is_kept(journal):
    """PostgreSQL's text has no NUL; a reason that holds one is kept with its escape."""
    journal.write(opening("o-1", "executing.a"))
    assert journal.post("o-1", InboxItem("cancel", reason="a\0b", at=1.0))
    assert journal.inbox("o-1")[0].reason == "a\\x00b"


# Presence


def look(journal: PostgresJournal, seconds: float) -> list[str]:
    """What a driver would claim, at this second of the looking process's own count."""
    liveness_of(journal).monotonic = lambda: seconds
    return journal.claimable(0.0, 10)


def test_a_driver_elsewhere_is_gone_at_the_second_look(journal):
    """Its lock is gone with its connection; one look proves nothing, a second one two heartbeats later does."""
    with closing(again(journal)) as far:
        far.enlist(ELSEWHERE)
        far.write(opening("o-1", "executing.a", driver="far"))
        assert (look(journal, 0.0), look(journal, 9.0)) == ([], [])
        assert found(journal, "o-1").driver_alive
    until_unlocked(journal, "far")
    assert look(journal, 10.0) == []
    assert look(journal, 11.9) == []
    assert journal.claim("o-1", "d-1") is None
    assert look(journal, 12.0) == ["o-1"]
    claimed = journal.claim("o-1", "d-1")
    assert claimed is not None
    assert claimed.abandoned


def test_a_driver_elsewhere_without_heartbeat_is_gone_although_connected(journal):
    """Its lease decides as well: a process that is stopped keeps its connection."""
    with closing(again(journal)) as far:
        far.enlist(ELSEWHERE)
        far.write(opening("o-1", "executing.a", driver="far"))
        change_driver(journal, "far", "beat_at = beat_at - 31")
        assert (look(journal, 0.0), look(journal, 2.0)) == ([], ["o-1"])


def test_of_many_claims_at_the_same_moment_one_counts(journal, monkeypatch):
    """What another driver claims, after the look at the owners, is left out; so is all if the claimant is dismissed."""
    journal.enlist(OTHER)
    gone = dead_driver()
    journal.enlist(gone)
    journal.write_all([opening(name, "executing.a", driver=gone.id) for name in ("x", "y", "z")])
    between = [lambda: journal.claim("x", "d-2"), lambda: journal.dismiss("d-1")]

    def is_gone(row: Any) -> bool:
        monkeypatch.undo()
        between.pop(0)()
        return True

    monkeypatch.setattr(liveness_of(journal), "is_gone", is_gone)
    assert sorted(journal.claim_all(["x", "y"], "d-1")) == ["y"]
    assert (found(journal, "x").driver, found(journal, "x").epoch) == (OTHER, 2)

    monkeypatch.setattr(liveness_of(journal), "is_gone", is_gone)
    assert journal.claim_all(["y", "z"], "d-1") == {}
    assert (found(journal, "y").driver, found(journal, "y").epoch) == (None, 2)
    assert (found(journal, "z").driver, found(journal, "z").epoch) == (gone, 1)


def test_a_looker_that_was_cut_off_begins_anew(journal):
    """After an outage all seem gone; so the looks from before it do not count."""
    with closing(again(journal)) as far:
        far.enlist(ELSEWHERE)
        far.write(opening("o-1", "executing.a", driver="far"))
    until_unlocked(journal, "far")
    assert look(journal, 0.0) == []
    with pytest.raises(JournalError), connections_of(journal).session("read"):
        raise psycopg.OperationalError("the connection was cut")
    assert (look(journal, 2.0), look(journal, 4.0)) == ([], ["o-1"])


@pytest.mark.postgres
def test_a_restart_of_the_server_declares_nobody_dead():
    """No lock outlives the server. The living hold theirs again before a second look."""
    own = Server()
    try:
        with closing(own.journal("s")) as far, closing(own.journal("s")) as journal:
            far.enlist(ELSEWHERE)
            far.write(opening("o-1", "executing.a", driver="far"))
            assert look(journal, 0.0) == []
            own.stop(signal.SIGQUIT)
            own.start()
            assert look(journal, 100.0) == []  # absent, for the first time under this server
            far.beat("far")
            assert look(journal, 102.0) == []
            far.close()
            until_unlocked(journal, "far")
            assert (look(journal, 200.0), look(journal, 202.0)) == ([], ["o-1"])
    finally:
        own.remove()


def test_behind_a_pooler_the_lease_alone_decides(journal):
    """A session there belongs to nobody: no lock is taken, and nothing is prepared in it."""
    with closing(again(journal, pooled=True)) as far:
        far.enlist(ELSEWHERE)
        far.write(opening("o-1", "executing.a", driver="far"))
        with connections_of(far).session("read") as session:
            assert session.connection.prepare_threshold is None
    assert (look(journal, 0.0), look(journal, 99.0)) == ([], [])
    change_driver(journal, "far", "beat_at = beat_at - 31")
    assert (look(journal, 100.0), look(journal, 102.0)) == ([], ["o-1"])


def test_a_pooler_is_recognised_by_its_own_numbers(journal, monkeypatch):
    """A pooler tells its clients another process number than the server has."""
    assert not connections_of(journal).is_pooled()
    monkeypatch.setattr(psycopg.ConnectionInfo, "backend_pid", property(lambda self: -1))
    with closing(again(journal)) as other:
        assert connections_of(other).is_pooled()


# Where it is, and its password


def test_the_url_is_all_that_changes(drive):
    """``journal="postgresql://..."`` is a journal in that database; the schema is part of the URL."""
    world = World()
    mediator = drive(Saga("s", [world.step("a")]), journal=f"{server().url()}&schema=by_url")
    assert isinstance(mediator.journal, PostgresJournal)
    mediator.run("s", None, saga_id="o-1")
    with closing(server().journal("by_url")) as journal:
        assert found(journal, "o-1").state == "succeeded"
        assert journal.patience is None


def test_no_message_shows_the_password(caplog, monkeypatch):
    """Neither the journal nor its errors, causes included, show a password, in whatever form it was given."""
    place = f"127.0.0.1:{server().port}"
    server().execute(f"DROP ROLE IF EXISTS app; CREATE ROLE app LOGIN SUPERUSER PASSWORD '{SECRET}'")
    told = []
    with closing(PostgresJournal(f"postgresql://app:{QUOTED}@{place}/postgres?schema=hidden")) as journal:
        told += [repr(journal), repr(Mediator(Saga("s", [World().step("a")]), journal=journal))]
        with pytest.raises(JournalError) as refused:
            PostgresJournal(f"postgresql://app:{QUOTED}@{place}/postgres?schema=none", migrate=False)
        told.append("".join(traceback.format_exception(refused.value)))
    for url in (
        f"postgresql://app:{QUOTED}x@{place}/postgres",
        f"postgresql://app:{QUOTED}@{place}/nowhere",
        f"postgresql://app:{QUOTED}@127.0.0.1:1/postgres",
        f"postgresql://app@{place}/postgres?password={QUOTED}x",
        f"postgresql://app:{SECRET}@{place}/postgres",
        f"postgresql://app:s3cr3t@t@{place}/postgres",
        f"postgresql://app:s3cr3t/x@{place}/postgres",
        f"postgresql://app:12/s3cr3t@{place}/postgres",
        f"postgresql://app:12?s3cr3t@{place}/postgres",
        f"mysql://app:s3cr3t@{place}/postgres",
        f"postgresql+psycopg://app:s3cr3t@{place}/postgres",
    ):
        with pytest.raises((JournalError, DefinitionError)) as caught:
            open_journal(url)
        told += ["".join(traceback.format_exception(caught.value)), without_password(url)]
        for arguments in (["list", "-j", url], ["list", "-j", "env:JOURNAL_URL"], ["migrate", "-j", url]):
            monkeypatch.setenv("JOURNAL_URL", url)
            ran = CliRunner().invoke(cli, arguments)
            assert ran.exit_code != 0
            told.append(ran.output)
    text = "\n".join([*told, caplog.text])
    for line in text.splitlines():
        if "s3cr3t" in line or "t%40p" in line:
            assert line.strip().startswith(("url", 'f"', "open_journal", "PostgresJournal(f")), line


def test_without_psycopg_the_error_names_the_extra():
    """The package itself does not need psycopg."""
    program = (
        "import sys; sys.modules['psycopg'] = None\n"
        "from fsm_mediator import Mediator, MissingExtraError, Saga, step\n"
        "try:\n    Mediator(Saga('s', [step(name='a')(lambda payload: None)]), journal='postgresql:///shop')\n"
        "except MissingExtraError as error:\n    print(error)\n"
    )
    ran = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True, cwd=ROOT)
    assert (ran.stdout.strip(), ran.returncode) == (str(MissingExtraError("the journal on PostgreSQL", "postgres")), 0)


# Tables


def test_the_command_line_makes_the_tables_and_looks_into_them():
    """``migrate`` makes what is missing, ``--sql`` prints it; other commands do not make tables by the way."""
    url = f"{server().url()}&schema=by_command"

    def ran(*words: str) -> Any:
        return CliRunner().invoke(cli, [*words, "-j", url])

    assert "fsm-mediator migrate" in ran("list").output
    printed = ran("migrate", "--sql").output
    assert printed.startswith("BEGIN;")
    assert 'CREATE TABLE "by_command".executions' in printed
    assert "fsm-mediator migrate" in ran("list").output
    assert ran("migrate").output == "the tables are now up to date\n"
    assert ran("migrate").output == "the tables were already up to date\n"
    assert ran("migrate", "--sql").output == ""
    assert ran("list").exit_code == 0


def test_the_printed_script_makes_the_same_tables():
    """Somebody who may do so executes it; the journal then needs no such right."""
    with closing(server().journal("printed", migrate=None)) as journal:
        server().execute(journal.migration())
        assert journal.migration() == ""
    server().journal("printed", migrate=False).close()


def test_processes_that_migrate_at_the_same_moment_wait_for_each_other():
    """Each finds the tables made, by itself or by another."""
    opened = [in_thread(server().journal, "at_once") for _ in range(6)]
    for call in opened:
        call().close()


def test_tables_of_an_earlier_version_are_brought_up_to_date_by_one_of_many():
    """What is in them stays; those that come at the same moment wait, and find them made."""
    made = "CREATE SCHEMA older; CREATE TABLE journal.version (number int); INSERT INTO journal.version VALUES (1);"
    row = "INSERT INTO journal.executions (saga_id, saga, version, fingerprint, state, changed_at, seq, epoch, mail)"
    kept = f"{row} VALUES ('o-1', 's', '1', 'f', 'pending', 1, 0, 1, 0);"
    kept += """INSERT INTO journal.records VALUES (1, 0, 'accepted', '', 'pending', 1, '{"value":7}');"""
    server().execute(qualified(made + STEPS[0] + kept, "older"))
    opened = [in_thread(server().journal, "older") for _ in range(4)]
    for call in opened:
        with closing(call()) as journal:
            assert msgspec.json.decode(found(journal, "o-1").acceptance.payload) == 7
            assert journal.migration() == ""
            assert journal.planned("o-1") is None


def test_tables_of_a_later_version_are_refused():
    """An older library does not write to them."""
    server().journal("later").close()
    server().execute("UPDATE later.version SET number = 1000")
    with pytest.raises(JournalError, match="later fsm_mediator"):
        server().journal("later")


def test_the_documented_roles_suffice():
    """A worker needs no right to change tables, and an operator who looks needs none to write."""
    server().journal("roles").close()
    text = (ROOT / "docs" / "scaling.md").read_text()
    granted = text.split("```sql\n")[1].split("```")[0].replace("fsm_mediator", "roles")
    server().execute(f"DROP ROLE IF EXISTS worker; DROP ROLE IF EXISTS viewer; {granted}")
    with closing(PostgresJournal(server().url("worker"), schema="roles")) as worker:
        worker.enlist(DRIVER)
        worker.write(opening("o-1", "executing.a"))
        worker.write_all([going_on("o-1", 2, posts=(("o-1", InboxItem("cancel", at=1.0)),))])
        worker.write(ending("o-1", 3))
        assert worker.prune(1e10) == 1
        worker.dismiss("d-1")
    with closing(PostgresJournal(server().url("viewer"), schema="roles")) as viewer:
        assert list(viewer.entries()) == []
        with pytest.raises(JournalError, match="this user may not"):
            viewer.enlist(DRIVER)


def test_an_unusable_schema_is_refused():
    """Its name is put into statements."""
    for schema in ('a"b', "", "a b", "x" * 64):
        with pytest.raises(DefinitionError, match="schema="):
            PostgresJournal(server().url(), schema=schema or " ")


def test_values_come_back_as_they_were(journal):
    """Text in every script, and numbers to the last bit."""
    value = {"text": "Größe \0 ☃ \U0001f600", "number": 0.1 + 0.2, "large": 2**60}
    journal.write(opening("o-1", "executing.a", payload=value))
    kept = found(journal, "o-1").acceptance.payload
    assert msgspec.json.decode(kept) == value


@pytest.mark.postgres
def test_answers_that_come_while_the_server_is_down_are_kept(drive, impatient, caplog):
    """The server is stopped at once in the midst of many steps: nothing is lost, and nothing is done twice."""
    world, own = World(), Server()
    saga = Saga("shop", [world.step("charge", world.gate()), world.step("ship")])
    names = [f"o-{n}" for n in range(6)]
    try:
        with closing(own.journal("s")) as journal:
            mediator = drive(saga, journal=journal)
            for name in names:
                mediator.start("shop", None, saga_id=name)
            eventually(lambda: world.calls.count("charge") == len(names))
            own.stop(signal.SIGQUIT)
            world.go()
            # More often than without patience: then six times each.
            eventually(lambda: sum("trying again" in record.message for record in caplog.records) > 6 * len(names))
            own.start()
            eventually(lambda: all(found(journal, name).state == "succeeded" for name in names))
            mediator.close()
        assert len(world.keys) == len(set(world.keys)) == 2 * len(names)
    finally:
        own.remove()
