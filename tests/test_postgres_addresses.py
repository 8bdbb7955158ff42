"""Where a PostgreSQL journal is, and who may do what: services, password files, roles, a standby; no secret shown."""

from __future__ import annotations

import logging
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner

from fsm_mediator import JournalError, Mediator, Saga, Signal
from fsm_mediator.cli.commands import cli
from fsm_mediator.journal.postgres import PostgresJournal
from fsm_mediator.journal.protocol import Driver, Queued
from fsm_mediator.records import InboxItem
from tests.commits import DRIVER, ROOT, ending, found, going_on, ids, opening
from tests.drivers import World, eventually
from tests.postgres_server import Server, connections_of, server
from tests.test_postgres import ELSEWHERE

PASSWORD = "pa55:w0rd/@"  # noqa: S105 - of a server that lives as long as the tests
QUOTED = "pa55%3Aw0rd%2F%40"


@pytest.fixture
def schema() -> str:
    """A schema with tables, for a role that has a password."""
    server().execute(f"DROP ROLE IF EXISTS clerk; CREATE ROLE clerk LOGIN SUPERUSER PASSWORD '{PASSWORD}'")
    with closing(server().journal()) as journal:
        return connections_of(journal).schema


@pytest.fixture
def passwords(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Libpq's password file, which has the password."""
    path = tmp_path / "pgpass"
    escaped = PASSWORD.replace(":", r"\:")
    path.write_text(f"127.0.0.1:{server().port}:*:clerk:{escaped}\n")
    path.chmod(0o600)
    monkeypatch.setenv("PGPASSFILE", str(path))
    return path


def test_the_password_comes_from_the_password_file(schema, passwords):
    """The URL needs none; without the file the server refuses."""
    url = f"postgresql://clerk@127.0.0.1:{server().port}/postgres?schema={schema}"
    PostgresJournal(url).close()
    passwords.write_text("")
    with pytest.raises(JournalError, match="could not be opened"):
        PostgresJournal(url)


def test_a_service_says_where_the_database_is(schema, passwords, tmp_path, monkeypatch):
    """Libpq's service file has host, port, database and user; the URL names the service, and the tables' schema."""
    (tmp_path / "services").write_text(f"[shop]\nhost=127.0.0.1\nport={server().port}\ndbname=postgres\nuser=clerk\n")
    monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "services"))
    with closing(PostgresJournal(f"postgresql:///?service=shop&schema={schema}")) as journal:
        assert repr(journal) == "PostgresJournal('postgresql:///?service=shop')"
        journal.enlist(DRIVER)
        journal.write(opening("o-1", "executing.a"))
    ran = CliRunner().invoke(cli, ["list", "-j", f"postgresql:///?service=shop&schema={schema}"])
    assert "o-1" in ran.output


def test_a_variable_names_the_url(schema, monkeypatch):
    """``--journal env:NAME`` keeps the URL, and what it holds, out of the list of processes."""
    monkeypatch.setenv("SAGAS", f"postgresql://clerk:{QUOTED}@127.0.0.1:{server().port}/postgres?schema={schema}")
    ran = CliRunner().invoke(cli, ["list", "-j", "env:SAGAS"])
    assert (ran.exit_code, ran.output) == (0, CliRunner().invoke(cli, ["list", "-j", "env:SAGAS"]).output)
    unset = CliRunner().invoke(cli, ["list", "-j", "env:NONE_SUCH"])
    assert "NONE_SUCH" in unset.output
    assert unset.exit_code != 0


APP = """
from fsm_mediator import Mediator, Saga, Signal, step
def fail(payload): raise ValueError("no")
saga = Saga("shop", [step(name="charge")(lambda payload: None), Signal("go"), step(name="ship")(fail)])
"""


@pytest.mark.postgres
def test_no_command_shows_the_password(schema, tmp_path, monkeypatch, caplog):
    """Hints, exports, logs, tables and JSON of every command that reads or drives, with the URL in four forms."""
    caplog.set_level(logging.DEBUG)
    place = f"127.0.0.1:{server().port}/postgres"
    url = f"postgresql://clerk:{QUOTED}@{place}?schema={schema}"
    world = World()
    saga = Saga("shop", [world.step("charge"), Signal("go"), world.step("ship", ValueError("no"))])
    told: list[str] = []
    with closing(PostgresJournal(url)) as journal, Mediator(saga, journal=journal) as mediator:
        mediator.start("shop", None, saga_id="o-1")
        eventually(lambda: found(journal, "o-1").state == "waiting.go")
        told += [repr(mediator), repr(journal), str(mediator.executions()), str(mediator.outcome("o-1"))]
    (tmp_path / "shop.py").write_text(APP)
    monkeypatch.setenv("SAGAS", url)
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    key_value = f"postgresql://clerk@{place}?schema={schema}&password={QUOTED}"
    app = ("-a", "shop:saga")
    for spec in (url, key_value, "env:SAGAS", f"postgresql://clerk@{place}?schema={schema}"):
        for words in (
            *(("list",), ("list", "--json"), ("show", "o-1"), ("show", "none"), ("check",), ("migrate",)),
            *(("migrate", "--sql"), ("export", "-o", "-"), ("conform", "shop:saga"), ("signal", "o-1", "none", *app)),
            *(("recover", *app), ("retry", "o-1", *app), ("undo", "o-1", *app), ("prune", "--older-than", "1d")),
            *(("cancel", "none", *app), ("stats",), ("abandon", "o-1", "--reason", "x")),
        ):
            ran = CliRunner().invoke(cli, [*words, "-j", spec])
            assert ran.exception is None or isinstance(ran.exception, SystemExit), (words, ran.exception)
            told.append(ran.output)
    text = "\n".join([*told, caplog.text])
    assert "o-1" in text
    assert "clerk@" in text  # the rest of the address is shown
    assert "pa55" not in text


def test_a_worker_without_further_rights_has_limits_plans_and_repairs(schema):
    """The documented rights do for all that the journal does; an old schema is brought up to date by its owner."""
    granted = roles(schema)
    server().execute(granted)
    with closing(PostgresJournal(server().url("worker"), schema=schema)) as worker:
        worker.enlist(Driver("d-1", limits=(("call", 1),)))
        worker.write(opening("o-1", "executing.call", slot="call"))
        assert type(worker.write(opening("o-2", "executing.call", slot="call"))) is Queued
        worker.write(ending("o-1", 2, slot=""))
        assert worker.turns("d-1") == ["o-2"]
        assert worker.check() == worker.repairable() == []
        worker.repair("o-1")
        worker.claim_some("d-1", 0.0, 5)
    with pytest.raises(JournalError, match="this user may not"):
        PostgresJournal(server().url("viewer"), schema="no_tables")
    with closing(PostgresJournal(server().url("viewer"), schema=schema, read_only=True)) as viewer:
        assert ids(viewer) == ["o-2", "o-1"]
        assert viewer.check() == []
        with pytest.raises(JournalError, match="only for reading"):
            viewer.repair("o-1")


def roles(schema: str) -> str:
    """The statements of the documentation that make the roles, for this schema."""
    text = (ROOT / "docs" / "scaling.md").read_text().split("```sql\n")[1].split("```")[0]
    dropped = "".join(
        f"DO 'BEGIN DROP OWNED BY {role}; DROP ROLE {role}; EXCEPTION WHEN undefined_object THEN NULL; END';"
        for role in ("worker", "viewer")
    )
    return dropped + text.replace("fsm_mediator", schema)


class Standby(Server):
    """A server that follows the shared one."""

    def initialise(self) -> None:
        source = ("-h", str(server().folder), "-p", str(server().port), "-U", "postgres")
        self.run("pg_basebackup", "-D", str(self.data), "-R", "-X", "stream", "-c", "fast", *source)


@pytest.mark.postgres
def test_a_standby_lists_and_shows_and_refuses_the_rest():
    """Reads can go to a replica. The locks of drivers are not there: by the lease they are shown as alive."""
    with closing(server().journal(lease=1e6)) as journal:  # however long the standby takes to start
        schema = connections_of(journal).schema
        journal.enlist(ELSEWHERE)
        journal.write(opening("o-1", "executing.a", driver="far"))
        standby = Standby()
        try:
            journal.write(going_on("o-1", 2, driver="far"))
            journal.post("o-1", InboxItem("signal", "x", {"n": 1}, at=1.0))
            with closing(standby.journal(schema, read_only=True)) as replica:
                eventually(lambda: found(replica, "o-1") == found(journal, "o-1"))
                assert found(replica, "o-1").driver_alive
                assert replica.records("o-1") == journal.records("o-1")
                eventually(lambda: replica.inbox("o-1") == journal.inbox("o-1"))
                assert replica.check() == replica.claimable(0.0, 10) == []
            with closing(standby.journal(schema)) as writing, pytest.raises(JournalError, match="a standby"):
                writing.write(going_on("o-1", 3, driver="far"))
        finally:
            standby.remove()
